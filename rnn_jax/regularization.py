"""Regularizers: wrappers that take a cell and return a cell, or take a layer and return a layer.

All randomness comes from the `key` given to `unroll` or `apply`, and is drawn outside the scan. Without a key nothing
is random.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from rnn_jax.base import (
    Array,
    Cell,
    Layer,
    Params,
    State,
    check_cell,
    check_rate,
    draw_noise,
    dropout_mask,
    given,
    take_step,
)
from rnn_jax.cells.equations import Dense, apply_equations
from rnn_jax.layers import as_layer
from rnn_jax.wrappers import CellWrapper, LayerWrapper


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dropout(LayerWrapper):
    """A layer whose outputs are dropped at random. See `dropout`."""

    rate: float

    def apply(
        self,
        params: Params,
        xs: Array,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, Array]:
        """Runs the layer and drops from its outputs; nothing is dropped without a key. Consumes `key`."""
        if key is None:
            return self.layer.apply(params, xs, state, lengths=lengths, **given(resets=resets))
        k_layer, k_mask = jax.random.split(key)
        state, ys = self.layer.apply(params, xs, state, lengths=lengths, key=k_layer, **given(resets=resets))
        return state, ys * dropout_mask(k_mask, self.rate, ys.shape, ys.dtype)


def dropout(layer: Cell | Layer, rate: float) -> Dropout:
    """Drops each output of a layer with probability `rate` (Srivastava et al., 2014; Zaremba et al., 2014).

        y' = y m,    m ~ Bernoulli(1 - rate) / (1 - rate), fresh for every element of ys

    The state is not changed: only the outputs that the next layer reads are dropped. Without a key nothing is dropped.

    Args:
      layer: any layer; a cell stands for the layer that runs it forwards.
      rate: the probability that an element is dropped, from 0 up to but not including 1.

    Raises:
      ValueError: for a rate outside that range.
    """
    check_rate("rate", rate)
    return Dropout(as_layer(layer, "dropout"), float(rate))


Take: TypeAlias = Callable[[State, Array, Any], tuple[State, Array]]  # a cell's step, its parameters known


@dataclasses.dataclass(frozen=True)
class RegularizedCell(CellWrapper):
    """A cell whose step takes another cell's step, and changes its inputs and results."""

    def around(self, take: Take, state: State, x: Array, noise: Any) -> tuple[State, Array]:
        """Takes the other cell's step by `take`, and changes its inputs and results."""
        raise NotImplementedError

    def step(self, params: Params, state: State, x: Array, noise: Any = None) -> tuple[State, Array]:
        """Takes one step: x [B, D] -> (state, output)."""
        return self.around(functools.partial(take_step, self.cell, params), state, x, noise)

    def equations(self, params: Params, state: State, x: Array, dense: Dense, noise: Any = None) -> tuple[State, Array]:
        """Takes one step of a cell that offers its equations: x [B, D] -> (state, output)."""

        def take(state: State, x: Array, noise: Any) -> tuple[State, Array]:
            return apply_equations(self.cell, params, state, x, dense, noise)

        return self.around(take, state, x, noise)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class VariationalDropout(RegularizedCell):
    """A cell with dropout by one mask in time. See `variational_dropout`."""

    inputs: float
    states: float
    outputs: float

    honours_axis = True

    def noise(self, key: Array, xs: Array) -> tuple[Any, tuple[Array, Array, Array]]:
        """Draws the masks of each sequence, repeated in time, and the cell's own noise. Consumes `key`."""
        k_cell, k_inputs, k_states, k_outputs = jax.random.split(key, 4)
        num_steps, *batch_shape, input_size = xs.shape
        h_size = _h(jax.eval_shape(lambda: self.initial_state())).shape[-1]

        def mask(key: Array, rate: float, size: int) -> Array:
            once = dropout_mask(key, rate, (*batch_shape, size), xs.dtype)
            return jnp.broadcast_to(once, (num_steps, *once.shape))

        masks = (
            mask(k_inputs, self.inputs, input_size),
            mask(k_states, self.states, h_size),
            mask(k_outputs, self.outputs, self.output_size),
        )
        return draw_noise(self.cell, k_cell, xs), masks

    def around(self, take: Take, state: State, x: Array, noise: Any) -> tuple[State, Array]:
        """Takes one step of the cell between the masks: x [B, D] -> (state, y' [B, H])."""
        if noise is None:
            return take(state, x, None)
        cell_noise, (m_x, m_h, m_y) = noise
        state, y = take(state, x * m_x, cell_noise)
        return state._replace(h=state.h * m_h), y * m_y


def variational_dropout(
    cell: Cell, *, inputs: float = 0.0, states: float = 0.0, outputs: float = 0.0
) -> VariationalDropout:
    """Drops the same elements at every step of a sequence (Gal and Ghahramani, 2016, arXiv:1512.05287).

        (state', y) = step(state, x m_x)
        h' <- h' m_h,    y <- y m_y,    each m ~ Bernoulli(1 - rate) / (1 - rate), one for each sequence

    As in TensorFlow's DropoutWrapper, only h is dropped of the state, on its way to the next step, never an LSTM's
    memory c. Without a key nothing is dropped.

    Args:
      cell: a cell whose state has a field `h`.
      inputs: rate for the inputs, from 0 up to but not including 1.
      states: rate for h.
      outputs: rate for the outputs.

    Raises:
      ValueError: for a rate outside that range, or a cell without h in its state.
    """
    check_cell("variational_dropout", cell)
    for name, rate in (("inputs", inputs), ("states", states), ("outputs", outputs)):
        check_rate(name, rate)
    _h(jax.eval_shape(lambda: cell.initial_state()))
    return VariationalDropout(cell, float(inputs), float(states), float(outputs))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Zoneout(RegularizedCell):
    """A cell whose state is kept at random. See `zoneout`."""

    rates: tuple[tuple[str, float], ...]

    honours_axis = True

    def noise(self, key: Array, xs: Array) -> tuple[Any, dict[str, Array]]:
        """Draws the elements that are kept, afresh at every step, and the cell's own noise. Consumes `key`."""
        k_cell, *keys = jax.random.split(key, 1 + len(self.rates))
        like = jax.eval_shape(lambda: self.initial_state(xs.shape[:-1]))
        kept = {
            name: jax.random.bernoulli(k, rate, getattr(like, name).shape).astype(xs.dtype)
            for k, (name, rate) in zip(keys, self.rates, strict=True)
        }
        return draw_noise(self.cell, k_cell, xs), kept

    def around(self, take: Take, state: State, x: Array, noise: Any) -> tuple[State, Array]:
        """Takes one step and keeps a part of the old state: x [B, D] -> (state, h [B, H])."""
        cell_noise, d = (None, dict(self.rates)) if noise is None else noise
        new_state, _ = take(state, x, cell_noise)
        for name in d:
            old, new = getattr(state, name), getattr(new_state, name)
            new_state = new_state._replace(**{name: d[name] * old + (1 - d[name]) * new})
        return new_state, new_state.h


def zoneout(cell: Cell, *, h: float = 0.0, c: float = 0.0) -> Zoneout:
    """Keeps elements of the state as they were, at random (Krueger et al., 2017, arXiv:1606.01305).

        h' <- d h + (1 - d) h',    d ~ Bernoulli(rate), fresh for every element and step;    the same for c

    Without a key, d is the rate itself: the expected value. The output is the h that the state keeps.

    Args:
      cell: a cell whose output is the field `h` of its state.
      h: rate at which elements of h are kept, from 0 up to but not including 1.
      c: the same for the memory of an LSTM.

    Raises:
      ValueError: for a rate outside that range, a cell without h (or, for a rate above 0, c) in its state, or one
        whose output is not h because it is dropped.
    """
    check_cell("zoneout", cell)
    like = jax.eval_shape(lambda: cell.initial_state())
    _h(like)
    for name, rate in (("h", h), ("c", c)):
        check_rate(name, rate)
    if c and not hasattr(like, "c"):
        raise ValueError(f"zoneout on c needs a cell with c in its state, not {cell}")
    if like.h.shape[-1] != cell.output_size:
        raise ValueError(f"zoneout needs a cell whose output is h: wrap {cell} around it instead")
    if isinstance(cell, VariationalDropout) and cell.outputs:
        raise ValueError("zoneout would undo the dropout of outputs: wrap variational_dropout around it instead")
    return Zoneout(cell, tuple((name, float(rate)) for name, rate in (("h", h), ("c", c)) if rate))


def _h(state: State) -> Any:
    """Returns the field h of a state; raises `ValueError` if there is none."""
    if not hasattr(state, "h"):
        raise ValueError(f"the regularizer needs a cell with a field h in its state, not {type(state).__name__}")
    return state.h
