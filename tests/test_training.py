"""Training is a function of its state: batches, steps and evaluation against the slow and obvious."""

import dataclasses
import functools
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import CELLS, assert_close
from hypothesis import given
from hypothesis import strategies as st

import rnn_jax as rnn
from rnn_jax.app.recipes import RECIPES
from rnn_jax.data import Examples
from rnn_jax.readout import Classifier
from rnn_jax.tasks.classification import Classification
from rnn_jax.training.fit import WIDE_VECTORS, fit
from rnn_jax.training.host import read_ahead
from rnn_jax.training.order import ExampleOrder
from rnn_jax.training.step import evaluate, init_state, train_step
from rnn_jax.training.stream import train_on_stream
from rnn_jax.training.threefry import fold_in, key_words, permutation

ROOT = Path(__file__).resolve().parents[1]
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
N, ROWS, COLUMNS, BATCH = 20, 4, 5, 6


def make_task(encoder):
    return Classification(Classifier(encoder, 3), COLUMNS, scale=255)


TASK = make_task(rnn.stack(rnn.dropout(rnn.GRU(6), 0.2)))


@pytest.fixture(scope="module")
def data():
    """Images of three classes that differ in brightness."""
    rng = np.random.default_rng(0)
    labels = np.arange(N, dtype=np.int32) % 3
    images = rng.integers(0, 60, (N, ROWS, COLUMNS)) + 80 * labels[:, None, None]
    return Examples(images.astype(np.uint8), labels)


def first_state(seed=0):
    return init_state(TASK.init, OPTIMIZER, jax.random.key(seed))


def train(state, data, **options):
    options = {"steps": 10, "batch_size": BATCH, **options}
    return list(fit(TASK.loss, OPTIMIZER, state, data, **options))


# --- batches ---


class Recorder:
    """A network that returns its inputs."""

    def apply(self, params, xs, **options):
        return xs


def test_rows_of_pixels_are_steps_in_time():
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    task = Classification(Recorder(), 4, scale=16)  # type: ignore
    xs = task.logits(None, jnp.asarray(images))
    assert xs.shape == (3, 2, 4)
    assert xs.dtype == jnp.float32
    np.testing.assert_array_equal(xs[1, 0], images[0, 1] / 16)


def test_every_epoch_shows_every_example_once():
    order = ExampleOrder(jax.random.key(0), N, batch_size=1).read(range(3 * N)).reshape(3, N)
    for epoch in order:
        assert sorted(epoch) == list(range(N))
    assert not np.array_equal(order[0], order[1])


@pytest.mark.parametrize("n", [1, 2, N, 1700])
def test_permutations_are_those_of_jax(n):
    key = jax.random.fold_in(jax.random.key(2**32 - 1), 5)
    np.testing.assert_array_equal(key_words(key), fold_in(key_words(jax.random.key(2**32 - 1)), 5))
    np.testing.assert_array_equal(permutation(key_words(key), n), jax.random.permutation(key, n))


def test_the_order_takes_a_key_of_any_generator():
    order = ExampleOrder(jax.random.key(3, impl="rbg"), N, batch_size=N)
    np.testing.assert_array_equal(order.read(range(2)), ExampleOrder(jax.random.key(3), N, N).read(range(2)))


@given(start=st.integers(0, 30), count=st.integers(1, 12), prepared=st.integers(1, 50))
def test_any_steps_of_the_order_are_the_same_stream(start, count, prepared):
    order = ExampleOrder(jax.random.key(0), N, BATCH)
    stream = order.read(range(42))
    order.prepare(range(prepared))
    steps = range(start, start + count)
    np.testing.assert_array_equal(order.read(steps), stream[start : start + count])


# --- steps ---


def test_a_step_goes_down_the_gradient(data):
    xs, labels = jnp.moveaxis(data.inputs, 1, 0).astype(float) / 255, jnp.asarray(data.targets)
    task, optimizer = make_task(rnn.Recurrent(rnn.LSTM(5))), optax.sgd(0.5)
    state = init_state(task.init, optimizer, jax.random.key(0))

    def loss(params):
        return -jnp.mean(jax.nn.log_softmax(task.network.apply(params, xs))[jnp.arange(N), labels])

    step = jax.jit(functools.partial(train_step, task.loss, optimizer))
    new_state, metrics = step(state, jax.tree.map(jnp.asarray, data))
    value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
    assert_close(metrics.loss, value)
    assert_close(new_state.params, jax.tree.map(lambda p, g: p - 0.5 * g, state.params, gradient))
    assert int(new_state.step) == 1


def test_steps_in_one_call_are_steps_one_by_one(data):
    state = slow_state = first_state()
    *_, (state, metrics) = train(state, data, steps=10)
    order = ExampleOrder(jax.random.fold_in(slow_state.key, 0), N, BATCH)
    step = jax.jit(functools.partial(train_step, TASK.loss, OPTIMIZER))
    for rows in order.read(range(10)):
        batch = jax.tree.map(lambda array, rows=rows: jnp.asarray(array[rows]), data)
        slow_state, _ = step(slow_state, batch)
    assert_close(state.params, slow_state.params)
    _, after = TASK.loss(slow_state.params, batch)
    assert_close(metrics, after, atol=1e-5)


def test_how_steps_are_cut_into_calls_changes_no_bit(data):
    *_, (whole, _) = train(first_state(), data, steps=17, steps_per_call=17)
    *_, (cut, _) = train(first_state(), data, steps=17, steps_per_call=17 // 2)
    *_, (half, _) = train(first_state(), data, steps=9, steps_per_call=17)
    *_, (resumed, _) = train(half, data, steps=17, steps_per_call=17)
    for other in (cut, resumed):
        assert_close(other.params, whole.params, atol=0, rtol=0)


def test_no_key_is_used_twice(data, monkeypatch):
    def numbers(key):
        return tuple(np.asarray(jax.random.key_data(key)).tolist())

    def record(key, *args, **kwargs):
        used.append(numbers(key))
        return draw(key, *args, **kwargs)

    state, draw = first_state(), jax.random.bernoulli
    used = [numbers(jax.random.fold_in(jax.random.fold_in(state.key, 0), epoch)) for epoch in range(4)]
    monkeypatch.setattr(jax.random, "bernoulli", record)
    for _ in range(3):
        state, _ = train_step(TASK.loss, OPTIMIZER, state, jax.tree.map(jnp.asarray, data))
    assert len(used) == len(set(used)) == 4 + 3, "the orders of four epochs and the dropout of three steps"


def test_the_seed_decides_everything(data):
    *_, (first, _) = train(first_state(0), data)
    *_, (again, _) = train(first_state(0), data)
    *_, (other, _) = train(first_state(1), data)
    assert_close(again.params, first.params, atol=0, rtol=0)
    assert not np.array_equal(first.params.w, other.params.w)


def test_progress_is_handed_out_after_the_first_step_and_every_call(data):
    assert [int(state.step) for state, _ in train(first_state(), data, steps=10, steps_per_call=4)] == [1, 4, 8, 10]


def test_it_learns(data):
    (_, first), *_, (state, last) = train(first_state(), data, steps=150)
    assert last.loss < 0.3 * first.loss
    assert evaluate(TASK.loss, state.params, data).accuracy == 1


# --- devices ---


@pytest.mark.parametrize(
    ("cell", "num_devices"), [*[(cell, 2) for cell in CELLS.values()], (rnn.GRU(4), 3)], ids=[*CELLS, "odd number"]
)
def test_devices_that_share_a_batch_do_what_one_does(data, cell, num_devices):
    task = make_task(rnn.Recurrent(cell))
    state = init_state(task.init, OPTIMIZER, jax.random.key(0))
    options: dict[str, Any] = {"steps": 5, "batch_size": BATCH, "steps_per_call": 2}
    one, several = (
        list(fit(task.loss, OPTIMIZER, state, data, **options, devices=jax.devices()[:n])) for n in (1, num_devices)
    )
    for (state, metrics), (other_state, other_metrics) in zip(several, one, strict=True):
        assert_close((state.params, metrics), (other_state.params, other_metrics), atol=1e-5)
    assert several[-1][0].params.w.sharding.num_devices == num_devices


def test_devices_drop_different_things(data):
    *_, (one, _) = train(first_state(), data, devices=jax.devices()[:1])
    *_, (several, _) = train(first_state(), data, devices=jax.devices()[:2])
    *_, (again, _) = train(first_state(), data, devices=jax.devices()[:2])
    assert not np.allclose(one.params.w, several.params.w)
    assert_close(again.params, several.params, atol=0, rtol=0)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_the_step_is_compiled_for_wide_vectors_on_the_cpu(data, monkeypatch, num_devices):
    given, jit = [], jax.jit

    def spy(function, **options):
        given.append(options.get("compiler_options"))
        return jit(function, **options)

    task = make_task(rnn.VanillaRNN(4))
    state = init_state(task.init, OPTIMIZER, jax.random.key(0))
    monkeypatch.setattr(jax, "jit", spy)
    devices = jax.devices()[:num_devices]
    for _ in fit(task.loss, OPTIMIZER, state, data, steps=1, batch_size=BATCH, devices=devices):
        pass
    assert WIDE_VECTORS in given


def test_a_batch_that_devices_cannot_share_is_refused(data):
    with pytest.raises(ValueError, match="a batch of 6 cannot be shared equally by 4 devices"):
        train(first_state(), data, devices=jax.devices()[:4])


# --- data on the host ---


@pytest.mark.parametrize("num_devices", [1, 2, 3])
def test_data_on_the_host_change_nothing(data, num_devices):
    options = {"steps": 33, "steps_per_call": 4, "devices": jax.devices()[:num_devices]}
    on_device = train(first_state(), data, **options)
    on_host = train(first_state(), data, **options, data_on="host")
    for actual, expected in zip(on_host, on_device, strict=True):
        assert int(actual[0].step) == int(expected[0].step)
        assert_close((actual[0].params, actual[1]), (expected[0].params, expected[1]))
    resumed = train(on_host[3][0], data, **options, data_on="host")
    for actual, expected in zip(resumed, on_host[4:], strict=True):
        assert_close((actual[0].params, actual[1]), (expected[0].params, expected[1]), atol=0, rtol=0)


@given(first=st.integers(0, 30), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), own=st.sampled_from("ab"))
def test_what_is_read_ahead_is_the_stream(data, first, lengths, own):
    own = slice(0, 4) if own == "a" else slice(4, 6)
    calls = [range(*ends) for ends in itertools.pairwise(itertools.accumulate([first, *lengths]))]
    order = ExampleOrder(jax.random.key(1), N, BATCH)
    read = list(read_ahead(data, order, calls, own=own, max_steps=5, place=lambda split: split))
    assert len(read) == len(calls)
    for steps, split in zip(calls, read, strict=True):
        examples = order.read(steps)[:, own]
        np.testing.assert_array_equal(split.inputs[: len(steps)], data.inputs[examples])
        np.testing.assert_array_equal(split.targets[: len(steps)], data.targets[examples])
        assert not split.inputs[len(steps) :].any()


def test_a_reader_of_the_host_may_leave_early():
    program = """
import jax, numpy as np, optax, rnn_jax as rnn
from rnn_jax.data import Examples
from rnn_jax.readout import Classifier
from rnn_jax.tasks.classification import Classification
from rnn_jax.training.fit import fit
from rnn_jax.training.step import init_state
data = Examples(np.zeros((20, 4, 5), np.uint8), np.zeros(20, np.int32))
task, optimizer = Classification(Classifier(rnn.GRU(3), 3), 5), optax.sgd(0.1)
state = init_state(task.init, optimizer, jax.random.key(0))
next(fit(task.loss, optimizer, state, data, steps=1000, batch_size=5, data_on="host"))
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)


def test_several_seeds_on_the_host_are_refused(data):
    states = jax.vmap(lambda seed: init_state(TASK.init, OPTIMIZER, jax.random.key(seed)))(jnp.arange(2))
    with pytest.raises(ValueError, match="one seed at a time"):
        train(states, data, data_on="host")


# --- streams ---


def test_a_stream_is_windows_trained_one_after_another():
    cell, optimizer = rnn.LSTM(3), optax.sgd(0.1, momentum=0.9)
    params: Any = cell.init(jax.random.key(0), 2)
    xs = jax.random.normal(jax.random.key(1), (12, 4, 2))

    def loss(params, state, window):
        xs, targets = window
        state, ys = rnn.unroll(cell, params, xs, state)
        return jnp.mean((ys - targets) ** 2), state

    stream, begin = (xs, xs[..., :1]), (params, optimizer.init(params), cell.initial_state((4,)))
    *end, losses = train_on_stream(loss, optimizer, *begin, stream, window=4)

    params, opt_state, state = begin
    step = jax.value_and_grad(loss, has_aux=True)
    for n in range(3):
        window = jax.tree.map(lambda a, n=n: a[4 * n : 4 * n + 4], stream)
        (value, next_state), grads = step(params, state, window)
        updates, opt_state = optimizer.update(grads, opt_state)
        params, state = optax.apply_updates(params, updates), next_state
        assert_close(losses[n], value)
    assert_close(tuple(end), (params, opt_state, state))


def test_a_window_that_does_not_divide_the_stream_is_refused():
    with pytest.raises(ValueError, match="a stream of 12 steps cannot be cut into windows of 5"):
        train_on_stream(lambda *_: (jnp.zeros(()), None), OPTIMIZER, {}, None, None, jnp.zeros((12, 2)), window=5)


@pytest.mark.parametrize(
    ("stream", "state", "message"),
    [
        (jnp.zeros((0, 2)), None, "at least one step in time"),
        ([], None, "at least one step in time, not no arrays"),
        ((jnp.zeros((12, 2)), jnp.zeros((8, 2))), None, r"the same number of steps, not \{'\[0\]': 12, '\[1\]': 8\}"),
        (jnp.zeros((12, 2)), {}, "state has the structure .* but the state that the loss returns needs"),
        (jnp.zeros((12, 2)), None, None),
        ([[1.0, 2.0]] * 12, None, "at least one step in time"),
    ],
)
def test_a_stream_without_steps_or_a_state_of_another_kind_is_refused(stream, state, message):
    def run():
        return train_on_stream(
            lambda params, *_: (params**2, None), OPTIMIZER, 1.0, OPTIMIZER.init(1.0), state, stream, window=4
        )

    if message is None:
        assert run()[-1].shape == (3,)
        return
    with pytest.raises(ValueError, match=message):
        run()


def test_a_stream_of_no_sequences_is_trained_on_without_a_complaint():
    cell = rnn.GRU(3)
    params: Any = cell.init(jax.random.key(0), 2)

    def loss(params, state, xs):
        state, ys = rnn.unroll(cell, params, xs, state)
        return jnp.sum(ys), state

    *_, losses = train_on_stream(
        loss, OPTIMIZER, params, OPTIMIZER.init(params), cell.initial_state((0,)), jnp.zeros((12, 0, 2)), window=4
    )
    assert losses.tolist() == [0, 0, 0]


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), 0, None], ids=["raw", "seed", "none"])
def test_all_but_typed_keys_are_refused(key):
    with pytest.raises(ValueError, match=r"make it with jax.random.key\(seed\)"):
        init_state(TASK.init, OPTIMIZER, key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"examples": {}}, "examples needs arrays that lead with at least one example, not no arrays"),
        (
            {"examples": jnp.ones((0, 2))},
            r"examples needs arrays that lead with at least one example, not {'': \(0, 2\)}",
        ),
        ({"examples": {"x": jnp.ones(4), "n": 4}}, r"at least one example, not {\"\['n'\]\": \(\), .*}"),
        (
            {"examples": (jnp.ones(4), jnp.ones(3))},
            r"arrays of examples need the same length, not {'\[0\]': 4, '\[1\]': 3}",
        ),
        ({"batch_size": 0}, "batch_size must be a positive whole number, not 0"),
        ({"steps_per_call": 0}, "steps_per_call must be a positive whole number, not 0"),
    ],
)
def test_examples_and_sizes_that_cannot_be_trained_on_are_refused(changes, message):
    state = init_state(lambda key: jnp.zeros(()), OPTIMIZER, jax.random.key(0))
    arguments = {"examples": jnp.ones(4), "steps": 2, "batch_size": 2} | changes
    with pytest.raises(ValueError, match=message):
        next(fit(lambda w, batch, key: (jnp.mean(w * batch), {}), OPTIMIZER, state, **arguments))


# --- evaluation ---


@pytest.mark.parametrize("batch_size", [1, 7, 20, 1000])
def test_evaluation_does_not_depend_on_its_batches(data, batch_size):
    params = first_state().params
    _, expected = TASK.loss(params, jax.tree.map(jnp.asarray, data))
    assert_close(evaluate(TASK.loss, params, data, batch_size=batch_size), expected)


# --- classifier ---


def test_readouts_of_a_bidirectional_encoder():
    net = rnn.bidirectional(rnn.GRU(4))
    final = Classifier(net, 3)
    last_step = Classifier(net, 3, readout="last_step")
    params, xs = final.init(jax.random.key(0), COLUMNS), jax.random.normal(jax.random.key(1), (7, 2, COLUMNS))
    states, ys = net.apply(params.encoder, xs)
    read_whole = jnp.concatenate([states.forward.h, states.backward.h], axis=-1)
    assert_close(final.apply(params, xs), read_whole @ params.w + params.b)
    assert_close(last_step.apply(params, xs), ys[-1] @ params.w + params.b)


def test_lengths_reach_the_classifier():
    classifier = Classifier(rnn.bidirectional(rnn.GRU(4)), 3)
    params, xs = classifier.init(jax.random.key(0), COLUMNS), jax.random.normal(jax.random.key(1), (7, 2, COLUMNS))
    logits = classifier.apply(params, xs.at[3:, 1].set(jnp.nan), lengths=jnp.array([7, 3]))
    assert_close(logits[1], classifier.apply(params, xs[:3, 1]))


def test_heads():
    normal = Classifier(rnn.Recurrent(rnn.GRU(400)), 10, head="normal").init(jax.random.key(0), 1)
    assert abs(normal.w.std() - 1) < 0.05
    assert normal.b.any()
    glorot = Classifier(rnn.Recurrent(rnn.GRU(400)), 10).init(jax.random.key(0), 1)
    assert np.abs(glorot.w).max() <= np.sqrt(6 / 410)
    assert not glorot.b.any()


def test_a_cell_is_an_encoder():
    assert Classifier(rnn.GRU(4), 3) == Classifier(rnn.Recurrent(rnn.GRU(4)), 3)  # type: ignore


def test_the_last_step_of_sequences_of_unequal_lengths_is_refused():
    classifier = Classifier(rnn.Recurrent(rnn.GRU(4)), 3, readout="last_step")
    params = classifier.init(jax.random.key(0), COLUMNS)
    with pytest.raises(ValueError, match='use "final"'):
        classifier.apply(params, jnp.ones((7, 2, COLUMNS)), lengths=jnp.array([7, 3]))


@pytest.mark.parametrize("options", [{"readout": "median"}, {"head": "zeros"}])
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match="must be one of"):
        Classifier(rnn.Recurrent(rnn.GRU(4)), 3, **options)


# --- recipes ---


def updates(recipe, gradients):
    optimizer = recipe.optimizer()

    def step(state, gradient):
        update, state = optimizer.update(gradient, state)
        return state, update

    return np.asarray(jax.lax.scan(step, optimizer.init(gradients[0]), gradients)[1])


def test_the_tutorial_is_plain_sgd():
    gradients = jnp.array([[3.0, -4.0], [30.0, 40.0]])
    np.testing.assert_allclose(updates(RECIPES["tutorial"], gradients), -0.001 * gradients)


def test_the_default_recipe_warms_up_clips_and_ends_at_zero():
    recipe = dataclasses.replace(RECIPES["default"], steps=200)
    gradients = jnp.tile(jnp.array([[300.0, -400.0]]), (recipe.steps, 1))
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix integers and floats
        sizes = np.linalg.norm(updates(recipe, gradients), axis=1)
    assert sizes[0] == pytest.approx(recipe.learning_rate / 10 * (1 + recipe.momentum)), "a tenth of the way up"
    assert sizes[-1] < 0.01 * sizes.max()
    # A clipped gradient of norm 1, forever, with Nesterov momentum m: 1 / (1 - m) times the learning rate.
    assert sizes.max() == pytest.approx(recipe.learning_rate / (1 - recipe.momentum), rel=0.1)
