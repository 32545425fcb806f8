"""The kernels, compiled for a TPU v5e by the TPU's own compiler."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import rnn_jax as rnn
from rnn_jax.implementations.pallas import unroll_pallas, why_not_pallas
from rnn_jax.implementations.problem import Problem

pytest.importorskip("libtpu", reason="needs the TPU's compiler: pip install libtpu")


@pytest.fixture(scope="module")
def sharding():
    device = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]
    return SingleDeviceSharding(device)


def shapes_of(cell, num_steps, batch_size, input_size, dtype):
    """Shapes of parameters, state, inputs and mask."""

    def draw():
        arrays = cell.init(jax.random.key(0), input_size), cell.initial_state((batch_size,))
        arrays = *arrays, jnp.zeros((num_steps, batch_size, input_size))
        return *jax.tree.map(lambda a: a.astype(dtype), arrays), jnp.ones((num_steps, batch_size), jnp.bool_)

    return jax.eval_shape(draw)


def compile_gradients(unroll, args, sharding):
    """Compiles the gradients of all but the last of `args` for one chip, and returns the program's text."""

    def value(*args):
        return sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves(unroll(*args)))

    args = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), args)
    gradients = jax.jit(jax.grad(value, argnums=tuple(range(len(args) - 1))))
    return gradients.trace(*args).lower(lowering_platforms=("tpu",)).compile().as_text() or ""


@pytest.mark.parametrize(
    ("cell", "num_steps", "batch_size", "dtype", "precision"),
    [
        (rnn.LSTM(128), 28, 128, jnp.float32, None),
        (rnn.LSTM(128), 28, 128, jnp.float32, "bfloat16"),
        (rnn.LSTM(128, peepholes=True), 28, 100, jnp.bfloat16, None),
        (rnn.GRU(200), 100, 300, jnp.float32, None),
        (rnn.VanillaRNN(64), 28, 1, jnp.float32, None),
        (rnn.VanillaRNN(64, activation="relu"), 28, 1, jnp.bfloat16, None),
        (rnn.LSTM(640), 30, 128, jnp.float32, None),  # almost as large as the kernels take
    ],
)
def test_it_compiles(sharding, cell, num_steps, batch_size, dtype, precision):
    params, state, xs, valid = shapes_of(cell, num_steps, batch_size, 28, dtype)
    assert not why_not_pallas(Problem(cell, params, state, xs, precision=precision), "tpu")

    def unroll(params, state, xs, valid):
        return unroll_pallas(Problem(cell, params, state, xs, None, valid, False, precision), backend="tpu")

    program = compile_gradients(unroll, (params, state, xs, valid), sharding)
    assert program.count('custom_call_target="tpu_custom_call"') == 2, "one kernel forwards, one back"
    assert " while(" not in program


def test_both_directions_compile(sharding):
    cell = rnn.LSTM(128)
    params, state, xs, valid = shapes_of(cell, 28, 128, 28, jnp.float32)
    both = jax.tree.map(lambda a: jax.ShapeDtypeStruct((2, *a.shape), a.dtype), (params, state, xs))

    def unroll(params, state, xs, valid):
        return jax.vmap(lambda *args: unroll_pallas(Problem(cell, *args, valid=valid), backend="tpu"))(
            params, state, xs
        )

    program = compile_gradients(unroll, (*both, valid), sharding)
    assert program.count('custom_call_target="tpu_custom_call"') == 2
