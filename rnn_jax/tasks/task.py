"""The protocol of a task: a loss, predictions, and the figures and pictures that judge them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from jax import lax

from rnn_jax.base import Array, Params
from rnn_jax.data import Examples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics: TypeAlias = Any  # a NamedTuple of scalars, one of which is `loss`


VALIDATION = "validation_"  # prefix of the names of metrics on the validation split


class Quantity(NamedTuple):
    """The name, the axis and the order of a metric.

    Attributes:
      name: the name in reports, such as "Accuracy".
      axis: the label of its axis in pictures, with the unit.
      factor: the number of units of the axis in one unit of the metric.
      log: True for a logarithmic axis.
      better: the better of two values, the higher or the lower one.
    """

    name: str
    axis: str
    factor: float = 1.0
    log: bool = False
    better: Literal["higher", "lower"] = "lower"


class Report(NamedTuple):
    """The metrics of one seed at one step.

    Attributes:
      step: the number of updates made.
      seed: the seed.
      values: the metrics of the minibatch by name and, after `VALIDATION`, those of the whole validation split; None
        where it was not evaluated.
    """

    step: int
    seed: int
    values: Mapping[str, float | None]


class Task(Protocol):
    """The loss, the predictions and the figures of a network: a frozen value, like a cell."""

    quantities: ClassVar[Mapping[str, Quantity]]  # by field of the metrics, in order
    score: ClassVar[str]  # the metric that ranks checkpoints

    def init(self, key: Array) -> Params:
        """Draws the parameters. Consumes `key`."""
        ...

    def loss(self, params: Params, batch: Examples, key: Array | None = None) -> tuple[Array, Metrics]:
        """Computes (the loss to be minimized, the metrics), means over the batch. `key` drives dropout."""
        ...

    def predict(self, params: Params, inputs: Array, lengths: Array | None = None) -> Array:
        """Predicts from inputs [B, T, D], or from one sequence [T, D]."""
        ...

    def measure(self, examples: Examples, predictions: np.ndarray) -> Mapping[str, float]:
        """Computes the final figures of a test from the predictions for all examples, by their names in reports."""
        ...

    def baselines(self, examples: Examples) -> Mapping[str, np.ndarray]:
        """Returns predictions of simple baselines, in the form of `predict`, by their descriptions; may be empty."""
        ...

    def pictures(self, examples: Examples, predictions: np.ndarray, title: str) -> "Mapping[str, Callable[[], Figure]]":
        """Returns the functions that draw the pictures of a test, by the names of their files."""
        ...


def initial_carry(task: Task, batch_size: int) -> Any:
    """Returns what a task carries from batch to batch, before the first; None for a task without a method `carry`."""
    carry = getattr(task, "carry", None)
    return None if carry is None else carry(batch_size)


def predict_examples(
    task: Task, params: Params, inputs: Array, lengths: Array | None = None, *, batch_size: int = 1000
) -> Array:
    """Predicts for many examples.

    Args:
      task: the task.
      params: its parameters.
      inputs: [N, T, D].
      lengths: int [N], or None if all steps are valid.
      batch_size: examples computed at once. It bounds the memory and changes no result.
    """

    def predict(example: tuple[Array, Array | None]) -> Array:
        return task.predict(params, *example)

    return lax.map(predict, (inputs, lengths), batch_size=batch_size)
