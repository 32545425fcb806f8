"""Long short-term memory, with all of TensorFlow's and PyTorch's options."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from rnn_jax.base import Array, as_bool, as_number, as_positive, check_choice, check_size
from rnn_jax.cells.equations import Dense, EquationsCell, expand
from rnn_jax.cells.initializers import INITIALIZERS, Initializer, glorot, init_kernels


class Peepholes(NamedTuple):
    """Diagonal connections from an LSTM's cell state to its gates: i, f and o [H]."""

    i: Array
    f: Array
    o: Array


class LSTMParams(NamedTuple):
    """Parameters of `LSTM`: w_x [D, 4H], w_h [R, 4H], b [4H], p (i, f, o [H]) or None, w_r [H, R] or None."""

    w_x: Array
    w_h: Array
    b: Array
    p: Peepholes | None = None
    w_r: Array | None = None


class LSTMState(NamedTuple):
    """State of `LSTM` and `LayerNormLSTM`: h [B, R], the last output; c [B, H], the memory."""

    h: Array
    c: Array


class LSTMGates(NamedTuple):
    """Gates of `LSTM` and `LayerNormLSTM`, from 0 (closed) to 1: s(i), s(f), s(o) [B, H]."""

    input: Array
    forget: Array
    output: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LSTM(EquationsCell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; forget gates: Gers et al., 2000).

        [i, f, g, o] = x w_x + h w_h + b
        c' = s(f) c + s(i) tanh(g)
        h' = s(o) tanh(c')

    The output is h'. With peepholes (Gers and Schmidhuber, 2000), i and f gain p.i c and p.f c, and o gains p.o c'.
    With a projection (Sak et al., 2014, arXiv:1402.1128), h' is multiplied by w_r. c' is clipped before it is used
    and stored, h' after its projection. Covers TensorFlow's BasicLSTMCell and LSTMCell, and PyTorch's, Keras's and
    Flax's LSTM.

    Args:
      hidden_size: H, the number of units.
      forget_bias: initial value of the forget gate's part of b.
      peepholes: True to connect the memory to the gates.
      projection_size: R, the size of the output; None for no projection, R = H.
      cell_clip: clips the memory to [-cell_clip, cell_clip]; None for no clipping.
      projection_clip: clips a projected output likewise; None for no clipping.
      initializer: the initializer of the weights, see `init_kernels`.

    Raises:
      ValueError: for a size or a clip that is not positive, a projection_clip without a projection, an option
        of another type, or an unknown initializer.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float = 1.0
    peepholes: bool = False
    projection_size: int | None = None
    cell_clip: float | None = None
    projection_clip: float | None = None
    initializer: Initializer = "glorot"

    honours_axis = True

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        if self.projection_size is not None:
            check_size("projection_size", self.projection_size)
        elif self.projection_clip is not None:
            raise ValueError("projection_clip needs a projection_size")
        for name in ("cell_clip", "projection_clip"):
            clip = getattr(self, name)
            if clip is not None:
                object.__setattr__(self, name, as_positive(name, clip))
        object.__setattr__(self, "forget_bias", as_number("forget_bias", self.forget_bias))
        object.__setattr__(self, "peepholes", as_bool("peepholes", self.peepholes))
        check_choice("initializer", self.initializer, INITIALIZERS)

    @property
    def output_size(self) -> int:
        """R: `projection_size`, or `hidden_size` without one."""
        return self.projection_size or self.hidden_size

    def init(self, key: Array, input_size: int) -> LSTMParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`."""
        H, R = self.hidden_size, self.output_size
        k_kernels, k_peepholes, k_projection = jax.random.split(key, 3)
        w_x, w_h = init_kernels(self.initializer, k_kernels, input_size, R, 4 * H)
        b = jnp.zeros(4 * H).at[H : 2 * H].set(self.forget_bias)
        p = w_r = None
        if self.peepholes:
            # Glorot's bound for a vector of H, as TensorFlow draws its peepholes.
            bound = (3 / H) ** 0.5
            p = Peepholes(*jax.random.uniform(k_peepholes, (3, H), minval=-bound, maxval=bound))
        if self.projection_size is not None:
            w_r = glorot(k_projection, (H, R))
        return LSTMParams(w_x, w_h, b, p, w_r)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> LSTMState:
        """Returns zeros."""
        return LSTMState(
            h=jnp.zeros((*batch_shape, self.output_size), dtype),
            c=jnp.zeros((*batch_shape, self.hidden_size), dtype),
        )

    def equations(self, params: LSTMParams, state: LSTMState, x: Array, dense: Dense) -> tuple[LSTMState, Array]:
        """Applies the equations: x [B, D] -> (state, h' [B, R])."""
        return self.gated(params, state, x, dense)[:2]

    def gated(self, params: LSTMParams, state: LSTMState, x: Array, dense: Dense) -> tuple[LSTMState, Array, LSTMGates]:
        """Applies the equations: x [B, D] -> (state, h' [B, R], gates)."""
        h, c = state
        i, f, g, o = dense((x, params.w_x), (h, params.w_h), bias=params.b, parts=4)
        p = params.p
        if p is not None:
            i, f = i + expand(p.i, c) * c, f + expand(p.f, c) * c
        i, f = sigmoid(i), sigmoid(f)
        c = f * c + i * jnp.tanh(g)
        if self.cell_clip is not None:
            c = _clip(c, self.cell_clip)
        if p is not None:
            o = o + expand(p.o, c) * c
        o = sigmoid(o)
        h = o * jnp.tanh(c)
        if params.w_r is not None:
            (h,) = dense((h, params.w_r))
            if self.projection_clip is not None:
                h = _clip(h, self.projection_clip)
        return LSTMState(h, c), h, LSTMGates(i, f, o)


def _clip(v: Array, clip: float) -> Array:
    """Clips `v` to [-clip, clip]."""
    return jnp.clip(v, -clip, clip)
