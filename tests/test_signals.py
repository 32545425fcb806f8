"""Ctrl-C and SIGTERM at any moment of any command: one line, and the status that shells expect."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rnn_jax.app.interruption import Interruption, stop_requests, unwinding

ROOT = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("RNN_JAX_TEST_KILLS", "1"))
TRAIN = ["train.py", "--dataset=digits", "--cell=vanilla", "--hidden-size=4", "--steps=100", "--output-dir=RUN"]
COMMANDS = {
    "train": [*TRAIN, "--no-pictures", "--devices=1"],
    "evaluate": ["-m", "rnn_jax", "evaluate", "RUN"],
}
if KILLS > 1:
    COMMANDS["predict"] = ["-m", "rnn_jax", "predict", "RUN", "IMAGES"]
    COMMANDS["export"] = ["-m", "rnn_jax", "export", "RUN"]
STOPPED = r"saving after the current steps; Ctrl-C stops at once\n(SIGINT|SIGTERM): saved step \d+ in .*\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a file of images, and how long a whole command takes here."""
    folder, began = tmp_path_factory.mktemp("runs") / "run", time.monotonic()
    command = [word.replace("RUN", str(folder)) for word in COMMANDS["train"]]
    subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True, timeout=300)
    seconds = time.monotonic() - began
    np.save(folder / "images.npy", 16 * np.eye(8, dtype=np.uint8)[None])
    return folder, seconds


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kills", [KILLS])
def test_a_signal_at_any_moment_is_one_line(run, tmp_path, name, number, kills):
    """With RNN_JAX_TEST_KILLS=40 in the environment, at 40 moments from the first to the last."""
    finished, seconds = run
    program = "train.py" if name == "train" else "rnn_jax"
    for kill in range(kills):
        folder = tmp_path / str(kill) if name == "train" else finished
        command = [word.replace("RUN", str(folder)) for word in COMMANDS[name]]
        command = [word.replace("IMAGES", str(finished / "images.npy")) for word in command]
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # The interpreter itself takes a moment to start, before any line of ours. The signals share the moments.
        time.sleep(0.3 + (kill + (0.25 if number == signal.SIGINT else 0.75)) / kills * seconds)
        process.send_signal(number)
        out, err = process.communicate(timeout=100)
        if process.returncode == 0:
            assert re.search("Accuracy: |^image,predicted|jax.export.deserialize", out), "it had done its work"
            assert err == ""
            continue
        assert process.returncode == 128 + number, err
        assert err == f"{program}: interrupted\n" or re.fullmatch(STOPPED, err), err


def test_a_request_that_nobody_asks_for_is_sent_again(capsys):
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with stop_requests("stopping") as stop_requested:
            signal.raise_signal(signal.SIGTERM)
            while stop_requested() is None:
                time.sleep(0.01)
            assert not received
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [signal.SIGTERM]
    assert capsys.readouterr().err == "stopping\n"


def test_an_interrupted_download_is_an_exception_that_cannot_be_swallowed():
    program = """
import signal, sys, tempfile, time
from rnn_jax.app import interruption
from rnn_jax.app.interruption import Interruption, unwinding
interruption.PATIENCE = 0.3
with unwinding("train.py"):
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(folder, flush=True)
            signal.raise_signal(signal.SIGTERM)
    except BaseException as error:
        assert isinstance(error, Interruption) and error.status == 143
    time.sleep(60)
"""
    command = [sys.executable, "-c", program]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert (process.returncode, process.stderr) == (143, "train.py: interrupted\n")
    assert not Path(process.stdout.strip()).exists()


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with unwinding("train.py"):
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert Interruption(signal.SIGINT).status == 130
