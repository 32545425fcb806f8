"""A labelled data set in memory.

Letters: N images, R rows of pixels in an image, C columns of pixels in a row.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.data.examples import Examples

HELD_OUT = 12  # The first 1/12 of the training images is held out for validation.


class DataError(Exception):
    """The data cannot be loaded; the message is one line with the reason and a remedy."""


class DownloadError(DataError):
    """The data set cannot be downloaded from its publisher."""


class DataInfo(NamedTuple):
    """The facts about a data set that a trained model depends on.

    Attributes:
      name: the data set's name, part of every report.
      source: where it came from, in words.
      image_shape: (rows, columns) of pixels.
      max_pixel: the value of a white pixel; that of a black one is 0.
      num_classes: the number of classes.
    """

    name: str
    source: str
    image_shape: tuple[int, int]
    max_pixel: int
    num_classes: int

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "DataInfo":
        """Undoes `to_json`."""
        return cls(**{**values, "image_shape": tuple(values["image_shape"])})

    def to_json(self) -> dict[str, Any]:
        """Returns the facts as a dictionary that `json` can write."""
        return self._asdict()


class Dataset(NamedTuple):
    """A data set in three parts.

    Attributes:
      info: the facts that a trained model depends on: a `DataInfo`, or the `SeriesInfo` of people's own sequences.
      train: the examples to learn from.
      validation: the first twelfth of the published training images, to choose settings with.
      test: the published test images.
      class_names: a name for each class; empty if the classes are only numbered.
    """

    info: Any
    train: Examples
    validation: Examples
    test: Examples
    class_names: tuple[str, ...] = ()


def make_split(
    images: np.ndarray, labels: np.ndarray, where: str, *, num_classes: int, first_label: int = 0
) -> Examples:
    """Pairs images with labels and checks that they belong together.

    Args:
      images: uint8 [N, R, C].
      labels: integers [N] of any width, from `first_label` to `first_label + num_classes - 1`.
      where: where they came from, for error messages.
      num_classes: number of classes.
      first_label: the label of class 0.

    Returns:
      The examples, with int32 targets from 0.

    Raises:
      DataError: if a shape, a dtype or a label differs from the above, or there are no images.
    """
    if images.ndim != 3 or images.size == 0:
        raise DataError(f"{where}: expected images [N, rows, columns], got shape {images.shape}")
    if images.dtype != np.uint8:
        raise DataError(f"{where}: expected images of unsigned bytes, got {images.dtype}")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{where}: {len(images)} images but labels of shape {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: expected labels that are whole numbers, got {labels.dtype}")
    last_label = first_label + num_classes - 1
    if labels.min() < first_label or labels.max() > last_label:
        raise DataError(
            f"{where}: labels should go from {first_label} to {last_label}, these go from {labels.min()} to "
            f"{labels.max()}"
        )
    return Examples(images, labels.astype(np.int32) - np.int32(first_label))


def make_dataset(
    name: str, training: Examples, test: Examples, *, source: str, class_names: Sequence[str], max_pixel: int = 255
) -> Dataset:
    """Divides the published training images into validation and training parts.

    The first twelfth is held out. Of MNIST's 60,000 images these are the first 5,000, as in TensorFlow's
    `input_data.read_data_sets`.

    Args:
      name: the data set's name.
      training: all published training images, in their published order.
      test: the published test images.
      source: where the data came from, in words.
      class_names: a name for each class, in the order of the labels.
      max_pixel: the largest value of a pixel.

    Returns:
      The data set; its training and validation parts are views of `training`.

    Raises:
      DataError: if there are too few training images, or training and test images differ in size.
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
        DataInfo(name, source, training.inputs.shape[1:], max_pixel, len(class_names)),
        train=Examples(training.inputs[held_out:], training.targets[held_out:]),
        validation=Examples(training.inputs[:held_out], training.targets[:held_out]),
        test=test,
        class_names=tuple(class_names),
    )
