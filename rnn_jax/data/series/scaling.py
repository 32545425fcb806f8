"""Scaling of channels, and filling of missing values. Both are fitted on the training part alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.sequences import Sequences

MISSING_CHANNEL = "missing"


class Scaling(NamedTuple):
    """The standardisation of channels.

    Attributes:
      mean: D floats.
      deviation: D floats, the standard deviations; 0 for a channel that is constant.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def fit_scaling(values: np.ndarray) -> Scaling:
    """Computes the mean and the standard deviation of each channel: [S, D] -> Scaling. Missing values do not count."""
    observed = ~np.isnan(values)
    counts = np.maximum(observed.sum(0), 1)
    mean = np.where(observed, values / counts, 0).sum(0)
    errors = np.where(observed, values - mean, 0)
    largest = np.abs(errors).max(0, initial=0)  # Squares of 1e200 and 1e-200 would leave the range of float64.
    deviation = largest * np.sqrt(((errors / np.where(largest > 0, largest, 1)) ** 2).sum(0) / counts)
    constant = deviation <= 1e-12 * np.abs(mean)  # the rounding of a sum of equal numbers
    return Scaling(tuple(mean.tolist()), tuple(np.where(constant, 0.0, deviation).tolist()))


def scale(scaling: Scaling, values: np.ndarray) -> np.ndarray:
    """Standardises channels: [..., D] -> float32 [..., D]. One that was constant in training becomes zero."""
    mean, deviation = np.array(scaling.mean), np.array(scaling.deviation)
    return np.where(deviation > 0, (values - mean) / np.where(deviation > 0, deviation, 1), 0).astype(np.float32)


def unscale(scaling: Scaling, values: np.ndarray) -> np.ndarray:
    """Inverts `scale`: [..., D] -> float64 [..., D]."""
    return values.astype(np.float64) * np.array(scaling.deviation) + np.array(scaling.mean)


def refuse_missing(sequences: Sequences) -> None:
    """Raises `DataError` if values are missing, with their number and the place of the first one."""
    missing = np.isnan(sequences.values)
    if not missing.any():
        return
    step, d = np.argwhere(missing)[0]
    sequence = int(np.searchsorted(sequences.starts, step, side="right")) - 1
    step -= sequences.starts[sequence]
    count = int(missing.sum())
    raise DataError(
        f"{sequences.where(sequence, step)}: {count:,} value{'s are' if count > 1 else ' is'} missing, the first of "
        f"{sequences.form.channels[d]!r} at step {step + 1}: complete the data, or carry the last value forward with "
        'missing="fill"'
    )


def fill_missing(sequences: Sequences, initial: Sequence[float]) -> Sequences:
    """Carries the last value forward, and adds a channel that is 1 where a value was missing, else 0.

    Args:
      sequences: the sequences with missing values.
      initial: D numbers, the values to carry before the first value of a sequence.

    Returns:
      Sequences with D + 1 channels and no missing values.
    """
    values, starts = sequences.values, sequences.starts
    missing = np.isnan(values)
    begins = np.zeros(len(values), bool)
    begins[starts] = True
    steps = np.arange(len(values))[:, None]
    filled = np.where(missing & begins[:, None], np.array(initial), values)
    source = np.maximum.accumulate(np.where(missing & ~begins[:, None], 0, steps), axis=0)
    filled = np.take_along_axis(filled, source, axis=0)
    flag = missing.any(1, keepdims=True).astype(values.dtype)
    form = sequences.form._replace(channels=(*sequences.form.channels, MISSING_CHANNEL))
    return sequences._replace(form=form, values=np.concatenate([filled, flag], axis=1))
