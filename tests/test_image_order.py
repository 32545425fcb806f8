"""Images read by rows, by pixels, and in a fixed order of the pixels."""

import contextlib
import io
import re
from typing import Any

import jax
import numpy as np
import pytest
from helpers import run_train

import rnn_jax as rnn
from rnn_jax.__main__ import main
from rnn_jax.app.build import build_task
from rnn_jax.app.config import Config
from rnn_jax.app.export import describe_export, export_step
from rnn_jax.app.readers import make_reader
from rnn_jax.data import DataInfo
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.image_order import ORDERS, permutation, read_in_order, reading_steps

IMAGES: Any = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def test_each_order_has_its_steps():
    assert read_in_order(IMAGES, "rows") is IMAGES
    np.testing.assert_array_equal(read_in_order(IMAGES, "pixels"), np.arange(24).reshape(2, 12, 1))
    permuted = read_in_order(IMAGES, "permuted")
    assert permuted.shape == (2, 12, 1)
    np.testing.assert_array_equal(permuted[1, :, 0], 12 + permutation(12))


def test_the_permutation_is_the_published_one():
    order = permutation(784)
    np.testing.assert_array_equal(order[:8], [319, 576, 323, 107, 355, 716, 197, 20])
    np.testing.assert_array_equal(np.sort(order), np.arange(784))


@pytest.mark.parametrize("order", ORDERS)
def test_each_pixel_has_the_step_that_reads_it(order):
    steps = reading_steps((3, 4), order)
    assert steps.shape == (3, 4)
    for t, pixels in enumerate(read_in_order(np.arange(12).reshape(3, 4), order)):
        np.testing.assert_array_equal(np.flatnonzero(steps == t), np.sort(pixels))


def test_a_task_reads_in_its_order():
    network = rnn.Classifier(rnn.stack(rnn.GRU(3)), 2)
    by_pixels, by_rows = (Classification(network, 1, scale=16, order=order) for order in ("permuted", "rows"))
    params = jax.jit(by_pixels.init)(jax.random.key(0))
    read = jax.jit(by_rows.logits)
    expected = read(params, read_in_order(IMAGES, "permuted"))
    np.testing.assert_allclose(jax.jit(by_pixels.logits)(params, IMAGES), expected, rtol=1e-6)
    assert not np.allclose(expected, read(params, read_in_order(IMAGES, "pixels")))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on permuted pixels: its folder, and its output."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = "--dataset=digits --cell=gru --hidden-size=4 --batch-size=8 --recipe=tutorial --order=permuted --steps=3"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run_train(None, *flags.split(), "--no-pictures", "--output-dir", folder)[0] == 0
    return folder, out.getvalue()


def test_a_run_keeps_its_order(run, capsys):
    folder, out = run
    assert "pixels, read by permuted pixels\n" in out
    model = rnn.load_run(folder)
    assert (model.config.order, model.params.encoder[0].w_x.shape) == ("permuted", (1, 12))
    assert main(["evaluate", str(folder)]) == 0
    (accuracy,) = re.findall(r"Testing Accuracy: .*", capsys.readouterr().out)
    assert accuracy in out


def test_the_page_follows_the_order(run):
    folder, _ = run
    reader = make_reader(rnn.load_run(folder), folder)
    facts, reading = reader.describe(), reader.read_example(3)
    assert facts["word"] == "pixel"
    assert np.array(facts["when"]).ravel()[permutation(64)].tolist() == list(range(64))
    assert np.shape(reading["answers"]) == (64, 10)
    assert np.shape(reading["passes"][0]["states"]["h"])[0] == 64
    assert np.shape(reading["pixels"]) == np.shape(reading["gradient"]) == (8, 8)


@pytest.mark.parametrize("order", ["rows", "pixels"])
def test_resuming_in_another_order_is_refused(run, capsys, order):
    folder, _ = run
    with pytest.raises(SystemExit) as stop:
        run_train(None, "--resume", "--output-dir", folder, "--order", order)
    assert stop.value.code == 2
    assert f"--order is {order}, but the run in {folder} has permuted" in capsys.readouterr().err


def test_a_step_of_pixels_is_one_pixel(tmp_path):
    config, info = Config(cell="vanilla", hidden_size=3, order="permuted"), DataInfo("digits", "here", (3, 4), 23, 2)
    task: Any = build_task(config, info)
    model = rnn.Model(config, info, 0, 0, task, jax.jit(task.init)(jax.random.key(0)))
    step = jax.jit(jax.export.deserialize(export_step(model)).call)
    state = {"network.encoder.0.h": np.zeros((2, 3), np.float32)}
    for pixels in np.moveaxis(read_in_order(IMAGES, "permuted"), 1, 0):
        state, probabilities = step(state, pixels)
    np.testing.assert_allclose(probabilities, model.predict(IMAGES), atol=1e-5)
    assert "uint8 [N, 1] -> " in describe_export(model, tmp_path / "step", step=True)
    text = describe_export(model, tmp_path / "net", "safetensors")
    assert "xs images / 23, [permuted pixels, N, 1]" in text
