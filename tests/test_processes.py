"""Several real processes on this machine: they train as one does, and none of them is left waiting."""

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import final_params, run_train

from rnn_jax.app import processes
from rnn_jax.app.checkpoint import steps_in
from rnn_jax.app.devices import choose_devices

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--dataset=digits", "--cell=gru", "--hidden-size=4", "--recipe=tutorial", "--learning-rate=0.1"]
SMALL += ["--checkpoint-every=50", "--no-pictures"]
LOST = (
    "train.py: error: another process of this run has ended, or cannot be reached: what it said tells why; --resume "
    "goes on\n"
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def started(count, *argv, setup="", environment=None):
    """Starts the command `count` times, one device for each process but for what `setup` says."""
    port, running = free_port(), []
    # Coordinates of the other processes come from the environment where a scheduler has started them.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    program = f"""
import sys, train
from rnn_jax.app import processes, program, run as trainer
{setup}
program.leave(train.main)
"""
    for i in range(count):
        place = [f"--coordinator=127.0.0.1:{port}", f"--process-count={count}", f"--process-id={i}"]
        command = [sys.executable, "-c", program, *map(str, argv), *(place if environment is None else [])]
        env = {**inherited, **{name: value.format(i=i) for name, value in (environment or {}).items()}}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, cwd=ROOT, env=env, **pipes))
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def finish(process, timeout=100):
    """The exit status and what was printed, without the greetings of the library that connects CPUs."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, "".join(line for line in out.splitlines(True) if "[Gloo]" not in line), err


def read_until(process, text):
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"it ended without {text!r}: {process.stderr.read()}")


def test_processes_share_stop_die_and_go_on_as_one_would_have(tmp_path, capsys):
    """Two are asked to stop, four, with the data on the host, go on until one is killed, and one finishes alone."""
    run, argv = tmp_path / "cut", [*SMALL, "--steps=600", "--resume", "--output-dir"]
    assert run_train(capsys, *argv, tmp_path / "whole", "--devices=1")[0] == 0

    slowly = f"""
import time
fit = trainer.fit_until_diverged
def slow(*arguments, **options):
    for hand_out in fit(*arguments, **options):
        time.sleep(0.3)
        yield hand_out
trainer.fit_until_diverged = slow
if "--process-id=0" not in sys.argv:
    sys.argv.append("--output-dir={tmp_path}/elsewhere")  # The others need not see the first one's files.
"""
    with started(2, *argv, run, setup=slowly) as (first, second):
        read_until(first, "Step 1,")
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
        statuses, outs, errs = zip(*map(finish, (first, second)), strict=True)
    assert statuses == (143, 143)
    assert outs[1] == "", "only the first process prints"
    assert errs[1] == "saving after the current steps; Ctrl-C stops at once\n"
    (stopped_at,) = steps_in(run / "checkpoints")
    assert f"SIGTERM: saved step {stopped_at} in {run}/checkpoints: go on with" in errs[0]

    with started(4, *argv, run, "--data-on=host", setup=slowly) as running:
        read_until(running[0], f"Resuming after step {stopped_at} of 600")
        read_until(running[0], "Step 200,")
        running[2].kill()
        killed = time.monotonic()
        del running[2]
        ends = [finish(process) for process in running]
        assert time.monotonic() - killed < 15
    assert [(status, err) for status, _, err in ends] == [(1, LOST)] * 3
    assert 150 <= max(steps_in(run / "checkpoints")) < 600
    assert not (tmp_path / "elsewhere").exists(), "only the first process writes"

    status, out, err = run_train(capsys, "--resume", "--output-dir", run, "--devices=2")
    assert (status, err) == (0, "")
    assert "Resuming after step" in out
    tables = [list(csv.reader((folder / "metrics.csv").open())) for folder in (run, tmp_path / "whole")]
    assert [row[:2] for row in tables[0]] == [row[:2] for row in tables[1]]
    numbers = [np.array([[float(value or "nan") for value in row] for row in table[1:]]) for table in tables]
    np.testing.assert_allclose(numbers[0], numbers[1], atol=1e-4)
    for actual, expected in zip(final_params(run), final_params(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_the_others_end_when_the_first_is_killed(tmp_path):
    """Its death takes the service with it by which processes find each other."""
    with started(2, *SMALL, "--output-dir", tmp_path / "run") as (first, second):
        read_until(first, "Step 1,")
        first.kill()
        assert finish(second, timeout=15) == (1, "", LOST)


def test_the_others_end_when_one_is_silent(tmp_path):
    """Its connections stay open, so that only heartbeats tell."""
    with started(2, *SMALL, "--output-dir", tmp_path / "run", setup="processes.HEARTBEAT_TIMEOUT = 3") as (first, last):
        read_until(first, "Step 1,")
        last.send_signal(signal.SIGSTOP)
        status, _, err = finish(first, timeout=20)
        assert (status, err) == (1, LOST)


def test_slurm_is_found_and_processes_that_differ_are_refused(tmp_path):
    port = 65535 - 2**12 + 1  # JAX takes it from the number of the job.
    job = next(n for n in range(100, 2**12) if is_free(port + n))
    environment = {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": "{i}",
        "SLURM_LOCALID": "{i}",
    }
    differ = "import os; sys.argv += ['--seed', os.environ['SLURM_PROCID']]"
    with started(2, *SMALL, "--output-dir", tmp_path / "run", setup=differ, environment=environment) as running:
        ends = [finish(process) for process in running]
    message = "the processes are not about to train the same: start all with the same flags, on the same data"
    # Who is slower to say so may hear first that the other has ended.
    assert (2, "", f"train.py: error: {message}\n") in ends
    assert set(ends) <= {(2, "", f"train.py: error: {message}\n"), (1, "", LOST)}
    assert not (tmp_path / "run").exists()


def is_free(port):
    with socket.socket() as listener:
        return listener.connect_ex(("127.0.0.1", port)) != 0


def test_nobody_waits_forever_for_those_who_do_not_come(tmp_path):
    argv = [f"--coordinator=127.0.0.1:{free_port()}", "--process-count=2", "--process-id=0"]
    with started(1, *argv, setup="processes.CONNECT_TIMEOUT = 2", environment={}) as (first,):
        status, out, err = finish(first)
    assert (status, out) == (1, "")
    assert err == (
        f"train.py: error: not all processes have met at {argv[0].replace('=', ' ')} within 2 s: start all with the "
        "same one\n"
    )


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = listener.getsockname()[1]
        argv = [f"--coordinator=127.0.0.1:{port}", "--process-count=2", "--process-id=0"]
        with started(1, *argv, environment={}) as (first,):
            status, out, err = finish(first)
    assert (status, out) == (2, "")
    assert err == f"train.py: error: cannot listen at --coordinator 127.0.0.1:{port}: choose another port\n"


def test_a_lone_process_asks_nobody(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("it would wait for others")

    monkeypatch.setattr("jax.distributed.initialize", refuse)
    monkeypatch.setenv("SLURM_NTASKS", "4")  # an interactive shell in a job of four tasks
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    with processes.joined(None, None, None):
        assert processes.is_first()


# --- devices of several processes ---


class Device:
    def __init__(self, process_index):
        self.process_index = process_index


@pytest.fixture
def four_processes(monkeypatch):
    devices = [Device(i) for i in (0, 1, 2, 3) for _ in range(3)] + [Device(0)]
    monkeypatch.setattr("jax.devices", lambda: devices)
    monkeypatch.setattr("jax.process_count", lambda: 4)


@pytest.mark.usefixtures("four_processes")
@pytest.mark.parametrize(("count", "batch_size", "chosen"), [(None, 24, 12), (None, 8, 8), (None, 20, 4), (4, 24, 4)])
def test_as_many_devices_of_every_process(count, batch_size, chosen):
    indices = [device.process_index for device in choose_devices(count, batch_size)]
    assert indices == sorted(chosen // 4 * [0, 1, 2, 3])


@pytest.mark.usefixtures("four_processes")
@pytest.mark.parametrize(
    ("count", "batch_size", "message"),
    [
        (None, 10, "--batch-size 10 cannot be shared equally by 4 processes"),
        (13, 24, "--devices 13 is more than the 12 found"),
        (6, 24, "--devices 6 cannot be shared equally by 4 processes"),
        (12, 16, "--batch-size 16 cannot be shared equally by --devices 12"),
    ],
)
def test_devices_that_processes_cannot_share_are_refused(count, batch_size, message):
    with pytest.raises(ValueError, match=message):
        choose_devices(count, batch_size)
