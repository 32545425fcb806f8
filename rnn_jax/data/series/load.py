"""Loads files of sequences as a data set: training, validation and test, filled, scaled and padded."""

from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError, Dataset
from rnn_jax.data.examples import Examples
from rnn_jax.data.series.files import Notify
from rnn_jax.data.series.info import SeriesInfo, prepare
from rnn_jax.data.series.read import print_to_stderr, read_sequences
from rnn_jax.data.series.scaling import fit_scaling, scale
from rnn_jax.data.series.sequences import Sequences, describe, pad, plural, select
from rnn_jax.data.series.split import hold_out
from rnn_jax.data.series.windows import load_forecast

TEST, VALIDATION = 0.2, 0.1  # fractions of the sequences, the second of the remaining ones


def load_series(
    path: str | Path,
    test: str | Path | None = None,
    *,
    task: str | None = None,
    target: str | None = None,
    sequence_column: str | None = None,
    missing: str = "error",
    horizon: int | None = None,
    window: int | None = None,
    season: int | None = None,
    seed: int = 0,
    notify: Notify = print_to_stderr,
) -> Dataset:
    """Loads the user's own sequences as a data set.

    Args:
      path: see `read_sequences`.
      test: the path of the test sequences. None takes the file beside `path` whose name has TEST in place of TRAIN; if
        there is none, a fifth of each class is held out or, for forecasts, the end of each series.
      task: see `read_sequences`.
      target: see `read_sequences`.
      sequence_column: see `read_sequences`.
      missing: "error" refuses missing values; "fill" carries the last value forward, and adds a channel that is 1
        where it has done so.
      horizon: the steps to forecast. None for one season.
      window: the steps that a forecast reads. None for two seasons or horizons, whichever is longer.
      season: the steps after which a series resembles itself. None finds it from the times: a year of months, a
        week of days, a day of hours.
      seed: the seed of the random hold-out.
      notify: see `read_sequences`.

    Returns:
      The examples, with a `SeriesInfo`. Inputs are float32 [N, T, D] and scaled; targets are int32 ids of classes
      or float32 scaled numbers: [N], [N, T] if each step has one, or [N, horizon].

    Raises:
      DataError: in one line; see `read_sequences`. Also if there is only one class, there are too few sequences or
        steps, or the test does not match.
    """
    path = Path(path)
    train = read_sequences(path, task=task, target=target, sequence_column=sequence_column, notify=notify)
    test = test or find_test(path)
    tested = None if test is None else read_sequences(test, like=train.form, notify=notify)
    name = path.stem.removesuffix("_TRAIN") or path.stem
    if train.form.task == "forecast":
        return load_forecast(name, train, tested, missing, horizon, window, season, notify)
    for option, value in (("horizon", horizon), ("window", window), ("season", season)):
        if value is not None:
            raise DataError(f'{path} is data to {train.form.task}: {option} is for task="forecast", leave it out')
    _check_targets(train)
    if tested is None:
        train, tested = _divide(train, TEST, seed, "the test")
        source = f"{path}, a part held out by class, drawn with seed {seed}, for the test"
    elif tested.targets is None:
        raise DataError(f"{test} holds no targets to test with: add a label to each sequence")
    else:
        source = f"{path}, tested on {test}"
    size = describe(tested._replace(lengths=np.concatenate([train.lengths, tested.lengths])))
    kept, validation = _divide(train, VALIDATION, seed, "validation")
    summary = (
        f"{len(train.lengths):,} training, {len(tested.lengths):,} test sequences, {size.split(', ', 1)[1]}; "
        f"{len(validation.lengths):,} of the training sequences are for validation"
    )
    parts, info = prepare(name, source, summary, [kept, validation, tested], missing)
    if info.form.task == "regress":
        info = info._replace(goal=fit_scaling(_targets(parts[0])[:, None]))
    elif info.form.task == "classify":
        info = info._replace(usual=int(np.bincount(_targets(parts[0])).argmax()))
    lengths = np.concatenate([part.lengths for part in parts])
    info = info._replace(steps=int(lengths.max()), ragged=bool(lengths.min() < lengths.max()))
    training, held_out, testing = (make_examples(part, info) for part in parts)
    return Dataset(info, training, held_out, testing, info.form.classes)


def make_examples(sequences: Sequences, info: SeriesInfo) -> Examples:
    """Scales sequences without missing values and pads them to `info.steps`, or to the longest of them."""
    inputs = pad(scale(info.scaling, sequences.values), sequences.lengths, info.steps)
    lengths = sequences.lengths.astype(np.int32) if info.ragged else None
    if sequences.targets is None:
        targets = np.zeros(len(inputs), np.float32)
    elif info.form.task == "regress":
        targets = scale(info.goal, sequences.targets[:, None])[:, 0]
    else:
        targets = sequences.targets
    if sequences.targets is not None and info.form.per_step:
        targets = pad(targets, sequences.lengths, info.steps)
    return Examples(inputs, targets, lengths)


def find_test(path: Path) -> Path | None:
    """Finds the test file beside a training file: `X_TRAIN.ts` -> `X_TEST.ts`, in the case of the letters."""
    for train, test in (("TRAIN", "TEST"), ("Train", "Test"), ("train", "test")):
        beside = path.with_name(f"{path.stem.removesuffix(train)}{test}{path.suffix}")
        if path.stem.endswith(f"_{train}") and beside.exists():
            return beside
    return None


def _targets(sequences: Sequences) -> np.ndarray:
    assert sequences.targets is not None
    return sequences.targets


def _check_targets(sequences: Sequences) -> None:
    """Raises `DataError` if there are no targets, or all are of one class."""
    source, form, targets = sequences.source, sequences.form, sequences.targets
    if targets is None:
        raise DataError(f"{source} holds no targets to {form.task}: add a label to each sequence")
    if form.task == "classify" and targets.min() == targets.max():
        name = form.classes[targets[0]]
        raise DataError(f"{source}: all sequences are of one class, {name!r}: there is nothing to tell apart")


def _divide(sequences: Sequences, fraction: float, seed: int, purpose: str) -> tuple[Sequences, Sequences]:
    """Holds out a part of the sequences, of each class if each sequence has one."""
    by_class = sequences.form.task == "classify" and not sequences.form.per_step
    kept, held = hold_out(sequences.targets if by_class else None, len(sequences.lengths), fraction, seed)
    if not len(held):
        alone = ", as each is of a class of its own" if by_class else ""
        few = f"{plural(len(kept), 'sequence')} are too few to hold some out for {purpose}{alone}"
        raise DataError(f"{sequences.source}: {few}: add sequences")
    return select(sequences, kept), select(sequences, held)
