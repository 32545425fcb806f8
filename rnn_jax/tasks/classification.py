"""Classification: one class for each sequence, or for each image read as one."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.base import Array, Params
from rnn_jax.data import Examples
from rnn_jax.readout import Classifier
from rnn_jax.tasks import plots
from rnn_jax.tasks.image_order import read_in_order
from rnn_jax.tasks.shifts import shift_images
from rnn_jax.tasks.task import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ClassificationMetrics(NamedTuple):
    """Means over a batch: cross-entropy in nats, and the fraction classified correctly."""

    loss: Array
    accuracy: Array


@dataclasses.dataclass(frozen=True)
class Classification:
    """Classifies sequences by the cross-entropy of a `Classifier`.

    Args:
      network: computes the logits.
      input_size: D, the features of a step.
      scale: the divisor of the inputs; for images, the value of a white pixel.
      order: of the pixels of images, see `read_in_order`; "rows" for sequences of any kind.
      shift: in training, moves each image by up to this number of pixels along each axis, see `shift_images`.
    """

    network: Classifier
    input_size: int
    _: dataclasses.KW_ONLY
    scale: float = 1.0
    order: str = "rows"
    shift: int = 0

    score: ClassVar[str] = "accuracy"
    quantities: ClassVar[Mapping[str, Quantity]] = {
        "loss": Quantity("Loss", "loss [nats]", log=True),
        "accuracy": Quantity("Accuracy", "accuracy [%]", factor=100, better="higher"),
    }

    def init(self, key: Array) -> Params:
        """Draws the network's parameters. Consumes `key`."""
        return self.network.init(key, self.input_size)

    def logits(self, params: Params, inputs: Array, lengths: Array | None = None, key: Array | None = None) -> Array:
        """Computes the logits [B, C] of inputs [B, T, D], of any numeric dtype. `key` drives dropout."""
        xs = jnp.moveaxis(read_in_order(inputs, self.order), -2, 0).astype(float) / self.scale
        return self.network.apply(params, xs, lengths=lengths, key=key)

    def loss(self, params: Params, batch: Examples, key: Array | None = None) -> tuple[Array, ClassificationMetrics]:
        """Computes the mean cross-entropy of targets int [B], and the metrics. `key` drives shifts and dropout."""
        inputs: Any = batch.inputs
        if key is not None and self.shift:
            key, shift_key = jax.random.split(key)
            inputs = shift_images(shift_key, inputs, self.shift)
        logits = self.logits(params, inputs, batch.lengths, key)  # type: ignore
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
        correct = jnp.argmax(logits, axis=-1) == batch.targets
        metrics = ClassificationMetrics(jnp.mean(losses), jnp.mean(correct))
        return metrics.loss, metrics

    def predict(self, params: Params, inputs: Array, lengths: Array | None = None) -> Array:
        """Computes the probability of each class, [B, C], for inputs [B, T, D]."""
        return jax.nn.softmax(self.logits(params, inputs, lengths))

    def measure(self, examples: Examples, predictions: np.ndarray) -> Mapping[str, float]:
        """Computes the accuracy of probabilities [N, C]."""
        correct = predictions.argmax(-1) == examples.targets
        return {"Accuracy": float(np.mean(correct, dtype=np.float32))}

    def baselines(self, examples: Examples) -> Mapping[str, np.ndarray]:
        """Returns no baselines: the classes of the images are about equally frequent."""
        return {}

    def pictures(self, examples: Examples, predictions: np.ndarray, title: str) -> "Mapping[str, Callable[[], Figure]]":
        """Returns the functions that draw the confusion matrix and the worst mistakes."""
        classes, chosen = predictions.shape[-1], predictions.argmax(-1)
        return {
            "confusion_matrix": lambda: plots.confusion_matrix(examples.targets, chosen, classes, title),
            "worst_mistakes": lambda: plots.worst_mistakes(examples, predictions, title),
        }
