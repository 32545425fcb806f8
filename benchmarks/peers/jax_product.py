"""JAX's product of large matrices, and on a GPU its copy of a large array: the ceilings of everything else."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.peers import Program

PACKAGES = ("jax", "jaxlib")


def prepare(size: int, precision: str | None = None) -> Program:
    """Compiles the product of two square matrices, each step's result being a factor of the next.

    Args:
      size: rows and columns.
      precision: of `ours.PRECISIONS`; None for what JAX does with float32. "copy" is no product: it reads a matrix and
        writes another of its size.
    """
    # Divided so that products neither grow nor vanish.
    a = jax.random.normal(jax.random.key(0), (size, size), "bfloat16" if precision == "bfloat16" else None) / size**0.5

    def step(_: Any, b: jax.Array) -> jax.Array:
        return -b if precision == "copy" else a @ b

    with jax.default_matmul_precision("highest" if precision == "float32" else None):  # type: ignore
        call = jax.jit(lambda n, a: jax.lax.fori_loop(0, n, step, a)).lower(jnp.int32(1), a).compile()
    return Program(lambda n: float(call(jnp.int32(n), a)[0, 0]), (size, size))
