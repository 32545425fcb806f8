"""People's own sequences from a file to predictions: `train.py --data` and what follows it."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import run_train
from sequences import write_ts

import rnn_jax as rnn
from rnn_jax.__main__ import main
from rnn_jax.app.export import export_model

SMALL = "--layers=1", "--no-bidirectional", "--hidden-size=8", "--no-pictures"


def draw_waves(N: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Slow and fast waves of 5 to 9 steps with an offset and a unit of their own, two channels."""
    rng = np.random.default_rng(seed)
    labels = ["slow", "fast wave"] * (N // 2)
    rows = []
    for label in labels:
        phase = rng.uniform(0, 1) + np.arange(rng.integers(5, 10)) * (0.5 if label == "slow" else 2.5)
        rows.append(np.stack([100 + 20 * np.sin(phase), np.cos(phase)], axis=1).round(3))
    return rows, labels


def write_waves(folder: Path) -> Path:
    for part, seed in (("TRAIN", 0), ("TEST", 1)):
        rows, labels = draw_waves(40, seed)
        labels = [label.replace(" ", "-") for label in labels]
        header = "@equalLength false\n@classLabel true slow fast-wave\n"
        write_ts(folder / f"waves_{part}.ts", rows, labels, header)
    return folder / "waves_TRAIN.ts"


def write_sales(folder: Path, months: int = 96) -> Path:
    lines = [f"{1950 + m // 12}-{m % 12 + 1:02},{100 + 2 * m + 10 * ((5 * m) % 12)}" for m in range(months)]
    (folder / "sales.csv").write_text("Month,Sold\n" + "\n".join(lines) + "\n")
    return folder / "sales.csv"


def train(folder: Path, *argv) -> Path:
    status, _, err = run_train(None, *argv, "--output-dir", folder)
    assert status == 0, err
    return folder


@pytest.fixture(scope="module", autouse=True)
def standard_promotion():
    """optax's cosine schedule divides whole numbers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """A classifier of waves: its run, and its training file."""
    folder = tmp_path_factory.mktemp("waves")
    file = write_waves(folder)
    return train(folder / "run", "--data", file, *SMALL, "--steps=60", "--checkpoint-every=50"), file


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    """A forecaster of sales: its run, and its table."""
    folder = tmp_path_factory.mktemp("sales")
    file = write_sales(folder)
    return train(folder / "run", "--data", file, *SMALL, "--horizon=6", "--steps=50"), file


def call(capsys, *argv) -> tuple[int, str, str]:
    status = main([str(argument) for argument in argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_file_is_classified_and_reported_beside_its_baseline(tmp_path, capsys):
    file = write_waves(tmp_path)
    argv = "--data", file, "--layers=1", "--hidden-size=8", "--steps=60", "--output-dir", tmp_path / "run"
    status, out, err = run_train(capsys, *argv)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "Data: 40 training, 40 test sequences, 2 channels, 5 to 9 steps, 2 classes; 4 of the training sequences "
        "are for validation"
    )
    assert lines[1] == f"Files: {file}, tested on {tmp_path / 'waves_TEST.ts'}"
    assert "Model: 1 x GRU(hidden_size=8" in lines[2]
    assert re.search(r"Testing the checkpoint of step \d+, the best on the validation data", out)
    assert "Baseline, always the most frequent class, slow: Accuracy 0.5000, Balanced Accuracy 0.5000" in out
    found = dict(re.findall(r"^Testing (.+): ([\d.]+) \(waves\)$", out, re.MULTILINE))
    assert list(found) == ["Accuracy", "Balanced Accuracy", "Macro F1"]
    assert float(found["Accuracy"]) > 0.8
    assert "does not beat" not in out
    for picture in ("training_curve", "confusion_matrix", "worst_mistakes"):
        assert (tmp_path / "run" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_predictions_are_a_table_with_the_names_of_the_classes(waves, tmp_path, capsys):
    run, _ = waves
    rows, labels = draw_waves(10, seed=2)
    file = write_ts(tmp_path / "new.ts", rows, labels)
    file.write_text(re.sub(":[a-z ]+\n", "\n", file.read_text()).replace("true slow fast wave", "false"))
    status, out, err = call(capsys, "predict", run, file)
    assert (status, err) == (0, "")
    header, *table = csv.reader(io.StringIO(out))
    assert header == ["sequence", "predicted class", "slow", "fast-wave"]
    assert [row[0] for row in table] == [str(i) for i in range(1, 11)]
    found = rnn.load_run(run).predict(rows)
    np.testing.assert_allclose(np.array([row[2:] for row in table], float), found, atol=1e-6)
    assert [row[1] for row in table] == [["slow", "fast-wave"][i] for i in found.argmax(1)]
    alone = rnn.load_run(run).predict(rows[3:4])
    np.testing.assert_allclose(alone[0], found[3], atol=1e-6)


def test_evaluate_repeats_what_the_run_has_reported(waves, capsys):
    run, _file = waves
    status, out, err = call(capsys, "evaluate", run)
    assert (status, err) == (0, "")
    _, again, _ = run_train(capsys, "--resume", "--output-dir", run)
    testing = [line for line in again.splitlines() if line.startswith(("Testing A", "Testing B", "Testing M"))]
    assert [line for line in out.splitlines() if line.startswith("Testing")] == testing
    assert call(capsys, "evaluate", run, "--split", "train")[1].count("Training ") == 3


def test_evaluate_refuses_a_file_that_has_changed(sales, capsys):
    run, file = sales
    before = file.read_text()
    try:
        file.write_text(before.replace("1950-02,1", "1950-02,9"))
        status, out, err = call(capsys, "evaluate", run)
    finally:
        file.write_text(before)
    assert (status, out) == (2, "")
    assert re.search(r"sales\.csv is other data than those of the run in .*: bring those back, or train on these", err)


def test_an_exported_classifier_takes_the_units_of_the_data(waves, capsys):
    run, _ = waves
    status, out, _ = call(capsys, "export", run)
    assert status == 0
    assert "float32 [N, 9, 2], int32 lengths [N] -> probabilities [N, 2] of slow, fast-wave, for cpu, cuda, tpu" in out
    exported = jax.export.deserialize(bytearray((run / "model.stablehlo").read_bytes()))
    rows, _ = draw_waves(6, seed=3)
    padded = np.zeros((6, 9, 2), np.float32)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    lengths = np.array([len(row) for row in rows], np.int32)
    np.testing.assert_allclose(exported.call(padded, lengths), rnn.load_run(run).predict(rows), atol=1e-5)


def test_a_run_can_be_repeated_from_its_configuration(waves, tmp_path):
    run, file = waves
    config = json.loads((run / "config.json").read_text())
    assert (config["data"], config["bidirectional"], config["cell"]) == (str(file), False, "gru")
    again = train(tmp_path / "again", "--config", run / "config.json")
    for ours, theirs in zip(*(jax.tree.leaves(rnn.load_run(folder).params) for folder in (run, again)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_interrupted_run_goes_on_where_it_was(waves, tmp_path):
    run, _file = waves
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "checkpoints" / "60").rename(tmp_path / "gone")
    train(folder, "--resume")
    for ours, theirs in zip(*(jax.tree.leaves(rnn.load_run(f).params) for f in (run, folder)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_forecast_begins_after_the_tables_end(sales, capsys):
    run, file = sales
    status, out, err = call(capsys, "predict", run, file)
    assert (status, err) == (0, "")
    header, *table = csv.reader(io.StringIO(out))
    assert header == ["Month", "predicted Sold"]
    assert [row[0] for row in table] == [f"1958-{month:02}" for month in range(1, 7)]
    expected = [100 + 2 * m + 10 * ((5 * m) % 12) for m in range(96, 102)]
    assert np.abs(np.array([row[1] for row in table], float) - expected).max() < 40
    values = np.array([[float(line.split(",")[1])] for line in file.read_text().splitlines()[1:]])
    found = rnn.load_run(run).predict([values])
    np.testing.assert_allclose(found[0], [float(row[1]) for row in table], rtol=1e-5)
    exported = jax.export.deserialize(export_model(rnn.load_run(run)))
    np.testing.assert_allclose(exported.call(values[None, -24:].astype(np.float32)), found, rtol=1e-4)


def test_a_forecast_is_reported_beside_the_values_before(sales, capsys):
    run, _ = sales
    _, out, _ = call(capsys, "evaluate", run)
    assert re.search(r"^Baseline, the last value: MAE [\d.]+, MASE [\d.]+ \(sales\)$", out, re.MULTILINE)
    before = re.search(r"^Baseline, the value 12 steps before: MAE ([\d.]+), MASE ([\d.]+) ", out, re.MULTILINE)
    assert before
    assert float(before[1]) == pytest.approx(24)
    assert float(before[2]) == pytest.approx(1)
    assert re.search(r"^Testing MAE: [\d.]+ \(sales\)\nTesting MASE: [\d.]+ \(sales\)$", out, re.MULTILINE)


def test_a_model_that_does_not_beat_its_baseline_is_said_not_to(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(4, 1)).round(2) for _ in range(40)]
    file = write_ts(tmp_path / "noise.ts", rows, ["a", "a", "a", "a", "b"] * 8)
    _, out, _ = run_train(
        capsys, "--data", file, *SMALL, "--steps=1", "--learning-rate=0.001", "--output-dir", tmp_path / "run"
    )
    assert "The model does not beat its baseline: Accuracy 0.8" in out or "Testing Accuracy: 0.9" not in out
    assert "The model does not beat its baseline" in out


def write_long(path: Path, label) -> Path:
    lines = ["trial,time,x,y"]
    for trial in range(20):
        for t in range(4 + trial % 3):
            x = round(float(np.sin(trial + t)), 3)
            lines.append(f"{trial},{t},{x},{label(trial, x)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_step_is_labelled_where_the_target_changes(tmp_path, capsys):
    file = write_long(tmp_path / "steps.csv", lambda trial, x: "high" if x > 0 else "low")
    argv = "--data", file, "--sequence-column", "trial", "--target", "y", *SMALL, "--steps=100"
    status, out, err = run_train(capsys, *argv, "--output-dir", tmp_path / "run")
    assert status == 0, err
    assert "'time' is the time" in err
    assert "2 classes at each step" in out
    accuracy = re.search(r"^Testing Accuracy: ([\d.]+)", out, re.MULTILINE)
    assert accuracy
    assert float(accuracy[1]) > 0.85
    _, out, _ = call(capsys, "predict", tmp_path / "run", file)
    header, *rows = csv.reader(io.StringIO(out))
    assert header == ["trial", "time", "predicted y", "high", "low"]
    assert len(rows) == sum(4 + trial % 3 for trial in range(20))


@pytest.mark.parametrize("per_step", [False, True])
def test_numbers_are_regressed_in_their_units(tmp_path, capsys, per_step):
    file = write_long(tmp_path / "numbers.csv", lambda trial, x: 1000 + (100 * x if per_step else trial + 0.5))
    argv = "--data", file, "--sequence-column", "trial", "--target", "y", "--layers=1", "--hidden-size=8", "--steps=50"
    status, out, err = run_train(capsys, *argv, "--seeds=2", "--output-dir", tmp_path / "run")
    assert status == 0, err
    assert re.search(r"Baseline, always the mean, 10\d\d: R2 -?[\d.]+, MAE [\d.]+, RMSE [\d.]+ \(numbers\)", out)
    assert re.search(r"^Testing R2: -?[\d.]+ ± [\d.]+ \(mean and standard deviation of 2 seeds", out, re.MULTILINE)
    _, out, _ = call(capsys, "predict", tmp_path / "run", file)
    assert float(out.splitlines()[1].split(",")[-1]) == pytest.approx(1000, abs=200)
    assert (tmp_path / "run" / ("worst_mistakes.png")).exists()


def test_missing_values_are_filled_as_in_training(tmp_path, capsys):
    file = write_waves(tmp_path)
    file.write_text(file.read_text().replace("@data\n", "@data\n?,2,?,4,5:1,2,?,4,5:slow\n"))
    argv = "--data", file, *SMALL, "--steps=1", "--output-dir", tmp_path / "run"
    status, _, err = run_train(capsys, *argv)
    assert status == 2
    assert err.endswith("complete the data, or carry the last value forward with --missing fill\n")
    assert "line 4: 3 values are missing, the first of 'channel 1' at step 1" in err
    assert not (tmp_path / "run").exists()
    assert run_train(capsys, *argv, "--missing", "fill")[0] == 0
    model = rnn.load_run(tmp_path / "run")
    assert np.isfinite(model.predict([np.array([[np.nan, 1.0], [2.0, np.nan]])])).all()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--data", "nothing.ts"], r"cannot read .*nothing\.ts: No such file or directory"),
        (["--data", "FILE", "--task", "sort"], "--task must be one of classify, regress, forecast"),
        (["--data", "FILE", "--dataset", "digits"], "--data stands for itself: leave --dataset and --recipe out"),
        (["--data", "FILE", "--horizon", "3"], "horizon is for --task forecast, leave it out"),
        (["--data", "FILE", "--target", "x"], "is no table with named columns: leave target out"),
        (["--data", "FILE", "--batch-size", "100"], "--batch-size 100 is larger than the training set, 36 sequences"),
        (["--data", "FILE", "--test", "OTHER"], r"line 3: 1 channel, but the training data has 2"),
        (["--horizon", "3"], "--horizon is about your own data: name it with --data FILE"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, capsys, argv, message):
    other = write_ts(tmp_path / "other.ts", [np.ones((2, 1))], ["slow"])
    other.write_text("@classLabel false\n" + other.read_text().split("\n", 2)[2].replace(":slow", ""))
    names = {"FILE": write_waves(tmp_path), "OTHER": other}
    words = [str(names.get(word, word)) for word in argv]
    try:
        status, out, err = run_train(capsys, *words, "--output-dir", tmp_path / "run")
    except SystemExit as stop:
        status, (out, err) = stop.code, capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)
    assert not (tmp_path / "run").exists()


def test_predictions_from_other_data_are_refused(waves, sales, tmp_path, capsys):
    run, _file = waves
    table = sales[1]
    assert "1 channel, but the training data has 2" in call(capsys, "predict", run, table)[2]
    (tmp_path / "short.csv").write_text("Month,Sold\n1950-01,1\n1950-02,2\n")
    message = "2 steps are too few to forecast from, at least 24 are needed"
    assert message in call(capsys, "predict", sales[0], tmp_path / "short.csv")[2]
    with pytest.raises(ValueError, match=r"sequence 0 must have the shape \[T, 2\], not \[3, 4\]"):
        rnn.load_run(run).predict([np.zeros((3, 4))])
    with pytest.raises(ValueError, match="sequence 0 has missing values"):
        rnn.load_run(run).predict([np.full((3, 2), np.nan)])
