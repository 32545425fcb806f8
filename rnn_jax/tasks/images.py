"""Reads image files of any format in the form of a classifier's training images."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from rnn_jax.data import DataInfo
from rnn_jax.tasks.centering import STYLES, Prepared, Style, as_bytes, prepare

if TYPE_CHECKING:
    from PIL.Image import Image

NPY_MAGIC = b"\x93NUMPY"
FAINT = 0.1  # An image with a smaller range of pixels, of 1, is reported as blank.
BLANK = 0.5  # A picture without ink is refused, unless most of its pixels differ by this: one cut at a stroke's edges.
EXIF_ORIENTATION = 0x0112


def read_images(
    file: Path, data: DataInfo, *, invert: bool, as_is: bool = False, notify: Callable[[str], None]
) -> tuple[list[str], np.ndarray]:
    """Reads one picture of any format that Pillow knows, or a .npy array of many images.

    The content of a file decides which of them it is, not its name. A picture is

    - turned upright as its EXIF orientation says;
    - reduced to its first frame;
    - put on white where it is transparent, or on black if white hides it;
    - prepared as the data's characters were, see `rnn_jax.tasks.centering`, if the data have characters;
    - otherwise converted to grey and scaled to `data.image_shape` with its aspect kept: the rest is padded with the
      median of its border.

    An array must have `data.image_shape` already. `notify` is called for every change but the conversion to grey.

    Args:
      file: the file.
      data: the data that the classifier was trained on.
      invert: True for images that are dark on white; the classifier needs white on black. For a picture of a character,
        False finds out.
      as_is: True to scale a picture of a character as a whole, like pictures of other things.
      notify: called with one line for each change, and for images that are blank or need `invert`.

    Returns:
      (a name for each image, images [N, rows, columns]); the pixels are whole numbers from 0 to `data.max_pixel`
      or fractions from 0 to 1.

    Raises:
      ValueError: in one line that names the file, if it has another format, is damaged, blank or too large, or has
        pixels out of range.
      OSError: if the file cannot be opened.
    """
    notes: list[str] = []
    is_prepared = False
    with file.open("rb") as opened, _one_error(file, notes):
        stream = opened if opened.seekable() else io.BytesIO(opened.read())
        is_array = stream.read(len(NPY_MAGIC)) == NPY_MAGIC
        stream.seek(0)
        if is_array:
            images = _check_shape(np.load(stream, allow_pickle=False), data.image_shape)
            if stream.read(1):
                notes.append("more follows its array and is not read")
        else:
            pixels = _read_picture(stream, notes)
            if not as_is and (prepared := _prepare(pixels, data, invert, notes)) is not None:
                images, is_prepared = prepared.image[None] / np.float32(255), True
            else:
                images = _fit(_grey(pixels), data.image_shape, notes)[None]
        white = check_pixels(images, data.max_pixel)
    if invert and not is_prepared:
        images = white - images.astype(np.int32 if white > 1 else images.dtype)
    if not is_prepared:
        notes.extend(_doubts(images, white, invert))
    for note in notes:
        notify(f"{file}: {note}")
    return [f"{file}[{i}]" for i in range(len(images))] if is_array else [str(file)], images


def check_pixels(images: np.ndarray, max_pixel: int) -> int:
    """Checks that pixels are whole numbers from 0 to `max_pixel`, or fractions from 0 to 1.

    Returns:
      The value of white: `max_pixel` for whole numbers, 1 for fractions.

    Raises:
      ValueError: if they are neither.
    """
    whole = np.issubdtype(images.dtype, np.integer)
    if not whole and not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be numbers, not {images.dtype}")
    white = max_pixel if whole else 1
    if images.size and not (images.min() >= 0 and images.max() <= white):
        raise ValueError(
            f"pixels must be whole numbers from 0 to {max_pixel} or fractions from 0 to 1; these are "
            f"{images.dtype} from {images.min()} to {images.max()}"
        )
    return white


@contextlib.contextmanager
def _one_error(file: Path, notes: list[str]) -> Iterator[None]:
    """Turns any error of a reader into a `ValueError` of one line that names the file, and its warnings into notes."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("always", RuntimeWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except ImportError:
            raise
        except UnidentifiedImageError as error:
            is_named_array = file.suffix.lower() == ".npy"
            kinds = "is not an array, nor a picture" if is_named_array else "is neither a picture nor a .npy array"
            raise ValueError(f"{file} {kinds}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"{file} is too large, scale it down: {error}") from error
        # Pillow's decoders and NumPy raise errors of many classes for a damaged file, and MemoryError for a false size.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{file} cannot be read: {reason}") from error
    notes.extend(dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught))


def _check_shape(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = shape
    if images.ndim not in (2, 3) or images.shape[-2:] != shape:
        raise ValueError(f"expected images [N, {rows}, {columns}], got an array of shape {images.shape}")
    images = images.reshape(-1, rows, columns)
    return images.astype(np.float32) if images.dtype == bool else images


def _read_picture(stream: IO[bytes], notes: list[str]) -> np.ndarray:
    """Reads a picture upright and opaque: uint8 or fractions in float32, [H, W] grey or [H, W, 3] coloured."""
    from PIL import Image

    with Image.open(stream) as picture:
        frames, orientation = getattr(picture, "n_frames", 1), picture.getexif().get(EXIF_ORIENTATION)
        picture.load()
        if frames > 1:
            notes.append(f"it has {frames} frames, only the first is read")
        pixels, opacity = _pixels(_upright(picture, orientation, notes), notes)
    return pixels if opacity is None or opacity.min() == 1 else _make_opaque(pixels, opacity, notes)


def _upright(picture: "Image", orientation: int | None, notes: list[str]) -> "Image":
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    if orientation in turns:
        notes.append(f"turned upright, as its EXIF orientation {orientation} says")
    # Pillow turns a TIFF upright as it loads it, and removes the orientation.
    remaining = picture.getexif().get(EXIF_ORIENTATION)
    return picture.transpose(turns[remaining]) if remaining in turns else picture


def _pixels(picture: "Image", notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns (uint8 or float32 [H, W] or [H, W, 3], the opacity of each pixel, float32 [H, W], or None)."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, np.float32)
        transparent = picture.info.get("transparency")
        opacity = None if transparent is None else (values != transparent).astype(np.float32)
        return values / _white(values, fractions=picture.mode == "F", notes=notes), opacity
    opacity = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        opacity = np.asarray(picture.getchannel("A"), np.float32) / 255
    is_grey = picture.mode in ("1", "L", "LA")
    return np.asarray(picture.convert("L" if is_grey else "RGB")), opacity


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Converts pixels to fractions of white, float32 [H, W]."""
    from PIL import Image

    if pixels.ndim == 3:
        pixels = np.asarray(Image.fromarray(as_bytes(pixels)).convert("L"))
    return pixels.astype(np.float32) / 255 if pixels.dtype == np.uint8 else pixels


def _white(values: np.ndarray, *, fractions: bool, notes: list[str]) -> int:
    """Returns the value of white in a picture of more than 8 bits, which its format leaves open.

    It is 65535 for whole numbers and 1 for fractions, unless the values are all of bytes, or too large for fractions.
    """
    lowest, highest = values.min(), values.max()
    scales = (1, 255, 65535) if fractions else (255, 65535)
    white = next((scale for scale in scales if lowest >= 0 and highest <= scale), None)
    if white is None:
        raise ValueError(
            f"its pixels go from {lowest:g} to {highest:g}, but must go from 0 to {' or '.join(map(str, scales))}"
        )
    if white != (1 if fractions else 65535):
        notes.append(f"its largest pixel is {highest:g}: they are read as from 0 to {white}")
    return white


def _make_opaque(pixels: np.ndarray, opacity: np.ndarray, notes: list[str]) -> np.ndarray:
    fractions = pixels.astype(np.float32) / 255 if pixels.dtype == np.uint8 else pixels
    opacity = opacity if pixels.ndim == 2 else opacity[..., None]
    on_white = fractions * opacity + (1 - opacity)
    hidden = np.ptp(_grey(on_white)) < FAINT
    notes.append(f"transparent, put on {'black' if hidden else 'white'}")
    return fractions * opacity if hidden else on_white


def _prepare(pixels: np.ndarray, data: DataInfo, invert: bool, notes: list[str]) -> Prepared | None:
    """Prepares a picture as the data's characters were, or returns None if the data have none; refuses a blank one."""
    style = STYLES.get(data.name)
    if style is None:
        if pixels.shape[:2] != data.image_shape:
            notes.append(f"scaled as a whole: {data.name} has no handwritten characters to centre")
        return None
    prepared = prepare(pixels, style, dark=invert or None)
    if prepared is None:
        if np.ptp(np.percentile(_grey(pixels), (5, 95))) < BLANK:
            raise ValueError("it is blank: no ink is found")
        notes.append("ink and paper are not told apart, scaled as a whole")
    elif prepared.changed:
        notes.append(_describe(prepared, style, invert))
    return prepared


def _describe(prepared: Prepared, style: Style, invert: bool) -> str:
    top, left, bottom, right = prepared.box
    found = ("dark ink on light paper: inverted; " if prepared.dark else "light ink on dark paper; ") * (not invert)
    return f"{found}ink of {right - left}x{bottom - top} pixels, scaled into {style.box}x{style.box} and centred"


def _fit(grey: np.ndarray, shape: tuple[int, int], notes: list[str]) -> np.ndarray:
    """Scales an image to fit into `shape`, keeping its aspect, and pads the rest with the median of its border."""
    from PIL import Image

    if grey.shape == shape:
        return grey
    scale = max(has / fits for has, fits in zip(grey.shape, shape, strict=True))
    height, width = (min(max(1, round(has / scale)), fits) for has, fits in zip(grey.shape, shape, strict=True))
    note = "{1}x{0} pixels".format(*grey.shape)
    if grey.shape != (height, width):
        grey = np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))
        note += f", scaled to {width}x{height}"
    if grey.shape != shape:
        rows, columns = shape
        canvas = np.full(shape, np.median(_border(grey[None])), grey.dtype)
        top, left = (rows - height) // 2, (columns - width) // 2
        canvas[top : top + height, left : left + width] = grey
        grey = canvas
        note += f", padded to {columns}x{rows}"
    notes.append(note)
    return grey.clip(0, 1)


def _border(images: np.ndarray) -> np.ndarray:
    """Returns the outermost pixels of all images [N, rows, columns] in one axis."""
    edges = images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]
    return np.concatenate([edge.ravel() for edge in edges])


def _doubts(images: np.ndarray, white: int, invert: bool) -> Iterator[str]:
    """Yields a line for each reason why images [N, rows, columns] are likely to be misread."""
    if not len(images):
        yield "it holds no images"
        return
    contrast = (images.max((1, 2)).astype(float) - images.min((1, 2))) / white
    blank = np.flatnonzero(contrast < FAINT)
    if len(images) == 1 and len(blank):
        yield f"blank or nearly so: its pixels differ by {contrast[0]:.2g} of 1 at most"
    elif len(blank):
        yield f"{len(blank)} of its {len(images)} images are blank or nearly so, the first is [{blank[0]}]"
    if _border(images).mean() > 0.5 * white:
        yield "its border is bright; digits must be white on black" + ("" if invert else ": try --invert")
