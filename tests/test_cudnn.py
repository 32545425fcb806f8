"""cuDNN's LSTM, as far as a CPU can tell: with JAX's reference implementation in its place, against the scan."""

import functools

import jax
import jax.numpy as jnp
import pytest
from helpers import assert_close, draw_inputs, draw_params, draw_state, loss
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import rnn as jax_rnn
from jax.interpreters import mlir
from jaxlib import gpu_rnn

import rnn_jax as rnn
from rnn_jax.implementations import cudnn
from rnn_jax.implementations.problem import Problem
from rnn_jax.implementations.table import CUDNN, select

T, B, D, H = 5, 3, 3, 4


# As on a host with CUDA.
ON_CUDA = CUDNN._replace(why_not=lambda problem, platform: cudnn.why_not_cudnn(problem, "cuda"))


def reference_lstm(x, h_0, c_0, weights, seq_lengths, *, dropout, **sizes):
    """`jax.experimental.rnn.lstm` in plain JAX; steps after the last valid one are NaN, which nobody may read."""
    assert seq_lengths.dtype == jnp.int32
    layers = jax_rnn.unpack_lstm_weights(weights, **sizes)
    y, h, c = jax_rnn.lstm_ref(x, h_0, c_0, *layers, seq_lengths, dropout=dropout, **sizes)
    return jnp.where(jnp.arange(y.shape[1])[:, None] < seq_lengths[:, None, None], y, jnp.nan), h, c


@pytest.fixture
def reference(monkeypatch):
    monkeypatch.setattr(jax_rnn, "lstm", reference_lstm)


def unroll_and_differentiate(implementation, params, xs, state, **options):
    """Outputs, final state, and gradients with respect to params, xs and state."""

    @jax.jit
    def run(*arguments):
        def value(params, xs, state):
            outputs = rnn.unroll(rnn.LSTM(H), params, xs, state, implementation=implementation, **options)
            return loss(outputs), outputs

        return jax.grad(value, argnums=(0, 1, 2), has_aux=True)(*arguments)

    return run(params, xs, state)


@settings(max_examples=5)
@given(
    num_steps=st.integers(1, 6),
    batch_shape=st.sampled_from([(), (1,), (3,), (2, 2)]),
    reverse=st.booleans(),
    data=st.data(),
)
def test_it_equals_the_scan(num_steps, batch_shape, reverse, data):
    lengths = None
    if data.draw(st.booleans(), "with lengths"):
        size = functools.reduce(int.__mul__, batch_shape, 1)
        drawn = data.draw(st.lists(st.integers(0, num_steps), min_size=size, max_size=size), "lengths")
        lengths = jnp.array(drawn, jnp.int32).reshape(batch_shape)
    cell = rnn.LSTM(H)
    arguments = draw_params(cell), draw_inputs(num_steps, *batch_shape), draw_state(cell, batch_shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax_rnn, "lstm", reference_lstm)
        actual = unroll_and_differentiate(ON_CUDA, *arguments, lengths=lengths, reverse=reverse)
    expected = unroll_and_differentiate("scan", *arguments, lengths=lengths, reverse=reverse)
    assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("reference")
def test_nothing_in_the_padding_reaches_a_gradient():
    cell, lengths = rnn.LSTM(H), jnp.array([5, 0, 2])
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    padding = jnp.arange(T)[:, None, None] >= lengths[:, None]
    clean, poisoned = (
        unroll_and_differentiate(ON_CUDA, params, inputs, state, lengths=lengths)
        for inputs in (xs, jnp.where(padding, jnp.nan, xs))
    )
    assert_close(poisoned, clean, atol=0, rtol=0)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(poisoned))


@pytest.mark.usefixtures("reference")
def test_long_sequences_in_chunks():
    cell = rnn.LSTM(H)
    arguments = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    chunks = unroll_and_differentiate(ON_CUDA, *arguments, lengths=jnp.array([5, 0, 2]), remat=2)
    assert_close(chunks, unroll_and_differentiate("scan", *arguments, lengths=jnp.array([5, 0, 2])), 1e-5, 1e-5)


def test_weights_are_packed_as_cudnn_has_them_and_back():
    params = draw_params(rnn.LSTM(H))
    flat = cudnn.pack_weights(params)
    assert flat.shape == (jax_rnn.get_num_params_in_lstm(D, H, 1, False),)
    w_x, w_h, b_x, b_h = (part[0] for part in jax_rnn.unpack_lstm_weights(flat, D, H, 1, False))
    assert_close((w_x.T, w_h.T, b_x, b_h), (params.w_x, params.w_h, params.b, jnp.zeros(4 * H)), 0, 0)
    assert_close(cudnn.unpack_weights(flat, D, H), params, 0, 0)
    ours = cudnn.unpack_weights(jax_rnn.init_lstm_weight(jax.random.key(0), D, H, 1, False), D, H)
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, params)
    with pytest.raises(ValueError, match=r"input_size 2 and hidden_size 4 need \(128,\)"):
        cudnn.unpack_weights(flat, 2, H)


def test_it_lowers_for_cuda_with_its_gradient(monkeypatch):
    """Only the sizes of cuDNN's workspace and its descriptor, which need a device, are made up."""

    class Plugin:
        build_rnn_descriptor = staticmethod(lambda *sizes: repr(sizes).encode())

    monkeypatch.setattr(gpu_rnn, "compute_rnn_workspace_reserve_space_sizes", lambda *_: (7, 11), raising=False)
    for primitive, lowering in (
        (jax_rnn.rnn_fwd_p, gpu_rnn._rnn_fwd_lowering),
        (jax_rnn.rnn_bwd_p, gpu_rnn._rnn_bwd_lowering),
    ):
        mlir.register_lowering(primitive, functools.partial(lowering, Plugin, "cu"), platform="cuda")
    cell = rnn.LSTM(H)

    unpatched = ON_CUDA._replace(run=lambda problem: cudnn.unroll_cudnn(problem))  # not to be found in JAX's cache

    def value(params, xs):
        return loss(rnn.unroll(cell, params, xs, implementation=unpatched))

    traced = jax.jit(jax.grad(value, argnums=(0, 1))).trace(draw_params(cell), draw_inputs(T, B))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("@cudnn_rnn_ffi") == text.count("@cudnn_rnn_bwd_ffi") == 1
    assert "while" not in text
    assert f"({D}, {H}, 1, {B}, {T}, 0.0, False, True, 7, 11)" in text


@pytest.mark.parametrize(
    ("cell", "dtype", "num_steps", "needs"),
    [
        (rnn.LSTM(H), jnp.bfloat16, T, "inputs, parameters and states in float32, not bfloat16"),
        (rnn.LSTM(H), jnp.float32, 0, r"at least one step, sequence and feature, .*, not \(0, 3, 3\)"),
        (rnn.GRU(H), jnp.float32, T, "a plain LSTM, without peepholes"),
        (rnn.LSTM(H, peepholes=True), jnp.float32, T, "a plain LSTM, without peepholes"),
        (rnn.LSTM(H, projection_size=H), jnp.float32, T, "a plain LSTM, without peepholes, projection"),
        (rnn.LSTM(H, cell_clip=1.0), jnp.float32, T, "a plain LSTM, without peepholes, projection or clipping"),
        (rnn.zoneout(rnn.LSTM(H), h=0.1), jnp.float32, T, "a plain LSTM"),
    ],
)
def test_what_it_does_not_serve_is_told(cell, dtype, num_steps, needs):
    params, xs = jax.tree.map(lambda a: a.astype(dtype), (draw_params(cell), draw_inputs(num_steps, B)))
    with pytest.raises(ValueError, match=f'implementation="cudnn" needs {needs}.*: leave it out, or use "scan"'):
        rnn.unroll(cell, params, xs, implementation=ON_CUDA)


def test_a_host_without_cuda_is_told():
    cell = rnn.LSTM(H)
    problem = Problem(cell, draw_params(cell), draw_state(cell, (B,)), draw_inputs(T, B))
    with pytest.raises(ValueError, match='"cudnn" needs CUDA, and JAX\'s default platform here is tpu: leave it out'):
        select(problem, "cudnn", platform="tpu")
