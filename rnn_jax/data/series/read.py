"""From a file or a folder to sequences, and to the three parts of a data set."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.archives import read_arff, read_ts, read_tsv
from rnn_jax.data.series.arrays import read_npz
from rnn_jax.data.series.files import Notify, cannot_read, read_lines
from rnn_jax.data.series.folders import read_folder
from rnn_jax.data.series.roles import sequences_of_table
from rnn_jax.data.series.scaling import Scaling, fill_missing, fit_scaling, refuse_missing
from rnn_jax.data.series.sequences import TASKS, Form, Sequences, check_padded_size, is_number, select
from rnn_jax.data.series.split import hold_out
from rnn_jax.data.series.tables import SUFFIXES, read_table

ARCHIVES: dict[str, Callable[..., Sequences]] = {".ts": read_ts, ".arff": read_arff, ".npz": read_npz}
HELD_OUT = 0.2  # of the sequences for testing, and of those that remain for validation


def _print_to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def read_sequences(
    path: str | Path,
    *,
    task: str | None = None,
    target: str | None = None,
    sequence_column: str | None = None,
    like: Form | None = None,
    notify: Notify = _print_to_stderr,
) -> Sequences:
    """Reads sequences from a file or a folder.

    Args:
        path: A file of the UCR and UEA archives (`.ts`, `.arff`, `.tsv`); a table (`.csv`, `.parquet`, `.pq`, `.json`,
            `.jsonl`, `.ndjson`, or `.tsv` with a header); a `.npz` file with arrays `xs`, `ys` and perhaps `lengths`;
            or a folder with one table a sequence, in a subfolder for each class.
        task: "classify", "regress" or "forecast"; None to find it from the data.
        target: The column of a table to predict.
        sequence_column: The column of a table that tells sequences apart, if each row is a step.
        like: The form of other sequences, which these have to match: then the arguments above are taken from there,
            and the targets may be absent.
        notify: Is told, a line each, how columns are understood.

    Raises:
        DataError: In one line that names the file and, where there is one, the line.
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


class Parts(NamedTuple):
    """The three parts of a data set of sequences with targets.

    Attributes:
        train: The sequences to learn from.
        validation: Sequences held out of the training data, to choose settings and checkpoints with.
        test: The sequences of a file of its own, or held out as well.
        scaling: Of the channels, fitted on `train`.
        initial: float64 [D], what stands for values that are missing at the beginning: the means of `train`.
        split: Says in words where the test sequences come from.
    """

    train: Sequences
    validation: Sequences
    test: Sequences
    scaling: Scaling
    initial: np.ndarray
    split: str


def load_sequences(
    path: str | Path,
    test: str | Path | None = None,
    *,
    missing: str = "error",
    seed: int = 0,
    notify: Notify = _print_to_stderr,
    task: str | None = None,
    target: str | None = None,
    sequence_column: str | None = None,
) -> Parts:
    """Reads sequences with targets, and divides them.

    Args:
        path: As for `read_sequences`.
        test: The same for the test sequences. None takes the file beside `path` whose name has TEST in place of
            TRAIN; if there is none, a fifth is held out of each class.
        missing: "error" refuses missing values; "fill" carries the last value forward, and adds a channel.
        seed: Of what is held out.
        notify: As for `read_sequences`.
        task: As for `read_sequences`.
        target: As for `read_sequences`.
        sequence_column: As for `read_sequences`.

    Raises:
        DataError: Also if there is but one class, too few sequences, or the test does not match.
    """
    train = read_sequences(path, task=task, target=target, sequence_column=sequence_column, notify=notify)
    test = test or find_test(Path(path))
    if test is not None:
        tested = read_sequences(test, like=train.form, notify=notify)
        if tested.targets is None:
            raise DataError(f"{test} holds no targets to test with: add a label to each sequence")
        split = f"test sequences from {test}"
    check_targets(train)
    if test is None:
        train, tested = _divide(train, seed)
        held, count = len(tested.lengths), len(tested.lengths) + len(train.lengths)
        split = f"test: {held} of {count} sequences, held out by class with seed {seed}"
    train, validation = _divide(train, seed)
    return prepare(train, validation, tested, missing, split)


def _divide(sequences: Sequences, seed: int) -> tuple[Sequences, Sequences]:
    """Holds a part of the sequences out, of each class where each sequence has one."""
    by_class = sequences.form.task == "classify" and not sequences.form.per_step
    kept, held = hold_out(sequences.targets if by_class else None, len(sequences.lengths), HELD_OUT, seed)
    if not len(held):
        raise DataError(f"{sequences.source}: {len(kept)} sequences are too few to hold some out for a test")
    return select(sequences, kept), select(sequences, held)


def prepare(train: Sequences, validation: Sequences, test: Sequences, missing: str, split: str) -> Parts:
    """Deals with missing values, and fits the scaling on the training part."""
    parts = (train, validation, test)
    initial = fit_scaling(train.values).mean
    if missing == "fill":
        parts = [fill_missing(part, initial) for part in parts]
    else:
        for part in parts:
            refuse_missing(part)
    return Parts(*parts, scaling=fit_scaling(parts[0].values), initial=initial, split=split)


def find_test(path: Path) -> Path | None:
    """Finds the test file beside a training file: `X_TRAIN.ts` -> `X_TEST.ts`, in the case of the letters."""
    for train, test in (("TRAIN", "TEST"), ("Train", "Test"), ("train", "test")):
        beside = path.with_name(f"{path.stem.removesuffix(train)}{test}{path.suffix}")
        if path.stem.endswith(train) and beside.exists():
            return beside
    return None


def check_targets(sequences: Sequences) -> None:
    """Raises `DataError` if there are no targets, or all are of one class."""
    source, form, targets = sequences.source, sequences.form, sequences.targets
    if targets is None:
        raise DataError(f"{source} holds no targets to {form.task}: add a label to each sequence")
    if form.task == "classify" and targets.min() == targets.max():
        name = form.classes[targets[0]]
        raise DataError(f"{source}: all sequences are of one class, {name!r}: there is nothing to tell apart")
