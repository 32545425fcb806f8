"""Classification of texts."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Array, Params
from rnn_jax.data import Examples
from rnn_jax.data.text import TextInfo
from rnn_jax.tasks import plots, scores, text_plots
from rnn_jax.tasks.classification import Classification

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class TextClassification(Classification):
    """Classifies texts by the cross-entropy of a `Classifier` around an embedding.

    Args:
      network: computes the logits.
      input_size: V, the number of tokens.
      info: the facts about the texts.
    """

    info: TextInfo = dataclasses.field(kw_only=True)

    def logits(self, params: Params, inputs: Array, lengths: Array | None = None, key: Array | None = None) -> Array:
        """Computes the logits [B, C] of tokens int [B, T]. `key` drives dropout."""
        return self.network.apply(params, jnp.moveaxis(jnp.asarray(inputs), -1, 0), lengths=lengths, key=key)

    def measure(self, examples: Examples, predictions: np.ndarray) -> Mapping[str, float]:
        """Computes accuracy, balanced accuracy and macro F1 of probabilities [N, C]."""
        return scores.class_figures(examples.targets, predictions.argmax(-1))

    def baselines(self, examples: Examples) -> Mapping[str, np.ndarray]:
        """Predicts the most frequent class of the training data, whatever the text is."""
        return scores.most_frequent_class(self.info.classes, self.info.usual, examples.targets.shape)

    def pictures(self, examples: Examples, predictions: np.ndarray, title: str) -> "Mapping[str, Callable[[], Figure]]":
        """Returns the functions that draw the confusion matrix and the worst mistakes."""
        names, true, chosen = self.info.classes, examples.targets, predictions.argmax(-1)
        return {
            "confusion_matrix": lambda: plots.confusion_matrix(
                true, chosen, len(names), title, names=names, noun="texts"
            ),
            "worst_mistakes": lambda: text_plots.worst_texts(self.info, examples, predictions, title),
        }
