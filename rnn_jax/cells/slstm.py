"""The sLSTM of xLSTM: exponential gates and heads."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid

from rnn_jax.base import Array, check_choice, check_size
from rnn_jax.cells.equations import Dense, EquationsCell
from rnn_jax.cells.initializers import INITIALIZERS, Initializer, check_blocks, init_block_kernels


class SLSTMParams(NamedTuple):
    """Parameters of `SLSTM`: w_x [D, 4H], w_h [heads, H / heads, 4H / heads], b [4H]."""

    w_x: Array
    w_h: Array
    b: Array


class SLSTMState(NamedTuple):
    """State of `SLSTM`: h, the last output; c, the memory; n, its normalizer; m, log of their scale: [B, H] each."""

    h: Array
    c: Array
    n: Array
    m: Array


class SLSTMGates(NamedTuple):
    """Gates of `SLSTM`: exp(i - m'), exp(log s(f) + m - m') and s(o) [B, H]; from 0 to 1 after the first step."""

    input: Array
    forget: Array
    output: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class SLSTM(EquationsCell):
    """The LSTM with exponential gates and a block-diagonal recurrence (Beck et al., 2024, arXiv:2405.04517).

        [i, f, z, o] = x w_x + h w_h + b
        m' = max(i, log s(f) + m), or i where n is zero
        c' = exp(log s(f) + m - m') c + exp(i - m') tanh(z)
        n' = exp(log s(f) + m - m') n + exp(i - m')
        h' = s(o) c' / n'

    The output is h'. m keeps the exponentials in range and changes no output. w_h is block-diagonal: units see those of
    their own head only.

    Args:
      hidden_size: H, the number of units.
      heads: blocks of w_h; it divides H.
      initializer: of the weights, see `init_kernels`.

    Raises:
      ValueError: for sizes that are not positive, heads that do not divide H, or an unknown initializer.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    heads: int = 1
    initializer: Initializer = "glorot"

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        check_blocks("heads", self.heads, self.hidden_size)
        check_choice("initializer", self.initializer, INITIALIZERS)

    @property
    def output_size(self) -> int:
        """H."""
        return self.hidden_size

    @property
    def state_blocks(self) -> int:
        """The heads."""
        return self.heads

    def init(self, key: Array, input_size: int) -> SLSTMParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`.

        The forget gate's part of b rises from 3 to 6 within each head, as in the authors' code.
        """
        H, heads = self.hidden_size, self.heads
        w_x, w_h = init_block_kernels(self.initializer, key, input_size, H, 4 * H, heads)
        b = jnp.zeros(4 * H).at[H : 2 * H].set(jnp.tile(jnp.linspace(3, 6, H // heads), heads))
        return SLSTMParams(w_x, w_h, b)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> SLSTMState:
        """Zeros."""
        return SLSTMState(*(jnp.zeros((*batch_shape, self.hidden_size), dtype) for _ in SLSTMState._fields))

    def equations(self, params: SLSTMParams, state: SLSTMState, x: Array, dense: Dense) -> tuple[SLSTMState, Array]:
        """Applies the equations: x [B, D] -> (state, h' [B, H])."""
        return self.gated(params, state, x, dense)[:2]

    def gated(
        self, params: SLSTMParams, state: SLSTMState, x: Array, dense: Dense
    ) -> tuple[SLSTMState, Array, SLSTMGates]:
        """Applies the equations: x [B, D] -> (state, h' [B, H], gates)."""
        h, c, n, m = state
        i, f, z, o = dense((x, params.w_x), (h, params.w_h), bias=params.b, parts=4)
        log_f = log_sigmoid(f) + m
        m = jnp.where(n == 0, i, jnp.maximum(i, log_f))
        i, f = jnp.exp(i - m), jnp.exp(log_f - m)
        c = f * c + i * jnp.tanh(z)
        n = f * n + i
        o = sigmoid(o)
        h = o * c / n
        return SLSTMState(h, c, n, m), h, SLSTMGates(i, f, o)
