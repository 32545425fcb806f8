"""What all peers on JAX share: one compiled call that takes many steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.cases import LEARNING_RATE, Case, draw_inputs
from benchmarks.peers import Program


class Network(NamedTuple):
    """A framework's network: its parameters, and apply(params, xs) -> ys.

    xs and ys are [T, B, ·] if `time_major`, else [B, T, ·].
    """

    params: Any
    apply: Callable[[Any, jax.Array], jax.Array]
    time_major: bool = True


def train_step(network: Network, params: Any, xs: jax.Array) -> tuple[Any, jax.Array]:
    """(updated parameters, the loss before the update)."""
    loss, grads = jax.value_and_grad(lambda params: jnp.mean(jnp.square(network.apply(params, xs))))(params)
    return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, grads), loss


def make_program(case: Case, network: Network, params_sharding: Any = None, xs_sharding: Any = None) -> Program:
    """Compiles a case.

    The number of steps is an argument of the compiled function, and only one call is ever in flight.

    Args:
      case: what to compile.
      network: of what.
      params_sharding: how the parameters lie on the devices; None for one device.
      xs_sharding: the same for the inputs.
    """
    time_axis = 0 if network.time_major else 1
    xs = jax.device_put(draw_inputs(case.shape).swapaxes(0, time_axis), xs_sharding)
    params = jax.device_put(network.params, params_sharding)

    def train(n: jax.Array, params: Any, xs: jax.Array) -> tuple[Any, jax.Array]:
        def step(_: Any, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            return train_step(network, carry[0], xs)

        return lax.fori_loop(0, n, step, (params, jnp.zeros(())))

    def infer(n: jax.Array, params: Any, xs: jax.Array) -> tuple[Any, jax.Array]:
        # A number made of each sequence's last output is written into its first input: so no pass can be taken for a
        # repetition of the one before and left out, nor one direction of two for unused.
        first, last = ((0, ..., 0), -1) if network.time_major else ((..., 0, 0), (..., -1, slice(None)))

        def step(_: Any, xs: jax.Array) -> jax.Array:
            return xs.at[first].set(network.apply(params, xs)[last].mean(-1))

        xs = lax.fori_loop(0, n, step, xs)
        return params, xs[0, 0, 0]

    run_steps = train if case.mode == "training" else infer
    out_shardings = None if params_sharding is None else (params_sharding, params_sharding)
    compiled = jax.jit(run_steps, out_shardings=out_shardings).lower(jnp.int32(1), params, xs).compile()

    def run(n: int) -> float:
        nonlocal params
        params, result = jax.block_until_ready(compiled(jnp.int32(n), params, xs))
        return float(result)

    T, B, H = jax.eval_shape(lambda: network.apply(params, xs).swapaxes(0, time_axis)).shape
    memory = compiled.memory_analysis()
    return Program(run, (T, B, H), temp_bytes=None if memory is None else int(memory.temp_size_in_bytes))
