"""Loops over time: over stacks of arrays whose slices a step replaces, and over chunks of steps."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import State


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def scan_in_place(
    step: Callable[..., Any], reverse: bool, constants: Any, carry: Any, stacks: Any, inputs: Any
) -> tuple[Any, Any]:
    """Computes `scan_out_of_place`, and writes the new slices over those that they replace.

    XLA fills the outputs of a loop with zeros before it runs. The new stacks are spared that, and memory of their own.
    """
    num_steps = jax.tree.leaves(inputs)[0].shape[0]
    if num_steps == 0:
        return scan_out_of_place(step, reverse, constants, carry, stacks, inputs)

    def read(stacks: Any, t: Any) -> Any:
        return jax.tree.map(lambda stack: lax.dynamic_index_in_dim(stack, t, keepdims=False), stacks)

    def step_in_place(carried: Any, t_and_inputs: Any) -> Any:
        (carry, stacks, slices), (t, inputs) = carried, t_and_inputs
        carry, (slices, output) = step(constants, carry, (slices, inputs))
        stacks = jax.tree.map(lambda stack, new: lax.dynamic_update_index_in_dim(stack, new, t, 0), stacks, slices)
        # Read from the updated stacks, so that XLA sees no need to copy them in each step. The last read is not used.
        return (carry, stacks, read(stacks, (t + (-1 if reverse else 1)) % num_steps)), output

    first = read(stacks, num_steps - 1 if reverse else 0)
    steps = jnp.arange(num_steps), inputs
    (carry, stacks, _), outputs = lax.scan(step_in_place, (carry, stacks, first), steps, reverse=reverse)
    return carry, (stacks, outputs)


@scan_in_place.defjvp
def _scan_in_place_jvp(step: Callable[..., Any], reverse: bool, primals: Any, tangents: Any) -> Any:
    """Differentiates the other loop: the derivative of this one would add to whole stacks in every step."""
    return jax.jvp(functools.partial(scan_out_of_place, step, reverse), primals, tangents)


def scan_out_of_place(
    step: Callable[..., Any], reverse: bool, constants: Any, carry: Any, stacks: Any, inputs: Any
) -> tuple[Any, Any]:
    """Runs a loop that replaces stacks of arrays.

    Args:
      step: (constants, carry, (slices of the stacks, slices of the inputs)) -> (carry, (new slices, output)).
      reverse: True to start from the last step.
      constants: passed to each step.
      carry: the carry before the first step.
      stacks: arrays [T, ...].
      inputs: arrays [T, ...].

    Returns:
      (the last carry, (the new stacks, the outputs [T, ...])).
    """
    return lax.scan(functools.partial(step, constants), carry, (stacks, inputs), reverse=reverse)


def scan_chunks(
    chunk: Callable[[State, Any], tuple[State, Any]], state: State, inputs: Any, chunk_size: int, reverse: bool
) -> tuple[State, Any]:
    """Scans over chunks of steps.

    Args:
      chunk: (the state before a chunk, its inputs [C, ...]) -> (the state after it, its outputs [C, ...]). It reads its
        steps in the order of `reverse`.
      state: the state before the first step.
      inputs: arrays [T, ...].
      chunk_size: C, steps in a chunk; where they do not divide T, the last chunk in time is shorter.
      reverse: True to start from the last chunk.

    Returns:
      (final state, outputs [T, ...]).
    """
    num_steps = jax.tree.leaves(inputs)[0].shape[0]
    even = num_steps - num_steps % chunk_size
    parts = [jax.tree.map(lambda a: a[:even].reshape(even // chunk_size, chunk_size, *a.shape[1:]), inputs)]
    if even < num_steps:
        parts.append(jax.tree.map(lambda a: a[None, even:], inputs))
    all_outputs = []
    for part in reversed(parts) if reverse else parts:
        state, outputs = lax.scan(chunk, state, part, reverse=reverse)
        all_outputs.append(jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), outputs))
    if len(all_outputs) == 1:
        return state, all_outputs[0]
    ordered = all_outputs[::-1] if reverse else all_outputs
    return state, jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *ordered)
