"""What a data set is, once it is in memory.

Letters: N images, R rows of pixels in an image, C columns of pixels in a row.
"""

from typing import NamedTuple

import numpy as np

NUM_CLASSES = 10
PIECE = 256 << 20  # bytes
HELD_OUT = 12  # One training image in so many is held out for validation.


class DataError(Exception):
    """The data cannot be had; the message is one line that says why and what to do."""


class DownloadError(DataError):
    """The data set cannot be downloaded from its publisher."""


class Split(NamedTuple):
    """Images and their labels, row by row. The arrays may be read-only.

    Attributes:
        images: uint8 [N, R, C], pixel values.
        labels: int32 [N], from 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray


def num_bytes(split: Split) -> int:
    """What a split takes in memory."""
    return split.images.nbytes + split.labels.nbytes


def pieces(split: Split) -> list[Split]:
    """A split in parts of at most `PIECE` bytes, which fit any device."""
    size = max(1, PIECE * len(split.labels) // num_bytes(split))
    return [Split(split.images[i : i + size], split.labels[i : i + size]) for i in range(0, len(split.labels), size)]


class Dataset(NamedTuple):
    """A data set in three parts.

    Attributes:
        name: Which data these are; belongs into every report about them.
        train: The images to learn from.
        validation: The first twelfth of the published training images, to choose settings with.
        test: The published test images.
        max_pixel: The largest value that a pixel can have; the smallest is 0.
        num_classes: How many different labels there are.
        source: Where the data came from, in words.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    max_pixel: int
    num_classes: int
    source: str


def make_split(images: np.ndarray, labels: np.ndarray, where: str) -> Split:
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
    return Split(images, labels.astype(np.int32))


def make_dataset(name: str, training: Split, test: Split, *, source: str, max_pixel: int = 255) -> Dataset:
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
    if len(training.images) < HELD_OUT:
        raise DataError(f"{source}: {len(training.images)} training images are too few, at least {HELD_OUT} are needed")
    if training.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{source}: training images are {training.images.shape[1:]} pixels "
            f"but test images are {test.images.shape[1:]}"
        )
    held_out = len(training.images) // HELD_OUT
    return Dataset(
        name=name,
        train=Split(training.images[held_out:], training.labels[held_out:]),
        validation=Split(training.images[:held_out], training.labels[:held_out]),
        test=test,
        max_pixel=max_pixel,
        num_classes=NUM_CLASSES,
        source=source,
    )
