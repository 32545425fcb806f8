"""Classification of the user's own sequences, or of each of their steps."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.base import Array, Params
from rnn_jax.data import Examples
from rnn_jax.data.series import SeriesInfo
from rnn_jax.tasks import plots, scores, series_plots
from rnn_jax.tasks.classification import Classification, ClassificationMetrics
from rnn_jax.tasks.features import features

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class SequenceClassification(Classification):
    """Classifies sequences, or each of their steps if the network reads out every step.

    Args:
      network: computes the logits.
      input_size: the features of a step, see `features`.
      info: the facts about the data.
      noise: the standard deviation of Gaussian noise added to the features in training.
    """

    info: SeriesInfo = dataclasses.field(kw_only=True)
    noise: float = dataclasses.field(default=0.0, kw_only=True)

    def logits(self, params: Params, inputs: Array, lengths: Array | None = None, key: Array | None = None) -> Array:
        """Computes the logits [B, C], or [B, T, C] of every step, of scaled inputs [B, T, D]."""
        k_noise, k_dropout = (None, None) if key is None else jax.random.split(key)
        xs, lengths = features(self.info, inputs, lengths, noise=self.noise, key=k_noise)
        logits = self.network.apply(params, xs, lengths=lengths, key=k_dropout)
        return jnp.moveaxis(logits, 0, -2) if self.info.form.per_step else logits

    def loss(self, params: Params, batch: Examples, key: Array | None = None) -> tuple[Array, ClassificationMetrics]:
        """Computes the mean cross-entropy of targets int [B] or [B, T], and the metrics.

        Each sequence has the same weight, divided among its steps, so that long and short sequences count alike.
        """
        logits = self.logits(params, batch.inputs, batch.lengths, key)  # type: ignore
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
        correct = (jnp.argmax(logits, axis=-1) == batch.targets).astype(losses.dtype)
        if self.info.form.per_step:
            weights = step_weights(batch.inputs, batch.lengths)
            losses, correct = jnp.sum(weights * losses, axis=-1), jnp.sum(weights * correct, axis=-1)
        metrics = ClassificationMetrics(jnp.mean(losses), jnp.mean(correct))
        return metrics.loss, metrics

    def measure(self, examples: Examples, predictions: np.ndarray) -> Mapping[str, float]:
        """Computes accuracy, balanced accuracy and macro F1 of probabilities [N, C] or [N, T, C]."""
        return scores.class_figures(*self._pairs(examples, predictions))

    def baselines(self, examples: Examples) -> Mapping[str, np.ndarray]:
        """Predicts the most frequent class of the training data, whatever the inputs are."""
        return scores.most_frequent_class(self.info.form.classes, self.info.usual, examples.targets.shape)

    def pictures(self, examples: Examples, predictions: np.ndarray, title: str) -> "Mapping[str, Callable[[], Figure]]":
        """Returns the functions that draw the confusion matrix and the worst mistakes."""
        names = self.info.form.classes
        true, chosen = self._pairs(examples, predictions)
        noun = "steps" if self.info.form.per_step else "sequences"
        return {
            "confusion_matrix": lambda: plots.confusion_matrix(true, chosen, len(names), title, names=names, noun=noun),
            "worst_mistakes": lambda: series_plots.worst_sequences(examples, predictions, self.info, title),
        }

    def _pairs(self, examples: Examples, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the true and the chosen classes of all sequences, or of all their valid steps."""
        true, chosen = examples.targets, predictions.argmax(-1)
        if self.info.form.per_step:
            valid = valid_steps(examples)
            return true[valid], chosen[valid]
        return true, chosen


def valid_steps(examples: Examples) -> np.ndarray:
    """Returns bool [N, T], True before the end of each sequence."""
    N, T = examples.inputs.shape[:2]
    lengths = np.full(N, T) if examples.lengths is None else examples.lengths
    return np.arange(T) < lengths[:, None]


def step_weights(inputs: Array | np.ndarray, lengths: Array | np.ndarray | None) -> Array:
    """Returns weights [B, T] that sum up to one over the valid steps of each sequence, of inputs [B, T, D]."""
    T = inputs.shape[-2]
    if lengths is None:
        return jnp.full(inputs.shape[:-1], 1 / T)
    lengths = jnp.asarray(lengths)[..., None]
    return jnp.where(jnp.arange(T) < lengths, 1 / jnp.maximum(lengths, 1).astype(float), 0.0)
