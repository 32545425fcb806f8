"""The minimal GRU, whose gates see the input only."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from rnn_jax.base import Array, check_size
from rnn_jax.cells.equations import expand
from rnn_jax.cells.initializers import glorot
from rnn_jax.cells.linear import LinearCell, LinearState


class MinGRUParams(NamedTuple):
    """Parameters of `MinGRU`: w_x [D, 2H], b [2H]."""

    w_x: Array
    b: Array


class MinGRUGates(NamedTuple):
    """Gate of `MinGRU`, from 0 to 1: s(z) [B, H]. An update gate of 1 replaces the state."""

    update: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class MinGRU(LinearCell):
    """The minimal gated recurrent unit (Feng et al., 2024, arXiv:2410.01201).

        [n, z] = x w_x + b
        h' = (1 - s(z)) h + s(z) g(n)
        g(v) = v + 1/2 where v >= 0, else s(v)

    The output is h'. The reference has no b and takes the scan in logarithms, so that no number leaves the range of
    float32; sums and products of positive numbers, as here, are at least as exact and stay in range without.

    Args:
      hidden_size: H, the number of units.

    Raises:
      ValueError: for a size that is not positive.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)

    @property
    def output_size(self) -> int:
        """H."""
        return self.hidden_size

    @property
    def state_blocks(self) -> int:
        """H: no unit sees another."""
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> MinGRUParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`."""
        check_size("input_size", input_size)
        H = self.hidden_size
        return MinGRUParams(w_x=glorot(key, (input_size, 2 * H)), b=jnp.zeros(2 * H))

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> LinearState:
        """Zeros."""
        return LinearState(h=jnp.zeros((*batch_shape, self.hidden_size), dtype))

    def recurrence(self, params: MinGRUParams, xs: Array) -> tuple[Array, Array]:
        """Returns a = 1 - s(z) and b = s(z) g(n): xs [..., D] -> [..., H] each."""
        pre = xs @ params.w_x
        n, z = jnp.split(pre + expand(params.b, pre), 2, axis=-1)
        return sigmoid(-z), sigmoid(z) * positive(n)

    def gates(self, params: MinGRUParams, xs: Array) -> MinGRUGates:
        """Returns the gate, which sees the input alone: xs [..., D] -> [..., H]."""
        a, _ = self.recurrence(params, xs)
        return MinGRUGates(1 - a)


def positive(v: Array) -> Array:
    """Returns g(v) = v + 1/2 where v >= 0, else s(v)."""
    return jnp.where(v >= 0, v + 0.5, sigmoid(v))
