"""The linear recurrent unit."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array, as_number, as_positive, check_size
from rnn_jax.cells.initializers import glorot
from rnn_jax.cells.linear import ComplexState, LinearCell, widen


class LRUParams(NamedTuple):
    """Parameters of `LRU`: b_re, b_im [D, H], c_re, c_im [H, R], d [D, R], nu, theta, gamma [H].

    The complex matrices are kept as real parts, so that any optimizer and any file format will do.
    """

    b_re: Array
    b_im: Array
    c_re: Array
    c_im: Array
    d: Array
    nu: Array
    theta: Array
    gamma: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LRU(LinearCell):
    """The linear recurrent unit, with a complex state (Orvieto et al., 2023, arXiv:2303.06349).

        h' = l h + exp(gamma) (x b),    l = exp(-exp(nu) + i exp(theta))
        y = Re(h' c) + x d

    with b = b_re + i b_im and c = c_re + i c_im. The paper's feedthrough d is diagonal, which needs outputs of the size
    of the inputs; here it is a matrix.

    Args:
      hidden_size: H, the number of complex units.
      projection_size: R, the size of the output; None for R = H.
      r_min: smallest |l| of a new cell, from 0.
      r_max: largest |l| of a new cell, up to 1.
      max_phase: largest angle of l in a new cell, in radians.

    Raises:
      ValueError: for a size or a max_phase that is not positive, or radii that are not 0 <= r_min < r_max <= 1.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    projection_size: int | None = None
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        if self.projection_size is not None:
            check_size("projection_size", self.projection_size)
        for name, check in (("r_min", as_number), ("r_max", as_number), ("max_phase", as_positive)):
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if not 0 <= self.r_min < self.r_max <= 1:
            raise ValueError(f"r_min and r_max must be 0 <= r_min < r_max <= 1, not {self.r_min!r} and {self.r_max!r}")

    @property
    def output_size(self) -> int:
        """R: `projection_size`, or `hidden_size` without one."""
        return self.projection_size or self.hidden_size

    @property
    def state_blocks(self) -> int:
        """H: no unit sees another."""
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> LRUParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`.

        As in the paper, l is uniform on the ring, exp(gamma) = sqrt(1 - |l|^2) gives every unit the same variance, and
        the matrices are normal with the variance 1 / (2D) of b and 1 / H of c.
        """
        check_size("input_size", input_size)
        H, D, R = self.hidden_size, input_size, self.output_size
        k_re, k_im, k_c, k_d, k_nu, k_theta = jax.random.split(key, 6)
        u = jax.random.uniform(k_nu, (H,), minval=1e-4)  # at 0, and r_min = 0, nu would be infinite
        nu = jnp.log(-0.5 * jnp.log(u * (self.r_max**2 - self.r_min**2) + self.r_min**2))
        theta = jnp.log(self.max_phase * jax.random.uniform(k_theta, (H,), minval=1e-4))
        b = (jax.random.normal(k, (D, H)) / math.sqrt(2 * D) for k in (k_re, k_im))
        c = jax.random.normal(k_c, (2, H, R)) / math.sqrt(H)
        gamma = 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu)))
        return LRUParams(*b, *c, d=glorot(k_d, (D, R)), nu=nu, theta=theta, gamma=gamma)

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> ComplexState:
        """Zeros."""
        shape = (*batch_shape, self.hidden_size)
        return ComplexState(re=jnp.zeros(shape, dtype), im=jnp.zeros(shape, dtype))

    def recurrence(self, params: LRUParams, xs: Array) -> tuple[Array, Array]:
        """Returns l [H] and exp(gamma) (x b): xs [..., D] -> [..., H]."""
        params, xs = jax.tree.map(widen, (params, xs))
        scale, angle = jnp.exp(-jnp.exp(params.nu)), jnp.exp(params.theta)
        norm = jnp.exp(params.gamma)
        a = lax.complex(scale * jnp.cos(angle), scale * jnp.sin(angle))
        return a, lax.complex(xs @ (norm[None] * params.b_re), xs @ (norm[None] * params.b_im))

    def output(self, params: LRUParams, hs: Array, xs: Array) -> Array:
        """Returns Re(h c) + x d: hs [..., H], xs [..., D] -> [..., R]."""
        re, im = hs.real.astype(xs.dtype), hs.imag.astype(xs.dtype)
        return re @ params.c_re - im @ params.c_im + xs @ params.d
