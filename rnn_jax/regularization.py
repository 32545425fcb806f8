"""Regularizers: wrappers that take a layer and return a layer. All randomness comes from the `key` given to `apply`."""

import dataclasses
from typing import Any

import jax

from rnn_jax.base import Array, Cell, Layer, Params, State, check_rate, dropout_mask
from rnn_jax.layers import as_layer


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dropout:
    """A layer whose outputs are dropped at random. See `dropout`."""

    layer: Layer
    rate: float

    @property
    def output_size(self) -> int:
        """The layer's."""
        return self.layer.output_size

    def init(self, key: Array, input_size: int) -> Params:
        """Draws the layer's parameters. Consumes `key`."""
        return self.layer.init(key, input_size)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> State:
        """The layer's."""
        return self.layer.initial_state(batch_shape, dtype)

    def apply(
        self,
        params: Params,
        xs: Array,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, Array]:
        """Runs the layer and drops from its outputs; nothing is dropped without a key. Consumes `key`."""
        if key is None:
            return self.layer.apply(params, xs, state, lengths=lengths)
        k_layer, k_mask = jax.random.split(key)
        state, ys = self.layer.apply(params, xs, state, lengths=lengths, key=k_layer)
        return state, ys * dropout_mask(k_mask, self.rate, ys.shape, ys.dtype)

    def final_output(self, ys: Array, lengths: Array | None = None) -> Array:
        """The layer's."""
        return self.layer.final_output(ys, lengths)


def dropout(layer: Cell | Layer, rate: float) -> Dropout:
    """Drops each output of a layer with probability `rate` (Srivastava et al., 2014; Zaremba et al., 2014).

        y' = y m,    m ~ Bernoulli(1 - rate) / (1 - rate), fresh for every element of ys

    The state is left alone: only what the next layer reads is dropped. Without a key nothing is dropped.

    Args:
      layer: any layer; a cell stands for the layer that runs it forwards.
      rate: the probability that an element is dropped, from 0 up to but not including 1.

    Raises:
      ValueError: for a rate outside that range.
    """
    check_rate("rate", rate)
    return Dropout(as_layer(layer), rate)
