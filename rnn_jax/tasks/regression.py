"""Regression: a number for each sequence, or for each of its steps."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Array, Params
from rnn_jax.data import Examples
from rnn_jax.data.series import SeriesInfo, unscale
from rnn_jax.readout import Classifier
from rnn_jax.tasks import scores, series_plots
from rnn_jax.tasks.features import features
from rnn_jax.tasks.sequences import step_weights, valid_steps
from rnn_jax.tasks.task import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RegressionMetrics(NamedTuple):
    """Means over a batch: the squared error of the scaled target, and its absolute error."""

    loss: Array
    error: Array


@dataclasses.dataclass(frozen=True)
class Regression:
    """Predicts the target, scaled to mean 0 and deviation 1, by the output of a network; by least squares.

    Args:
      network: computes the scaled prediction.
      input_size: the features of a step, see `features`.
      info: the facts about the data.
      noise: the standard deviation of Gaussian noise added to the features in training.
    """

    network: Classifier
    input_size: int
    info: SeriesInfo
    noise: float = 0.0

    score: ClassVar[str] = "loss"
    quantities: ClassVar[Mapping[str, Quantity]] = {
        "loss": Quantity("Loss", "squared error [deviations²]", log=True),
        "error": Quantity("Error", "absolute error [deviations]"),
    }

    def init(self, key: Array) -> Params:
        """Draws the network's parameters. Consumes `key`."""
        return self.network.init(key, self.input_size)

    def outputs(self, params: Params, inputs: Array, lengths: Array | None = None, key: Array | None = None) -> Array:
        """Computes scaled predictions [B], or [B, T] for every step, of scaled inputs [B, T, D]."""
        k_noise, k_dropout = (None, None) if key is None else jax.random.split(key)
        xs, lengths = features(self.info, inputs, lengths, noise=self.noise, key=k_noise)
        ys = self.network.apply(params, xs, lengths=lengths, key=k_dropout)[..., 0]
        return jnp.moveaxis(ys, 0, -1) if self.info.form.per_step else ys

    def loss(self, params: Params, batch: Examples, key: Array | None = None) -> tuple[Array, RegressionMetrics]:
        """Computes the mean squared error of scaled targets [B] or [B, T], and the metrics."""
        errors = self.outputs(params, batch.inputs, batch.lengths, key) - batch.targets  # type: ignore
        if self.info.form.per_step:
            errors = errors * jnp.sqrt(step_weights(batch.inputs, batch.lengths) * errors.shape[-1])
        metrics = RegressionMetrics(jnp.mean(errors**2), jnp.mean(jnp.abs(errors)))
        return metrics.loss, metrics

    def predict(self, params: Params, inputs: Array, lengths: Array | None = None) -> Array:
        """Predicts scaled targets; `unscale` them with `info.goal`."""
        return self.outputs(params, inputs, lengths)

    def measure(self, examples: Examples, predictions: np.ndarray) -> Mapping[str, float]:
        """Computes R2, and MAE and RMSE in units of the target."""
        true, predicted = self._pairs(examples, predictions)
        return {
            "R2": scores.r_squared(true, predicted),
            "MAE": scores.mean_absolute_error(true, predicted),
            "RMSE": scores.root_mean_square_error(true, predicted),
        }

    def baselines(self, examples: Examples) -> Mapping[str, np.ndarray]:
        """Predicts the mean of the training data, whatever the inputs are."""
        mean = float(unscale(self.info.goal, np.zeros(1))[0])
        return {f"always the mean, {mean:.4g}": np.zeros_like(examples.targets)}

    def pictures(self, examples: Examples, predictions: np.ndarray, title: str) -> "Mapping[str, Callable[[], Figure]]":
        """Returns the functions that draw predicted against true values, and the sequences with the largest errors."""
        true, predicted = self._pairs(examples, predictions)
        return {
            "predictions": lambda: series_plots.predicted_and_true(true, predicted, self.info, title),
            "worst_mistakes": lambda: series_plots.worst_sequences(examples, predictions, self.info, title),
        }

    def _pairs(self, examples: Examples, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns true and predicted values in units of the target."""
        true, predicted = examples.targets, predictions
        if self.info.form.per_step:
            valid = valid_steps(examples)
            true, predicted = true[valid], predicted[valid]
        return unscale(self.info.goal, true), unscale(self.info.goal, predicted)
