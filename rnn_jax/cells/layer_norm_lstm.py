"""The LSTM with layer normalization."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from rnn_jax.base import Array, as_number, check_choice, check_rate, check_size, dropout_mask
from rnn_jax.cells.equations import Dense, EquationsCell, expand
from rnn_jax.cells.initializers import INITIALIZERS, Initializer, init_kernels
from rnn_jax.cells.lstm import LSTMGates, LSTMState


class LayerNormLSTMParams(NamedTuple):
    """Parameters of `LayerNormLSTM`: w_x [D, 4H], w_h [H, 4H], gamma, beta [4, H], gamma_c, beta_c [H]."""

    w_x: Array
    w_h: Array
    gamma: Array
    beta: Array
    gamma_c: Array
    beta_c: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LayerNormLSTM(EquationsCell):
    """An LSTM with layer normalization and recurrent dropout (TensorFlow's contrib LayerNormBasicLSTMCell).

        z = x w_x + h w_h
        [i, f, g, o] = norm(z) gamma + beta                      each gate normalized by itself
        c' = norm(c s(f) + m s(i) tanh(g)) gamma_c + beta_c
        h' = s(o) tanh(c')

    norm(v) = (v - mean(v)) / sqrt(var(v) + 1e-12) over the units (Ba et al., 2016, arXiv:1607.06450). The
    state holds the normalized c'. If all of v are equal, the gradient is defined as zero. m is 1 without a key; with
    one, it is recurrent dropout without memory loss (Semeniuta et al., 2016, arXiv:1603.05118):
    m ~ Bernoulli(1 - rate) / (1 - rate), fresh at every step. The output is h'.

    Args:
      hidden_size: H, the number of units.
      forget_bias: initial value of the forget gate's row of beta.
      recurrent_dropout: the rate at which m drops, from 0 up to but not including 1.
      initializer: the initializer of the weights, see `init_kernels`.

    Raises:
      ValueError: for a size that is not positive, a rate outside its range, an option of another type, or an unknown
        initializer.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float = 1.0
    recurrent_dropout: float = 0.0
    initializer: Initializer = "glorot"

    honours_axis = True

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        check_rate("recurrent_dropout", self.recurrent_dropout)
        object.__setattr__(self, "recurrent_dropout", float(self.recurrent_dropout))
        object.__setattr__(self, "forget_bias", as_number("forget_bias", self.forget_bias))
        check_choice("initializer", self.initializer, INITIALIZERS)

    @property
    def output_size(self) -> int:
        """H."""
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> LayerNormLSTMParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`."""
        H = self.hidden_size
        w_x, w_h = init_kernels(self.initializer, key, input_size, H, 4 * H)
        beta = jnp.zeros((4, H)).at[1].set(self.forget_bias)
        return LayerNormLSTMParams(w_x, w_h, jnp.ones((4, H)), beta, jnp.ones(H), jnp.zeros(H))

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> LSTMState:
        """Returns zeros."""
        shape = (*batch_shape, self.hidden_size)
        return LSTMState(h=jnp.zeros(shape, dtype), c=jnp.zeros(shape, dtype))

    def noise(self, key: Array, xs: Array) -> Array | None:
        """Draws m for all steps of xs [T, B, D]: [T, B, H], or None at a rate of 0. Consumes `key`."""
        if not self.recurrent_dropout:
            return None
        return dropout_mask(key, self.recurrent_dropout, (*xs.shape[:-1], self.hidden_size), xs.dtype)

    def equations(
        self, params: LayerNormLSTMParams, state: LSTMState, x: Array, dense: Dense, m: Array | None = None
    ) -> tuple[LSTMState, Array]:
        """Applies the equations: x [B, D], m [B, H] or None -> (state, h' [B, H])."""
        return self.gated(params, state, x, dense, m)[:2]

    def gated(
        self, params: LayerNormLSTMParams, state: LSTMState, x: Array, dense: Dense, m: Array | None = None
    ) -> tuple[LSTMState, Array, LSTMGates]:
        """Applies the equations: x [B, D], m [B, H] or None -> (state, h' [B, H], gates)."""
        h, c = state
        gates = dense((x, params.w_x), (h, params.w_h), parts=4)
        i, f, g, o = (
            _norm(z, dense.axis, gamma, beta) for z, gamma, beta in zip(gates, params.gamma, params.beta, strict=True)
        )
        g = jnp.tanh(g) if m is None else jnp.tanh(g) * m
        i, f, o = sigmoid(i), sigmoid(f), sigmoid(o)
        c = _norm(c * f + i * g, dense.axis, params.gamma_c, params.beta_c)
        h = o * jnp.tanh(c)
        return LSTMState(h, c), h, LSTMGates(i, f, o)


def _norm(v: Array, axis: int, gamma: Array, beta: Array) -> Array:
    """Computes norm(v) gamma + beta; norm(v) in float32 or wider, because 1e-12 underflows in float16."""
    wide = v if v.dtype.itemsize >= 4 else v.astype(jnp.float32)
    variance = wide.var(axis, keepdims=True)
    # Equal numbers, such as the gates of a blank first row, are normalized to zeros in any case. Without `where` their
    # gradient would grow a million times with every step of backpropagation.
    scale = jnp.where(variance > 0, jax.lax.rsqrt(variance + 1e-12), 0)
    normalized = ((wide - wide.mean(axis, keepdims=True)) * scale).astype(v.dtype)
    return normalized * expand(gamma, v) + expand(beta, v)
