"""Image files of any kind as the images that a classifier knows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rnn_jax.data import DataInfo


def read_images(
    file: Path, data: DataInfo, *, invert: bool, notify: Callable[[str], None]
) -> tuple[list[str], np.ndarray]:
    """Reads one picture, as PNG, or an array of many, as .npy.

    Args:
      file: the file. An array is taken as it is; a picture is made grey, and scaled to the size that `data` has.
      data: what the classifier was trained on.
      invert: whether pictures are dark on white; the classifier wants them white on black.
      notify: is told, in a line, of scaling and of pictures that look as if they should be inverted.

    Returns:
      (a name for each image, images [N, rows, columns] for `Model.predict`).

    Raises:
      ValueError: in one line, for a file that is neither, or an array that is not of images of this size.
      OSError: if the file cannot be read.
    """
    if file.suffix == ".npy":
        try:
            images = np.load(file, allow_pickle=False)
        except (EOFError, ValueError) as error:
            raise ValueError(f"{file} is not an array: {error}") from error
        if images.shape[-2:] != data.image_shape or images.ndim not in (2, 3):
            rows, columns = data.image_shape
            raise ValueError(f"{file}: expected images [N, {rows}, {columns}], got an array of shape {images.shape}")
        images = images.reshape(-1, *data.image_shape)
        return [f"{file}[{i}]" for i in range(len(images))], images
    return [str(file)], _read_picture(file, data, invert, notify)[None]


def _read_picture(file: Path, data: DataInfo, invert: bool, notify: Callable[[str], None]) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            sixteen_bits = opened.mode.startswith("I")
            picture = opened.convert("F" if sixteen_bits else "L").convert("F")
    except UnidentifiedImageError as error:
        raise ValueError(f"{file} is neither a picture nor a .npy array") from error
    rows, columns = data.image_shape
    if picture.size != (columns, rows):
        notify(f"{file}: {picture.width}x{picture.height} pixels, scaled to {columns}x{rows}")
        picture = picture.resize((columns, rows), Image.Resampling.BOX)
    image = np.asarray(picture) / (65535 if sixteen_bits else 255)
    image = 1 - image if invert else image
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if border.mean() > 0.5:
        notify(f"{file}: its border is bright; digits must be white on black" + ("" if invert else ": try --invert"))
    return image
