"""Cells that offer their equations: a step whose products with matrices are taken by the caller.

The fused implementation needs the products apart from the rest, which is elementwise.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.base import Array, Params, State, check_input
from rnn_jax.cells.checked import CheckedCell
from rnn_jax.wrappers import within

Precision: TypeAlias = Literal["bfloat16"] | None


def multiply(v: Array, w: Array, precision: Precision = None) -> Array:
    """Computes v w; with a precision, both are rounded to it, and the sums have the wider dtype of the two."""
    if precision is None:
        return v @ w
    wider = max(v.dtype, w.dtype, key=lambda dtype: dtype.itemsize)  # one of them may have been rounded before
    return jnp.matmul(v.astype(precision), w.astype(precision), preferred_element_type=wider)


def expand(v: Array, like: Array) -> Array:
    """Gives a parameter [H] the rank of a vector [B, H]; features first, where it is [H, 1] already, nothing changes.

    It is what broadcasting does, but explicit, for users who set `jax_numpy_rank_promotion` to "raise".
    """
    return jax.lax.expand_dims(v, range(like.ndim - v.ndim))


def multiply_blocks(v: Array, w: Array, parts: int = 1, precision: Precision = None) -> Array:
    """Returns the product of a vector and a block-diagonal matrix.

    Args:
      v: [..., K].
      w: the blocks, [N, K / N, M / N], each with the columns of all parts side by side.
      parts: parts of equal size, such as gates, that lie side by side in the result, too: each has H = M / parts
        columns, H / N of every block.
      precision: of the product, see `multiply`.

    Returns:
      [..., M].
    """
    batch_shape, (num_blocks, rows, columns) = v.shape[:-1], w.shape  # sizes in full: a batch of zero has no -1
    blocks = v.reshape(*batch_shape, num_blocks, 1, rows)
    z = multiply(blocks, w, precision)  # [..., N, 1, M / N]
    z = z.reshape(*batch_shape, num_blocks, parts, columns // parts)
    return jnp.swapaxes(z, -3, -2).reshape(*batch_shape, num_blocks * columns)


class DenseCall(NamedTuple):
    """The arguments of one use of `Dense`."""

    terms: tuple[tuple[Array, Array], ...]
    bias: Array | None
    columns: slice
    parts: int

    def plain(self, precision: Precision = None) -> tuple[Array, ...]:
        """Takes the products one by one, see `multiply`."""
        products = (self._multiply(v, w, precision) for v, w in self.terms)
        z = sum(products, start=jnp.zeros((), self.terms[0][0].dtype))
        if self.bias is not None:
            z = z + expand(self.bias[self.columns], z)
        return tuple(jnp.split(z, self.parts, axis=-1))

    def _multiply(self, v: Array, w: Array, precision: Precision) -> Array:
        """Takes one product, with a matrix or with the blocks of one."""
        if w.ndim == 2:
            return multiply(v, w[:, self.columns], precision)
        start, stop, _ = self.columns.indices(w.shape[0] * w.shape[2])
        return multiply_blocks(v, w[..., start // len(w) : stop // len(w)], self.parts, precision)


Product: TypeAlias = Callable[[DenseCall], tuple[Array, ...]]


@dataclasses.dataclass(frozen=True)
class Dense:
    """Takes the products of a step, z = v_1 w_1 + v_2 w_2 + ... + b, and splits z into equal parts, the gates.

    A cell's `equations` take every product with a matrix through it, so that their caller decides how products are
    computed and differentiated.

    Args:
      product: computes the parts; by default one product after the other.
      axis: where the features of every vector in the equations are: -1 for [B, H]; 0 for [H, B], which only cells that
        declare `honours_axis` are given.
    """

    product: Product = DenseCall.plain
    axis: int = -1

    def __call__(
        self,
        *terms: tuple[Array, Array],
        bias: Array | None = None,
        columns: slice = slice(None),
        parts: int = 1,
    ) -> tuple[Array, ...]:
        """Takes a sum of products.

        Args:
          *terms: pairs of a vector [B, K], any value of the step, and a matrix [K, N], an unmodified parameter. A
            matrix of three axes is block-diagonal, see `multiply_blocks`.
          bias: an unmodified parameter, [N]; None for none.
          columns: a stretch of the N columns of the matrices and the bias; by default all.
          parts: the number of equal parts to split the sum into.

        Returns:
          The parts, [B, columns / parts] each.
        """
        return self.product(DenseCall(terms, bias, columns, parts))


class EquationsCell(CheckedCell):
    """A cell defined by its equations, as the built-in cells are, and as your own can be.

    Subclass it, and write `output_size`, `init` and `initial_state` as `base.Cell` has them, and in place of `step`

        def equations(self, params, state, x, dense, noise=None):  # noise only for a cell that has `noise`
            return new_state, output

    with every product with a matrix taken by `dense`, see `Dense`. A subclass is frozen or at least hashable.

    Vectors are [B, H] in the equations. A class whose equations are elementwise beside the products, or use the axis
    `dense.axis` wherever they mean that of the features, can declare `honours_axis = True`: large cells are then up to
    twice as fast on a CPU, with vectors [H, B]. Parameters that are used outside of products are [H, 1] there.

    >>> import dataclasses
    >>> import jax, jax.numpy as jnp, rnn_jax as rnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Leaky(rnn.EquationsCell):
    ...     output_size: int
    ...
    ...     def init(self, key, input_size):
    ...         return {"w": jax.random.normal(key, (input_size, self.output_size)), "tau": jnp.ones(self.output_size)}
    ...
    ...     def initial_state(self, batch_shape=(), dtype=float):
    ...         return jnp.zeros((*batch_shape, self.output_size), dtype)
    ...
    ...     def equations(self, params, state, x, dense):
    ...         (z,) = dense((x, params["w"]))
    ...         state = state + jax.nn.sigmoid(params["tau"]) * (jnp.tanh(z) - state)
    ...         return state, state
    >>> cell = Leaky(4)
    >>> state, ys = rnn.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones((5, 2, 3)), implementation="fused")
    >>> ys.shape
    (5, 2, 4)
    """

    def step(self: Any, params: Params, state: State, x: ArrayLike, noise: Any = None) -> tuple[State, Array]:
        """Takes one step: x [B, D] -> (state, output).

        Raises:
          ValueError: naming the argument, the shape or dtype it has and the one it needs.
        """
        x = check_input("x", x)
        self.check(params, state, x.shape, x.dtype, "x")
        return apply_equations(self, params, state, x, Dense(), noise)


def apply_equations(cell: Any, params: Params, state: State, x: Array, dense: Dense, noise: Any) -> tuple[State, Array]:
    """Takes one step of a cell's equations, with the step's share of the noise; None where nothing is random."""
    args = (params, state, x, dense)
    return cell.equations(*args, noise) if hasattr(cell, "noise") else cell.equations(*args)


def offers_equations(cell: Any) -> bool:
    """Returns True if a cell, and the cell within a wrapper, has `equations`."""
    inner = within(cell)
    return hasattr(cell, "equations") and (inner is None or offers_equations(inner))


def honours_axis(cell: Any) -> bool:
    """Returns True if the equations of a cell, and of the cell within a wrapper, may be given features first.

    Only the cell's own class can declare it, as `honours_axis = True`: a subclass may have other equations.
    """
    inner = within(cell)
    return vars(type(cell)).get("honours_axis", False) and (inner is None or honours_axis(inner))
