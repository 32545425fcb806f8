"""The real-gated linear recurrent unit."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, softplus

from rnn_jax.base import Array, check_size
from rnn_jax.cells.equations import expand, multiply_blocks
from rnn_jax.cells.initializers import check_blocks, glorot
from rnn_jax.cells.linear import LinearCell, LinearState


class RGLRUParams(NamedTuple):
    """Parameters of `RGLRU`: w_x [D, H], b [H], w_a, w_i [blocks, H / blocks, H / blocks], b_a, b_i, lam [H]."""

    w_x: Array
    b: Array
    w_a: Array
    b_a: Array
    w_i: Array
    b_i: Array
    lam: Array


class RGLRUGates(NamedTuple):
    """Gates of `RGLRU`, from 0 to 1: s(u w_a + b_a) and s(u w_i + b_i) [B, H]."""

    recurrence: Array
    input: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RGLRU(LinearCell):
    """The real-gated linear recurrent unit of Griffin (De et al., 2024, arXiv:2402.19427).

        u = x w_x + b
        log a = -8 s(u w_a + b_a) softplus(lam)
        h' = a h + sqrt(1 - a^2) s(u w_i + b_i) u

    The output is h'. w_a and w_i are block-diagonal. The paper's layer begins with u; a linear layer before it, part of
    Griffin's block, makes it of inputs of any size. RecurrentGemma's code replaces sqrt(1 - a^2) by 1 at the first step
    of a document; the paper, and this cell, do not.

    Args:
      hidden_size: H, the number of units.
      blocks: of the gates' matrices; it divides H.

    Raises:
      ValueError: for sizes that are not positive, or blocks that do not divide H.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    blocks: int = 1

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        check_blocks("blocks", self.blocks, self.hidden_size)

    @property
    def output_size(self) -> int:
        """H."""
        return self.hidden_size

    @property
    def state_blocks(self) -> int:
        """H: the gates see the input only."""
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> RGLRUParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`.

        As in the paper, a new cell's a, where the gate is open, is uniform in a ring from 0.9 to 0.999.
        """
        check_size("input_size", input_size)
        H, block = self.hidden_size, self.hidden_size // self.blocks
        k_x, k_a, k_i, k_lam = jax.random.split(key, 4)
        w_a, w_i = (jax.random.normal(k, (self.blocks, block, block)) / block**0.5 for k in (k_a, k_i))
        log_a = 0.5 * jnp.log(jax.random.uniform(k_lam, (H,), minval=0.9**2, maxval=0.999**2))
        lam = jnp.log(jnp.expm1(-log_a))  # softplus(lam) = -log_a
        b, b_a, b_i = (jnp.zeros(H) for _ in range(3))  # three arrays, so that all can be donated
        return RGLRUParams(glorot(k_x, (input_size, H)), b, w_a, b_a, w_i, b_i, lam)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> LinearState:
        """Zeros."""
        return LinearState(h=jnp.zeros((*batch_shape, self.hidden_size), dtype))

    def recurrence(self, params: RGLRUParams, xs: Array) -> tuple[Array, Array]:
        """Returns a and sqrt(1 - a^2) s(u w_i + b_i) u: xs [..., D] -> [..., H] each."""
        u = self._u(params, xs)
        r, i = self._gates(params, u)
        log_a = -8 * r * softplus(expand(params.lam, u))
        # 1 - a^2; where it vanishes, its root has no derivative.
        complement = jnp.maximum(-jnp.expm1(2 * log_a), 1e-12)
        return jnp.exp(log_a), jnp.sqrt(complement) * i * u

    def gates(self, params: RGLRUParams, xs: Array) -> RGLRUGates:
        """Returns the gates, which see the input alone: xs [..., D] -> [..., H] each."""
        return self._gates(params, self._u(params, xs))

    def _u(self, params: RGLRUParams, xs: Array) -> Array:
        """Returns u = x w_x + b."""
        u = xs @ params.w_x
        return u + expand(params.b, u)

    def _gates(self, params: RGLRUParams, u: Array) -> RGLRUGates:
        """Returns the gates of u [..., H]."""
        return RGLRUGates(
            sigmoid(multiply_blocks(u, params.w_a) + expand(params.b_a, u)),
            sigmoid(multiply_blocks(u, params.w_i) + expand(params.b_i, u)),
        )
