"""Images read by rows, by pixels, and in a fixed order of the pixels."""

import json
from typing import Any

import jax
import numpy as np
import pytest
from helpers import run_train

import rnn_jax as rnn
from rnn_jax.__main__ import main
from rnn_jax.data import load_dataset
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.image_order import ORDERS, permutation, read_in_order

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


def test_a_task_reads_in_its_order():
    network = rnn.Classifier(rnn.stack(rnn.GRU(3)), 2)
    by_pixels, by_rows = (Classification(network, 1, scale=16, order=order) for order in ("permuted", "rows"))
    params = by_pixels.init(jax.random.key(0))
    expected = by_rows.logits(params, read_in_order(IMAGES, "permuted"))
    np.testing.assert_array_equal(by_pixels.logits(params, IMAGES), expected)
    assert not np.allclose(expected, by_rows.logits(params, read_in_order(IMAGES, "pixels")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on permuted pixels, stopped after 50 of its 60 steps and resumed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    argv = [
        "--dataset=digits",
        "--cell=gru",
        "--hidden-size=4",
        "--batch-size=8",
        "--recipe=tutorial",
        "--order=permuted",
    ]
    assert run_train(None, *argv, "--steps=10", "--output-dir", folder)[0] == 0
    return folder


def test_a_run_keeps_its_order(folder, capsys):
    assert json.loads((folder / "config.json").read_text())["order"] == "permuted"
    status, out, _ = run_train(capsys, "--resume", "--output-dir", folder, "--steps=11", "--no-pictures")
    assert (status, "pixels, read by permuted pixels\n" in out) == (0, True)
    model, digits = rnn.load_run(folder), load_dataset("digits")
    assert (model.step, model.config.order, model.params.encoder[0].w_x.shape) == (11, "permuted", (1, 12))
    accuracy = np.mean(model.predict(digits.test.inputs).argmax(1) == digits.test.targets)
    assert f"Testing Accuracy: {accuracy:.4f}" in out
    assert main(["evaluate", str(folder)]) == 0
    assert f"Testing Accuracy: {accuracy:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "permuted"])
def test_resuming_in_another_order_is_refused(folder, capsys, order):
    with pytest.raises(SystemExit) as stop:
        run_train(None, "--resume", "--output-dir", folder, "--order", order)
    assert stop.value.code == 2
    assert f"--order is {order}, but the run in {folder} has permuted" in capsys.readouterr().err


def test_a_step_of_pixels_is_one_pixel(folder, tmp_path, capsys):
    assert main(["export", str(folder), "--step", "--output", str(tmp_path / "step")]) == 0
    assert "uint8 [N, 1] -> " in capsys.readouterr().out
    step = jax.jit(jax.export.deserialize(bytearray((tmp_path / "step").read_bytes())).call)
    model, images = rnn.load_run(folder), load_dataset("digits").test.inputs[:2]
    state = {name: np.zeros((2, 4), np.float32) for name in ["network.encoder.0.h"]}
    for pixels in np.moveaxis(read_in_order(images, "permuted"), 1, 0):
        state, probabilities = step(state, pixels)
    np.testing.assert_allclose(probabilities, model.predict(images), atol=1e-5)
    assert main(["export", str(folder), "--format", "safetensors", "--output", str(tmp_path / "net")]) == 0
    assert "xs images / 16, [permuted pixels, N, 1]" in capsys.readouterr().out
