"""`train.py` as a user meets it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train
from rnn_jax.reporting import Report, save_history, training_curve

ROOT = Path(__file__).resolve().parents[1]


def run_here(monkeypatch, capsys, *argv):
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, argv)])
    status = train.main()
    return status, *capsys.readouterr()


def test_a_process_trains_reports_and_leaves_its_curve(tmp_path):
    argv = ["--cell", "gru", "--bidirectional", "--dataset", "digits", "--steps", "210", "--hidden-size", "16"]
    command = [sys.executable, "train.py", *argv, "--output-dir", tmp_path / "run"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert "1,099 training, 99 validation and 599 test images of 8x8 pixels" in lines[0]
    assert "2,762 parameters" in lines[1]
    for step, line in zip((1, 200), lines[3:5], strict=True):
        assert re.fullmatch(
            rf"Step {step}, Minibatch Loss= \d+\.\d{{4}}, Training Accuracy= [01]\.\d{{3}} \(digits\)", line
        )
    assert lines[5] == "Optimization Finished!"
    assert lines[6].startswith("210 steps in ")
    accuracy = re.fullmatch(r"Testing Accuracy: ([01]\.\d{4}) \(digits\)", lines[-1])
    assert accuracy, lines[-1]
    assert float(accuracy[1]) > 0.5
    assert not process.stderr, "no progress bar where nobody watches"

    assert (tmp_path / "run" / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert table[0] == "step,loss,accuracy"
    assert [row.split(",")[0] for row in table[1:]] == ["1", "50", "100", "150", "200", "210"]


@pytest.mark.parametrize("output_dir", ["", "below/a/file"])
def test_a_place_for_the_output_must_be_new_and_possible(tmp_path, monkeypatch, capsys, output_dir):
    (tmp_path / "below").write_text("a file")
    status, out, err = run_here(monkeypatch, capsys, "--dataset", "digits", "--output-dir", tmp_path / output_dir)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"train\.py: error: cannot make --output-dir .*: choose a new folder\n", err)


def test_a_mistake_in_the_data_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"not an archive")
    argv = "--dataset", "mnist", "--data-dir", tmp_path, "--output-dir", tmp_path / "run"
    status, out, err = run_here(monkeypatch, capsys, *argv)
    assert (status, out) == (2, "")
    assert err.startswith(f"train.py: error: {tmp_path} holds only a part of mnist")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_one_line(monkeypatch, capsys):
    status, _, err = run_here(monkeypatch, capsys, "--dataset", "digits", "--batch-size", 2000)
    assert status == 2
    assert err == "train.py: error: --batch-size 2000 is larger than the training set, 1099 images\n"


def test_an_interruption_keeps_the_curve_so_far(tmp_path, monkeypatch, capsys):
    def fit_until_interrupted(*args, **kwargs):
        yield next(fit(*args, **kwargs))
        raise KeyboardInterrupt

    fit = train.fit
    monkeypatch.setattr(train, "fit", fit_until_interrupted)
    argv = "--dataset", "digits", "--recipe", "tutorial", "--output-dir", tmp_path / "run"
    status, out, err = run_here(monkeypatch, capsys, *argv)
    assert status == 130
    assert "Step 1," in out
    assert err == "train.py: interrupted\n"
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 2


def test_a_reader_who_leaves_is_no_error():
    command = f"{sys.executable} train.py --dataset digits --recipe tutorial --hidden-size 4 | head -n 1"
    process = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.stdout.startswith("Data: ")
    assert not process.stderr


def test_the_curve_shows_what_it_was_given(tmp_path):
    history = [Report(1, 2.3, 0.125), Report(50, 1.5, 0.5)]
    figure = training_curve(history, "A title")
    loss_axes, accuracy_axes = figure.axes
    assert figure.get_suptitle() == "A title"
    assert np.asarray(loss_axes.lines[0].get_xydata()).tolist() == [[1, 2.3], [50, 1.5]]
    assert np.asarray(accuracy_axes.lines[0].get_xydata()).tolist() == [[1, 12.5], [50, 50]]
    save_history(tmp_path, history, "A title")
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == ["1,2.3,0.125", "50,1.5,0.5"]
