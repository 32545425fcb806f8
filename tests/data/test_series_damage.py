"""Files that are cut or damaged: an error of one line that names the file, or a right result."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequences import SERIES, draw_sequences, label_names, long_records, needs_series, read, write_records, write_ts

from rnn_jax.data import DataError
from rnn_jax.data.series import Sequences, load_series

LABELS = ["walk", "run", "rest"]
OPTIONS = {"sequence_column": "trial", "target": "activity"}
FORMATS = ["ts", "arff", "tsv", "csv", "jsonl", "parquet", "npz"]


def write_arff(path, rows, labels):
    T, D = max(map(len, rows)), rows[0].shape[1]
    header = ["@relation r", "@attribute bag relational", *(f"@attribute a{t} numeric" for t in range(T)), "@end bag"]
    lines = [*header, f"@attribute y {{{','.join(dict.fromkeys(labels))}}}", "@data"]
    for row, label in zip(rows, labels, strict=True):
        padded = [[f"{x:g}" for x in row[:, d]] + ["?"] * (T - len(row)) for d in range(D)]
        lines.append("'" + "\\n".join(",".join(channel) for channel in padded) + f"',{label}")
    path.write_text("\n".join(lines) + "\n")


def write_tsv(path, rows, labels):
    T = max(map(len, rows))
    lines = [
        "\t".join([label, *(f"{x:g}" for x in row[:, 0]), *[""] * (T - len(row))])
        for row, label in zip(rows, labels, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def write_npz(path, rows, labels):
    np.savez(path, xs=np.concatenate(rows), lengths=np.array([len(row) for row in rows]), ys=np.array(labels))


def write(path, rows, labels):
    """Writes sequences [T, D] in the format of the suffix."""
    writer = {".ts": write_ts, ".arff": write_arff, ".tsv": write_tsv, ".npz": write_npz}.get(path.suffix)
    if writer is None:
        write_records(path, long_records(rows, labels))
    else:
        writer(path, rows, labels)


def read_any(path) -> Sequences:
    """Reads a file in the format of its suffix."""
    return read(path, **(OPTIONS if path.suffix in (".csv", ".jsonl", ".parquet") else {}))


def read_or_fail(path) -> Sequences | None:
    """Reads a file, or returns None after an error of one line that names it."""
    try:
        return read_any(path)
    except DataError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


def assert_prefix(found: Sequences, rows, labels):
    """What was read is what was written, but for sequences and steps at the end, and the last number and label."""
    whole = np.concatenate(rows)
    count = len(found.values)
    np.testing.assert_array_equal(found.values[: count - 1], whole[: count - 1])
    assert np.isfinite(found.values).all()
    if not found.form.per_step:  # A label that was cut may differ from the others of its sequence.
        assert label_names(found)[:-1] == labels[: len(found.lengths) - 1]


@pytest.mark.parametrize("suffix", FORMATS)
@given(seed=st.integers(0, 1000), D=st.integers(1, 3))
def test_what_is_written_is_read(tmp_path_factory, suffix, seed, D):
    path = tmp_path_factory.mktemp("files") / f"a.{suffix}"
    rows, labels = draw_sequences(seed, D=1 if suffix == "tsv" else D), LABELS * 2
    write(path, rows, labels)
    found = read_any(path)
    np.testing.assert_array_equal(found.values, np.concatenate(rows))
    np.testing.assert_array_equal(found.lengths, [len(row) for row in rows])
    assert label_names(found) == labels


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_cut_at_any_byte_is_an_error_or_a_right_beginning(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    rows = draw_sequences(1, N=3, D=1 if suffix == "tsv" else 2, longest=3)
    write(path, rows, LABELS)
    whole = path.read_bytes()
    cuts = range(len(whole)) if len(whole) < 400 else range(0, len(whole), len(whole) // 200)
    errors = 0
    for cut in cuts:
        path.write_bytes(whole[:cut])
        found = read_or_fail(path)
        errors += found is None
        if found is not None:
            assert_prefix(found, rows, LABELS)
    assert errors > len(cuts) // 3


@pytest.mark.parametrize("suffix", FORMATS)
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_any_byte_that_changes_leaves_an_error_of_one_line_or_numbers(tmp_path_factory, suffix, position, byte):
    path = tmp_path_factory.mktemp("files") / f"a.{suffix}"
    write(path, draw_sequences(2, D=1 if suffix == "tsv" else 2), LABELS * 2)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] = byte
    path.write_bytes(content)
    found = read_or_fail(path)
    if found is not None:
        assert not np.isinf(found.values).any()
        assert found.lengths.sum() == len(found.values)


@needs_series
@pytest.mark.parametrize("name", sorted(path.name for path in SERIES.glob("*.*") if path.suffix != ".md"))
def test_archive_files_cut_anywhere_are_an_error_or_a_right_beginning(tmp_path, name):
    whole, path = (SERIES / name).read_bytes(), tmp_path / name
    options = {"target": "KSI"} if name == "seatbelts.csv" else {}
    complete = read(SERIES / name, **options)
    rng = np.random.default_rng(0)
    for cut in [0, 1, *rng.integers(0, min(len(whole), 40_000), 12)]:
        path.write_bytes(whole[:cut])
        with contextlib.suppress(DataError):
            found = read(path, **options)
            np.testing.assert_array_equal(found.values[:-1], complete.values[: len(found.values) - 1])


def damage_channel(lines):
    lines[-1] = lines[-1].split(":", 1)[1]


def damage_number(lines):
    lines[-1] = "x" + lines[-1]


def damage_class(lines):
    lines[-1] = lines[-1].rsplit(":", 1)[0] + ":swim"


@pytest.mark.parametrize("damage", [damage_channel, damage_number, damage_class])
def test_a_damaged_line_of_the_test_file_is_named(tmp_path, damage):
    rows, labels = draw_sequences(3, N=30), LABELS * 10
    write_ts(tmp_path / "a_TRAIN.ts", rows, labels)
    path = write_ts(tmp_path / "a_TEST.ts", rows, labels)
    lines = path.read_text().splitlines()
    damage(lines)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"a_TEST\.ts, line {len(lines)}[:,] ") as caught:
        load_series(tmp_path / "a_TRAIN.ts", notify=lambda _: None)
    assert "\n" not in str(caught.value)
