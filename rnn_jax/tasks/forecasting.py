"""Forecasting: the next steps of a series, from a window of its past."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Array, Params
from rnn_jax.data import Examples
from rnn_jax.data.series import SeriesInfo, unscale
from rnn_jax.readout import Classifier, ClassifierParams
from rnn_jax.tasks import scores, series_plots
from rnn_jax.tasks.task import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST_DEVIATION = 0.1  # of a window, in deviations of the training part: a window may be constant


class ForecastMetrics(NamedTuple):
    """Means over a batch: the absolute error relative to each window's deviation, and that of the scaled target."""

    loss: Array
    error: Array


@dataclasses.dataclass(frozen=True)
class Forecasting:
    """Forecasts the change from the season before, for all steps of the horizon at once.

        m, s = mean and deviation of the target over the window
        z = (x - m) / s
        y_h = m + s (z_{W - season + (h mod season)} + f(z)_h),    h = 0, ..., horizon - 1

    Normalizing each window by its own mean and deviation makes f independent of the level of the series. Before
    training f is zero, and the forecast is the season before; with a season of 1, the last value.

    Args:
      network: f, which computes a number for each step of the horizon.
      input_size: D, the channels.
      info: the facts about the data.
    """

    network: Classifier
    input_size: int
    info: SeriesInfo

    score: ClassVar[str] = "error"
    quantities: ClassVar[Mapping[str, Quantity]] = {
        "loss": Quantity("Loss", "absolute error [deviations of the window]", log=True),
        "error": Quantity("Error", "absolute error [deviations]"),
    }

    @property
    def target(self) -> int:
        """The channel of the target."""
        return self.info.form.channels.index(self.info.form.target)

    def init(self, key: Array) -> Params:
        """Draws the network's parameters, with zeros for those of the output. Consumes `key`."""
        params: ClassifierParams = self.network.init(key, self.input_size)
        return params._replace(w=jnp.zeros_like(params.w), b=jnp.zeros_like(params.b))

    def outputs(self, params: Params, inputs: Array, key: Array | None = None) -> tuple[Array, Array]:
        """Forecasts [B, horizon] from scaled windows [B, W, D]; also returns the deviation of each window [B, 1]."""
        x = inputs[..., self.target]
        m = jnp.mean(x, axis=-1, keepdims=True)
        s = jnp.sqrt(jnp.var(x, axis=-1, keepdims=True) + SMALLEST_DEVIATION**2)
        z = (x - m) / s
        features = jnp.where(np.arange(inputs.shape[-1]) == self.target, z[..., None], inputs)
        f = self.network.apply(params, jnp.moveaxis(features, -2, 0), key=key)
        before = z[..., x.shape[-1] - self.info.season + np.arange(self.info.horizon) % self.info.season]
        return m + s * (before + f), s

    def loss(self, params: Params, batch: Examples, key: Array | None = None) -> tuple[Array, ForecastMetrics]:
        """Computes the mean absolute error of scaled targets [B, horizon], relative to s, and the metrics."""
        inputs = jnp.asarray(batch.inputs)
        ys, s = self.outputs(params, inputs, key)
        errors = jnp.abs(ys - batch.targets)
        metrics = ForecastMetrics(jnp.mean(errors / s), jnp.mean(errors))
        return metrics.loss, metrics

    def predict(self, params: Params, inputs: Array, lengths: Array | None = None) -> Array:
        """Forecasts scaled targets [B, horizon]; `unscale` them with `info.goal`. Windows have no `lengths`."""
        return self.outputs(params, inputs)[0]

    def measure(self, examples: Examples, predictions: np.ndarray) -> Mapping[str, float]:
        """Computes MAE in units of the target, and MASE, relative to the naive error of the training part."""
        error = scores.mean_absolute_error(self._units(examples.targets), self._units(predictions))
        return {"MAE": error, "MASE": error / self.info.naive_error}

    def baselines(self, examples: Examples) -> Mapping[str, np.ndarray]:
        """Forecasts the last value and, if there is a season, the value one season before."""
        x, season = examples.inputs[..., self.target], self.info.season
        last = np.repeat(x[:, -1:], self.info.horizon, axis=1)
        if season == 1:
            return {"the last value": last}
        before = x[:, x.shape[1] - season + np.arange(self.info.horizon) % season]
        return {"the last value": last, f"the value {season} steps before": before}

    def pictures(self, examples: Examples, predictions: np.ndarray, title: str) -> "Mapping[str, Callable[[], Figure]]":
        """Returns the functions that draw forecasts with their past, and those with the largest errors."""
        past = self._units(examples.inputs[..., self.target])
        true, forecast = self._units(examples.targets), self._units(predictions)
        return {
            "forecast": lambda: series_plots.forecasts(past, true, forecast, self.info, title),
            "worst_mistakes": lambda: series_plots.worst_forecasts(past, true, forecast, self.info, title),
        }

    def _units(self, values: np.ndarray) -> np.ndarray:
        """Converts scaled values of the target to its units."""
        return unscale(self.info.goal, np.asarray(values))
