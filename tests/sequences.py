"""Files of sequences for the tests: real ones, where they are, and writers of small ones in every format."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rnn_jax.data.series import Sequences, read_sequences

SERIES = Path(__file__).resolve().parents[1].parent / "shared" / "series"
needs_series = pytest.mark.skipif(not SERIES.exists(), reason="the archives' files are not beside the project")


def read(path: Path, **options) -> Sequences:
    """Reads a file in silence."""
    return read_sequences(path, notify=lambda message: None, **options)


def heard(path: Path, **options) -> list[str]:
    """Reads a file; returns the lines that the user is told."""
    messages: list[str] = []
    read_sequences(path, notify=messages.append, **options)
    return messages


def label_names(sequences: Sequences) -> list[str]:
    """The names of the classes of the sequences, or of the steps."""
    assert sequences.targets is not None
    return [sequences.form.classes[i] for i in sequences.targets]


def draw_sequences(seed: int, N: int = 6, D: int = 2, *, longest: int = 5) -> list[np.ndarray]:
    """N arrays [T, D] of numbers with three digits after the point, which every format keeps."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(1, longest + 1), D)).round(3) for _ in range(N)]


def write_ts(path: Path, rows: Sequence[np.ndarray], labels: Sequence[str], header: str | None = None) -> Path:
    """Writes a `.ts` file of sequences [T, D]."""
    classes = " ".join(dict.fromkeys(labels))
    header = header if header is not None else f"@equalLength false\n@classLabel true {classes}\n"
    lines = [
        ":".join([*(",".join(f"{x:g}" for x in channel) for channel in row.T), label])
        for row, label in zip(rows, labels, strict=True)
    ]
    path.write_text(header + "@data\n" + "\n".join(lines) + "\n")
    return path


def long_records(rows: Sequence[np.ndarray], labels: Sequence[str]) -> list[dict]:
    """The rows of a long table, {column: value}, one for each step."""
    return [
        {"trial": f"t{i}", "time": t, **{f"x{d}": float(x) for d, x in enumerate(step)}, "activity": label}
        for i, (row, label) in enumerate(zip(rows, labels, strict=True))
        for t, step in enumerate(row)
    ]


def write_records(path: Path, records: Sequence[dict]) -> Path:
    """Writes a table as CSV, JSON lines or Parquet, by the suffix."""
    if path.suffix == ".csv":
        lines = [",".join(records[0])] + [",".join(str(value) for value in record.values()) for record in records]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(list(records)), path)
    return path
