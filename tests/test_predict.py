"""A trained run, from Python, from the command line, and where there is nothing but JAX."""

import csv
import io
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import assert_close, run_train
from PIL import Image

import rnn_jax as rnn
from rnn_jax.__main__ import main
from rnn_jax.app.build import build_task
from rnn_jax.app.config import Config
from rnn_jax.app.export import export_model
from rnn_jax.app.metrics import read_metrics
from rnn_jax.data import DataInfo, load_dataset

ARGV = [
    "--dataset=digits",
    "--cell=gru",
    "--hidden-size=8",
    "--recipe=tutorial",
    "--learning-rate=0.3",
    "--batch-size=16",
]


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    argv = [*ARGV, "--steps", "150", "--checkpoint-every", "50", "--output-dir", folder]
    assert run_train(None, *argv)[0] == 0
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_train(None, *ARGV, "--steps", "50", "--seeds", "2", "--seed", "4", "--output-dir", folder)
    return folder


def test_three_lines_of_python(folder, digits):
    model = rnn.load_run(folder)
    probabilities = model.predict(digits.test.inputs)
    assert probabilities.shape == (599, 10)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    accuracy = np.mean(probabilities.argmax(1) == digits.test.targets)
    assert accuracy > 0.5
    assert model.evaluate(digits.test).accuracy == pytest.approx(accuracy)
    assert model.step == 150


def test_one_image_or_fractions_for_whole_pixels_change_nothing(folder, digits):
    model, images = rnn.load_run(folder), digits.test.inputs[:3]
    expected = model.predict(images)
    assert_close(model.predict(images[1]), expected[1])
    assert_close(model.predict(images.astype(int)), expected)
    assert_close(model.predict(images / 16), expected)
    assert model.predict(images[:0]).shape == (0, 10)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 28, 28), np.uint8), r"images must have the shape \[8, 8\] or \[N, 8, 8\], not \[3, 28, 28\]"),
        (np.zeros((1, 1, 8, 8), np.uint8), r"not \[1, 1, 8, 8\]"),
        (np.full((8, 8), 17), "pixels must be whole numbers from 0 to 16 or fractions from 0 to 1"),
        (np.full((8, 8), -1), "pixels must be whole numbers from 0 to 16"),
        (np.full((8, 8), 1.5), "these are float64 from 1.5 to 1.5"),
        (np.full((8, 8), np.nan), "these are float64 from nan to nan"),
        (np.full((8, 8), "a"), "images must be numbers"),
    ],
)
def test_what_is_no_image_is_refused(folder, images, message):
    with pytest.raises(ValueError, match=message):
        rnn.load_run(folder).predict(images)


def test_the_best_checkpoint_by_validation_accuracy(folder):
    looks = [report for report in read_metrics(folder / "metrics.csv") if report.values["validation_loss"] is not None]
    best = max(looks, key=lambda report: (report.values["validation_accuracy"], report.step))
    model = rnn.load_run(folder, checkpoint="best")
    assert model.step == best.step
    validation = model.evaluate(load_dataset("digits").validation)
    assert validation.accuracy == pytest.approx(best.values["validation_accuracy"])
    assert validation.loss == pytest.approx(best.values["validation_loss"])


def test_each_seed_of_a_sweep_can_be_loaded(sweep, digits):
    first, second = rnn.load_run(sweep), rnn.load_run(sweep, seed=5)
    assert (first.seed, second.seed) == (4, 5)
    row = read_metrics(sweep / "metrics.csv")[-1]
    assert row.seed == 5
    assert second.evaluate(digits.validation).loss == pytest.approx(row.values["validation_loss"], rel=1e-5)
    assert not np.array_equal(first.params.w, second.params.w)
    with pytest.raises(ValueError, match="has no seed 6, but 2 from 4"):
        rnn.load_run(sweep, seed=6)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not the folder of a run: cannot read"):
        rnn.load_run(tmp_path)


# --- the command ---


def call(capsys, *argv):
    status = main([str(argument) for argument in argv])
    return status, *capsys.readouterr()


def test_evaluate_names_the_split_and_the_data(folder, digits, capsys):
    status, out, err = call(capsys, "evaluate", folder, "--split", "validation")
    expected = rnn.load_run(folder).evaluate(digits.validation)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"Validation Accuracy: {expected.accuracy:.4f} (digits)",
        f"Loss: {expected.loss:.4f} nats, on 99 images of digits, after step 150",
    ]
    _, out, _ = call(capsys, "evaluate", folder)
    assert out.startswith("Testing Accuracy: ")


def test_predict_reads_arrays_and_pictures(folder, digits, tmp_path, capsys):
    images = digits.test.inputs[:2]
    np.save(tmp_path / "two.npy", images)
    grey = (images[0] * 15.9375).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "digit.png")
    Image.fromarray(images[0].astype(np.uint16) * 4095).save(tmp_path / "sixteen.png")
    status, out, err = call(capsys, "predict", folder, *(tmp_path / n for n in ("two.npy", "digit.png", "sixteen.png")))
    assert (status, err) == (0, "")
    header, *rows = csv.reader(io.StringIO(out))
    assert header == ["image", "predicted", *map(str, range(10))]
    expected = rnn.load_run(folder).predict(images)[[0, 1, 0, 0]]
    names = [f"{tmp_path}/two.npy[0]", f"{tmp_path}/two.npy[1]", f"{tmp_path}/digit.png", f"{tmp_path}/sixteen.png"]
    assert [row[0] for row in rows] == names
    assert [int(row[1]) for row in rows] == expected.argmax(1).tolist()
    np.testing.assert_allclose(np.array([row[2:] for row in rows], float), expected, atol=0.02)


def test_a_picture_of_another_kind_is_fitted_and_says_so(folder, digits, tmp_path, capsys):
    grey = 255 - np.kron(digits.test.inputs[0] * 15.9375, np.ones((4, 4))).astype(np.uint8)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "paper.png")
    _, out, err = call(capsys, "predict", folder, tmp_path / "paper.png", "--as-is")
    assert "32x32 pixels, scaled to 8x8" in err
    assert "its border is bright; digits must be white on black: try --invert" in err
    _, out, err = call(capsys, "predict", folder, tmp_path / "paper.png", "--invert", "--as-is")
    probabilities = [float(p) for p in out.splitlines()[1].split(",")[2:]]
    np.testing.assert_allclose(probabilities, rnn.load_run(folder).predict(digits.test.inputs[0]), atol=0.02)


def test_an_array_may_be_inverted(folder, digits, tmp_path, capsys):
    np.save(tmp_path / "white.npy", digits.test.inputs[:2])
    np.save(tmp_path / "dark.npy", 16 - digits.test.inputs[:2])
    white = call(capsys, "predict", folder, tmp_path / "white.npy")[1]
    status, dark, err = call(capsys, "predict", folder, tmp_path / "dark.npy", "--invert")
    assert (status, dark.replace("dark", "white"), err) == (0, white, "")


def test_no_row_is_printed_if_a_later_file_is_wrong(folder, digits, tmp_path, capsys):
    np.save(tmp_path / "good.npy", digits.test.inputs[:2])
    np.save(tmp_path / "bad.npy", digits.test.inputs[:2] + 1)
    status, out, err = call(capsys, "predict", folder, tmp_path / "good.npy", tmp_path / "bad.npy")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"{tmp_path / 'bad.npy'} cannot be read: pixels must be whole numbers from 0 to 16" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["evaluate", "nowhere"], "rnn_jax: error: nowhere is not the folder of a run"),
        (["predict", "RUN", "nothing.png"], "rnn_jax: error: nothing.png: No such file or directory"),
        (["predict", "RUN", "RUN/config.json"], "is neither a picture nor a .npy array"),
        (["predict", "RUN", "RUN/bad.npy"], "bad.npy is not an array"),
        (["predict", "RUN", "RUN/other.npy"], "expected images [N, 8, 8], got an array of shape (3, 28, 28)"),
        (["export", "RUN", "--output", "RUN/nowhere/x"], "No such file or directory"),
        (["evaluate", "RUN", "--seed", "7"], "has no seed 7"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(folder, capsys, argv, message):
    (folder / "bad.npy").write_bytes(b"nonsense")
    np.save(folder / "other.npy", np.zeros((3, 28, 28), np.uint8))
    status, out, err = call(capsys, *(word.replace("RUN", str(folder)) for word in argv))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_flags_get_the_nearest_guess(capsys):
    for argv, message in (
        (["evaluate", "run", "--splt", "test"], "unknown argument --splt, did you mean --split?"),
        (["evalute", "run"], "invalid choice: 'evalute'"),
        ([], "the following arguments are required"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        err = capsys.readouterr().err
        assert (stop.value.code, err.count("\n")) == (2, 1)
        assert message in err


def test_an_exported_classifier_needs_nothing_but_jax(folder, digits, tmp_path, capsys):
    status, out, _ = call(capsys, "export", folder)
    assert status == 0
    assert re.search(r"uint8 \[N, 8, 8\] -> probabilities \[N, 10\], for cpu, cuda, tpu", out)
    np.save(tmp_path / "images.npy", digits.test.inputs[:7])
    np.save(tmp_path / "expected.npy", rnn.load_run(folder).predict(digits.test.inputs[:7]))
    program = """
import sys
import jax, jax.export, numpy as np
exported = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
assert exported.platforms == ("cpu", "cuda", "tpu"), exported.platforms
images, expected = np.load("images.npy"), np.load("expected.npy")
for n in (1, 7):
    np.testing.assert_allclose(exported.call(images[:n]), expected[:n], atol=1e-6)
assert not [name for name in sys.modules if name.split(".")[0] in ("rnn_jax", "optax", "orbax")]
"""
    command = [sys.executable, "-c", program, folder / "classifier.stablehlo"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)


@pytest.mark.parametrize("cell", ["vanilla", "lstm", "lstm-peephole", "lstm-layernorm"])
def test_every_cell_both_ways_is_exported(cell, digits):
    config = Config(cell=cell, bidirectional=True, layers=2, hidden_size=4)
    info = DataInfo("digits", "here", (8, 8), 16, 10)
    task = build_task(config, info)
    model = rnn.Model(config, info, 0, 0, task, task.init(jax.random.key(0)))
    exported = jax.export.deserialize(export_model(model))
    images = digits.test.inputs[:3]
    assert_close(exported.call(images), model.predict(images))
