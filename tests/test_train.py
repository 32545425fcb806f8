"""`train.py` as a user meets it."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import run_train

import rnn_jax as rnn
from rnn_jax.app.run import _options_to_run_once

ROOT = Path(__file__).resolve().parents[1]


def test_a_process_trains_reports_and_leaves_its_curve(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")  # as it is for a user
    argv = ["--cell", "gru", "--bidirectional", "--dataset", "digits", "--steps", "210", "--hidden-size", "16"]
    command = [sys.executable, "train.py", *argv, "--output-dir", tmp_path / "run"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert "1,099 training, 99 validation and 599 test images of 8x8 pixels" in lines[0]
    assert "2,762 parameters" in lines[1]
    assert re.search(r"seed 0, on [1-9]\d* x cpu$", lines[2])
    for step, line in zip((1, 200), lines[4:6], strict=True):
        assert re.fullmatch(
            rf"Step {step}, Minibatch Loss= \d+\.\d{{4}}, Training Accuracy= [01]\.\d{{3}} \(digits\)", line
        )
    assert lines[6] == "Optimization Finished!"
    assert lines[7].startswith("210 steps in ")
    accuracy = re.fullmatch(r"Testing Accuracy: ([01]\.\d{4}) \(digits\)", lines[-1])
    assert accuracy, lines[-1]
    assert float(accuracy[1]) > 0.5
    assert not process.stderr, "no progress bar where nobody watches"

    assert lines[3] == f"Output: {tmp_path / 'run'}"
    for picture in ("training_curve", "confusion_matrix", "worst_mistakes"):
        assert (tmp_path / "run" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert table[0] == "step,seed,loss,accuracy,validation_loss,validation_accuracy"
    assert [row.split(",")[0] for row in table[1:]] == ["1", "50", "100", "150", "200", "210"]
    assert [not row.endswith(",,") for row in table[1:]] == [False, True, True, True, True, True]


@pytest.mark.parametrize("cell", [rnn.LSTM(16, initializer="orthogonal"), rnn.LRU(16), rnn.SLSTM(16)], ids=str)
def test_quick_compilation_changes_no_bit_of_the_first_parameters(cell):
    def init(seed):
        return cell.init(jax.random.key(seed), 8)

    usual = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}  # not the suite's
    draws = [jax.jit(init, compiler_options=options)(np.uint32(7)) for options in (usual, _options_to_run_once())]
    jax.tree.map(np.testing.assert_array_equal, *draws)


def test_a_mistake_in_the_data_is_one_line_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"not an archive")
    argv = "--dataset", "mnist", "--data-dir", tmp_path, "--output-dir", tmp_path / "run"
    status, out, err = run_train(capsys, *argv)
    assert (status, out) == (2, "")
    assert err.startswith(f"train.py: error: {tmp_path} holds only a part of mnist")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_one_line(capsys):
    status, _, err = run_train(capsys, "--dataset", "digits", "--batch-size", 2000)
    assert status == 2
    assert err == "train.py: error: --batch-size 2000 is larger than the training set, 1099 images\n"


def test_a_reader_who_leaves_is_no_error(tmp_path):
    command = f"{sys.executable} {ROOT / 'train.py'} --dataset digits --recipe tutorial --hidden-size 4 | head -n 1"
    process = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert process.stdout.startswith("Data: ")
    assert not process.stderr
