"""Image files as people have them: read right, with every change said, or refused in one line."""

import io
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rnn_jax.data import DataInfo
from rnn_jax.tasks.images import EXIF_ORIENTATION, read_images

DATA = DataInfo("mnist", "here", (28, 28), 255, 10)
SEVEN = np.zeros((28, 28), np.uint8)
SEVEN[4:8, 8:24] = SEVEN[8:24, 16:20] = 255


def read(file, invert=False):
    """Returns (the images, what was said of them without the file's name)."""
    notes = []
    _, images = read_images(file, DATA, invert=invert, as_is=True, notify=notes.append)
    assert all(note.startswith(f"{file}: ") and "\n" not in note for note in notes)
    assert images.shape[1:] == (28, 28)
    assert images.min() >= 0
    assert images.max() <= (255 if np.issubdtype(images.dtype, np.integer) else 1)
    return images, [note.removeprefix(f"{file}: ") for note in notes]


@pytest.fixture
def save(tmp_path):
    """A function that saves an array as a picture and returns the file."""

    def save(array, name="picture.png", **options):
        Image.fromarray(array).save(tmp_path / name, **options)
        return tmp_path / name

    return save


STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: np.rot90,
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, 3),
}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_turned_as_its_exif_says(save, orientation, name):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    options = {"lossless": True} if name == "a.webp" else {"quality": 100} if name == "a.jpg" else {}
    images, notes = read(save(np.ascontiguousarray(STORED[orientation](SEVEN)), name, exif=exif, **options))
    np.testing.assert_allclose(images[0], SEVEN / 255, atol=0.05)
    said = [f"turned upright, as its EXIF orientation {orientation} says"]
    assert notes == (said if orientation > 1 else [])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_ink_on_transparent_is_put_on_what_shows_it(save, mode):
    for ink, background in ((0, "white"), (255, "black")):
        grey = np.full_like(SEVEN, ink)
        picture = np.stack([grey] * (3 if mode == "RGBA" else 1) + [SEVEN], -1)
        images, notes = read(save(picture), invert=ink == 0)
        np.testing.assert_array_equal(images[0], SEVEN / 255)
        assert notes == [f"transparent, put on {background}"]


def test_a_transparent_colour_of_16_bits_or_of_a_palette_is_seen(save):
    dark = np.where(SEVEN, np.uint16(9000), np.uint16(0))
    assert "transparent, put on white" in read(save(dark, transparency=0))[1]
    palette = np.where(SEVEN, np.uint8(10), np.uint8(0))
    assert "transparent, put on white" in read(save(palette, "a.gif", transparency=0))[1]
    opaque = np.stack([SEVEN, np.full_like(SEVEN, 255)], -1)
    assert read(save(opaque))[1] == []


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.png", "a.webp"])
def test_the_first_of_many_frames_is_read_and_said(save, name):
    others = [Image.fromarray(SEVEN // n) for n in (2, 3)]
    options = {"lossless": True} if name == "a.webp" else {}
    images, notes = read(save(SEVEN, name, save_all=True, append_images=others, **options))
    np.testing.assert_array_equal(images[0], SEVEN / 255)
    assert notes == ["it has 3 frames, only the first is read"]


@pytest.mark.parametrize(
    ("values", "name", "note"),
    [
        (SEVEN / np.float32(255), "a.tif", None),
        (SEVEN.astype(np.float32), "a.tif", "its largest pixel is 255: they are read as from 0 to 255"),
        (SEVEN * np.float32(257), "a.tif", "its largest pixel is 65535: they are read as from 0 to 65535"),
        (SEVEN.astype(np.uint16) * 257, "a.png", None),
        (SEVEN.astype(np.uint16), "a.png", "its largest pixel is 255: they are read as from 0 to 255"),
        (SEVEN.astype(np.int32), "a.tif", "its largest pixel is 255: they are read as from 0 to 255"),
    ],
)
def test_the_range_of_many_bits_is_found(save, values, name, note):
    images, notes = read(save(values, name))
    np.testing.assert_allclose(images[0], SEVEN / 255, rtol=1e-6)
    assert notes == ([note] if note else [])


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 1e6])
def test_pixels_of_no_range_are_refused(save, value):
    file = save(np.full((28, 28), value, np.float32), "a.tif")
    with pytest.raises(
        ValueError, match=rf"{file} cannot be read: its pixels go from .*, but must go from 0 to 1 or 255 or 65535"
    ):
        read(file)


def test_the_aspect_is_kept_by_padding(save):
    wide = np.kron(SEVEN[:, 4:], np.ones((4, 2), np.uint8))  # 112 rows, 48 columns
    images, notes = read(save(wide))
    assert notes == ["48x112 pixels, scaled to 12x28, padded to 28x28"]
    np.testing.assert_allclose(images[0, :, 8:20], SEVEN[:, 4:].reshape(28, 12, 2).mean(2) / 255)
    assert not images[0, :, :8].any()
    images, notes = read(save(255 - wide), invert=True)
    assert not images[0, :, :8].any(), "paper is padded with paper"
    assert read(save(SEVEN[:, 4:]))[1] == ["24x28 pixels, padded to 28x28"]
    assert read(save(np.eye(1, 5000, dtype=np.uint8) * 255))[1][0] == "5000x1 pixels, scaled to 28x1, padded to 28x28"


def test_blank_images_are_said(save, tmp_path):
    assert "blank or nearly so" in read(save(np.full((28, 28), 20, np.uint8)))[1][0]
    assert read(save(np.zeros((1, 1), np.uint8)))[1][0] == "1x1 pixels, scaled to 28x28"
    np.save(tmp_path / "some.npy", np.stack([SEVEN, SEVEN // 255, SEVEN]))
    assert read(tmp_path / "some.npy")[1] == ["1 of its 3 images are blank or nearly so, the first is [1]"]


def test_the_content_tells_an_array_from_a_picture(save, tmp_path):
    np.save(tmp_path / "a.npy", SEVEN)
    (tmp_path / "a.npy").rename(tmp_path / "X.NPY")
    np.testing.assert_array_equal(read(tmp_path / "X.NPY")[0][0], SEVEN)
    save(SEVEN, "a.png").rename(tmp_path / "picture.npy")
    np.testing.assert_array_equal(read(tmp_path / "picture.npy")[0][0], SEVEN / 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float64, bool, ">u2"])
def test_arrays_are_inverted(tmp_path, dtype):
    white = 255 if np.issubdtype(dtype, np.integer) else 1
    array = (SEVEN // 255).astype(dtype) * np.array(white, dtype)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(
        read(tmp_path / "a.npy", invert=True)[0][0], white - (SEVEN // 255).astype(int) * white
    )
    np.save(tmp_path / "a.npy", np.stack([white - array.astype(float)] * 2).astype(dtype))
    images, notes = read(tmp_path / "a.npy", invert=True)
    np.testing.assert_array_equal(images, np.stack([array] * 2))
    assert notes == []
    assert "try --invert" in read(tmp_path / "a.npy")[1][0]


def header(shape, descr="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is neither a picture nor a .npy array"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is neither a picture nor a .npy array"),
        (header((28, 28))[:40], "cannot be read: EOF: reading array header"),
        (header((28, 28)), "cannot be read: "),
        (header((10**9, 28, 28)), "cannot be read: "),
        (header((28, 28), "|O"), "cannot be read: "),
        (header((28, 28), "<c16") + bytes(28 * 28 * 16), "cannot be read: images must be numbers, not complex128"),
        (header((28, 28)) + np.full(784, 7.5).tobytes(), "these are float64 from 7.5 to 7.5"),
        (header((28, 28)) + np.full(784, np.nan).tobytes(), "these are float64 from nan to nan"),
    ],
)
def test_files_that_cannot_be_read_are_named_in_one_line(tmp_path, content, message):
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_scan_that_would_fill_the_memory_is_refused(save, side):
    file = save(SEVEN)
    data = file.read_bytes()
    size = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    file.write_bytes(data[:12] + size + struct.pack(">I", zlib.crc32(size)) + data[33:])
    with pytest.raises(ValueError, match=rf"{file} is too large, scale it down"):
        read(file)


def test_an_array_without_images_is_said(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 28, 28), np.uint8))
    notes = []
    names, images = read_images(tmp_path / "none.npy", DATA, invert=True, notify=notes.append)
    assert (names, images.shape) == ([], (0, 28, 28))
    assert notes == [f"{tmp_path / 'none.npy'}: it holds no images"]


def test_a_corrupt_chunk_is_refused(save):
    file = save(SEVEN)
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 12] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{file} cannot be read: "):
        read(file)


def test_what_follows_an_array_is_said(tmp_path):
    with (tmp_path / "two.npy").open("wb") as file:
        np.save(file, SEVEN)
        np.save(file, SEVEN)
    assert read(tmp_path / "two.npy")[1] == ["more follows its array and is not read"]


FORMATS = {
    "PNG": ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"],
    "TIFF": ["1", "L", "LA", "RGB", "RGBA", "P", "I;16", "I", "F", "CMYK", "YCbCr", "LAB"],
    "JPEG": ["L", "RGB", "CMYK", "YCbCr"],
    "GIF": ["L", "P", "RGB", "RGBA"],
    "WEBP": ["RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB"],
    "PPM": ["1", "L", "RGB", "I;16"],
    "TGA": ["L", "LA", "RGB", "RGBA"],
}
MANY_FRAMES = ("PNG", "TIFF", "GIF", "WEBP")


@st.composite
def pictures(draw):
    """Draws (a picture in a file's bytes, its size, its number of frames, its EXIF orientation)."""
    kind = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[kind]))
    size = draw(st.sampled_from([(28, 28), (1, 1), (28, 14), (3, 200), (57, 41)]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    shape = (size[1], size[0], 4)
    scale = {"I;16": 65535, "I": 1 << 20, "F": 2}.get(mode, 255)

    def frame():
        values = rng.random(shape) * scale * draw(st.sampled_from([0.001, 1]))
        if mode in ("I;16", "I", "F"):
            dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
            return Image.fromarray(values[..., 0].astype(dtype))
        picture = Image.fromarray(values.astype(np.uint8), "RGBA" if mode != "CMYK" else "CMYK")
        return picture if picture.mode == mode else _converted(picture, mode)

    frames = [frame() for _ in range(draw(st.integers(1, 3)) if kind in MANY_FRAMES else 1)]
    options = {"save_all": True, "append_images": frames[1:], "duration": 10} if len(frames) > 1 else {}
    orientation = draw(st.integers(0, 9)) if kind in ("JPEG", "PNG", "WEBP", "TIFF") else 1
    if kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        options["exif"] = Image.Exif()
        options["exif"][EXIF_ORIENTATION] = orientation
    file = io.BytesIO()
    frames[0].save(file, kind, **options)
    return file.getvalue(), size, orientation


def _converted(picture, mode):
    if mode == "LAB":
        return Image.merge("LAB", picture.convert("RGB").split())
    return picture.convert("RGB").convert(mode) if mode in ("YCbCr", "P", "1", "L") else picture.convert(mode)


@settings(max_examples=80, deadline=None)
@given(pictures(), st.booleans(), st.data())
def test_any_picture_is_read_in_range_or_refused_in_one_line_and_no_change_is_silent(picture, invert, data):
    content, size, orientation = picture
    cut = data.draw(st.sampled_from([1.0, 0.95, 0.6, 0.2]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture"
        file.write_bytes(content[: int(cut * len(content))])
        notes, refusal = [], None
        try:
            _, notes = read(file, invert)
        except ValueError as error:
            refusal = str(error)
    if refusal is not None:
        assert refusal.startswith(f"{file} ")
        assert "\n" not in refusal
        return
    said = " ".join(notes)
    assert (size != (28, 28)) == ("pixels, " in said)
    assert (2 <= orientation <= 8) == ("turned upright" in said)
    with Image.open(io.BytesIO(content)) as opened:
        if cut == 1:
            assert (getattr(opened, "n_frames", 1) > 1) == ("frames" in said)
        if cut == 1 and opened.mode in ("LA", "RGBA"):
            assert (np.asarray(opened)[..., -1].min() < 255) == ("transparent" in said)
