"""The kernels for GPUs and TPUs: run as plain JAX against the scan, and lowered for devices that are not there."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import INPUT_SIZE, draw_inputs, draw_params, draw_state, loss
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.pallas.tpu import InterpretParams

import rnn_jax as rnn
from rnn_jax.implementations.fused import unroll_fused
from rnn_jax.implementations.pallas import gpu, tpu, unroll_pallas, why_not_pallas
from rnn_jax.implementations.problem import Problem
from rnn_jax.implementations.scan import unroll_scan
from rnn_jax.lengths import valid_steps
from rnn_jax.unroll import in_chunks

CELLS = {
    "lstm": rnn.LSTM(5),
    "lstm-peephole": rnn.LSTM(5, peepholes=True, cell_clip=0.5),
    "gru": rnn.GRU(5),
    "vanilla": rnn.VanillaRNN(5),
    "vanilla-relu": rnn.VanillaRNN(5, activation="relu"),
}
PLATFORMS = {"gpu": "cuda", "tpu": "tpu"}
T, B = 4, 3


@pytest.fixture(params=list(PLATFORMS), scope="module")
def backend(request):
    return request.param


def value_and_gradients(run, *args):
    """Final state, outputs, and gradients with respect to all of `args`."""

    def value(*args):
        outputs = run(*args)
        return loss(jax.tree.map(lambda a: a.astype(jnp.float32), outputs)), outputs

    return jax.jit(jax.grad(value, argnums=tuple(range(len(args))), has_aux=True))(*args)


def assert_equal_to_rounding(actual, expected, rounding):
    """Compares two pytrees, with errors relative to the largest number of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        a, e = np.asarray(a, np.float32), np.asarray(e, np.float32)
        np.testing.assert_allclose(a, e, rtol=0, atol=rounding * max(1.0, float(np.abs(e).max())))


def assert_equals(reference, cell, params, state, xs, *options, rounding=2e-6, **where):
    """Compares values and gradients with those of another `unroll`; `options` are valid, reverse and precision."""

    def outputs_of(unroll):
        def run(*args):
            return unroll(Problem(cell, *args, None, *options))  # type: ignore

        return value_and_gradients(run, params, state, xs)

    kernels = functools.partial(unroll_pallas, **{"interpret": True, **where})
    assert_equal_to_rounding(outputs_of(kernels), outputs_of(reference), rounding)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell(backend, name):
    cell, valid = CELLS[name], jnp.arange(T)[:, None] < jnp.array([4, 0, 2])
    args = draw_params(cell), draw_state(cell, (B,)), draw_inputs(T, B)
    assert_equals(unroll_scan, cell, *args, valid, False, backend=backend)


@settings(max_examples=5)
@given(
    name=st.sampled_from(list(CELLS)),
    num_steps=st.integers(1, 7),
    batch_shape=st.sampled_from([(), (1,), (20,), (2, 3)]),
    ragged=st.booleans(),
    reverse=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_shape(backend, name, num_steps, batch_shape, ragged, reverse, seed):
    cell = CELLS[name]
    params, state, xs = (
        draw_params(cell, seed),
        draw_state(cell, batch_shape, seed),
        draw_inputs(num_steps, *batch_shape),
    )
    lengths = jax.random.randint(jax.random.key(seed), batch_shape, 0, num_steps + 1)
    valid = valid_steps(lengths, num_steps, batch_shape) if ragged else None
    with pytest.MonkeyPatch.context() as patch:
        # Blocks of a few steps and sequences, as sizes too large for a test would have them.
        patch.setattr(tpu, "MEMORY", 1 << 20)
        assert_equals(unroll_scan, cell, params, state, xs, valid, reverse, backend=backend)


def test_low_precision(backend):
    cell, valid = CELLS["gru"], jnp.arange(T)[:, None] < jnp.array([4, 0, 2])
    args = draw_params(cell), draw_state(cell, (B,)), draw_inputs(T, B)
    args = jax.tree.map(lambda a: a.astype(jnp.bfloat16), args)
    assert_equals(unroll_scan, cell, *args, valid, False, rounding=0.05, backend=backend)


def test_mixed_precision(backend):
    cell, valid = CELLS["lstm"], jnp.arange(T)[:, None] < jnp.array([4, 0, 2])
    args = draw_params(cell), draw_state(cell, (B,)), draw_inputs(T, B)
    assert_equals(unroll_fused, cell, *args, valid, True, "bfloat16", rounding=1e-3, backend=backend)


def test_more_of_everything_than_a_block_has(backend, monkeypatch):
    monkeypatch.setattr(tpu, "MEMORY", 1 << 20)
    cell = rnn.VanillaRNN(130)
    args = draw_params(cell), draw_state(cell, (150,)), draw_inputs(5, 150)
    assert_equals(unroll_scan, cell, *args, None, True, rounding=1e-4, backend=backend)  # it amplifies


def test_in_the_simulated_memory_of_a_tpu(monkeypatch):
    monkeypatch.setattr(tpu, "MEMORY", 1 << 20)
    cell, valid = CELLS["vanilla"], jnp.arange(7)[:, None] < jnp.arange(40) % 8
    args = draw_params(cell), draw_state(cell, (40,)), draw_inputs(7, 40)
    where = {"backend": "tpu", "interpret": InterpretParams(detect_races=True)}
    assert_equals(unroll_scan, cell, *args, valid, True, **where)


def test_chunks(backend):
    cell, valid = CELLS["vanilla"], jnp.arange(T)[:, None] < jnp.array([4, 0, 3])
    args = draw_params(cell), draw_state(cell, (B,)), draw_inputs(T, B)

    def run(chunk_size):
        def unroll(params, state, xs):
            kernels = functools.partial(unroll_pallas, interpret=True, backend=backend)
            return in_chunks(kernels, Problem(cell, params, state, xs, valid=valid), chunk_size)

        return value_and_gradients(unroll, *args)

    assert_equal_to_rounding(run(3), run(T), rounding=1e-6)


# --- several cells in one kernel ---


def count_kernels(f, backend, *args):
    """How many kernels a function of arrays, or of their shapes, is on a GPU or a TPU."""
    lowered = jax.jit(f).trace(*args).lower(lowering_platforms=(PLATFORMS[backend],)).as_text()
    return lowered.count("custom_call @__gpu$xla.gpu.triton(") + lowered.count("custom_call @tpu_custom_call(")


def two_of(draw, *args):
    return draw(*args, seed=1), draw(*args, seed=5)


def test_heads_are_one_kernel(backend):
    cell = CELLS["vanilla"]
    params, state = (
        jax.tree.map(lambda *pair: jnp.stack(pair), *pair)
        for pair in (two_of(draw_params, cell), two_of(draw_state, cell, (B,)))
    )
    xs = draw_inputs(T, B)

    def heads(unroll, **where):
        def run(params, state, xs):
            return jax.vmap(lambda params, state: unroll(Problem(cell, params, state, xs), **where))(params, state)

        return run

    actual = value_and_gradients(heads(unroll_pallas, backend=backend, interpret=True), params, state, xs)
    assert_equal_to_rounding(actual, value_and_gradients(heads(unroll_scan), params, state, xs), rounding=2e-6)
    lowered = heads(unroll_pallas, backend=backend)
    assert count_kernels(lowered, backend, params, state, xs) == 1
    assert count_kernels(lambda *args: value_and_gradients(lowered, *args), backend, params, state, xs) == 2


# --- for devices that are not there ---


def shapes_of(cell, num_steps, batch_size, input_size, dtype):
    """Shapes of parameters, state and inputs."""

    def draw():
        arrays = cell.init(jax.random.key(0), input_size), cell.initial_state((batch_size,))
        return jax.tree.map(lambda a: a.astype(dtype), (*arrays, jnp.zeros((num_steps, batch_size, input_size))))

    return jax.eval_shape(draw)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "cell",
    [
        rnn.LSTM(128),
        rnn.LSTM(64, peepholes=True),
        rnn.GRU(128),
        rnn.VanillaRNN(128),
        rnn.VanillaRNN(8, activation="relu"),
    ],
    ids=repr,
)
def test_it_is_one_kernel_each_way(backend, cell, dtype):
    args, valid = shapes_of(cell, 28, 128, 28, dtype), jax.ShapeDtypeStruct((28, 128), jnp.bool_)

    def run(params, state, xs, valid):
        return unroll_pallas(Problem(cell, params, state, xs, valid=valid, resets=valid), backend=backend)

    def gradients(*args):
        return value_and_gradients(lambda params, state, xs: run(params, state, xs, args[-1]), *args[:-1])

    assert count_kernels(run, backend, *args, valid) == 1
    assert count_kernels(gradients, backend, *args, valid) == 2


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3), ("vanilla", 1)])
def test_the_kernels_multiply_only_with_the_recurrent_weights(backend, name, gates):
    cell = CELLS[name]

    def value(params, state, xs):
        return loss(unroll_pallas(Problem(cell, params, state, xs), backend=backend))

    args = draw_params(cell), draw_state(cell, (B,)), draw_inputs(T, B)
    gradients = str(jax.make_jaxpr(jax.grad(value, argnums=(0, 1, 2)))(*args))
    in_kernels, before, after = 2 * gates, 1, 3  # x w_x; the gradients of w_x, w_h and x
    assert gradients.count("dot_general[") == in_kernels + before + after


# --- what it does not do ---


def test_second_derivatives():
    cell, xs = CELLS["gru"], draw_inputs(2, 1)
    params, state = draw_params(cell), draw_state(cell, (1,))

    def value(xs):
        return loss(unroll_pallas(Problem(cell, params, state, xs), backend="gpu", interpret=True))

    with pytest.raises(NotImplementedError, match="no second derivative goes through"):
        jax.grad(lambda xs: jnp.sum(jax.grad(value)(xs)))(xs)


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        (rnn.LSTM(128), {}, ""),
        (rnn.LSTM(128), {"dtype": jnp.bfloat16}, ""),
        (rnn.LSTM(256), {"precision": "bfloat16"}, ""),
        (rnn.LSTM(1024), {"precision": "bfloat16", "platform": "tpu"}, ""),
        (rnn.LSTM(128), {"platform": "cpu"}, "a GPU or a TPU, not a CPU"),
        (rnn.LayerNormLSTM(8), {}, "an LSTM, a GRU or a VanillaRNN, not LayerNormLSTM"),
        (rnn.GRU(8, reset_after=False), {}, "a step that multiplies its input and h with matrices, and nothing else"),
        (rnn.LSTM(8, projection_size=4), {}, "a step that multiplies its input and h with matrices, and nothing else"),
        (rnn.LSTM(8), {"dtype": jnp.float16}, "arrays all of float32 or all of bfloat16, not float16"),
        (rnn.LSTM(8), {"batch_size": 0}, "at least one step, one sequence and one feature"),
        (rnn.LSTM(8), {"num_steps": 0}, "at least one step, one sequence and one feature"),
        (rnn.LSTM(8), {"noise": jnp.ones(1)}, "a cell with nothing random in it"),
        (rnn.LSTM(128), {"num_steps": 100_000, "batch_size": 128}, "fewer than 2147483648 numbers in the gates"),
        (rnn.LSTM(256), {}, "smaller recurrent weights than 4 gates of 256 KiB each"),
        (rnn.LSTM(512), {"precision": "bfloat16"}, "smaller recurrent weights than 4 gates of 512 KiB each"),
        (rnn.LSTM(1024), {"platform": "tpu"}, "recurrent weights of at most 8388608 bytes, not 16777216"),
    ],
)
def test_when_it_serves(cell, options, message):
    options = {"num_steps": T, "batch_size": B, "dtype": jnp.float32, "platform": "cuda", **options}
    sizes = options.pop("num_steps"), options.pop("batch_size"), INPUT_SIZE, options.pop("dtype")
    platform = options.pop("platform")
    why_not = why_not_pallas(Problem(cell, *shapes_of(cell, *sizes), **options), platform)
    assert why_not.startswith(message)
    assert bool(why_not) == bool(message)


@pytest.mark.parametrize(
    ("capability", "served"), [("7.5", (0, 0)), ("8.0", (1, 1)), ("8.9", (1, 0)), ("9.0", (1, 1)), ("gfx942", (0, 0))]
)
def test_gpus_with_less_shared_memory_serve_less(monkeypatch, capability, served):
    monkeypatch.setattr(gpu, "_compute_capability", lambda: capability)
    reasons = [gpu.why_not(num_gates=4, units=units, itemsize=2) for units in (128, 256)]
    assert tuple(not reason for reason in reasons) == served


def test_a_version_of_jax_without_the_compiler_of_kernels(monkeypatch):
    monkeypatch.setitem(sys.modules, "rnn_jax.implementations.pallas.gpu", None)
    why_not = why_not_pallas(Problem(rnn.GRU(8), *shapes_of(rnn.GRU(8), T, B, INPUT_SIZE, jnp.float32)), "cuda")
    assert why_not.startswith("kernels that this version of JAX can compile")
