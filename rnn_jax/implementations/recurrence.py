"""Linear recurrences over time, h_t = a_t h_(t-1) + b_t, solved for all steps at once."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array


def linear_recurrence(a: Array, b: Array) -> Array:
    """Solves h_t = a_t h_(t-1) + b_t with h_0 = 0 for all steps.

    It goes through every transform of JAX. Its derivative is a recurrence as well, which runs backwards for `grad`.

    Args:
      a: real or complex, [T, ...] like b, for products of elements, or [T, ..., N, N] for products of matrices.
      b: [T, ..., N]. A first state other than zero is for the caller to add to b_1, as a_1 h_0.

    Returns:
      h_1 to h_T, [T, ..., N].
    """

    def apply(hs: Array) -> Array:
        return hs - product(a, shift(hs))

    def solve(_: Callable[[Array], Array], b: Array) -> Array:
        return run(a, b)

    def solve_transposed(_: Callable[[Array], Array], cotangents: Array) -> Array:
        return run_backwards(a, cotangents)

    return lax.custom_linear_solve(apply, b, solve, solve_transposed)


def shift(hs: Array, first: Array | None = None) -> Array:
    """Returns the states before each step: h_1 to h_T -> h_0 to h_(T-1), with h_0 = 0 by default."""
    first = jnp.zeros_like(hs[0]) if first is None else first
    return jnp.concatenate([first[None], hs[:-1]])


def product(a: Array, h: Array) -> Array:
    """Returns a h, of elements or of matrices and vectors."""
    return a * h if a.ndim == h.ndim else jnp.einsum("...ij,...j->...i", a, h)


def run(a: Array, b: Array) -> Array:
    """Solves the recurrence forwards: one loop on a CPU, whose steps are cheap, else in about 2 log2(T) steps.

    On a CPU, the loop takes 0.2 to 0.4 times as long as an associative scan (benchmarks/RESULTS.md, parallel).
    """
    return lax.platform_dependent(a, b, cpu=in_a_loop, default=by_halves)


def run_backwards(a: Array, cotangents: Array) -> Array:
    """Solves the transposed recurrence, l_t = a_(t+1)^T l_(t+1) + g_t, from the last step to the first."""
    transposed = a if a.ndim == cotangents.ndim else jnp.swapaxes(a, -1, -2)
    return run(shift(transposed[::-1]), cotangents[::-1])[::-1]


def in_a_loop(a: Array, b: Array) -> Array:
    """Solves the recurrence by one `lax.scan`."""

    def step(h: Array, ab: tuple[Array, Array]) -> tuple[Array, Array]:
        h = product(ab[0], h) + ab[1]
        return h, h

    return lax.scan(step, jnp.zeros_like(b[0]), (a, b))[1]


def by_halves(a: Array, b: Array) -> Array:
    """Solves the recurrence by `lax.associative_scan`: (a_i, b_i) then (a_j, b_j) is (a_j a_i, a_j b_i + b_j)."""

    def compose(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (a_i, b_i), (a_j, b_j) = first, second
        return (a_j * a_i if a.ndim == b.ndim else a_j @ a_i), product(a_j, b_i) + b_j

    return lax.associative_scan(compose, (a, b))[1]
