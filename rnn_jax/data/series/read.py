"""Reads sequences from a file or a folder."""

import sys
from collections.abc import Callable
from pathlib import Path

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.archives import read_arff, read_ts, read_tsv
from rnn_jax.data.series.arrays import read_npz
from rnn_jax.data.series.files import Notify, cannot_read, read_lines
from rnn_jax.data.series.folders import read_folder
from rnn_jax.data.series.roles import sequences_of_table
from rnn_jax.data.series.sequences import TASKS, Form, Sequences, check_padded_size, is_number
from rnn_jax.data.series.tables import SUFFIXES, read_table

ARCHIVES: dict[str, Callable[..., Sequences]] = {".ts": read_ts, ".arff": read_arff, ".npz": read_npz}


def print_to_stderr(message: str) -> None:
    """Prints a message on stderr, which keeps it out of the output."""
    print(message, file=sys.stderr, flush=True)


def read_sequences(
    path: str | Path,
    *,
    task: str | None = None,
    target: str | None = None,
    sequence_column: str | None = None,
    like: Form | None = None,
    notify: Notify = print_to_stderr,
) -> Sequences:
    """Reads sequences from a file or a folder.

    Args:
      path: a file of the UCR and UEA archives (`.ts`, `.arff`, `.tsv`); a table (`.csv`, `.parquet`, `.pq`, `.json`,
        `.jsonl`, `.ndjson`, or `.tsv` with a header); a `.npz` file with arrays `xs`, `ys` and perhaps `lengths`;
        or a folder with one table for each sequence, in a subfolder for each class.
      task: "classify", "regress" or "forecast"; None to find it from the data.
      target: the column of a table to predict.
      sequence_column: the column of a table that tells sequences apart, if each row is a step.
      like: the form of other sequences, which these must match. It replaces the arguments above, and the targets may
        be absent.
      notify: called with one line for each interpretation of columns.

    Raises:
      DataError: in one line that names the file and, where there is one, the line.
    """
    path = Path(path)
    if task not in (None, *TASKS):
        raise DataError(f"there is no task {task!r}: choose one of {', '.join(TASKS)}")
    try:
        is_folder = path.is_dir()
        if not is_folder and not path.exists():
            raise DataError(f"cannot read {path}: No such file or directory")
    except OSError as error:
        raise cannot_read(path, error) from error
    suffix = path.suffix.lower()
    is_table = not is_folder and ((suffix in SUFFIXES and suffix != ".tsv") or (suffix == ".tsv" and _has_header(path)))
    if not is_table and (sequence_column or target):
        name = "sequence_column" if sequence_column else "target"
        raise DataError(f"{path} is no table with named columns: leave {name} out")
    if is_table:
        sequences = sequences_of_table(
            read_table(path, notify),
            task=task,
            target=target,
            sequence_column=sequence_column,
            like=like,
            notify=notify,
        )
    else:
        sequences = _reader(path, is_folder)(path, task=task, like=like, notify=notify)
    if like is not None and like.task != sequences.form.task:
        raise DataError(f"{path} is data to {sequences.form.task}, but the training data is to {like.task}")
    check_padded_size(sequences)
    return sequences


def _reader(path: Path, is_folder: bool) -> Callable[..., Sequences]:
    suffix = path.suffix.lower()
    if is_folder:
        return read_folder
    if suffix == ".tsv":
        return read_tsv
    if suffix in ARCHIVES:
        return ARCHIVES[suffix]
    known = ", ".join((*ARCHIVES, *SUFFIXES))
    raise DataError(f"{path} is of a kind that cannot be read: choose a folder, or a file that ends in one of {known}")


def _has_header(path: Path) -> bool:
    """True if a `.tsv` file is a table with named columns, and not one of the UCR archive."""
    lines = (line for line in read_lines(path, lambda _: None) if line.strip() and not line.startswith("#"))
    fields = next(lines, "").split("\t")
    return not any(is_number(field) for field in fields)
