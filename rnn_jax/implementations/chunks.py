"""Loops over chunks of time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import State


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
