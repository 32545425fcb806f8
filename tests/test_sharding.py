"""Hidden units shared by devices: the same training as on one, and each device with its part of the matrices."""

import functools
import re

import jax
import numpy as np
import optax
import pytest
from helpers import assert_close, draw_inputs, draw_params
from jax.sharding import PartitionSpec as P

import rnn_jax as rnn
from rnn_jax.data import Examples
from rnn_jax.readout import Classifier
from rnn_jax.sharding import make_mesh, shardings
from rnn_jax.tasks.classification import Classification
from rnn_jax.training.fit import fit
from rnn_jax.training.step import evaluate, init_state, init_states

N, ROWS, COLUMNS = 20, 4, 5
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


ENCODERS = {  # of a cell's wrapper
    "lstm stack": lambda wrap: rnn.stack(wrap(rnn.LSTM(16)), wrap(rnn.LSTM(8))),
    "gru": lambda wrap: wrap(rnn.GRU(16)),
    "bidirectional": lambda wrap: rnn.bidirectional(wrap(rnn.LSTM(16))),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(N, dtype=np.int32) % 3
    images = rng.integers(0, 60, (N, ROWS, COLUMNS)) + 80 * labels[:, None, None]
    return Examples(images.astype(np.uint8), labels)


def make_task(encoder):
    return Classification(Classifier(encoder, 3), COLUMNS, scale=255)


def train(encoder, data, **options):
    task = make_task(encoder)
    state = init_state(task.init, OPTIMIZER, jax.random.key(0))
    options = {"steps": 5, "batch_size": 8, "steps_per_call": 2, **options}
    return list(fit(task.loss, OPTIMIZER, state, data, **options))


@pytest.fixture(scope="module")
def train_on_one(data):
    """Trains an encoder on one device, the first time that it is asked to."""
    return functools.cache(lambda name: train(ENCODERS[name](lambda cell: cell), data))


@pytest.mark.parametrize(("name", "model_devices"), [*((name, 4) for name in ENCODERS), ("lstm stack", 8)])
def test_devices_that_share_the_units_do_what_one_does(name, model_devices, data, train_on_one):
    expected = train_on_one(name)
    actual = train(ENCODERS[name](rnn.tensor_parallel), data, devices=jax.devices()[:8], model_devices=model_devices)
    for (state, metrics), (expected_state, expected_metrics) in zip(actual, expected, strict=True):
        assert_close((state.params, metrics), (expected_state.params, expected_metrics), atol=1e-5)

    state = actual[-1][0]
    task = make_task(ENCODERS[name](rnn.tensor_parallel))
    accuracies = (evaluate(task.loss, params, data) for params in (state.params, expected_state.params))
    assert_close(*accuracies, atol=1e-5)
    for tree in (state.params, state.opt_state):
        matrices = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim == 2 and leaf.shape[0] != COLUMNS]
        assert len(matrices) > 1
        for matrix in matrices:
            parts = [shard.data for shard in matrix.addressable_shards]
            assert len(parts) == 8
            assert {part.size for part in parts} == {matrix.size // model_devices}


CELLS = {
    "vanilla": rnn.VanillaRNN(4),
    "lstm with all options": rnn.LSTM(4, peepholes=True, projection_size=2, cell_clip=0.5, projection_clip=0.3),
    "gru with reset before": rnn.GRU(4, reset_after=False),
    "layer norm and dropout": rnn.LayerNormLSTM(4, recurrent_dropout=0.3),
    "zoneout": rnn.zoneout(rnn.LSTM(4), h=0.2, c=0.3),
}


@pytest.mark.parametrize("cell", list(CELLS.values()), ids=list(CELLS))
def test_every_cell_gives_the_same_on_a_mesh(cell):
    params, xs, mesh = draw_params(cell), draw_inputs(5, 4), make_mesh(jax.devices()[:4], 2)

    @jax.jit(static_argnums=0)
    def run(cell, params, xs):
        def loss(params, xs):
            state, ys = rnn.unroll(cell, params, xs, key=jax.random.key(1))
            return (ys**2).mean(), state

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)

    with jax.set_mesh(mesh):
        params_there = jax.device_put(params, shardings(params, mesh))
        xs_there = jax.device_put(xs, jax.NamedSharding(mesh, P(None, "batch")))
        (_, state), _ = actual = run(rnn.tensor_parallel(cell), params_there, xs_there)
        assert {shard.data.size for shard in state.h.addressable_shards} == {state.h.size // 4}
    assert_close(actual, run(cell, params, xs), atol=1e-5)


def test_matrices_stay_where_they_are():
    cell, mesh = rnn.tensor_parallel(rnn.LSTM(64)), make_mesh(jax.devices()[:4], 4)
    params = cell.init(jax.random.key(0), 64)
    where = shardings(params, mesh)
    with jax.set_mesh(mesh):
        gradient = jax.jit(
            jax.grad(lambda params, xs: (rnn.unroll(cell, params, xs)[1] ** 2).mean()), out_shardings=where
        )
        program = gradient.lower(jax.device_put(params, where), np.ones((3, 2, 64), np.float32)).compile()
    sent = re.findall(r"= ([^=\n]*) (?:all-|reduce-scatter|collective-)[\w-]*\(", str(program.as_text()))
    shapes = [shape for arrays in sent for shape in re.findall(r"\[([\d,]*)\]", arrays)]
    sizes = [np.prod([int(n) for n in shape.split(",") if n]) for shape in shapes]
    assert sizes
    assert max(sizes) < 64 * 64 / 4, "less than a quarter of one gate's matrix"


def test_a_state_is_drawn_where_it_belongs():
    task, mesh = make_task(rnn.tensor_parallel(rnn.LSTM(16))), make_mesh(jax.devices()[:8], 4)
    init = functools.partial(init_state, task.init, OPTIMIZER, jax.random.key(0))
    state = jax.jit(init, out_shardings=shardings(jax.eval_shape(init), mesh))()
    assert_close(state.params, init().params)
    assert {shard.data.shape for shard in state.params.encoder.w_h.addressable_shards} == {(4, 64)}


def test_more_devices_than_units_are_refused(data):
    with pytest.raises(ValueError, match="6 units cannot be shared equally by 4 devices"):
        train(rnn.tensor_parallel(rnn.GRU(6)), data, devices=jax.devices()[:8], model_devices=4)


def test_groups_that_do_not_divide_the_devices_or_the_batch_are_refused(data):
    encoder = rnn.tensor_parallel(rnn.GRU(8))
    with pytest.raises(ValueError, match="8 devices cannot be put in groups of 3"):
        train(encoder, data, devices=jax.devices()[:8], model_devices=3)
    with pytest.raises(ValueError, match="a batch of 7 cannot be shared equally by 2 groups of 4 devices"):
        train(encoder, data, devices=jax.devices()[:8], model_devices=4, batch_size=7)


def test_many_states_are_refused(data):
    task = make_task(rnn.tensor_parallel(rnn.GRU(8)))
    states = init_states(task.init, OPTIMIZER, jax.numpy.uint32(0), 2)
    with pytest.raises(ValueError, match="one state at a time"):
        list(
            fit(
                task.loss,
                OPTIMIZER,
                states,
                data,
                steps=1,
                batch_size=8,
                devices=jax.devices()[:8],
                model_devices=4,
            )
        )


def test_a_cell_without_equations_is_refused():
    with pytest.raises(ValueError, match="needs a cell that offers its equations"):
        rnn.tensor_parallel(rnn.Recurrent(rnn.GRU(4)))  # type: ignore
