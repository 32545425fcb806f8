"""Pictures of handwriting are prepared as MNIST's digits were."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from rnn_jax.data import DataInfo, load_dataset
from rnn_jax.tasks.centering import prepare
from rnn_jax.tasks.images import read_images

MNIST = Path(__file__).resolve().parents[1].parent / "shared" / "mnist"
needs_mnist = pytest.mark.skipif(not MNIST.exists(), reason="MNIST's files are not beside the project")
DATA = DataInfo("mnist", "here", (28, 28), 255, 10)
SEVEN = np.zeros((28, 28), np.uint8)
SEVEN[4:7, 8:24] = SEVEN[7:24, 16:19] = 255


@pytest.fixture(scope="module")
def digits():
    return load_dataset("mnist", MNIST).test.inputs[:50]


def crop(image):
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def small(image):
    canvas = np.zeros((100, 100), np.uint8)
    canvas[60:88, 5:33] = image
    return canvas


def likeness(image, wanted):
    a, b = [np.asarray(ndimage.gaussian_filter(each.astype(float), 1)).ravel() for each in (image, wanted)]
    return float(np.corrcoef(a, b).ravel()[1])


@needs_mnist
def test_a_digit_of_mnist_is_left_alone(digits):
    for digit in digits:
        prepared = prepare(digit)
        assert prepared is not None
        np.testing.assert_array_equal(prepared.image, digit)


@needs_mnist
@pytest.mark.parametrize("ink", [255, 40])
@pytest.mark.parametrize("change", [crop, small, lambda digit: digit])
def test_a_digit_is_found_again(digits, change, ink):
    found = 0
    for digit in digits:
        paper = 0 if ink == 255 else 190
        prepared = prepare(np.rint(paper + (ink - paper) * (change(digit) / 255)).astype(np.uint8))
        found += prepared is not None and prepared.dark == (ink < paper) and likeness(prepared.image, digit) > 0.95
    assert found >= 47


def test_an_enlarged_picture_is_as_good_as_the_small_one():
    small, large = prepare(255 - SEVEN), prepare(np.kron(255 - SEVEN, np.ones((7, 7), np.uint8)))
    assert small is not None
    assert large is not None
    np.testing.assert_array_equal(large.image, small.image)
    assert large.box == tuple(7 * edge for edge in small.box)


def test_shadow_noise_and_a_thin_pen_do_not_hide_a_digit():
    rng = np.random.default_rng(0)
    ink = np.zeros((600, 800))
    ink[100:106, 300:460] = ink[100:300, 380:386] = 1
    light = np.linspace(1, 0.6, 800) * (0.85 - 0.6 * ink) + rng.normal(size=ink.shape) * 0.02
    prepared = prepare(light)
    assert prepared is not None
    assert prepared.dark
    clean = prepare(SEVEN)
    assert clean is not None
    assert likeness(prepared.image, clean.image) > 0.8
    turned = prepare(np.stack([1 - light] * 3, -1))
    assert turned is not None
    assert not turned.dark
    assert likeness(turned.image, prepared.image) > 0.95


def test_paper_without_ink_has_nothing_to_prepare():
    assert prepare(np.full((50, 40), 0.8)) is None
    assert prepare(np.zeros((1, 1))) is None


@pytest.mark.parametrize("shape", [(1, 2), (3, 200), (57, 41), (300, 5)])
def test_noise_of_any_shape_is_no_error(shape):
    prepared = prepare(np.random.default_rng(0).random(shape))
    assert prepared is None or prepared.image.shape == (28, 28)


def test_the_reader_says_how_a_picture_was_prepared(tmp_path):
    file, notes = tmp_path / "paper.png", []
    Image.fromarray(255 - np.kron(SEVEN, np.ones((4, 4), np.uint8))).save(file)
    _, images = read_images(file, DATA, invert=False, notify=notes.append)
    said = "ink of 64x80 pixels, scaled into 20x20 and centred"
    assert notes == [f"{file}: dark ink on light paper: inverted; {said}"]
    clean = prepare(SEVEN)
    assert clean is not None
    assert likeness(images[0], clean.image) > 0.9
    _, forced = read_images(file, DATA, invert=True, notify=notes.append)
    np.testing.assert_array_equal(forced, images)
    read_images(file, DATA._replace(name="fashion_mnist"), invert=True, notify=notes.append)
    assert notes[2] == f"{file}: scaled as a whole: fashion_mnist has no handwritten characters to centre"


def test_a_blank_picture_is_refused_in_one_line(tmp_path):
    file = tmp_path / "paper.png"
    Image.fromarray(np.full((40, 30), 230, np.uint8)).save(file)
    with pytest.raises(ValueError, match=r"paper\.png cannot be read: it is blank: no ink is found$"):
        read_images(file, DATA, invert=False, notify=print)
    assert read_images(file, DATA, invert=False, as_is=True, notify=print)[1].shape == (1, 28, 28)


@pytest.mark.parametrize("side", [28, 90])
def test_a_frame_and_a_bold_marker_and_a_shadow_do_not_change_sides(side):
    ink = np.asarray(Image.fromarray(SEVEN).resize((side, side))).astype(float) / 255
    clean = prepare(SEVEN)
    assert clean is not None
    framed, bold = 1 - 0.9 * ink, 1 - 0.9 * ndimage.grey_dilation(ink, side // 9)
    framed[[0, -1]] = framed[:, [0, -1]] = 0
    drawn = np.pad(1 - 0.9 * ink, side // 5, constant_values=1.0)
    drawn[[2, -3], 2:-2] = drawn[2:-2, [2, -3]] = 0.1
    for picture in (framed, drawn, bold, (1 - 0.8 * ink) * np.linspace(0.9, 0.4, side)):
        prepared = prepare(picture)
        assert prepared is not None
        assert prepared.dark
        assert likeness(prepared.image, clean.image) > 0.7
        opposite = prepare(1 - picture)
        assert opposite is not None
        assert not opposite.dark
