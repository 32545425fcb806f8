"""Prepares a picture of one character as MNIST's digits were: ink found, scaled into a box, centred, white on black.

prepared = prepare(picture, STYLES["mnist"])  # prepared.image: uint8 [28, 28]

Letters: H rows and W columns of pixels in a picture. `ink` is 0 on paper and 1 in a stroke.
"""

from typing import Literal, NamedTuple

import numpy as np

from rnn_jax.tasks.ink import FAINT, box_of, find_ink, survey

WORKING = 256  # Longest side, in pixels, of the picture in which ink is looked for.
MARGIN = 0.25  # Paper left around the ink for the second look, in parts of the ink's longest side.


class Style(NamedTuple):
    """The form of a data set's images.

    Attributes:
      side: rows and columns of an image.
      box: the longest side of the ink, in pixels.
      centre: the point of the ink put into the middle: its centre of mass, or the middle of its box.
      stroke: (thinnest, thickest) usual width of a stroke, in pixels; ink outside of it is thickened or thinned.
    """

    side: int
    box: int
    centre: Literal["mass", "box"]
    stroke: tuple[float, float]


MNIST = Style(28, 20, "mass", (1.7, 3.3))
# EMNIST leaves two pixels of border, and Kuzushiji-MNIST none. scikit-learn counts the ink in 4x4 parts of a full box.
EMNIST = Style(28, 24, "box", (2.0, 4.0))
KMNIST = Style(28, 28, "box", (1.7, 4.0))
DIGITS = Style(8, 8, "box", (0.8, 1.6))
STYLES = {
    "mnist": MNIST,
    "qmnist": MNIST,
    "kmnist": KMNIST,
    "digits": DIGITS,
    **{f"emnist_{split}": EMNIST for split in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")},
}


class Prepared(NamedTuple):
    """A picture that has been prepared.

    Attributes:
      image: uint8 [side, side], white on black.
      box: (top, left, bottom, right) of the ink in the picture, in pixels.
      dark: True if the ink is darker than its paper.
      changed: False if the picture had the style's form already; `image` is then the picture itself.
    """

    image: np.ndarray
    box: tuple[int, int, int, int]
    dark: bool
    changed: bool


def prepare(picture: np.ndarray, style: Style = MNIST, *, dark: bool | None = None) -> Prepared | None:
    """Finds the ink of one character and brings it into the form of a data set's images.

    Light and shadow, an edge of the paper, fainter lines ruled on it, noise and colours are told from the ink by the
    width of strokes, by contrast and by where they lie. A picture that has the form already is returned unchanged.

    Args:
      picture: [H, W] grey or [H, W, 3] coloured; whole numbers from 0 to 255 or fractions from 0 to 1.
      style: the form wanted.
      dark: True if the ink is known to be darker than its paper, False if lighter; None finds out.

    Returns:
      The prepared image, or None if there is no ink.
    """
    picture = as_bytes(picture)
    enlarged = _enlargement(picture)
    picture = picture[::enlarged, ::enlarged]
    if not dark and _in_style(picture, style):
        return Prepared(picture, _times(box_of(picture > 0), enlarged), False, False)
    top, left, (bottom, right) = 0, 0, picture.shape[:2]
    found, box = np.zeros((1, 1)), (0, 0, 0, 0)
    for _ in range(2):
        part = picture[top:bottom, left:right]
        grey = _grey(_reduce(part))
        if np.ptp(grey) < FAINT:
            return None
        tall, wide = part.shape[0] / grey.shape[0], part.shape[1] / grey.shape[1]
        dark, window = survey(grey, dark)
        ink = find_ink(grey if dark else 1 - grey, window)
        if ink is None:
            return None
        y, x, y_end, x_end = box_of(ink > 0.15)
        found = ink[y:y_end, x:x_end]
        box = round(top + y * tall), round(left + x * wide), round(top + y_end * tall), round(left + x_end * wide)
        margin = max(2, round(MARGIN * max(box[2] - box[0], box[3] - box[1])))
        top, left = max(0, box[0] - margin), max(0, box[1] - margin)
        bottom, right = min(picture.shape[0], box[2] + margin), min(picture.shape[1], box[3] + margin)
    return Prepared(_place(_thicken(found, style), style), _times(box, enlarged), bool(dark), True)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Converts fractions from 0 to 1 to whole numbers from 0 to 255, and leaves those alone."""
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)


def _enlargement(picture: np.ndarray) -> int:
    """Returns k if each pixel of a smaller picture has become a square of k x k equal ones, else 1."""
    changes = []
    for axis in (0, 1):
        different = np.diff(picture.astype(np.int16), axis=axis) != 0
        others = tuple(other for other in range(picture.ndim) if other != axis)
        changes += [picture.shape[axis], *(np.flatnonzero(different.any(others)) + 1)]
    return int(np.gcd.reduce(changes))


def _times(box: tuple[int, int, int, int], factor: int) -> tuple[int, int, int, int]:
    top, left, bottom, right = box
    return top * factor, left * factor, bottom * factor, right * factor


def _in_style(picture: np.ndarray, style: Style) -> bool:
    """Returns True for white on pure black with the style's box and centre."""
    if picture.shape != (style.side,) * 2 or np.count_nonzero(picture == 0) < picture.size // 4 or picture.max() < 128:
        return False
    top, left, bottom, right = box_of(picture > 0)
    inside = picture[top:bottom, left:right]
    place = _corner(inside, style)
    off = max(abs(place[0] - top), abs(place[1] - left))
    return max(inside.shape) in (style.box - 1, style.box) and off <= (style.centre == "box")


def _reduce(picture: np.ndarray) -> np.ndarray:
    """Scales a picture to at most `WORKING` pixels a side, each the mean of those that it replaces."""
    from PIL import Image

    height, width = picture.shape[:2]
    scale = max(height, width) / WORKING
    if scale <= 1:
        return picture
    size = max(1, round(width / scale)), max(1, round(height / scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BOX, reducing_gap=4))


def _grey(picture: np.ndarray) -> np.ndarray:
    """Returns fractions of white [H, W]: of colours, the mixture in which they differ most."""
    colours = picture.astype(float) / 255
    if colours.ndim == 2:
        return colours
    pixels = colours.reshape(-1, 3)
    off = pixels - np.median(pixels, 0)
    axis = np.linalg.eigh(off.T @ off)[1][:, -1]
    axis *= 1 if axis.sum() > 0 else -1
    mixed = off @ axis
    return (mixed - mixed.min()).reshape(picture.shape[:2])


def _thicken(ink: np.ndarray, style: Style) -> np.ndarray:
    """Gives strokes that are thinner or thicker than the style's usual ones the nearest usual width."""
    from PIL import Image
    from scipy import ndimage

    fine = 8 * style.box / max(ink.shape)
    size = max(1, round(fine * ink.shape[1])), max(1, round(fine * ink.shape[0]))
    large = np.asarray(Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    large = np.pad(large, 8 * 3)
    mask = large > 0.5
    outline = sum(np.count_nonzero(np.diff(mask, axis=axis)) for axis in (0, 1)) * np.pi / 4
    width = 2 * np.count_nonzero(mask) / max(outline, 1) / 8
    wanted = np.clip(width, *style.stroke)
    if not width or wanted == width:
        return ink
    inside, outside = (np.asarray(ndimage.distance_transform_edt(part)) for part in (mask, ~mask))
    grown = (inside - outside + 8 * (wanted - width) / 2 + 0.5).clip(0, 1)
    top, left, bottom, right = box_of(grown > 0)
    return grown[top:bottom, left:right]


def _place(ink: np.ndarray, style: Style) -> np.ndarray:
    """Scales ink into the style's box, and puts its centre into the middle of an image."""
    from PIL import Image

    scale = style.box / max(ink.shape)
    height, width = (max(1, round(scale * side)) for side in ink.shape)
    kind = Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC
    small = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((width, height), kind)).clip(0, None)
    pixels = np.rint(small / max(small.max(), 1e-9) * 255).astype(np.uint8)
    top, left = _corner(pixels, style)
    image = np.zeros((style.side, style.side), np.uint8)
    image[top : top + height, left : left + width] = pixels
    return image


def _corner(pixels: np.ndarray, style: Style) -> tuple[int, int]:
    """Returns the row and the column of an image at which pixels begin, so that their centre lies in the middle."""

    def start(weights: np.ndarray) -> int:
        size = len(weights)
        middle = size / 2 if style.centre == "box" else np.average(np.arange(size) + 0.5, weights=weights)
        place = (style.side - size) // 2 if style.centre == "box" else style.side // 2 - int(np.floor(middle))
        return int(np.clip(place, 0, style.side - size))

    return start(pixels.sum(1, dtype=float)), start(pixels.sum(0, dtype=float))
