"""Sequences of unequal lengths in one array: masks of valid steps, and the last valid output."""

import functools

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from rnn_jax.base import Array, State


def valid_steps(lengths: ArrayLike, num_steps: int, batch_shape: tuple[int, ...]) -> Array:
    """Whether each step of each sequence is valid: lengths [B] -> bool [T, B].

    Args:
      lengths: how many steps of each sequence are valid, whole numbers from 0 to T.
      num_steps: T.
      batch_shape: B, to check `lengths` against.

    Raises:
      ValueError: if `lengths` are not whole numbers, not one for each sequence or, where their values are known (they
        are not while JAX traces a function of them), not from 0 to T.
    """
    known = not isinstance(lengths, jax.core.Tracer)
    if known:  # NumPy computes at once, even where JAX is tracing something else.
        lengths = np.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths has dtype {lengths.dtype}, but needs an integer one")
    if lengths.shape != batch_shape:
        raise ValueError(f"lengths has shape {lengths.shape}, but needs {batch_shape}, one for each sequence")
    if known and np.any((lengths < 0) | (lengths > num_steps)):
        raise ValueError(f"lengths must be from 0 to {num_steps}, the steps of xs, not {lengths.tolist()}")
    steps = jnp.arange(num_steps, dtype=jnp.int32).reshape(-1, *(1 for _ in batch_shape))
    return steps < jnp.asarray(lengths, jnp.int32)


def where_valid(valid: Array, new: Array, old: Array | int) -> Array:
    """Takes `new` where a mask over its leading axes is true, `old` elsewhere."""
    return jnp.where(lax.expand_dims(valid, range(valid.ndim, new.ndim)), new, old)


def hold(valid: Array | None, state: State, stepped: tuple[State, Array]) -> tuple[State, Array]:
    """Undoes a step where it is not valid: the state is held, and the output is zero.

    Args:
      valid: bool, over the leading axes of all arrays; None if every step is valid.
      state: the state before the step.
      stepped: (state, output) after it.
    """
    if valid is None:
        return stepped
    new_state, y = stepped
    return jax.tree.map(functools.partial(where_valid, valid), new_state, state), where_valid(valid, y, 0)


def last_output(ys: ArrayLike, lengths: ArrayLike | None = None) -> Array:
    """The outputs at each sequence's last valid step.

    Args:
      ys: outputs, [T, B, H].
      lengths: [B], from 0 to T; None if all steps are valid.

    Returns:
      [B, H]; zeros where the length, or T, is 0.

    Raises:
      ValueError: for `lengths` that do not fit `ys`, see `valid_steps`.
    """
    ys = jnp.asarray(ys)
    if len(ys) == 0:
        return jnp.zeros(ys.shape[1:], ys.dtype)
    if lengths is None:
        return ys[-1]
    last = valid_steps(lengths, len(ys), ys.shape[1:-1]).sum(axis=0) - 1
    picked = jnp.take_along_axis(ys, jnp.maximum(last, 0)[None, ..., None], axis=0)[0]
    return where_valid(last >= 0, picked, 0)


def flip_valid(xs: ArrayLike, lengths: ArrayLike | None = None) -> Array:
    """Turns the valid part of each sequence around, and leaves its padding where it is.

    Args:
      xs: [T, B, D].
      lengths: [B], from 0 to T; None if all steps are valid.

    Raises:
      ValueError: for `lengths` that do not fit `xs`, see `valid_steps`.
    """
    xs = jnp.asarray(xs)
    if lengths is None:
        return xs[::-1]
    valid = valid_steps(lengths, len(xs), xs.shape[1:-1])
    steps = jnp.arange(len(xs), dtype=jnp.int32).reshape(-1, *(1 for _ in valid.shape[1:]))
    order = jnp.where(valid, jnp.asarray(lengths, jnp.int32) - 1 - steps, steps)
    return jnp.take_along_axis(xs, order[..., None], axis=0)
