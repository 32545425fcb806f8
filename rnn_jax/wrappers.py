"""Bases of wrappers: a cell around a cell, or a layer around a layer, which keeps its sizes, parameters and state."""

import dataclasses
from typing import Any

from rnn_jax.base import Array, Cell, Layer, Params, State


def within(net: Any) -> Any:
    """Returns the cell or the layer within a wrapper; None for anything else.

    A wrapper is any object with a field `cell` or `layer`, be it built in or your own.
    """
    return next(
        (inner for inner in (getattr(net, name, None) for name in ("cell", "layer")) if inner is not None), None
    )


class Wrapper:
    """Delegates sizes, parameters and state to the cell or the layer within."""

    @property
    def output_size(self) -> int:
        """The output size of the cell or layer within."""
        return within(self).output_size

    def init(self, key: Array, input_size: int) -> Params:
        """Draws the parameters of the cell or layer within. Consumes `key`."""
        return within(self).init(key, input_size)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> State:
        """Returns the initial state of the cell or layer within."""
        return within(self).initial_state(batch_shape, dtype)


@dataclasses.dataclass(frozen=True)
class CellWrapper(Wrapper):
    """A wrapper of a cell, a cell or a layer itself."""

    cell: Cell


@dataclasses.dataclass(frozen=True)
class LayerWrapper(Wrapper):
    """A wrapper of a layer, and a layer itself once a subclass adds `apply`."""

    layer: Layer

    def __post_init__(self) -> None:
        _ = self.layer.output_size  # raises if there is no one sequence of outputs

    def final_output(self, ys: Array, lengths: Array | None = None) -> Array:
        """Returns the final output of the layer within."""
        return self.layer.final_output(ys, lengths)
