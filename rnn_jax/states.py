"""Wrappers about states: those of every step among the outputs, and an initial state that is learned."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Cell, Layer, Params, State, check_cell, draw_noise, take_step
from rnn_jax.cells.equations import Dense, apply_equations
from rnn_jax.layers import as_layer
from rnn_jax.wrappers import CellWrapper, LayerWrapper


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class WithStates(CellWrapper):
    """A cell that puts out its states beside its outputs. See `with_states`."""

    honours_axis = True

    @property
    def output_size(self) -> int:
        """The sizes of the cell's output and of all arrays of its state, added up."""
        return sum(self._sizes())

    def noise(self, key: Array, xs: Array) -> Any:
        """Draws the cell's noise. Consumes `key`."""
        return draw_noise(self.cell, key, xs)

    def step(self, params: Params, state: State, x: Array, noise: Any = None) -> tuple[State, Array]:
        """Takes one step: x [B, D] -> (state, output and state side by side)."""
        state, y = take_step(self.cell, params, state, x, noise)
        return state, jnp.concatenate([y, *jax.tree.leaves(state)], axis=-1)

    def equations(self, params: Params, state: State, x: Array, dense: Dense, noise: Any = None) -> tuple[State, Array]:
        """The same for a cell that offers its equations."""
        state, y = apply_equations(self.cell, params, state, x, dense, noise)
        return state, jnp.concatenate([y, *jax.tree.leaves(state)], axis=dense.axis)

    def split(self, ys: Array) -> tuple[Array, State]:
        """Takes outputs apart: [T, B, output_size] -> (the cell's ys [T, B, H], its states, [T, B, ...] each)."""
        sizes = self._sizes()
        ys, *leaves = jnp.split(ys, [sum(sizes[:k]) for k in range(1, len(sizes))], axis=-1)
        return ys, jax.tree.unflatten(jax.tree.structure(jax.eval_shape(self.initial_state)), leaves)

    def _sizes(self) -> list[int]:
        """Returns the sizes of the cell's output and of each array of its state."""
        return [
            self.cell.output_size,
            *(leaf.shape[-1] for leaf in jax.tree.leaves(jax.eval_shape(self.initial_state))),
        ]


def with_states(cell: Cell) -> WithStates:
    """Puts out a cell's states at every step, such as the memory of an LSTM, beside its outputs.

    >>> import jax, rnn_jax as rnn
    >>> cell = rnn.with_states(rnn.LSTM(16))
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> final, outputs = rnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
    >>> ys, states = cell.split(outputs)
    >>> ys.shape, states.c.shape
    ((5, 2, 16), (5, 2, 16))

    As the outputs, the states are zero where steps are not valid.

    Args:
      cell: a cell whose state has arrays with one axis of features, in the dtype of its output.

    Returns:
      A cell with the parameters and the state of `cell`, and its `split` for the outputs.

    Raises:
      ValueError: for anything but a cell.
    """
    check_cell("with_states", cell)
    return WithStates(cell)


class LearnedInitialStateParams(NamedTuple):
    """Parameters of `LearnedInitialState`: those of the layer; and the state before the first step, without B."""

    layer: Params
    state: State


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LearnedInitialState(LayerWrapper):
    """A layer whose initial state is among its parameters. See `learn_initial_state`."""

    def init(self, key: Array, input_size: int) -> LearnedInitialStateParams:
        """Draws the layer's parameters; the state begins as the layer's own. Consumes `key`."""
        return LearnedInitialStateParams(self.layer.init(key, input_size), self.layer.initial_state())

    def apply(
        self,
        params: LearnedInitialStateParams,
        xs: Array,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, Array]:
        """Runs over a whole sequence: xs [T, B, D] -> (final state, ys), from the learned state unless one is given."""
        if resets is not None:
            raise ValueError("learn_initial_state cannot reset: a reset goes to the layer's own initial state")
        xs = jnp.asarray(xs)
        if state is None:
            batch_shape = xs.shape[1:-1]
            state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), params.state)
        return self.layer.apply(params.layer, xs, state, lengths=lengths, key=key)


def learn_initial_state(layer: Cell | Layer) -> LearnedInitialState:
    """Makes the initial state of a layer a parameter, the same for every sequence.

    >>> import jax, rnn_jax as rnn
    >>> layer = rnn.learn_initial_state(rnn.bidirectional(rnn.GRU(16)))
    >>> params = layer.init(jax.random.key(0), input_size=3)
    >>> params.state.forward.h.shape
    (16,)

    `initial_state`, which knows no parameters, stays the layer's own; to run a cell step by step from the learned
    state, take it from the parameters.

    Args:
      layer: any layer; a cell stands for the layer that runs it forwards. It is not for sequences with `resets`.
    """
    return LearnedInitialState(as_layer(layer))
