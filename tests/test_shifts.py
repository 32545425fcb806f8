"""Random shifts of training images."""

from typing import Any

import jax
import numpy as np
import pytest

import rnn_jax as rnn
from rnn_jax.app.build import build_task
from rnn_jax.app.config import Config
from rnn_jax.data import DataInfo, Examples
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.shifts import shift_images

ROWS, COLUMNS, MOST = 5, 7, 2
IMAGES: Any = np.random.default_rng(0).integers(1, 256, (300, ROWS, COLUMNS), np.uint8)  # without a zero


def moved(image, down, right):
    """Moves an image one pixel after another."""
    result = np.zeros_like(image)
    for row, column in np.ndindex(image.shape):
        if 0 <= row + down < ROWS and 0 <= column + right < COLUMNS:
            result[row + down, column + right] = image[row, column]
    return result


def test_every_shift_occurs_and_no_other():
    shifted = np.asarray(jax.jit(shift_images, static_argnums=2)(jax.random.key(0), IMAGES, MOST))
    assert (shifted.shape, shifted.dtype) == (IMAGES.shape, IMAGES.dtype)
    places = range(-MOST, MOST + 1)
    found = [
        (down, right)
        for image, result in zip(IMAGES, shifted, strict=True)
        for down in places
        for right in places
        if np.array_equal(result, moved(image, down, right))
    ]
    assert len(found) == len(IMAGES), "each image has one shift"
    assert set(found) == {(down, right) for down in places for right in places}


def test_training_shifts_images_and_nothing_else_does():
    network = rnn.Classifier(rnn.stack(rnn.GRU(3)), 2)
    plain, task = (Classification(network, COLUMNS, scale=255, shift=shift) for shift in (0, MOST))
    params = jax.jit(task.init)(jax.random.key(0))
    batch = Examples(IMAGES[:8], np.arange(8, dtype=np.int32) % 2)
    loss, loss_of_plain = jax.jit(task.loss), jax.jit(plain.loss)
    expected, _ = loss_of_plain(params, batch)
    assert loss(params, batch)[0] == expected, "without a key"
    first, again, other = (loss(params, batch, jax.random.key(seed))[0] for seed in (1, 1, 2))
    assert first == again
    assert len({float(first), float(other), float(expected)}) == 3
    shifted: Any = shift_images(jax.random.split(jax.random.key(1))[1], IMAGES[:8], MOST)
    np.testing.assert_allclose(first, loss_of_plain(params, Examples(shifted, batch.targets))[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "options", "pixels"),
    [
        (28, {}, 2),
        (8, {}, 0),
        (28, {"shift": 0.0}, 0),
        (28, {"shift": 0.1}, 3),
        (28, {"recipe": "tutorial"}, 0),
    ],
)
def test_the_shift_follows_the_size_of_the_images(size, options, pixels):
    task = build_task(Config(**options), DataInfo("images", "here", (size, size), 255, 10))
    assert isinstance(task, Classification)
    assert task.shift == pixels
