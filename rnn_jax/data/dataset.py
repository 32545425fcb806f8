"""What a data set is, once it is in memory.

Letters: N images, R rows of pixels in an image, C columns of pixels in a row.
"""

from typing import NamedTuple

import numpy as np

from rnn_jax.data.examples import Examples

NUM_CLASSES = 10
HELD_OUT = 12  # One training image in so many is held out for validation.


class DataError(Exception):
    """The data cannot be had; the message is one line that says why and what to do."""


class DownloadError(DataError):
    """The data set cannot be downloaded from its publisher."""


class DataInfo(NamedTuple):
    """The facts about a data set that a trained model depends on.

    Attributes:
      name: the data set's name, part of every report.
      source: where it came from, in words.
      image_shape: (rows, columns) of pixels.
      max_pixel: the value of a white pixel; that of a black one is 0.
      num_classes: the number of different labels.
    """

    name: str
    source: str
    image_shape: tuple[int, int]
    max_pixel: int
    num_classes: int


class Dataset(NamedTuple):
    """A data set in three parts.

    Attributes:
      info: the facts that a trained model depends on.
      train: the examples to learn from.
      validation: the first twelfth of the published training images, to choose settings with.
      test: the published test images.
    """

    info: DataInfo
    train: Examples
    validation: Examples
    test: Examples


def make_split(images: np.ndarray, labels: np.ndarray, where: str) -> Examples:
    """Pairs images with labels, and checks that they belong together.

    Args:
        images: uint8 [N, R, C].
        labels: Any integers [N], from 0 to 9.
        where: Where they came from, for the message of an error.

    Returns:
        The split, its labels as int32.

    Raises:
        DataError: If the shapes or the labels are not as above, or there are no images.
    """
    if images.ndim != 3 or images.size == 0:
        raise DataError(f"{where}: expected images [N, rows, columns], got shape {images.shape}")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{where}: {len(images)} images but labels of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        raise DataError(
            f"{where}: labels should go from 0 to {NUM_CLASSES - 1}, these go from {labels.min()} to {labels.max()}"
        )
    return Examples(images, labels.astype(np.int32))


def make_dataset(name: str, training: Examples, test: Examples, *, source: str, max_pixel: int = 255) -> Dataset:
    """Divides the published training images into validation and training parts.

    The first twelfth is held out: of MNIST's 60,000 the first 5,000, which is the split that
    TensorFlow's `input_data.read_data_sets` made.

    Args:
        name: The data set's name.
        training: All published training images, in their published order.
        test: The published test images.
        source: Where the data came from, in words.
        max_pixel: The largest value that a pixel can have.

    Returns:
        The data set; its training and validation parts are views of `training`.

    Raises:
        DataError: If there are too few training images, or training and test images differ in size.
    """
    if len(training.inputs) < HELD_OUT:
        raise DataError(f"{source}: {len(training.inputs)} training images are too few, at least {HELD_OUT} are needed")
    if training.inputs.shape[1:] != test.inputs.shape[1:]:
        raise DataError(
            f"{source}: training images are {training.inputs.shape[1:]} pixels "
            f"but test images are {test.inputs.shape[1:]}"
        )
    held_out = len(training.inputs) // HELD_OUT
    return Dataset(
        DataInfo(name, source, training.inputs.shape[1:], max_pixel, NUM_CLASSES),
        train=Examples(training.inputs[held_out:], training.targets[held_out:]),
        validation=Examples(training.inputs[:held_out], training.targets[:held_out]),
        test=test,
    )
