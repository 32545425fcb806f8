"""The order in which a network reads an image: row by row, pixel by pixel, or in one fixed order of the pixels.

Letters: R rows of pixels in an image, C columns of pixels in a row.
"""

from typing import Any

import numpy as np

ORDERS = "rows", "pixels", "permuted"

# Draws the permutation of the 784 pixels of MNIST that scoRNN, expRNN, coRNN and others publish their results with.
SEED = 92916


def step_size(image_shape: tuple[int, int], order: str) -> int:
    """Returns D, the features of a step of an image [R, C]."""
    return image_shape[1] if order == "rows" else 1


def read_in_order(images: Any, order: str) -> Any:
    """Makes sequences of images.

    Args:
      images: [..., R, C].
      order: "rows" for R steps of C features; "pixels" for R C steps of one feature, row after row; "permuted" for the
        same after `permutation`.

    Returns:
      [..., T, D].
    """
    if order == "rows":
        return images
    *batch_shape, rows, columns = images.shape
    pixels = images.reshape(*batch_shape, rows * columns, 1)
    return pixels[..., permutation(rows * columns), :] if order == "permuted" else pixels


def permutation(size: int) -> np.ndarray:
    """Returns the fixed permutation of `size` pixels, int [size]: step t reads pixel `permutation(size)[t]`."""
    # NumPy has frozen the numbers of RandomState; those of its newer generators may change.
    return np.random.RandomState(SEED).permutation(size)


def reading_steps(image_shape: tuple[int, int], order: str) -> np.ndarray:
    """Returns the step that reads each pixel of an image [R, C], int [R, C]."""
    size = image_shape[0] * image_shape[1]
    pixels = read_in_order(np.arange(size).reshape(image_shape), order)
    steps = np.empty(size, int)
    steps[pixels] = np.arange(len(pixels))[:, None]
    return steps.reshape(image_shape)
