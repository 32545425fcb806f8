"""Sequences in a row, with the state reset between them: equal to each of them run apart."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, draw_inputs, draw_params, draw_state, loss
from hypothesis import given, settings
from hypothesis import strategies as st

import rnn_jax as rnn
from rnn_jax.implementations.fused import unroll_fused
from rnn_jax.implementations.pallas import unroll_pallas, why_not_pallas
from rnn_jax.implementations.problem import Problem
from rnn_jax.implementations.table import CUDNN, FUSED, PALLAS

T, B = 6, 2


def kernels(backend):
    return PALLAS._replace(
        why_not=lambda problem, platform: why_not_pallas(problem, "cuda"),
        run=functools.partial(unroll_pallas, backend=backend, interpret=True),
    )


IMPLEMENTATIONS = {
    "scan": "scan",
    "fused": "fused",
    "fused, features first": FUSED._replace(run=functools.partial(unroll_fused, axis=0, longest_joined=0)),
    "pallas, gpu": kernels("gpu"),
    "pallas, tpu": kernels("tpu"),
}
RESETS = jnp.array([[1, 0], [0, 0], [0, 1], [1, 1], [0, 0], [0, 1]], bool)
LENGTHS = jnp.array([6, 3])


@functools.partial(jax.jit, static_argnames=("cell", "implementation", "reverse", "remat"))
def run(cell, params, xs, state, resets, lengths=None, *, implementation, reverse=False, remat=False):
    """Outputs and gradients."""
    options = {"implementation": implementation, "reverse": reverse, "remat": remat, "lengths": lengths}

    def value(params, xs, state):
        outputs = rnn.unroll(cell, params, xs, state, resets=resets, **options)
        return loss(outputs), outputs

    return jax.grad(value, argnums=(0, 1, 2), has_aux=True)(params, xs, state)


@functools.partial(jax.jit, static_argnames="cell")
def loop(cell, params, xs, state, resets, lengths):
    """The slow, obvious version of one row read forwards: a step at a time."""
    ys, initial = [], cell.initial_state()
    for t in range(len(xs)):
        state = jax.tree.map(lambda i, s, t=t: jnp.where(resets[t] & (t < lengths), i, s), initial, state)
        new_state, y = cell.step(params, state, xs[t])
        state = jax.tree.map(lambda n, s, t=t: jnp.where(t < lengths, n, s), new_state, state)
        ys.append(jnp.where(t < lengths, y, 0))
    return state, jnp.stack(ys)


@settings(max_examples=10)
@given(resets=st.lists(st.booleans(), min_size=2 * T, max_size=2 * T), length=st.integers(0, T))
def test_unroll_is_a_loop_with_resets(resets, length):
    cell = rnn.LSTM(3)
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    resets, lengths = jnp.array(resets).reshape(T, B), jnp.array([length, T])
    expected = jax.vmap(functools.partial(loop, cell, params), in_axes=(1, 0, 1, 0), out_axes=(0, 1))(
        xs, state, resets, lengths
    )
    _, actual = run(cell, params, xs, state, resets, lengths, implementation="scan")
    assert_close(actual, expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_parts_run_apart_in_the_order_of_reading(reverse):
    cell = rnn.GRU(3)
    params, xs, state = draw_params(cell), draw_inputs(T), draw_state(cell)
    resets = jnp.array([False, False, True, False, True, False])
    final, ys = rnn.unroll(cell, params, xs, state, resets=resets, reverse=reverse)
    parts = [slice(3, 5), slice(0, 3)] if reverse else [slice(2, 4), slice(4, 6)]
    first = slice(5, 6) if reverse else slice(0, 2)
    assert_close(ys[first], rnn.unroll(cell, params, xs[first], state, reverse=reverse)[1])
    for part in parts:
        assert_close(ys[part], rnn.unroll(cell, params, xs[part], reverse=reverse)[1])
    assert_close(final, rnn.unroll(cell, params, xs[parts[-1]], reverse=reverse)[0])


@pytest.mark.parametrize("name", list(IMPLEMENTATIONS)[1:])
@pytest.mark.parametrize("cell", [rnn.LSTM(3, peepholes=True), rnn.GRU(3)], ids=["lstm", "gru"])
def test_every_implementation_resets(name, cell):
    args = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,)), RESETS, LENGTHS
    for reverse, remat in ((False, False), (True, 4)):
        options = {"reverse": reverse, "remat": remat}
        expected = run(cell, *args, implementation="scan", reverse=reverse)
        actual = run(cell, *args, implementation=IMPLEMENTATIONS[name], **options)
        assert_close(actual, expected, atol=2e-5, rtol=1e-5)


def test_cudnn_has_no_resets():
    cell = rnn.LSTM(3)
    problem = Problem(cell, draw_params(cell), draw_state(cell, (B,)), draw_inputs(T, B), resets=RESETS)
    assert CUDNN.why_not(problem, "cuda") == "sequences without resets"


LAYERS = {
    "both ways": rnn.bidirectional(rnn.LSTM(3)),
    "both ways at once": rnn.bidirectional(rnn.LSTM(3), implementation=IMPLEMENTATIONS["pallas, gpu"]),
    "stack": rnn.stack(
        rnn.dropout(rnn.bidirectional(rnn.GRU(2)), 0.1),
        rnn.residual(rnn.Recurrent(rnn.LSTM(4), reverse=True)),
        rnn.zoneout(rnn.LSTM(2), h=0.2),
    ),
}


@pytest.mark.parametrize("net", list(LAYERS.values()), ids=list(LAYERS))
def test_a_network_reads_sequences_in_a_row_as_if_apart(net):
    params, xs = draw_params(net), draw_inputs(T, B)
    starts = jnp.array([[1, 0], [0, 0], [0, 1], [1, 0], [0, 0], [0, 0]], bool)
    apply = jax.jit(net.apply)
    _, ys = apply(params, xs, resets=starts)
    for row, cuts in enumerate(([0, 3, 6], [0, 2, 6])):
        for start, stop in itertools.pairwise(cuts):
            assert_close(ys[start:stop, row], apply(params, xs[start:stop, row])[1], atol=1e-5)


@pytest.mark.parametrize("net", list(LAYERS.values()), ids=list(LAYERS))
def test_a_start_in_the_padding_is_none(net):
    params, xs, state = draw_params(net), draw_inputs(T, B), draw_state(net, (B,))
    lengths, starts = jnp.array([3, 5]), jnp.zeros((T, B), bool).at[3, 0].set(True).at[5].set(True)
    apply = jax.jit(functools.partial(net.apply, params, xs, state, lengths=lengths))
    assert_close(apply(resets=starts), apply(), atol=1e-6)


def test_a_batch_of_several_axes_shares_resets():
    cell = rnn.GRU(3)
    params, xs = draw_params(cell), draw_inputs(T, B, 2)
    shared = rnn.unroll(cell, params, xs, resets=RESETS)
    assert_close(shared, rnn.unroll(cell, params, xs, resets=jnp.stack([RESETS, RESETS], -1)))
    assert_close(shared, rnn.unroll(cell, params, xs, resets=np.asarray(RESETS), implementation="scan"))


@pytest.mark.parametrize(
    ("resets", "message"),
    [
        (RESETS.astype(int), "resets has dtype int32, but needs bool"),
        (RESETS[:, :1], r"resets has shape \(6, 1\), but needs \(6, 2\)"),
        (RESETS[:, 0], r"resets has shape \(6,\), but needs \(6, 2\)"),
        (RESETS[1:], r"resets has shape \(5, 2\), but needs \(6, 2\)"),
    ],
)
def test_resets_that_do_not_fit_are_refused(resets, message):
    with pytest.raises(ValueError, match=message):
        rnn.unroll(rnn.GRU(3), draw_params(rnn.GRU(3)), draw_inputs(T, B), resets=resets)
