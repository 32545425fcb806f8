"""The facts about sequences that a trained model depends on, fitted on the training part."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.data.series.scaling import Scaling, fill_missing, fit_scaling, refuse_missing, scale
from rnn_jax.data.series.sequences import Form, Sequences


class SeriesInfo(NamedTuple):
    """The facts about sequences that a trained model depends on. All of them can be hashed and written as JSON.

    Attributes:
      name: the name of the data, part of every report.
      source: the files, in words.
      summary: the size and the task of the data, in words.
      form: the form of the sequences, before channels are added.
      missing: "error" or "fill", see `load_series`.
      initial: D numbers, the means of the training part, which replace values missing at the beginning.
      scaling: the scaling of the channels, including the one for missing values; fitted on the training part.
      goal: the scaling of the target, a single channel, for the tasks "regress" and "forecast".
      rates: D floats, the deviation of the change of each scaled channel from step to step in the training part.
      steps: T, the steps of the longest sequence, or of a window.
      ragged: True if sequences are shorter than T.
      usual: the most frequent class of the training part.
      horizon: the steps to forecast.
      season: the steps after which a series resembles itself; 1 if it does not.
      naive_error: the mean absolute error, in units of the target, of taking the value of one season ago for each
        step of the training part. MASE is relative to it.
    """

    name: str
    source: str
    summary: str
    form: Form
    missing: str
    initial: tuple[float, ...]
    scaling: Scaling
    goal: Scaling = Scaling((0.0,), (1.0,))
    rates: tuple[float, ...] = ()
    steps: int = 0
    ragged: bool = False
    usual: int = 0
    horizon: int = 0
    season: int = 1
    naive_error: float = 1.0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SeriesInfo":
        """Inverts `to_json`."""
        form = values["form"]
        form |= {key: tuple(form.get(key, ())) for key in ("channels", "classes", "steps")}
        scalings = {key: Scaling(*map(tuple, values[key].values())) for key in ("scaling", "goal")}
        tuples = {key: tuple(values[key]) for key in ("initial", "rates")}
        return cls(**{**values, **scalings, **tuples, "form": Form(**form)})

    def to_json(self) -> dict[str, Any]:
        """Returns the facts as a dictionary that `json` can write."""
        return {key: value._asdict() if hasattr(value, "_asdict") else value for key, value in self._asdict().items()}


def prepare(
    name: str, source: str, summary: str, parts: Sequence[Sequences], missing: str
) -> tuple[list[Sequences], SeriesInfo]:
    """Refuses or fills missing values, and fits the scaling on the first part."""
    initial = fit_scaling(parts[0].values).mean
    if missing == "error":
        for part in parts:
            refuse_missing(part)
    filled = [fill_missing(part, initial) if missing == "fill" else part for part in parts]
    scaling = fit_scaling(filled[0].values)
    rates = change_rates(filled[0], scaling)
    return filled, SeriesInfo(name, source, summary, parts[0].form, missing, initial, scaling, rates=rates)


def change_rates(sequences: Sequences, scaling: Scaling) -> tuple[float, ...]:
    """Computes the root mean square of the change of each scaled channel from step to step, D numbers."""
    scaled = scale(scaling, sequences.values).astype(float)
    within = np.setdiff1d(np.arange(1, len(scaled)), sequences.starts)
    if not len(within):
        return (0.0,) * scaled.shape[1]
    return tuple(np.sqrt(np.mean((scaled[within] - scaled[within - 1]) ** 2, axis=0)).tolist())


def prepare_like(sequences: Sequences, info: SeriesInfo) -> Sequences:
    """Refuses or fills the missing values of new sequences, as in the training data."""
    if info.missing == "fill":
        return fill_missing(sequences, info.initial)
    refuse_missing(sequences)
    return sequences
