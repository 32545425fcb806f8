"""Cells with a linear recurrence, h' = a h + b, where a and b depend on the input alone.

All states of a sequence then follow from all inputs without a loop over the steps: see `parallel`.
"""

from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from rnn_jax.base import Array, Params, check_input
from rnn_jax.cells.checked import CheckedCell
from rnn_jax.cells.equations import expand


class LinearState(NamedTuple):
    """State of a linear cell with real h: h [B, N]."""

    h: Array


class ComplexState(NamedTuple):
    """State of a linear cell with complex h, its real and imaginary part: re, im [B, N]."""

    re: Array
    im: Array


AnyLinearState: TypeAlias = LinearState | ComplexState


class LinearCell(CheckedCell):
    """A cell made of a linear recurrence over time, elementwise, real or complex.

        h' = a h + b,    y = output(h', x),    (a, b) = recurrence(x)

    Subclass it, and write `output_size`, `init` and `initial_state` as `base.Cell` has them, the latter with a
    `LinearState` or, for complex a and b, a `ComplexState`; and in place of `step`

        def recurrence(self, params, xs):  # xs [..., D] -> a, b [..., N], for one step or for all of them
            return a, b

    and `output`, unless the output is h'. A subclass is frozen or at least hashable.

    >>> import dataclasses
    >>> import jax, jax.numpy as jnp, rnn_jax as rnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Average(rnn.LinearCell):
    ...     output_size: int
    ...
    ...     def init(self, key, input_size):
    ...         return {"w": jax.random.normal(key, (input_size, self.output_size)), "tau": jnp.ones(self.output_size)}
    ...
    ...     def initial_state(self, batch_shape=(), dtype=float):
    ...         return rnn.LinearState(jnp.zeros((*batch_shape, self.output_size), dtype))
    ...
    ...     def recurrence(self, params, xs):
    ...         a = jax.nn.sigmoid(params["tau"])
    ...         return a, (1 - a) * (xs @ params["w"])
    >>> cell = Average(4)
    >>> state, ys = rnn.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones((5, 2, 3)), implementation="parallel")
    >>> ys.shape
    (5, 2, 4)
    """

    def recurrence(self: Any, params: Params, xs: Array) -> tuple[Array, Array]:
        """Returns a and b of the recurrence: xs [..., D] -> two arrays that broadcast to [..., N]."""
        raise NotImplementedError

    def output(self: Any, params: Params, hs: Array, xs: Array) -> Array:
        """Returns the outputs of states and inputs: hs [..., N], xs [..., D] -> [..., output_size]."""
        return hs

    def step(self: Any, params: Params, state: AnyLinearState, x: ArrayLike) -> tuple[AnyLinearState, Array]:
        """Takes one step: x [B, D] -> (state, output).

        Raises:
          ValueError: naming the argument, the shape or dtype it has and the one it needs.
        """
        x = check_input("x", x)
        self.check(params, state, x.shape, x.dtype, "x")
        a, b = self.recurrence(params, x)
        h = to_h(state)
        h = expand(a, h) * h + expand(b, h)
        return to_state(h, like=state), self.output(params, h, x)


def to_h(state: AnyLinearState) -> Array:
    """Returns h of a state, at least in float32 if it is complex."""
    if isinstance(state, LinearState):
        return state.h
    return lax.complex(widen(state.re), widen(state.im))


def to_state(h: Array, like: AnyLinearState) -> AnyLinearState:
    """Returns the state of an h, of the same kind and dtype as another."""
    if isinstance(like, LinearState):
        return LinearState(h.astype(like.h.dtype))
    return ComplexState(h.real.astype(like.re.dtype), h.imag.astype(like.im.dtype))


def widen(a: Array) -> Array:
    """Returns an array at least in float32: sums over many steps, and complex numbers, need it."""
    return a.astype(jnp.float32) if jnp.finfo(a.dtype).bits < 32 else a
