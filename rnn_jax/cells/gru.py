"""The gated recurrent unit, in both of its forms."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from rnn_jax.base import Array, as_bool, check_choice, check_size
from rnn_jax.cells.equations import Dense, EquationsCell, expand
from rnn_jax.cells.initializers import INITIALIZERS, Initializer, check_blocks, init_block_kernels, init_kernels


class GRUParams(NamedTuple):
    """Parameters of `GRU`: w_x [D, 3H], w_h [H, 3H], b [3H], b_h [H] or None (only with reset_after).

    With several blocks, w_h is [blocks, H / blocks, 3H / blocks], the blocks of the matrix's diagonal.
    """

    w_x: Array
    w_h: Array
    b: Array
    b_h: Array | None = None


class GRUState(NamedTuple):
    """State of `GRU`: h [B, H], the last output."""

    h: Array


class GRUGates(NamedTuple):
    """Gates of `GRU`, from 0 to 1: r and z [B, H]. An update gate of 1 keeps the state."""

    reset: Array
    update: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class GRU(EquationsCell):
    """The gated recurrent unit (Cho et al., 2014, arXiv:1406.1078).

        [r, z] = s(x w_x + h w_h + b)                  the first two thirds of the columns
        n = tanh(x w_x + b + r (h w_h + b_h))          the last third, reset after the product
        n = tanh(x w_x + b + (r h) w_h)                the last third, reset before the product
        h' = z h + (1 - z) n

    The output is h'. Reset after is PyTorch's, cuDNN's, Flax's and Keras's default form; reset before is the
    paper's first version and TensorFlow's GRUCell. With several blocks, w_h is block-diagonal, as in the world models
    of Dreamer (Hafner et al., 2023, arXiv:2301.04104): a unit reads only the units of its own block.

    Args:
      hidden_size: H, the number of units.
      reset_after: True to apply the reset gate after the recurrent product, False to apply it before.
      blocks: the number of blocks of w_h, a divisor of H.
      initializer: the initializer of the weights, see `init_kernels`. As in TensorFlow, the biases of r and z start
        at 1 if the reset comes before the product; all others start at 0.

    Raises:
      ValueError: for sizes that are not positive, blocks that do not divide H, an option of another type, or an unknown
        initializer.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    reset_after: bool = True
    blocks: int = 1
    initializer: Initializer = "glorot"

    honours_axis = True

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        check_blocks("blocks", self.blocks, self.hidden_size)
        object.__setattr__(self, "reset_after", as_bool("reset_after", self.reset_after))
        check_choice("initializer", self.initializer, INITIALIZERS)

    def __repr__(self) -> str:
        blocks = f", blocks={self.blocks}" if self.blocks > 1 else ""
        return (
            f"GRU(hidden_size={self.hidden_size}, reset_after={self.reset_after}{blocks}, "
            f"initializer={self.initializer!r})"
        )

    @property
    def output_size(self) -> int:
        """H."""
        return self.hidden_size

    @property
    def state_blocks(self) -> int:
        """The number of blocks of w_h."""
        return self.blocks

    def init(self, key: Array, input_size: int) -> GRUParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`."""
        H = self.hidden_size
        b = jnp.zeros(3 * H) if self.reset_after else jnp.concatenate([jnp.ones(2 * H), jnp.zeros(H)])
        b_h = jnp.zeros(H) if self.reset_after else None
        if self.blocks > 1:
            return GRUParams(*init_block_kernels(self.initializer, key, input_size, H, 3 * H, self.blocks), b, b_h)
        if self.reset_after:
            return GRUParams(*init_kernels(self.initializer, key, input_size, H, 3 * H), b, b_h)
        # TensorFlow keeps the gates and the candidate in two kernels, each with a glorot bound of its own.
        k_gates, k_candidate = jax.random.split(key)
        gates = init_kernels(self.initializer, k_gates, input_size, H, 2 * H)
        candidate = init_kernels(self.initializer, k_candidate, input_size, H, H)
        w_x, w_h = (jnp.concatenate(pair, axis=1) for pair in zip(gates, candidate, strict=True))
        return GRUParams(w_x, w_h, b)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> GRUState:
        """Returns zeros."""
        return GRUState(h=jnp.zeros((*batch_shape, self.hidden_size), dtype))

    def equations(self, params: GRUParams, state: GRUState, x: Array, dense: Dense) -> tuple[GRUState, Array]:
        """Applies the equations: x [B, D] -> (state, h' [B, H])."""
        return self.gated(params, state, x, dense)[:2]

    def gated(self, params: GRUParams, state: GRUState, x: Array, dense: Dense) -> tuple[GRUState, Array, GRUGates]:
        """Applies the equations: x [B, D] -> (state, h' [B, H], gates)."""
        h, H = state.h, self.hidden_size
        gates, candidate = slice(0, 2 * H), slice(2 * H, 3 * H)
        r, z = dense((x, params.w_x), (h, params.w_h), bias=params.b, columns=gates, parts=2)
        r, z = sigmoid(r), sigmoid(z)
        if params.b_h is not None:
            (n_x,) = dense((x, params.w_x), bias=params.b, columns=candidate)
            (n_h,) = dense((h, params.w_h), columns=candidate)
            n = jnp.tanh(n_x + r * (n_h + expand(params.b_h, n_h)))
        else:
            (n,) = dense((x, params.w_x), (r * h, params.w_h), bias=params.b, columns=candidate)
            n = jnp.tanh(n)
        h = z * h + (1 - z) * n
        return GRUState(h), h, GRUGates(r, z)
