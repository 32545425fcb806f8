"""Whatever the shell, the environment and the disk are like: the result, or one line that says why not."""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from helpers import run_train

import rnn_jax as rnn
from rnn_jax.__main__ import main
from rnn_jax.app import program
from rnn_jax.app.devices import check_devices
from rnn_jax.app.files import unfinished, write_bytes
from rnn_jax.app.folder import METRICS
from rnn_jax.app.pictures import save_picture
from rnn_jax.app.run import _help

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--dataset=digits", "--cell=vanilla", "--hidden-size=4", "--recipe=tutorial", "--steps=2", "--seeds=2"]


def shell(line, *argv, **environment):
    """Runs a line of the shell, where "$@" are the arguments: (status, stdout, stderr)."""
    argv = ["bash", "-c", line, "bash", *map(str, argv)]
    env = {**os.environ, "PYTHON": sys.executable, **environment}
    process = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, timeout=300)
    return process.returncode, process.stdout.decode(), process.stderr.decode()


@pytest.mark.parametrize(
    ("argv", "at_once"),
    [
        (["python", "train.py"], True),
        (["python", "-X", "dev", "-m", "rnn_jax", "evaluate", "run"], True),
        (["python", "-m", "cProfile", "train.py"], False),
    ],
)
def test_the_process_ends_at_once_unless_a_profiler_has_started_it(monkeypatch, argv, at_once):
    ended = []

    def end(status):
        ended.append(status)
        raise SystemExit(status)

    monkeypatch.setattr(sys, "orig_argv", argv)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(program, "ignore_signals", lambda: None)
    with pytest.raises(SystemExit) as exit_:
        program.leave(lambda: 3)
    assert exit_.value.code == 3
    assert ended == [3] * at_once


def test_garbage_is_collected_from_the_end_of_the_start_on(monkeypatch, tmp_path, capsys):
    run, picture = tmp_path / "run", tmp_path / "digit.npy"
    np.save(picture, 16 * np.eye(8, dtype=np.uint8))
    frozen = gc.get_freeze_count()
    assert run_train(capsys, *TINY, "--no-pictures", "--output-dir", run)[0] == 0
    assert main(["predict", str(run), str(picture)]) == 0
    assert gc.get_freeze_count() <= frozen, "Only a program may change its process."
    monkeypatch.setattr(program, "_begun", ["rnn_jax"])
    for command in (
        lambda: run_train(capsys, *TINY, "--no-pictures", "--output-dir", tmp_path / "other")[0],
        lambda: main(["predict", str(run), str(picture)]),
    ):
        gc.disable()  # as `begin` does
        try:
            assert command() == 0
            assert gc.isenabled()
        finally:
            gc.enable()


def test_a_process_that_helps_another_collects_garbage(monkeypatch):
    monkeypatch.setattr(program, "_begun", ["train.py"])
    gc.disable()
    try:
        _help(iter(()))
        assert gc.isenabled()
    finally:
        gc.enable()


def test_a_start_collects_no_garbage():
    script = "import gc, rnn_jax.app.program as program\nprogram.begin('train.py')\nprint(gc.isenabled())"
    assert shell('"$PYTHON" -c "$1"', script) == (0, "False\n", "")


def test_a_hostile_environment_changes_no_result(tmp_path, capsys):
    run_train(capsys, *TINY, "--devices=1", "--no-pictures", "--output-dir", tmp_path / "usual")
    hostile = {
        "MPLBACKEND": "module://matplotlib_inline.that_is_missing",
        "PYTHONIOENCODING": "ascii",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_ENABLE_X64": "1",
        "JAX_NO_TRACING": "1",
        "JAX_NO_EXECUTION": "1",
        "JAX_TRANSFER_GUARD": "disallow",
        "JAX_TRANSFER_GUARD_HOST_TO_DEVICE": "disallow_explicit",
    }
    argv = *TINY, "--devices=1", "--output-dir", tmp_path / "run"
    status, out, err = shell('exec "$PYTHON" train.py "$@" 0<&- 2>&-', *argv, **hostile)
    assert (status, err) == (0, "")
    assert " +- " in out.splitlines()[-1]
    assert (tmp_path / "run" / METRICS).read_text() == (tmp_path / "usual" / METRICS).read_text()
    assert (tmp_path / "run" / "worst_mistakes.png").stat().st_size > 10_000

    line = 'exec "$PYTHON" -m rnn_jax evaluate "$@"'
    status, out, err = shell(line, tmp_path / "run", **hostile)
    assert status == 0
    assert out.startswith("Testing Accuracy: ")
    names = "JAX_ENABLE_X64", "JAX_NO_TRACING", "JAX_NO_EXECUTION"
    assert err == "".join(f"rnn_jax: warning: {name} has no effect here\n" for name in names)
    assert shell(f"{line} >/dev/full", tmp_path / "run") == (
        1,
        "",
        "rnn_jax: error: cannot write standard output: No space left on device\n",
    )
    assert shell(f"{line} >&-", tmp_path / "run") == (0, "", "")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("JAX_ENABLE_X64", "perhaps", "cannot start: invalid truth value 'perhaps' for environment 'JAX_ENABLE_X64'"),
        ("XLA_FLAGS", "--nonsense", "XLA_FLAGS has a flag that XLA does not know: --nonsense"),
        ("JAX_PLATFORMS", "abacus", "JAX_PLATFORMS is abacus, but JAX finds no such device here"),
    ],
)
def test_a_variable_that_jax_does_not_understand_is_one_line(tmp_path, variable, value, message):
    line = 'exec "$PYTHON" train.py "$@"'
    result = shell(line, *TINY, "--output-dir", tmp_path / "run", **{variable: value})
    assert result == (2, "", f"train.py: error: {message}\n")
    assert not (tmp_path / "run").exists()


def test_a_backend_that_fails_without_a_message_is_one_line(monkeypatch):
    def fail():
        raise AssertionError

    monkeypatch.setattr("jax.devices", fail)
    with pytest.raises(ValueError, match=r"^JAX_PLATFORMS is \w+, but JAX finds no such device here$"):
        check_devices()


# --- pictures ---


class Folder:
    def __init__(self, path):
        self.path = path


def draw_title():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.suptitle("a title")
    return figure


def test_a_picture_does_not_depend_on_the_user_s_settings(tmp_path):
    settings = {"text.usetex": True, "font.family": "a font that nobody has", "savefig.dpi": 3, "savefig.format": "svg"}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        save_picture(Folder(tmp_path), "usual", draw_title, pytest.fail)  # type: ignore
    with matplotlib.rc_context(settings):  # type: ignore
        save_picture(Folder(tmp_path), "own", draw_title, pytest.fail)  # type: ignore
        assert matplotlib.rcParams["text.usetex"], "the user's settings are what they were"
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "usual.png").read_bytes()


def test_a_picture_that_fails_is_a_warning(tmp_path):
    warnings = []

    def fail():
        raise RuntimeError("no\nglyphs")

    save_picture(Folder(tmp_path), "curve", fail, warnings.append)  # type: ignore
    save_picture(Folder(tmp_path / "nowhere"), "curve", draw_title, warnings.append)  # type: ignore
    assert warnings[0] == "curve.png is not drawn: no glyphs"
    assert warnings[1].startswith("curve.png is not drawn: [Errno 2] No such file or directory: ")
    assert not list(tmp_path.iterdir())


def test_a_run_whose_pictures_fail_reports_and_succeeds(tmp_path, capsys, monkeypatch):
    def fail(*args):
        raise RuntimeError("no LaTeX")

    monkeypatch.setattr("rnn_jax.tasks.plots.make_figure", fail)
    status, out, err = run_train(capsys, *TINY, "--output-dir", tmp_path / "run")
    assert status == 0
    assert out.splitlines()[-1].startswith("Testing Accuracy: ")
    names = "training_curve", "confusion_matrix", "worst_mistakes"
    assert err == "".join(f"train.py: warning: {name}.png is not drawn: no LaTeX\n" for name in names)


# --- files ---


@pytest.mark.parametrize("path", ["\udcff", "z\udcc3\udcbc"])  # b"\xff", and "zü" under LC_ALL=C
def test_a_folder_that_the_locale_cannot_decode_is_one_line(tmp_path, capsys, path):
    status, _, err = run_train(capsys, *TINY, "--output-dir", tmp_path / path)
    assert status == 2
    assert re.fullmatch(r"train\.py: error: .* cannot be read in this locale's .*: set PYTHONUTF8=1, or move it\n", err)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="cannot be read in this locale's"):
        rnn.load_run(tmp_path / path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_bytes(file, b"old")
    (tmp_path / "link").symlink_to(file)
    write_bytes(tmp_path / "link", b"newer")
    assert (tmp_path / "link").is_symlink()
    assert file.read_bytes() == b"newer"
    write = Path.write_bytes

    def fill_the_disk(path, data):
        write(path, data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_bytes(file, b"newest")
    assert caught.value.filename == str(file)
    assert file.read_bytes() == b"newer"
    assert not unfinished(file).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device is Linux's")
def test_a_device_is_written_to_and_not_replaced():
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_bytes(Path("/dev/full"), b"x" * 10)
    assert caught.value.filename == "/dev/full"
    assert Path("/dev/full").is_char_device()
