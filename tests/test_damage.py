"""Whatever has happened to the files of a run: one line, or the right result."""

import contextlib
import io
import itertools
import os
import random
import shutil

import jax
import numpy as np
import pytest
from helpers import final_params, run_train

import rnn_jax as rnn
from rnn_jax.app import run as trainer

TRIES = 6 * int(os.environ.get("RNN_JAX_TEST_KILLS", "2"))
ARGV = ["--dataset=digits", "--cell=gru", "--hidden-size=4", "--recipe=tutorial", "--learning-rate=0.1", "--devices=1"]
ARGV += ["--no-pictures", "--checkpoint-every=50"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run, and others whose files take the places of its own."""
    root = tmp_path_factory.mktemp("runs")
    for name, argv in (("run", ["--steps=100"]), ("seed", ["--steps=100", "--seed=1"]), ("layers", ["--layers=2"])):
        assert run_train(None, *ARGV, "--steps=50", *argv, "--output-dir", root / name)[0] == 0
    return root


def cut(file, root, name):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file, root, name):
    file.write_bytes(b"")


def remove(file, root, name):
    file.unlink()


def fill_with_noise(file, root, name):
    file.write_bytes(np.random.default_rng(0).bytes(max(10, file.stat().st_size)))


def replace_by_json_of_something_else(file, root, name):
    file.write_text('{"step": [[]], "name": null}')


def swap_with_another_seed_s(file, root, name):
    if (root / "seed" / name).exists():
        shutil.copy(root / "seed" / name, file)


def swap_with_another_network_s(file, root, name):
    if (root / "layers" / name).exists():
        shutil.copy(root / "layers" / name, file)


DAMAGE = [
    cut,
    empty,
    remove,
    fill_with_noise,
    replace_by_json_of_something_else,
    swap_with_another_seed_s,
    swap_with_another_network_s,
]


@pytest.mark.parametrize("tries", [TRIES])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the reads that orbax gave up
def test_a_damaged_file_is_one_line_or_changes_no_result(runs, tmp_path, monkeypatch, tries):
    """With RNN_JAX_TEST_KILLS=100 in the environment, every file is damaged in every way."""
    monkeypatch.setattr(trainer, "_test", lambda *_: None)  # It would compile each time.
    sound = {tuple(map(np.ndarray.tobytes, final_params(folder))) for folder in checkpoints(runs, tmp_path / "each")}
    names = sorted(str(path.relative_to(runs / "run")) for path in (runs / "run").rglob("*") if path.is_file())
    files = [name for name in names if not name.startswith(("checkpoints/50", "lock"))]
    # Those within a checkpoint have a checksum each, and two of them will do.
    within = [name for name in files if name.startswith("checkpoints/100/default")]
    cases = [*itertools.product(sorted(set(files) - set(within)), DAMAGE), *itertools.product(within[:2], DAMAGE)]
    assert len(cases) > 50
    for i, (name, damage) in enumerate(random.Random(0).sample(cases, min(tries, len(cases)))):
        folder = tmp_path / str(i)
        shutil.copytree(runs / "run", folder)
        damage(folder / name, runs, name)
        err = io.StringIO()
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            for checkpoint in ("newest", "best"):
                with contextlib.suppress(ValueError):  # Its message is that of the command.
                    params = jax.tree.leaves(rnn.load_run(folder, checkpoint=checkpoint).params)  # type: ignore
                    assert tuple(np.asarray(leaf).tobytes() for leaf in params) in sound, name
            with contextlib.suppress(SystemExit):
                run_train(None, "--resume", "--output-dir", folder)
        lines = err.getvalue().splitlines()
        assert all("damaged and passed over" in line or ": error: " in line for line in lines), (name, lines)
        assert sum(": error: " in line for line in lines) <= 1


def checkpoints(runs, root):
    """The run as it was after each of its checkpoints."""
    for kept, gone in ((50, 100), (100, 50)):
        shutil.copytree(runs / "run", root / str(kept))
        shutil.rmtree(root / str(kept) / "checkpoints" / str(gone))
        yield root / str(kept)


def test_a_folder_of_an_older_version_is_used(runs, tmp_path, capsys):
    """It has no lock, and knows no digest of its data."""
    shutil.copytree(runs / "run", tmp_path / "old")
    (tmp_path / "old" / "lock").unlink()
    facts = tmp_path / "old" / "data.json"
    facts.write_text('{"name": "digits", "source": "here", "image_shape": [8, 8], "max_pixel": 16, "num_classes": 10}')
    assert rnn.load_run(tmp_path / "old").step == 100
    status, out, err = run_train(capsys, "--resume", "--output-dir", tmp_path / "old")
    assert (status, err) == (0, "")
    assert "Resuming after step 100 of 100" in out
