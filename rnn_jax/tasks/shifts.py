"""Random shifts of images, which enlarge a training set."""

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array


def shift_images(key: Array, images: Array, most: int) -> Array:
    """Moves each image by a whole number of pixels, drawn uniformly from -`most` to `most` for each axis.

    Pixels that leave the image are lost, and black ones, zeros, come in. Consumes `key`.

    Args:
      key: a typed key.
      images: [B, R, C], of any dtype.
      most: the largest shift, in pixels.

    Returns:
      [B, R, C], of the same dtype.
    """
    starts = jax.random.randint(key, (images.shape[0], 2), 0, 2 * most + 1)
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most)))
    return jax.vmap(lambda image, start: lax.dynamic_slice(image, start, images.shape[1:]))(padded, starts)
