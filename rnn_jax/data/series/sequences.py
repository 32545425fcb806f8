"""Sequences in memory, independent of the file format, and their description.

Letters: N sequences, S steps of all sequences together, T steps of the longest one, D channels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.files import Notify, check_size, shown

TASKS = ("classify", "regress", "forecast")
MOST_CLASSES = 20  # Whole numbers are taken as classes up to this number of different ones.


class Form(NamedTuple):
    """The form of sequences, apart from their numbers: enough to read another file in the same way.

    Attributes:
      task: one of `TASKS`.
      channels: the names of the D channels.
      target: the name of the target; for the task "forecast", one of the channels.
      classes: the names of the classes, in the order of their ids; none if the target is a number.
      per_step: True if each step has a target, False if each sequence has one.
      sequence_column: the column that tells the sequences of a table apart; None if there is none.
      time: the column of the times; None if there is none.
      steps: the columns of a table whose rows are sequences, one for each step; empty for others.
    """

    task: str
    channels: tuple[str, ...]
    target: str
    classes: tuple[str, ...] = ()
    per_step: bool = False
    sequence_column: str | None = None
    time: str | None = None
    steps: tuple[str, ...] = ()


class Sequences(NamedTuple):
    """Sequences of numbers, one after another, and their targets.

    Attributes:
      form: their form.
      values: float64 [S, D]; nan where a value is missing.
      lengths: int64 [N], the steps of each sequence, at least one.
      targets: int32 ids of classes, or float64 numbers: [N], or [S] if `form.per_step`. None for the task
        "forecast", whose target is a channel, and where the file has none.
      names: the N names of the sequences.
      times: datetime64 or float64 [S]; None if they are not known.
      lines: int64, the line of the file that holds each sequence [N] or each step [S].
      source: the file or folder.
      unit: the unit of `lines`: "line" or, in binary files, "row".
    """

    form: Form
    values: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray | None
    names: tuple[str, ...]
    times: np.ndarray | None
    lines: np.ndarray
    source: Path
    unit: str = "line"

    @property
    def starts(self) -> np.ndarray:
        """The first step of each sequence, int64 [N]."""
        return np.cumsum(self.lengths) - self.lengths

    def where(self, sequence: int, step: int = 0) -> str:
        """Names the file and the line of a step, for messages."""
        file = self.source / self.names[sequence] if self.source.is_dir() else self.source
        per_step = len(self.lines) == len(self.values)
        return f"{file}, {self.unit} {self.lines[self.starts[sequence] + step if per_step else sequence]}"


def select(sequences: Sequences, indices: np.ndarray) -> Sequences:
    """Selects sequences by their indices, in that order."""
    starts, lengths = sequences.starts[indices], sequences.lengths[indices]
    steps = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])

    def take(array: np.ndarray) -> np.ndarray:
        return array[steps if len(array) == len(sequences.values) else indices]

    targets, times = sequences.targets, sequences.times
    return sequences._replace(
        values=sequences.values[steps],
        lengths=lengths,
        targets=targets if targets is None else targets[steps if sequences.form.per_step else indices],
        names=tuple(sequences.names[i] for i in indices),
        times=None if times is None else times[steps],
        lines=take(sequences.lines),
    )


def pad(steps: np.ndarray, lengths: np.ndarray, num_steps: int = 0) -> np.ndarray:
    """Puts each sequence into a row of its own: [S, ...] -> [N, T, ...], zero after its end.

    T is `num_steps`, or the longest of the lengths if that is more.
    """
    padded = np.zeros((len(lengths), max(num_steps, *lengths), *steps.shape[1:]), steps.dtype)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = steps
    return padded


def check_padded_size(sequences: Sequences) -> None:
    """Raises `DataError` if the sequences fit into memory, but not when all are padded to the longest."""
    N, D = len(sequences.lengths), sequences.values.shape[1]
    check_size(sequences.source, 4 * N * int(sequences.lengths.max()) * D)


def describe(sequences: Sequences) -> str:
    """Describes the size of the data: "270 sequences, 12 channels, 7 to 29 steps, 9 classes"."""
    form, (shortest, longest) = sequences.form, (sequences.lengths.min(), sequences.lengths.max())
    steps = f"{longest:,} steps" if shortest == longest else f"{shortest:,} to {longest:,} steps"
    parts = [plural(len(sequences.lengths), "sequence"), plural(len(form.channels), "channel"), steps]
    if form.classes:
        parts.append(f"{len(form.classes)} classes" + (" at each step" if form.per_step else ""))
    return ", ".join(parts)


def plural(count: int, noun: str) -> str:
    """Formats a count with its noun.

    >>> plural(1, "channel"), plural(1200, "channel")
    ('1 channel', '1,200 channels')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def is_number(text: str) -> bool:
    """True if the text is a number, nan included. The underscores of Python's numbers are none."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def find_task(labels: Sequence[str]) -> str:
    """Distinguishes classes from numbers: "classify" if a label is text, or if all labels are a few whole numbers.

    >>> find_task(["walk", "run"]), find_task(["1", "2"]), find_task(["0.5", "2"])
    ('classify', 'classify', 'regress')
    """
    different = set(labels)
    if not all(map(is_number, different)):
        return "classify"
    whole = all(float(label).is_integer() for label in different)
    return "classify" if whole and len(different) <= MOST_CLASSES else "regress"


def sort_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """Orders the names of classes: by number where all of them are numbers, else by alphabet."""
    different = set(labels)
    if all(map(is_number, different)):
        return tuple(sorted(different, key=lambda label: (float(label), label)))
    return tuple(sorted(different))


def encode_targets(
    labels: Sequence[str], task: str, classes: tuple[str, ...], place: Callable[[int], str]
) -> np.ndarray:
    """Turns labels into the ids of classes, int32, or into numbers, float64.

    Args:
      labels: one text for each sequence, or for each step.
      task: "classify" or "regress".
      classes: the names of the classes; ids count from 0 in their order.
      place: returns the file and line of a label by its index, for the message of an error.

    Returns:
      The targets, one for each label.

    Raises:
      DataError: if a label is missing, not among the classes or not a finite number.
    """
    ids = {name: i for i, name in enumerate(classes)}
    by_number = {float(name): i for name, i in ids.items() if is_number(name)}

    def encode(label: str, k: int) -> float:
        if task == "classify" and (label in ids or (is_number(label) and float(label) in by_number)):
            return ids[label] if label in ids else by_number[float(label)]
        if label in ("", "?"):
            raise DataError(f"{place(k)}: the target is missing: fill it in, or take the line out")
        if task == "classify":
            known = ", ".join(classes[:MOST_CLASSES]) + (", ..." if len(classes) > MOST_CLASSES else "")
            raise DataError(f"{place(k)}: unknown class {shown(label)}: the classes are {known}")
        if not is_number(label) or not np.isfinite(float(label)):
            raise DataError(f"{place(k)}: the target {shown(label)} is not a finite number: correct it")
        return float(label)

    known: dict[str, float] = {}
    for k, label in enumerate(labels):
        if label not in known:
            known[label] = encode(label, k)
    return np.array([known[label] for label in labels], np.int32 if task == "classify" else np.float64)


def assemble(
    path: Path,
    rows: Sequence[np.ndarray],
    labels: Sequence[str] | None,
    lines: Sequence[int],
    *,
    channels: tuple[str, ...],
    target: str = "class",
    task: str | None = None,
    classes: tuple[str, ...] = (),
    like: Form | None = None,
    names: tuple[str, ...] | None = None,
    unit: str = "line",
    notify: Notify,
) -> Sequences:
    """Makes `Sequences` of one array for each sequence.

    Args:
      path: the file or folder, for messages.
      rows: the values of each sequence, float64 [T, D].
      labels: the target of each sequence, as text; None if there are none.
      lines: the line of each sequence in the file.
      channels: the names of the D channels.
      target: the target's name.
      task: the task; None to infer it from the labels.
      classes: the classes that the file declares; none to take those that occur.
      like: the form of other sequences, which these must match; it replaces `task` and `classes`.
      names: the N names of the sequences; None to count them from 1.
      unit: the unit of `lines`.
      notify: called if whole numbers are taken as classes.

    Raises:
      DataError: if there are no sequences, they do not match `like`, or a label does not fit the task.
    """
    if not rows:
        raise DataError(f"{path} holds no sequences")
    if like is not None and len(channels) != len(like.channels):
        first = f"{path}, {unit} {lines[0]}"
        raise DataError(f"{first}: {plural(len(channels), 'channel')}, but the training data has {len(like.channels)}")
    if like is not None:
        form = like
    elif labels is None:
        form = Form(task or "forecast", channels, target if task != "forecast" else channels[0])
    else:
        task = choose_task(task, labels, path, notify)
        form = Form(task, channels, target, (classes or sort_classes(labels)) if task == "classify" else ())
    if form.task == "forecast" or (like is not None and labels is not None and set(labels) <= {"", "?"}):
        labels = None  # of a file to predict for
    targets = None
    if labels is not None:
        targets = encode_targets(labels, form.task, form.classes, lambda k: f"{path}, {unit} {lines[k]}")
    return Sequences(
        form=form,
        values=np.concatenate(rows),
        lengths=np.array([len(row) for row in rows]),
        targets=targets,
        names=names or tuple(str(i + 1) for i in range(len(rows))),
        times=None,
        lines=np.array(lines),
        source=path,
        unit=unit,
    )


def choose_task(task: str | None, labels: Sequence[str], path: Path, notify: Notify) -> str:
    """Returns the given task, or else the one that the labels suggest; notifies the user if the classes are numbers."""
    if task is not None:
        return task
    task = find_task(labels)
    if task == "classify" and all(map(is_number, set(labels))):
        notify(
            f'{path}: the targets are {len(set(labels))} whole numbers, taken as classes; for numbers: task="regress"'
        )
    return task


def cut_padding(row: np.ndarray) -> np.ndarray:
    """Cuts off the steps at the end that miss all channels: [T, D] -> [T', D].

    Formats with rows of equal length pad shorter sequences in this way.
    """
    observed = np.flatnonzero(~np.isnan(row).all(1))
    return row[: observed[-1] + 1] if len(observed) else row[:0]
