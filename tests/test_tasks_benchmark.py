"""The benchmark of tasks: what its generators draw, and a rehearsal of it."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax as rnn
from benchmarks import report, tasks
from benchmarks.blocks import make_encoder
from benchmarks.synthetic_tasks import IGNORED, adding, associative_recall, copying, parity, selective_copying
from rnn_jax.data import Examples, load_dataset
from rnn_jax.data.dataset import make_dataset

N = 50


@pytest.fixture(scope="module", autouse=True)
def standard_promotion():
    """optax's Adam raises floats to the power of whole numbers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_two_numbers_are_marked_one_in_each_half(rng):
    inputs, targets, *_ = adding(rng, N, length=11)
    numbers, marks = np.moveaxis(inputs, -1, 0)
    assert inputs.shape == (N, 11, 2)
    np.testing.assert_array_equal(marks[:, :5].sum(1), 1)
    np.testing.assert_array_equal(marks[:, 5:].sum(1), 1)
    np.testing.assert_allclose(targets, [row[mark == 1].sum() for row, mark in zip(numbers, marks, strict=True)])
    assert 0 <= numbers.min() < 0.1 < 0.9 < numbers.max() < 1


def test_symbols_are_to_be_copied_after_a_delay(rng):
    inputs, targets, *_ = copying(rng, N, delay=7, symbols=3, copied=4)
    assert inputs.shape == targets.shape == (N, 15)
    np.testing.assert_array_equal(targets[:, -4:], inputs[:, :4])
    assert set(inputs[:, :4].flat) == {1, 2, 3}
    np.testing.assert_array_equal(inputs[:, 4:], np.tile([0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0], (N, 1)))
    assert (targets[:, :-4] == IGNORED).all()


def test_symbols_among_noise_are_to_be_copied_in_their_order(rng):
    inputs, targets, *_ = selective_copying(rng, N, length=12, symbols=3, copied=4)
    assert inputs.shape == targets.shape == (N, 16)
    for row, target in zip(inputs, targets, strict=True):
        np.testing.assert_array_equal(row[:12][row[:12] > 0], target[-4:])
    np.testing.assert_array_equal(inputs[:, 12:], 4)
    assert (targets[:, :12] == IGNORED).all()
    assert (inputs[:, :12] > 0).any(0).all()  # at every step in some sequence


def test_each_key_is_asked_for_once_and_its_value_is_the_answer(rng):
    inputs, targets, *_ = associative_recall(rng, N, length=20, pairs=3, tokens=12)
    for row, target in zip(inputs, targets, strict=True):
        values = dict(zip(row[0:6:2].tolist(), row[1:6:2].tolist(), strict=True))
        queries = np.flatnonzero(row[6:]) + 6
        assert len(values) == len(set(values.values())) == 3
        assert all(1 <= key < 6 <= value < 12 for key, value in values.items())
        assert sorted(row[queries].tolist()) == sorted(values)
        assert (queries % 2 == 0).all()
        np.testing.assert_array_equal(target[queries], [values[key] for key in row[queries].tolist()])
        assert (np.delete(target, queries) == IGNORED).all()
    first, last = (np.count_nonzero(inputs[:, step]) for step in (6, 18))
    assert first > last  # near places are likelier
    with pytest.raises(ValueError, match="8 pairs need"):
        associative_recall(rng, N, length=20, pairs=8, tokens=64)


def test_parity_is_that_of_all_bits_so_far(rng):
    inputs, targets, *_ = parity(rng, N, length=9, first=5)
    assert (targets[:, :4] == IGNORED).all()
    for t in range(4, 9):
        np.testing.assert_array_equal(targets[:, t], inputs[:, : t + 1].sum(1) % 2)


def test_every_scored_step_counts_alike_and_others_not_at_all(rng):
    examples = copying(rng, 3, delay=4, symbols=2, copied=2)

    class Oracle:
        def apply(self, params, xs):
            answers = jax.nn.one_hot(jnp.asarray(examples.targets).T, 4)
            return params * answers.at[-1, 0].multiply(-1)  # one of six steps wrong

    loss, metrics = jax.jit(tasks.Sequences(Oracle(), 4).loss)(jnp.float32(9), examples)  # type: ignore
    np.testing.assert_allclose(metrics.accuracy, 5 / 6, rtol=1e-6)
    np.testing.assert_allclose(loss, (5 * np.log(1 + 3 * np.exp(-9)) + np.log(3 + np.exp(-9)) + 9) / 6, rtol=0.05)


def test_a_run_that_ends_early_names_its_seconds():
    assert tasks.Run((1.0, 2.04), (0.5, 1.0), 90).summary(10) == "1.000 in 2.0 s"
    assert tasks.Run((5.0, 10.1), (0.5, 0.7504), 90).summary(10) == "0.750"


def test_a_rehearsal_writes_a_table_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "HOME", tmp_path)
    monkeypatch.setattr(tasks, "HOME", tmp_path)
    sizes = "--tested 20 --batch-size 4 --layers 1 --hidden-size 2 --seconds 0.01 --length 3"
    argv = ["--cells", "vanilla", "--tasks", "parity", *sizes.split()]
    assert tasks.main(argv) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| cell    |   parity |" in text
    assert text.count("| vanilla") == 2
    assert f"`python -m benchmarks.tasks {' '.join(argv)}`" in text
    assert (tmp_path / "tasks.png").stat().st_size > 5000


def test_the_flags_of_images_and_of_the_lru_are_obeyed(tmp_path, monkeypatch):
    def train_once(exercise, encoder, **_):
        made.append((exercise.task(encoder).network.readout, encoder.layer.layers[0].layer.layer.cell))
        return tasks.Run((1.0,), (0.25,), 1)

    made = []
    monkeypatch.setattr(report, "HOME", tmp_path)
    monkeypatch.setattr(tasks, "HOME", tmp_path)
    monkeypatch.setattr(tasks, "train", train_once)
    monkeypatch.setattr(tasks, "load_dataset", lambda *_: load_dataset("digits"))
    argv = ["--tasks", "mnist-pixels", "--cells", "lru", "--hidden-size", "2"]
    tasks.main([*argv, "--section", "a"])
    tasks.main([*argv, "--section", "b", "--readout", "mean", "--max-phase", "0.5", "--radii", "0.5", "0.6"])
    assert made == [
        ("final", rnn.LRU(2, r_min=0.9, r_max=0.999)),
        ("mean", rnn.LRU(2, r_min=0.5, r_max=0.6, max_phase=0.5)),
    ]


def test_a_mistake_in_the_options_of_a_cell_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "HOME", tmp_path)
    argv = ["--section", "a", "--tasks", "parity", "--cells", "lru", "--radii", "0.9", "0.5"]
    assert tasks.main(argv) == 2
    message = "r_min and r_max must be 0 <= r_min < r_max <= 1, not 0.9 and 0.5"
    assert capsys.readouterr().err == f"python -m benchmarks.tasks --section a: error: {message}\n"
    assert not (tmp_path / "RESULTS.md").exists()


def test_a_section_has_a_name_and_an_interruption_keeps_what_is_done(tmp_path, monkeypatch):
    def train_once(exercise, *_, **__):
        if exercise.name == "copying":
            raise KeyboardInterrupt
        return tasks.Run((1.0,), (0.25,), 1234)

    monkeypatch.setattr(report, "HOME", tmp_path)
    monkeypatch.setattr(tasks, "train", train_once)
    argv = ["--tasks", "adding", "copying", "--section", "short", "--cells", "lru", "--seconds", "1"]
    assert tasks.main(argv) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "## Accuracy by seconds of training: short" in text
    assert re.search(r"\| lru +\| +0\.250 \| +– \|", text)  # noqa: RUF001
    assert re.search(r"\| lru +\| +1,234 \| +– \|", text)  # noqa: RUF001
    assert "`python -m benchmarks.tasks --section short --tasks adding copying --cells lru --seconds 1`" in text


def test_a_block_reads_features_or_tokens_step_by_step():
    cell = rnn.MinGRU(4)
    xs = jax.random.normal(jax.random.key(1), (5, 2, 3))
    for encoder, inputs in ((make_encoder(cell, 1), xs), (make_encoder(cell, 1, 7), jnp.arange(10).reshape(5, 2) % 7)):
        net = rnn.Classifier(encoder, 2, readout="every_step")
        params = jax.jit(net.init, static_argnums=1)(jax.random.key(0), 3 if inputs is xs else 7)
        _, logits = jax.lax.scan(functools.partial(net.step, params), net.initial_state((2,)), inputs)
        np.testing.assert_allclose(logits, jax.jit(net.apply)(params, inputs), atol=1e-5)


@pytest.mark.parametrize("order", ["rows", "permuted"])
def test_images_are_drawn_with_their_classes_and_read_in_order(rng, order):
    images = rng.integers(0, 256, (30, 4, 4)).astype(np.uint8)
    examples = Examples(images, images[:, 0, 0].astype(np.int32) % 10)
    data = make_dataset("mnist", examples, examples, source="here", class_names="0123456789")
    exercise = tasks.make_images(order, lambda: data, "final")
    drawn = exercise.draw(rng, 40)
    np.testing.assert_array_equal(drawn.targets, drawn.inputs[:, 0, 0] % 10)
    task = exercise.task(rnn.stack(rnn.GRU(3)))
    assert (task.order, task.input_size, task.scale) == (order, {"rows": 4, "permuted": 1}[order], 255)
    assert jax.eval_shape(task.init, jax.random.key(0)).w.shape == (3, 10)
