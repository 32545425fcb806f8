"""The minimal LSTM, whose gates see the input only."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid

from rnn_jax.base import Array, as_number, check_size
from rnn_jax.cells.equations import expand
from rnn_jax.cells.initializers import glorot
from rnn_jax.cells.linear import LinearCell, LinearState
from rnn_jax.cells.min_gru import positive


class MinLSTMParams(NamedTuple):
    """Parameters of `MinLSTM`: w_x [D, 3H], b [3H]."""

    w_x: Array
    b: Array


class MinLSTMGates(NamedTuple):
    """Gates of `MinLSTM`, from 0 to 1: s(i) and s(f) over their sum [B, H]."""

    input: Array
    forget: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class MinLSTM(LinearCell):
    """The minimal long short-term memory (Feng et al., 2024, arXiv:2410.01201).

        [n, f, i] = x w_x + b
        h' = s(f) / (s(f) + s(i)) h + s(i) / (s(f) + s(i)) g(n)
        g(v) = v + 1/2 where v >= 0, else s(v)

    The output is h'. The ratios of gates are taken in logarithms, where both may be small; the reference, which has no
    b, takes the scan in logarithms, too (see `MinGRU`).

    Args:
      hidden_size: H, the number of units.
      forget_bias: initial value of the forget gate's part of b.

    Raises:
      ValueError: for a size that is not positive, or a bias that is no number.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        object.__setattr__(self, "forget_bias", as_number("forget_bias", self.forget_bias))

    @property
    def output_size(self) -> int:
        """H."""
        return self.hidden_size

    @property
    def state_blocks(self) -> int:
        """H: no unit sees another."""
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> MinLSTMParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`."""
        check_size("input_size", input_size)
        H = self.hidden_size
        b = jnp.zeros(3 * H).at[H : 2 * H].set(self.forget_bias)
        return MinLSTMParams(w_x=glorot(key, (input_size, 3 * H)), b=b)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> LinearState:
        """Zeros."""
        return LinearState(h=jnp.zeros((*batch_shape, self.hidden_size), dtype))

    def recurrence(self, params: MinLSTMParams, xs: Array) -> tuple[Array, Array]:
        """Returns a = s(f) / (s(f) + s(i)) and b = (1 - a) g(n): xs [..., D] -> [..., H] each."""
        pre = xs @ params.w_x
        n, f, i = jnp.split(pre + expand(params.b, pre), 3, axis=-1)
        logit = log_sigmoid(f) - log_sigmoid(i)  # s(f) / (s(f) + s(i)) = s(log s(f) - log s(i))
        return sigmoid(logit), sigmoid(-logit) * positive(n)

    def gates(self, params: MinLSTMParams, xs: Array) -> MinLSTMGates:
        """Returns the gates, which see the input alone: xs [..., D] -> [..., H] each."""
        a, _ = self.recurrence(params, xs)
        return MinLSTMGates(1 - a, a)
