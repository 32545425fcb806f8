"""JAX's product of large float32 matrices."""

import jax
import jax.numpy as jnp

from benchmarks.peers import Program

PACKAGES = ("jax", "jaxlib")


def prepare(size: int) -> Program:
    """Compiles the product of two square matrices, each step's result being a factor of the next."""
    a = jax.random.normal(jax.random.key(0), (size, size)) / size**0.5  # so that products neither grow nor vanish

    @jax.jit
    def multiply(n: jax.Array, a: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, n, lambda _, b: a @ b, a)

    return Program(lambda n: float(multiply(jnp.int32(n), a)[0, 0]), (size, size))
