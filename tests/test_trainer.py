"""A run that is left alone: interrupted, killed, diverging, out of space, and still what it would have been."""

import contextlib
import csv
import functools
import importlib.util
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close, final_params, run_train

import rnn_jax as rnn
from rnn_jax.app import run as trainer
from rnn_jax.app.checkpoint import steps_in
from rnn_jax.app.config import Config
from rnn_jax.app.listeners import event_writer, steps_with_events
from rnn_jax.app.metrics import read_metrics
from rnn_jax.app.run import Diverged, fit_until_diverged
from rnn_jax.data import Examples
from rnn_jax.readout import Classifier
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.task import Report
from rnn_jax.training.fit import fit
from rnn_jax.training.step import init_state, init_states

ROOT = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("RNN_JAX_TEST_KILLS", "2"))
SMALL = ["--dataset=digits", "--cell=gru", "--hidden-size=4", "--recipe=tutorial", "--learning-rate=0.1"]
SMALL += ["--checkpoint-every=50", "--devices=1"]


def train_digits(capsys, folder, *argv, pictures=False):
    """Trains briefly; drawing would take half of the time."""
    return run_train(capsys, *SMALL, "--output-dir", folder, *argv, *([] if pictures else ["--no-pictures"]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Lays a finished run of so many steps into a folder: a copy, as the run itself is trained but once."""
    runs = tmp_path_factory.mktemp("trained")

    def trained(folder, steps):
        if not (runs / str(steps)).exists():
            with contextlib.redirect_stdout(io.StringIO()):
                assert train_digits(None, runs / str(steps), f"--steps={steps}")[0] == 0
        shutil.copytree(runs / str(steps), folder)

    return trained


def assert_same_run(actual, expected):
    """Two folders hold the same metrics and the same final parameters, bit for bit."""
    assert (actual / "metrics.csv").read_text() == (expected / "metrics.csv").read_text()
    for a, e in zip(final_params(actual), final_params(expected), strict=True):
        np.testing.assert_array_equal(a, e)


# --- interruption and resumption ---


def test_a_run_that_was_asked_to_stop_goes_on_as_if_it_had_not(tmp_path, capsys, monkeypatch):
    steps = "--steps=420", "--checkpoint-every=100"
    assert train_digits(capsys, tmp_path / "whole", *steps)[0] == 0
    for which, status, stop_at in ((signal.SIGINT, 130, 150), (signal.SIGTERM, 143, 300)):

        def fit_and_be_stopped(*args, which=which, stop_at=stop_at, **options):
            for state, metrics in fit(*args, **options):
                if int(state.step) == stop_at:
                    os.kill(os.getpid(), which)
                    time.sleep(0.2)  # until the thread that listens has heard
                yield state, metrics

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "fit", fit_and_be_stopped)
            stopped, out, err = train_digits(capsys, tmp_path / "cut", *steps, "--resume", pictures=True)
        assert stopped == status
        assert "Optimization Finished!" not in out
        assert err.splitlines() == [
            "saving after the current steps; Ctrl-C stops at once",
            f"{which.name}: saved step {stop_at} in {tmp_path}/cut/checkpoints: go on with python train.py --resume "
            f"--output-dir {tmp_path}/cut",
        ]
        assert (tmp_path / "cut" / "training_curve.png").exists()
    resumed, out, err = run_train(capsys, "--resume", "--output-dir", tmp_path / "cut")
    assert (resumed, err) == (0, "")
    assert "Resuming after step 300 of 420\n" in out
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_finished_run_only_tests_again(tmp_path, capsys):
    status, first, _ = train_digits(capsys, tmp_path / "run", "--steps=60", pictures=True)
    metrics = (tmp_path / "run" / "metrics.csv").read_text()
    (tmp_path / "run" / "confusion_matrix.png").unlink()  # as if it had been killed before it was drawn
    status, again, _ = run_train(capsys, "--resume", "--output-dir", tmp_path / "run")
    assert status == 0
    assert again.splitlines()[-1] == first.splitlines()[-1]
    assert (tmp_path / "run" / "metrics.csv").read_text() == metrics
    assert (tmp_path / "run" / "confusion_matrix.png").exists()


def test_a_second_interruption_ends_at_once():
    program = """
import os, signal, time
from rnn_jax.app.interruption import stop_requests
with stop_requests("stopping") as stop_requested:
    assert stop_requested() is None
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    assert stop_requested() == signal.SIGINT
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert (process.returncode, process.stderr) == (130, "stopping\n")


def start(folder, *argv):
    command = [sys.executable, ROOT / "train.py", *SMALL, "--output-dir", folder, *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Waits for the end of a process that `start` began: its status, and what it said."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def last_row(folder):
    """The step of the last row that is whole."""
    lines = (folder / "metrics.csv").read_text().split("\n")[:-1]
    return int(lines[-1].split(",")[0]) if len(lines) > 1 else 0


@pytest.mark.parametrize("kills", [KILLS])
def test_kill_9_at_random_moments_loses_at_most_the_steps_since_the_last_checkpoint(tmp_path, kills):
    """With RNN_JAX_TEST_KILLS=20 in the environment, 20 times."""
    argv = "--steps=2000", "--resume", "--no-pictures"
    status, out, err = finish(start(tmp_path / "whole", *argv))
    assert (status, err) == (0, "")
    training = float(re.search(r"steps in ([\d.]+) s", out)[1])  # type: ignore
    rng, reached = random.Random(0), 0
    for kill in range(kills):
        process = start(tmp_path / "cut", *argv)
        if kill % 3 < 2:  # while it trains; else at any moment, most of which are before that
            for line in process.stdout:  # type: ignore
                if line.startswith("Resuming"):
                    break
            time.sleep(rng.uniform(0, 1.5 * training / kills))
        else:
            time.sleep(rng.uniform(0, 8))
        process.kill()
        assert finish(process)[2] == "", "no warning and no traceback"
        if not (tmp_path / "cut" / "checkpoints").exists():
            continue
        newest = max(steps_in(tmp_path / "cut" / "checkpoints"), default=0)
        assert newest >= reached, "nothing is lost that was saved"
        # The checkpoint of the last row but one is complete, or being written.
        assert newest >= last_row(tmp_path / "cut") - 100
        reached = newest
    status, out, err = finish(start(tmp_path / "cut", *argv))
    assert (status, err) == (0, "")
    assert reached > 0, "it was killed while it trained"
    assert f"Resuming after step {reached} of 2000" in out
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_damaged_newest_checkpoint_costs_a_warning_and_a_few_steps(tmp_path, capsys, trained):
    trained(tmp_path / "whole", 150)
    trained(tmp_path / "cut", 150)
    for path in (tmp_path / "cut" / "checkpoints" / "150").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    status, out, err = run_train(capsys, "--resume", "--output-dir", tmp_path / "cut")
    assert status == 0
    assert "Resuming after step 100 of 150" in out
    assert re.fullmatch(r"train.py: warning: the checkpoint of step 150 is damaged and passed over; .*\n", err)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_data_on_the_host_change_no_bit_and_their_place_is_found_again(tmp_path, capsys, monkeypatch, trained):
    """And so it is where the other images are classified piece by piece."""
    trained(tmp_path / "whole", 150)
    monkeypatch.setattr("rnn_jax.data.examples.PIECE", 50 * (8 * 8 + 4))
    status, out, _ = train_digits(capsys, tmp_path / "cut", "--steps=150", "--data-on=host")
    assert status == 0
    assert ", with the training images on the host\n" in out
    (tmp_path / "cut" / "checkpoints" / "150").rename(tmp_path / "aside")
    status, out, _ = run_train(capsys, "--resume", "--output-dir", tmp_path / "cut")
    assert "Resuming after step 100 of 150" in out
    actual, expected = (read_metrics(tmp_path / name / "metrics.csv") for name in ("cut", "whole"))
    for report, other in zip(actual, expected, strict=True):
        assert report[:2] == other[:2]
        assert [report.values[name] for name in ("loss", "accuracy")] == [other.values[n] for n in ("loss", "accuracy")]
        numbers = (np.array(list(values.values()), float) for values in (report.values, other.values))
        np.testing.assert_allclose(*numbers, rtol=1e-6)
    for a, e in zip(final_params(tmp_path / "cut"), final_params(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(a, e)


# --- faults ---


def test_a_run_without_resume_destroys_nothing(tmp_path, capsys, trained):
    def content():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    trained(tmp_path / "run", 100)
    before = content()
    status, out, err = train_digits(capsys, tmp_path / "run", "--steps=100")
    assert (status, out, err.count("\n")) == (2, "", 1)
    with pytest.raises(SystemExit):
        train_digits(capsys, tmp_path / "run", "--steps=50", "--resume")
    assert content() == before


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(tmp_path, capsys, trained):
    """A process that cannot write files of more than some bytes fails as on a full disk, in orbax's threads."""
    trained(tmp_path / "run", 100)
    (tmp_path / "run" / "checkpoints" / "100").rename(tmp_path / "100")

    program = """
import resource, sys, train
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
sys.argv[0] = "train.py"
sys.exit(train.main())
"""
    command = [sys.executable, "-c", program, "--resume", "--output-dir", tmp_path / "run"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 1
    assert re.fullmatch(
        r"train.py: error: cannot write a checkpoint in .*; the newest checkpoint is of step 50\n", process.stderr
    ), process.stderr
    status, out, _ = run_train(capsys, "--resume", "--output-dir", tmp_path / "run")
    assert status == 0
    assert "Resuming after step 50 of 100" in out


def test_a_table_that_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rnn_jax.app.metrics.MetricsTable.add", refuse)
    status, _, err = train_digits(capsys, tmp_path / "run", "--steps=100")
    assert status == 1
    assert err == "train.py: error: cannot write to the output folder: No space left on device\n"


def test_a_loss_that_diverges_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path, capsys, monkeypatch):
    optimizer = optax.sgd(lambda count: jnp.where(count == 120 - 1, jnp.nan, 0.1))
    monkeypatch.setattr("rnn_jax.app.recipes.Recipe.optimizer", lambda recipe: optimizer)
    status, out, err = train_digits(capsys, tmp_path / "run", "--steps=200")
    assert status == 1
    assert err == (
        "train.py: error: the loss became nan at step 120: try a lower --learning-rate; the newest checkpoint is of "
        "step 100\n"
    )
    assert "Optimization Finished!" not in out
    assert last_row(tmp_path / "run") == 100
    assert rnn.load_run(tmp_path / "run").step == 100
    assert all(np.isfinite(leaf).all() for leaf in final_params(tmp_path / "run"))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return Examples(rng.integers(0, 255, (20, 4, 5)).astype(np.uint8), np.arange(20, dtype=np.int32) % 3)


TASK = Classification(Classifier(rnn.stack(rnn.dropout(rnn.GRU(6), 0.2)), num_classes=3), 5, scale=255)


@pytest.mark.parametrize("bad_step", [1, 7, 10])
def test_the_step_at_which_the_loss_diverges_is_named(data, bad_step):
    optimizer = optax.sgd(lambda count: jnp.where(count == bad_step - 1, jnp.nan, 0.1))
    state, seen = init_state(TASK.init, optimizer, jax.random.key(0)), []
    options = {"steps": 15, "batch_size": 6, "steps_per_call": 5}
    expected = f"^the loss became nan at step {bad_step}: try a lower --learning-rate$"
    with pytest.raises(Diverged, match=expected):
        seen.extend(int(state.step) for state, _ in fit_until_diverged(TASK.loss, optimizer, state, data, **options))
    assert seen == [step for step in (1, 5, 10, 15) if step < bad_step], "what was handed out before"


# --- longer runs, and runs that begin from another's weights ---


def test_a_run_made_longer_is_the_longer_run_where_the_learning_rate_is_constant(tmp_path, capsys, trained):
    trained(tmp_path / "whole", 150)
    trained(tmp_path / "cut", 100)
    status, out, err = run_train(capsys, "--resume", "--output-dir", tmp_path / "cut", "--steps=150")
    assert (status, err) == (0, "")
    assert "Resuming after step 100 of 150\n" in out
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    status, out, _ = run_train(capsys, "--resume", "--output-dir", tmp_path / "cut")
    assert "Resuming after step 150 of 150\n" in out, "its length is remembered"


def test_a_run_made_longer_follows_the_longer_schedule(tmp_path, capsys):
    """Interrupted after that, it goes on bit for bit as if it had not been."""
    argv = [
        "--dataset=digits",
        "--cell=gru",
        "--hidden-size=4",
        "--checkpoint-every=50",
        "--devices=1",
        "--no-pictures",
        "--shift=0.1",
    ]
    with jax.numpy_dtype_promotion("standard"):  # as a program has it, for optax's schedules
        run_train(capsys, *argv, "--steps=50", "--output-dir", tmp_path / "one")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        run_train(capsys, "--resume", "--output-dir", tmp_path / "one", "--steps=150")
        run_train(capsys, "--resume", "--output-dir", tmp_path / "two", "--steps=150")
        shutil.rmtree(tmp_path / "two" / "checkpoints" / "150")
        _, out, _ = run_train(capsys, "--resume", "--output-dir", tmp_path / "two")
        ends = [float(Config(steps=n).training_recipe().learning_rates()(50)) for n in (50, 150)]  # type: ignore
    assert "Resuming after step 100 of 150\n" in out
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert ends[0] < 0.01 < ends[1], "the learning rate rises again"


def test_a_run_cannot_become_shorter_than_it_is(tmp_path, capsys, trained):
    trained(tmp_path / "run", 100)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"steps": 100', '"steps": null'))  # as a recipe says
    status, _, err = run_train(capsys, "--resume", "--output-dir", tmp_path / "run", "--steps=50")
    assert (status, err) == (2, "train.py: error: --steps 50 are fewer than the 100 that the run has made\n")


def test_a_run_begins_from_the_weights_of_another(tmp_path, capsys, trained):
    trained(tmp_path / "first", 150)
    argv = ["--steps=1", "--seed=7", "--learning-rate=1e-20", "--init-from", tmp_path / "first"]
    status, _, err = train_digits(capsys, tmp_path / "second", *argv)
    assert (status, err) == (0, "")
    for actual, expected in zip(final_params(tmp_path / "second"), final_params(tmp_path / "first"), strict=True):
        np.testing.assert_array_equal(actual, expected)
    train_digits(capsys, tmp_path / "several", *argv, "--seeds=2")
    second_seed = jax.tree.leaves(rnn.load_run(tmp_path / "several", seed=8).params)
    for actual, expected in zip(second_seed, final_params(tmp_path / "first"), strict=True):
        np.testing.assert_array_equal(actual, expected)
    shutil.rmtree(tmp_path / "first")
    assert run_train(capsys, "--resume", "--output-dir", tmp_path / "second")[0] == 0, "it is needed only at first"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--hidden-size=5"], "has another network: its encoder[0]"),
        (["--layers=2"], "has another network: its encoder[1]"),
        (["--cell=lstm"], "has another network: its encoder[0]"),
        (["--init-from=nowhere"], "nowhere is not the folder of a run"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, capsys, trained, argv, message):
    trained(tmp_path / "source", 100)
    new = tmp_path / "new"
    status, out, err = train_digits(capsys, new, "--init-from", tmp_path / "source", *argv)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not new.exists()


# --- several seeds ---


def test_each_of_several_seeds_is_the_run_of_that_seed(data):
    optimizer = optax.sgd(0.1, momentum=0.9)
    train = functools.partial(fit, steps=12, batch_size=6, steps_per_call=5)
    seed = np.uint32(2**32 - 2)
    states = init_states(TASK.init, optimizer, seed, 2)  # type: ignore
    many = list(train(TASK.loss, optimizer, states, data))
    for i in range(2):
        state = init_state(TASK.init, optimizer, jax.random.key(int(seed) + i))
        one = list(train(TASK.loss, optimizer, state, data))
        assert len(one) == len(many) == 4
        for (state, metrics), (states, many_metrics) in zip(one, many, strict=True):
            assert int(state.step) == int(states.step[i])
            assert bool(state.key == states.key[i])
            assert_close(metrics, jax.tree.map(lambda leaf, i=i: leaf[i], many_metrics), atol=1e-5, rtol=1e-5)
            assert_close(state.params, jax.tree.map(lambda leaf, i=i: leaf[i], states.params), atol=1e-5, rtol=1e-5)


def test_several_seeds_are_reported_by_mean_and_spread_and_resume(tmp_path, capsys):
    argv = ["--steps=60", "--seeds=3", "--seed=5"]
    status, out, _ = train_digits(capsys, tmp_path / "whole", *argv)
    assert status == 0
    rows = list(csv.DictReader((tmp_path / "whole" / "metrics.csv").open()))
    assert [(row["step"], row["seed"]) for row in rows] == [(s, k) for s in ("1", "50", "60") for k in ("5", "6", "7")]
    loss = np.mean([float(row["loss"]) for row in rows[:3]])
    assert f"Step 1, Minibatch Loss= {loss:.4f}, " in out
    assert "(mean of 3 seeds) (digits)" in out
    accuracies = [float(row["validation_accuracy"]) for row in rows[-3:]]
    assert f"Validation Accuracy: {np.mean(accuracies):.4f} ± {np.std(accuracies, ddof=1):.4f} (mean and" in out

    (tmp_path / "whole" / "checkpoints" / "60").rename(tmp_path / "aside")
    status, out, _ = run_train(capsys, "--resume", "--output-dir", tmp_path / "whole")
    assert status == 0
    assert "Resuming after step 50 of 60" in out
    assert list(csv.DictReader((tmp_path / "whole" / "metrics.csv").open())) == rows


# --- TensorBoard ---


def read_events(file):
    from tensorboardX.proto import event_pb2

    content, values = file.read_bytes(), {}
    while content:  # a record: length, checksum, the event, checksum
        length = int.from_bytes(content[:8], "little")
        event = event_pb2.Event.FromString(content[12 : 12 + length])  # type: ignore
        values.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        content = content[16 + length :]
    return values


def test_events_for_tensorboard_are_what_the_table_says(tmp_path, capsys):
    train_digits(capsys, tmp_path / "run", "--steps=50", "--tensorboard")
    (file,) = (tmp_path / "run" / "tensorboard").iterdir()
    values = read_events(file)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert values["loss/seed_0", 1] == pytest.approx(float(rows[0]["loss"]))
    assert values["validation_accuracy/seed_0", 50] == pytest.approx(float(rows[1]["validation_accuracy"]))
    assert len(values) == 2 + 4


def make_report(step):
    return Report(step, 0, {"loss": float(step), "accuracy": None})


def test_events_are_in_the_file_at_once_and_those_that_are_lost_are_written_again(tmp_path):
    folder = tmp_path / "events"
    with event_writer(folder, 0, [], pytest.fail) as write:
        write([make_report(1)])
        (file,) = folder.iterdir()
        assert read_events(file) == {("loss/seed_0", 1): 1.0}, "while the run goes on"
        write([make_report(50)])
    os.truncate(file, file.stat().st_size - 3)  # as if it had been killed while it wrote
    with event_writer(folder, 100, [make_report(step) for step in (1, 50, 100)], pytest.fail) as write:
        write([make_report(150)])
    (second,) = set(folder.iterdir()) - {file}
    assert read_events(second) == {("loss/seed_0", step): float(step) for step in (50, 100, 150)}
    assert steps_with_events(folder) == {1, 50, 100, 150}


def test_tensorboard_reads_the_events(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "events"
    for step in (0, 50):  # the second time without the event of step 100
        with event_writer(folder, step, [make_report(50)] if step else [], pytest.fail) as write:
            for later in (50, 100)[step // 50 : 2 - step // 50]:
                write([make_report(later)])
    accumulator = accumulators.EventAccumulator(str(folder))
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("loss/seed_0")] == [50]


def test_events_that_cannot_be_written_are_a_warning(tmp_path, monkeypatch):
    warnings = []
    (tmp_path / "file").write_text("")
    with event_writer(tmp_path / "file", 0, [], warnings.append) as write:
        write([make_report(1)])
    assert warnings == ["no events for TensorBoard: File exists"]

    def refuse(*args):
        raise OSError(28, "No space left on device")

    with event_writer(tmp_path / "events", 0, [], warnings.append) as write:
        monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.flush", refuse)
        write([make_report(1)])
        write([make_report(2)])
    assert warnings[1:] == ["events for TensorBoard end here: No space left on device"]


def test_tensorboard_without_its_writer_is_one_line(tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorboardX" else find(name))
    status, out, err = train_digits(capsys, tmp_path / "run", "--tensorboard")
    assert (status, out) == (2, "")
    assert err == (
        "train.py: error: --tensorboard needs the package tensorboardX: pip install 'rnn_jax[tensorboard]'\n"
    )
    assert not (tmp_path / "run").exists()
