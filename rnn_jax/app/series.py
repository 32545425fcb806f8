"""Loads the user's own sequences and texts by the flags, predicts for them, and writes tables of predictions."""

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnn_jax.app.config import Config
from rnn_jax.base import Params
from rnn_jax.data import Dataset, Examples
from rnn_jax.data.series import Sequences, SeriesInfo, load_series, make_examples, prepare_like, read_sequences, scale
from rnn_jax.data.series import unscale as unscale_values
from rnn_jax.data.series.times import extend_times, time_text
from rnn_jax.data.text import load_labelled, load_text
from rnn_jax.tasks.task import Task, predict_examples

WINDOW = 128  # tokens


def load_own(config: Config, *, quiet: bool = False) -> Dataset:
    """Loads the data of a configuration; reports the roles of columns on stderr, unless `quiet`.

    Raises:
      DataError: see `load_series`, `load_text` and `load_labelled`.
    """
    if config.tokens is not None:
        return _load_text(config)
    assert config.data is not None
    return load_series(
        config.data,
        config.test,
        task=config.task,
        target=config.target,
        sequence_column=config.sequence_column,
        missing=config.missing,
        horizon=config.horizon,
        window=config.window,
        season=config.season,
        seed=config.seed,
        notify=_ignore if quiet else _tell,
    )


def _load_text(config: Config) -> Dataset:
    tokens: Any = config.tokens
    if config.task == "language":
        window = config.window or WINDOW
        return load_text(config.data, config.test, tokens=tokens, window=window, batch_size=config.batch_size)
    assert config.data is not None
    return load_labelled(config.data, config.test, tokens=tokens, seed=config.seed)


def predict_arrays(
    task: Task, params: Params, info: SeriesInfo, arrays: Sequence[np.ndarray] | np.ndarray
) -> np.ndarray:
    """Predicts for sequences in the units of the data.

    Args:
      task: the task.
      params: its parameters.
      info: the facts about the data.
      arrays: the sequences, each [T, D]; for a forecast, T is at least the window. nan marks a missing value.

    Returns:
      Probabilities [N, C]; numbers [N] or forecasts [N, horizon] in units of the target. With a target for each step,
      [N, T, C] or [N, T].

    Raises:
      ValueError: for arrays of another shape, without steps, or with missing values that `info.missing` refuses.
    """
    arrays = [np.asarray(array, np.float64) for array in arrays]
    channels = info.form.channels
    for i, array in enumerate(arrays):
        if array.ndim != 2 or array.shape[1] != len(channels) or not len(array):
            raise ValueError(f"sequence {i} must have the shape [T, {len(channels)}], not {list(array.shape)}")
        if info.missing == "error" and np.isnan(array).any():
            raise ValueError(f"sequence {i} has missing values, which the training data did not have")
    sequences = Sequences(
        form=info.form,
        values=np.concatenate(arrays),
        lengths=np.array([len(array) for array in arrays]),
        targets=None,
        names=tuple(map(str, range(len(arrays)))),
        times=None,
        lines=np.arange(len(arrays)),
        source=Path("arrays"),
    )
    return predict_sequences(task, params, info, prepare_like(sequences, info))


def predict_sequences(task: Task, params: Params, info: SeriesInfo, sequences: Sequences) -> np.ndarray:
    """Predicts for sequences without missing values; see `predict_arrays`."""
    if info.form.task == "forecast":
        short = np.flatnonzero(sequences.lengths < info.steps)
        if len(short):
            raise ValueError(
                f"{sequences.where(int(short[0]))}: {sequences.lengths[short[0]]} steps are too few to forecast from, "
                f"at least {info.steps} are needed"
            )
        ends = np.cumsum(sequences.lengths)
        inputs = np.stack([scale(info.scaling, sequences.values[end - info.steps : end]) for end in ends])
        examples = Examples(inputs, np.zeros(len(inputs)))
    else:
        examples = make_examples(sequences._replace(targets=None), info)
        if not info.ragged and (sequences.lengths < examples.inputs.shape[1]).any():
            examples = examples._replace(lengths=sequences.lengths.astype(np.int32))
    predict = jax.jit(functools.partial(predict_examples, task))
    predictions = np.asarray(predict(params, examples.inputs, examples.lengths))
    return predictions if info.form.classes else unscale_values(info.goal, predictions)


def predict_file(task: Task, params: Params, info: SeriesInfo, file: Path) -> Iterator[list[object]]:
    """Yields a row of names, then the rows of a table of predictions for a file.

    A row is a sequence: its name, the prediction and, for classes, their probabilities. With a target for each step,
    a row is a step; in a forecast, it is a step after the end of a series.
    """
    form = info.form
    sequences = prepare_like(read_sequences(file, like=form, notify=_tell), info)
    predictions = predict_sequences(task, params, info, sequences)
    names = [form.sequence_column or "sequence"] if form.task != "forecast" or form.sequence_column else []
    steps = [form.time or "step"] if form.per_step or form.task == "forecast" else []
    yield [*names, *steps, f"predicted {form.target}", *form.classes]
    for i, prediction in enumerate(predictions):
        name = [sequences.names[i]] if names else []
        if form.task == "forecast":
            for time, value in zip(_future(sequences, i, info.horizon), prediction, strict=True):
                yield [*name, time, f"{value:.6g}"]
        elif form.per_step:
            for time, value in zip(_times(sequences, i), prediction, strict=False):
                yield [*name, time, *_cells(info, value)]
        else:
            yield [*name, *_cells(info, prediction)]


def _cells(info: SeriesInfo, prediction: np.ndarray) -> list[str]:
    """Formats a number, or a class and the probabilities of all classes."""
    if not info.form.classes:
        return [f"{prediction:.6g}"]
    return [info.form.classes[prediction.argmax()], *(f"{p:.6f}" for p in prediction)]


def _times(sequences: Sequences, i: int) -> list[str]:
    """Returns the times of a sequence, or the numbers of its steps."""
    start, length = sequences.starts[i], sequences.lengths[i]
    if sequences.times is None:
        return [str(t + 1) for t in range(length)]
    return [time_text(time) for time in sequences.times[start : start + length]]


def _future(sequences: Sequences, i: int, count: int) -> list[str]:
    """Returns the times after the end of a sequence, or the numbers of its steps."""
    start, length = sequences.starts[i], sequences.lengths[i]
    if sequences.times is None:
        return [str(length + t + 1) for t in range(count)]
    return [time_text(time) for time in extend_times(sequences.times[start : start + length], count)]


def _tell(message: str) -> None:
    print(message, file=sys.stderr)


def _ignore(message: str) -> None:
    """Discards a message."""
