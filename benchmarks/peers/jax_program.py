"""What all peers on JAX share: one compiled call that takes many steps."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.cases import LEARNING_RATE, Case, Shape, draw_inputs
from benchmarks.peers import Program


class Network(NamedTuple):
    """A framework's network: its parameters, and apply(params, xs) -> ys.

    xs and ys are [T, B, ·] if `time_major`, else [B, T, ·].
    """

    params: Any
    apply: Callable[[Any, jax.Array], jax.Array]
    time_major: bool = True


def train_step(network: Network, params: Any, xs: jax.Array, axis: str | None = None) -> tuple[Any, jax.Array]:
    """(updated parameters, the loss before the update); under `shard_map`, axis is the mesh's."""
    loss, grads = jax.value_and_grad(lambda params: jnp.mean(jnp.square(network.apply(params, xs))))(params)
    if axis is not None:
        loss, grads = lax.pmean((loss, grads), axis)
    return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, grads), loss


def make_program(
    case: Case, network: Network, devices: Sequence[Any] = (), steps_per_call: int | None = None
) -> Program:
    """Compiles a case, with the batch divided among the devices if there are any to choose.

    Args:
      case: what.
      network: its network, whose parameters have the dtype of everything.
      devices: what to divide the batch among; none for the default device.
      steps_per_call: how many steps a call of the compiled function takes. GPUs want this to be known: they would ask
        the host whether to go on after each step. Calls then follow each other without a pause. None makes it an
        argument of the function, and only one call is ever in flight: collectives between CPU devices deadlock
        otherwise.
    """
    time_axis = 0 if network.time_major else 1
    axis = "batch" if devices else None
    dtype = jnp.result_type(*jax.tree.leaves(network.params))
    params, xs = network.params, draw_inputs(case.shape).swapaxes(0, time_axis).astype(dtype)

    def train(n: Any, params: Any, xs: jax.Array) -> tuple[Any, jax.Array]:
        def step(_: Any, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            return train_step(network, carry[0], xs, axis)

        return lax.fori_loop(0, n, step, (params, jnp.zeros((), dtype)))

    def infer(n: Any, params: Any, xs: jax.Array) -> tuple[Any, jax.Array]:
        # A number made of each sequence's last output is written into its first input: so no pass can be taken for a
        # repetition of the one before and left out, nor one direction of two for unused.
        first, last = ((0, ..., 0), -1) if network.time_major else ((..., 0, 0), (..., -1, slice(None)))

        def step(_: Any, xs: jax.Array) -> jax.Array:
            return xs.at[first].set(network.apply(params, xs)[last].mean(-1))

        result = lax.fori_loop(0, n, step, xs)[0, 0, 0]
        return params, result if axis is None else lax.pmean(result, axis)

    run_steps = train if case.mode == "training" else infer
    if axis is not None:
        # Twice as fast here as leaving the division of a loop of steps to `jit` and the shardings of its arguments.
        mesh, whole, divided = Mesh(np.array(devices), (axis,)), PartitionSpec(), PartitionSpec(None, axis)
        assert network.time_major
        run_steps = jax.shard_map(
            run_steps, mesh=mesh, in_specs=(whole, whole, divided), out_specs=whole, check_vma=False
        )
        params = jax.device_put(params, NamedSharding(mesh, whole))
        xs = jax.device_put(xs, NamedSharding(mesh, divided))
    else:
        params, xs = jax.device_put((params, xs))
    if steps_per_call is not None:
        run_steps = functools.partial(run_steps, steps_per_call)
    first = () if steps_per_call else (jnp.int32(1),)
    compiled = jax.jit(run_steps).lower(*first, params, xs).compile()

    def run(n: int) -> float:
        nonlocal params
        if steps_per_call is None:
            params, result = compiled(jnp.int32(n), params, xs)
        else:
            result = jnp.zeros(())
            for _ in range(n):
                params, result = compiled(params, xs)
        jax.block_until_ready((params, result))
        return float(result)

    T, B, H = jax.eval_shape(lambda: network.apply(params, xs).swapaxes(0, time_axis)).shape
    memory = compiled.memory_analysis()
    return Program(
        run,
        (T, B, H),
        temp_bytes=None if memory is None else int(memory.temp_size_in_bytes),
        steps_per_run=steps_per_call or 1,
        rounds=dtype.itemsize < 4,
    )


def short_call(shape: Shape) -> int:
    """Steps in a call that make it last a few milliseconds at least, which hides what it costs to start it."""
    return max(1, 256 // shape.time)
