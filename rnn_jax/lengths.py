"""Sequences of unequal lengths in one array, and several in a row: valid steps, resets, and the last valid output."""

import functools

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from rnn_jax.base import Array, State


def valid_steps(lengths: ArrayLike, num_steps: int, batch_shape: tuple[int, ...]) -> Array:
    """Computes the mask of valid steps: lengths [B] -> bool [T, B].

    Args:
      lengths: the number of valid steps of each sequence, from 0 to T. It may have fewer axes than the batch, as for
        sequences of images: the others share it.
      num_steps: T, or a symbolic size.
      batch_shape: B, to check `lengths` against.

    Raises:
      ValueError: if `lengths` are not whole numbers, do not fit the batch or, where their values are known (they are
        not while JAX traces a function of them, nor with a symbolic T), are not from 0 to T.
    """
    known = not isinstance(lengths, jax.core.Tracer)
    if known:  # NumPy computes at once, even where JAX is tracing something else.
        lengths = np.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths has dtype {lengths.dtype}, but needs an integer one")
    if lengths.shape != batch_shape[: lengths.ndim] or (batch_shape and not lengths.ndim):
        raise ValueError(f"lengths has shape {lengths.shape}, but needs {batch_shape}, one for each sequence")
    if known and isinstance(num_steps, int) and np.any((lengths < 0) | (lengths > num_steps)):
        raise ValueError(f"lengths must be from 0 to {num_steps}, the steps of xs, not {lengths.tolist()}")
    steps = lax.broadcasted_iota(jnp.int32, (num_steps, *batch_shape), 0)
    lengths = jnp.asarray(lengths, jnp.int32)
    return steps < lax.expand_dims(lengths, (0, *range(lengths.ndim + 1, steps.ndim)))


def where_valid(valid: Array, new: Array, old: Array | float) -> Array:
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


def reset_steps(resets: ArrayLike, num_steps: int, batch_shape: tuple[int, ...]) -> Array:
    """Checks a mask of resets, [T, B]; returns it with all batch axes, of which the last ones may be left out.

    Raises:
      ValueError: unless it is boolean and fits the steps and the batch.
    """
    resets, shape = jnp.asarray(resets), (num_steps, *batch_shape)
    if resets.dtype != jnp.bool_:
        raise ValueError(f"resets has dtype {resets.dtype}, but needs bool")
    if resets.shape != shape[: resets.ndim] or resets.ndim < min(2, len(shape)):
        raise ValueError(f"resets has shape {resets.shape}, but needs {shape}, one for each step of each sequence")
    return jnp.broadcast_to(lax.expand_dims(resets, range(resets.ndim, len(shape))), shape)


def restart(reset: Array | None, state: State, initial: State) -> State:
    """Replaces the state by the initial one where a mask over the leading axes is true; None for no resets."""
    return state if reset is None else jax.tree.map(functools.partial(where_valid, reset), initial, state)


def last_steps(starts: ArrayLike, num_steps: int, batch_shape: tuple[int, ...], lengths: ArrayLike | None) -> Array:
    """Turns the first steps of sequences in a row into their last ones, where a reader from the end resets.

    The very last valid step is not among them: there, the reader begins with the state that it is given.

    Args:
      starts: bool [T, B], see `reset_steps`.
      num_steps: T.
      batch_shape: B.
      lengths: [B]; None if all steps are valid.
    """
    starts = reset_steps(starts, num_steps, batch_shape)
    if lengths is not None:
        starts = starts & valid_steps(lengths, num_steps, batch_shape)
    return jnp.concatenate([starts[1:], jnp.zeros_like(starts[:1])])


def last_output(ys: ArrayLike, lengths: ArrayLike | None = None) -> Array:
    """Picks each sequence's output at its last valid step.

    Args:
      ys: outputs, [T, B, H].
      lengths: [B], from 0 to T; None if all steps are valid.

    Returns:
      [B, H]; zeros where the length, or T, is 0.

    Raises:
      ValueError: for `lengths` that do not fit `ys`, see `valid_steps`.
    """
    ys = jnp.asarray(ys)
    if ys.shape[0] == 0:
        return jnp.zeros(ys.shape[1:], ys.dtype)
    if lengths is None:
        return ys[-1]
    last = valid_steps(lengths, ys.shape[0], ys.shape[1:-1]).sum(axis=0) - 1
    picked = jnp.take_along_axis(ys, jnp.maximum(last, 0)[None, ..., None], axis=0)[0]
    return where_valid(last >= 0, picked, 0)


def flip_valid(xs: ArrayLike, lengths: ArrayLike | None = None) -> Array:
    """Reverses the valid part of each sequence, and leaves its padding in place.

    Args:
      xs: [T, B, D].
      lengths: [B], from 0 to T; None if all steps are valid.

    Raises:
      ValueError: for `lengths` that do not fit `xs`, see `valid_steps`.
    """
    xs = jnp.asarray(xs)
    if lengths is None:
        return xs[::-1]
    valid = valid_steps(lengths, xs.shape[0], xs.shape[1:-1])
    steps = lax.broadcasted_iota(jnp.int32, valid.shape, 0)
    num_valid = valid.sum(axis=0, keepdims=True, dtype=jnp.int32)
    order = jnp.where(valid, num_valid - 1 - steps, steps)
    return jnp.take_along_axis(xs, order[..., None], axis=0)
