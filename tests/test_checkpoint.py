"""Checkpoints: what is read is what was written, or nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from rnn_jax.app.checkpoint import CheckpointError, Checkpoints, is_sound, restore, steps_in


class State(NamedTuple):
    step: jax.Array
    params: dict
    opt_state: tuple
    key: jax.Array


def make_state(step=0):
    return State(jnp.int32(step), {"w": step + jnp.arange(6.0).reshape(2, 3)}, ((), jnp.ones(2)), jax.random.key(step))


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        assert bool(jnp.all(a == e))


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def make(tmp_path, warnings):
    def make(keep=3):
        return Checkpoints(tmp_path / "checkpoints", keep=keep, warn=warnings.append)

    return make


def test_the_newest_comes_back_bit_for_bit(make):
    with make() as checkpoints:
        assert checkpoints.restore(make_state()) is None
        for step in (50, 100, 2000):
            checkpoints.save(step, make_state(step), score=0.5)
    assert_same(make().restore(make_state()), make_state(2000))


def test_the_newest_and_the_best_are_kept(make):
    with make(keep=2) as checkpoints:
        for step, score in ((1, 0.2), (2, 0.9), (3, 0.5), (4, None), (5, 0.4)):
            checkpoints.save(step, make_state(step), score)
    assert steps_in(checkpoints.folder) == [5, 4, 2]
    with make(keep=2) as checkpoints:  # The best is still known to another process, and one without score is not it.
        for step, score in ((6, None), (7, 0.8), (8, 0.1)):
            checkpoints.save(step, make_state(step), score)
    assert steps_in(checkpoints.folder) == [8, 7, 2]
    with make(keep=2) as checkpoints:
        checkpoints.save(9, make_state(9), 0.95)
    assert steps_in(checkpoints.folder) == [9, 8]


def data_file(checkpoint):
    """The file that holds most of the numbers."""
    return max(checkpoint.glob("default/**/*"), key=lambda path: path.stat().st_size if path.is_file() else 0)


def truncate(checkpoint):
    os.truncate(data_file(checkpoint), data_file(checkpoint).stat().st_size // 2)


def flip_one_bit(checkpoint):
    content = bytearray(data_file(checkpoint).read_bytes())
    content[len(content) // 2] ^= 1
    data_file(checkpoint).write_bytes(content)


def remove_a_file(checkpoint):
    data_file(checkpoint).unlink()


def empty_all_files(checkpoint):
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def remove_everything(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, remove_a_file, empty_all_files, remove_everything])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(make, warnings, damage, capfd):
    with make() as checkpoints:
        for step in (50, 100):
            checkpoints.save(step, make_state(step), score=step)
    damage(checkpoints.folder / "100")
    with make() as checkpoints:
        assert_same(checkpoints.restore(make_state()), make_state(50))
        (warning,) = warnings
        assert warning.startswith("the checkpoint of step 100 is damaged and passed over; it is now ")
        assert Path(warning.split()[-1]).is_dir(), "nothing is destroyed"
        checkpoints.save(100, make_state(100), score=0)
    assert_same(make().restore(make_state()), make_state(100))
    assert capfd.readouterr().err == ""


def test_where_all_are_damaged_there_is_none(make, warnings):
    with make() as checkpoints:
        checkpoints.save(50, make_state(50))
    truncate(checkpoints.folder / "50")
    assert not is_sound(checkpoints.folder / "50")
    with pytest.raises(CheckpointError, match="is damaged"):
        restore(checkpoints.folder / "50", make_state())
    assert make().restore(make_state()) is None
    assert len(warnings) == 1


def test_a_checkpoint_that_was_being_written_is_no_checkpoint(make, warnings):
    with make() as checkpoints:
        checkpoints.save(50, make_state(50))
    half = checkpoints.folder / "100.orbax-checkpoint-tmp"
    shutil.copytree(checkpoints.folder / "50", half)
    truncate(half)
    with make() as checkpoints:
        assert_same(checkpoints.restore(make_state()), make_state(50))
        checkpoints.save(100, make_state(100))
    assert steps_in(checkpoints.folder) == [100, 50]
    assert not warnings


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills copies of one process")
def test_kill_9_while_a_checkpoint_is_removed_leaves_nothing_partial(tmp_path):
    """With RNN_JAX_TEST_KILLS=20 in the environment, at 20 of the moments."""
    program = """
import os, signal, sys
import numpy as np, orbax.checkpoint
from pathlib import Path
from rnn_jax.app.checkpoint import Checkpoints, REMOVED, is_sound, steps_in

def save(folder, die_at):
    count = 0
    def count_removals(event, arguments):
        nonlocal count
        if event in ("os.remove", "os.rmdir", "os.rename"):
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
    with Checkpoints(folder, keep=1, warn=print) as checkpoints:
        checkpoints.save(1, {"w": np.ones(3)})
        checkpoints.wait()
        sys.addaudithook(count_removals)
        for step in (2, 3):
            checkpoints.save(step, {"w": np.full(3, step)})
    (folder / "removals").write_text(str(count))

def child(function, *arguments):
    process = os.fork()
    if process == 0:
        try:
            function(*arguments)
            sys.stdout.flush()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(process, 0)[1]

def check(folder):
    for step in steps_in(folder):
        assert is_sound(folder / str(step)), step
    with Checkpoints(folder, keep=1, warn=print) as checkpoints:  # Warnings would be seen.
        step = steps_in(folder)[0]
        assert checkpoints.restore({"w": np.zeros(3)})["w"][0] == step
        checkpoints.save(9, {"w": np.full(3, 9.0)})
    assert steps_in(folder) == [9] and not (folder / REMOVED).exists()

root, kills = Path(sys.argv[1]), int(sys.argv[2])
assert child(save, root / "whole", None) == 0
removals = int((root / "whole" / "removals").read_text())
for kill in range(kills):
    die_at = 1 + kill * removals // kills
    assert child(save, root / str(kill), die_at) == signal.SIGKILL, die_at
    assert child(check, root / str(kill)) == 0, die_at
print(removals)
"""
    kills = os.environ.get("RNN_JAX_TEST_KILLS", "4")
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-W", "ignore", "-c", program, tmp_path, kills]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert (process.returncode, process.stderr) == (0, "")
    assert re.fullmatch(r"\d+\n", process.stdout), "no warning"
    assert int(process.stdout) > 20


def test_each_checkpoint_is_verified_once(make, monkeypatch):
    with make() as checkpoints:
        for step in (50, 100):
            checkpoints.save(step, make_state(step))
    verified = []
    monkeypatch.setattr("rnn_jax.app.checkpoint.is_sound", lambda path: verified.append(path.name) or True)
    assert_same(make().restore(make_state()), make_state(100))
    assert sorted(verified) == ["100", "50"]


def test_a_part_of_a_state_is_restored_alone(make):
    with make() as checkpoints:
        checkpoints.save(50, make_state(50))
    part = restore(checkpoints.folder / "50", {"params": make_state().params})
    assert_same(part, {"params": make_state(50).params})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the reads that orbax gave up
def test_another_state_s_checkpoint_is_refused(make):
    with make() as checkpoints:
        checkpoints.save(50, make_state(50))
    for template in (make_state()._replace(params={"w": jnp.ones((3, 2))}), make_state()._replace(params={})):
        with pytest.raises(CheckpointError, match=r"^cannot read the checkpoint .*/50: ") as caught:
            checkpoints.restore(template)
        assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(make, monkeypatch):
    with make() as checkpoints:
        checkpoints.save(50, make_state(50))
        checkpoints.wait()

        def refuse(*args, **kwargs):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._manager, "save", refuse)
            expected = r"^cannot write a checkpoint in .*: no space left on the disk; the newest .* is of step 50$"
            with pytest.raises(CheckpointError, match=expected):
                checkpoints.save(100, make_state(100))
    assert_same(make().restore(make_state()), make_state(50))


def test_another_number_of_devices_restores(make):
    with make() as checkpoints:
        checkpoints.save(50, {"w": jnp.arange(6.0).reshape(2, 3), "key": jax.random.key(5)})
    program = f"""
import jax, jax.numpy as jnp, numpy as np
from pathlib import Path
from rnn_jax.app.checkpoint import Checkpoints
mesh = jax.make_mesh((2,), ("data",))
template = jax.device_put({{"w": jnp.zeros((2, 3)), "key": jax.random.key(0)}}, jax.NamedSharding(mesh, jax.P()))
state = Checkpoints(Path({str(checkpoints.folder)!r}), keep=3, warn=print).restore(template)
assert state["w"].sharding == template["w"].sharding and len(state["w"].devices()) == 2
np.testing.assert_array_equal(state["w"], np.arange(6.0).reshape(2, 3))
assert bool(state["key"] == jax.random.key(5)) and len(state["key"].devices()) == 2
"""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=root, check=True, timeout=300)
