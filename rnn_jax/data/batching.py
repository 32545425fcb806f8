"""From images to batches of sequences, in an order that is a function of a key alone."""

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array


def example_order(key: Array, num_examples: int, start: Array, count: int) -> Array:
    """A window of an endless stream of shuffled epochs.

    The stream is one permutation of all examples after another; a batch may hold the end of one and the beginning of
    the next, as in TensorFlow's `input_data`. It is a function of `key` alone, so that a place in it is all that
    needs to be remembered of it.

    Args:
      key: the stream's key; each epoch folds its number into it.
      num_examples: N, how many examples there are.
      start: int [], where in the stream the window begins.
      count: how many examples the window holds.

    Returns:
      int32 [count], numbers of examples from 0 to N - 1.
    """
    first_epoch = start // num_examples
    num_epochs = (start + count - 1) // num_examples - first_epoch + 1

    def draw(n: Array, stream: Array) -> Array:
        order = epoch_order(key, num_examples, first_epoch + n)
        return lax.dynamic_update_slice(stream, order, [n * num_examples])

    # A loop, as most windows lie within one epoch, and to draw another takes as long as several training steps.
    most_epochs = 2 + (count - 1) // num_examples
    stream = lax.fori_loop(0, num_epochs, draw, jnp.zeros(most_epochs * num_examples, jnp.int32))
    return lax.dynamic_slice(stream, [start - first_epoch * num_examples], [count])


def epoch_order(key: Array, num_examples: int, epoch: Array) -> Array:
    """One epoch of `example_order`, number `epoch` from 0: int32 [N]."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)


def rows_in_time(images: Array, max_pixel: int) -> Array:
    """Reads images row by row: uint8 [B, rows, columns] -> float [T = rows, B, D = columns], from 0 to 1."""
    return jnp.moveaxis(images, -2, 0).astype(float) / max_pixel
