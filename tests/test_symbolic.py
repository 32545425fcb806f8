"""Programs exported once for every batch size and every number of steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CELLS, INPUT_SIZE, assert_close, draw_inputs, draw_params, draw_state

import rnn_jax as rnn

NETS = {
    **{name: rnn.Recurrent(cell) for name, cell in CELLS.items()},
    "inputs four times as wide as the state": rnn.Recurrent(rnn.GRU(1)),
    "both ways, residual, remat": rnn.residual(rnn.bidirectional(rnn.LSTM(INPUT_SIZE), merge="sum", remat=2)),
    "stack": rnn.stack(
        rnn.dropout(rnn.bidirectional(rnn.GRU(2), remat=True), 0.2),
        rnn.tensor_parallel(rnn.zoneout(rnn.variational_dropout(rnn.LSTM(2), states=0.1), h=0.1)),
        rnn.Recurrent(rnn.GRU(2), reverse=True, implementation="scan"),
    ),
}


def export(f, args, symbols):
    """Exports a function of arrays whose leading axes are symbols, such as "T, B, ..."."""
    return jax.export.export(jax.jit(f))(*jax.export.symbolic_args_specs(args, symbols)).call


@pytest.mark.parametrize("net", list(NETS.values()), ids=list(NETS))
def test_a_layer_is_exported_for_every_batch_and_length(net):
    params, args = draw_params(net), (draw_inputs(5, 3), jnp.array([5, 0, 2]))

    def run(params, xs, lengths):
        states, ys = net.apply(params, xs, lengths=lengths)
        return states, ys, None if getattr(net, "merge", "") == "sum" else final(ys, lengths)

    def final(ys, lengths):
        try:
            return net.final_output(ys, lengths)
        except ValueError:  # a sum of both directions has none
            return None

    exported = export(run, (params, *args), (None, "T, B, ...", "B"))
    for num_steps, lengths in ((5, [5, 0, 2]), (7, [7])):
        args = draw_inputs(num_steps, len(lengths)), jnp.array(lengths, jnp.int32)
        assert_close(exported(params, *args), jax.jit(run)(params, *args))


@pytest.mark.parametrize("name", ["lstm", "gru-reset-before"])
def test_gradients_are_exported_too(name):
    cell = CELLS[name]
    params, xs = draw_params(cell), draw_inputs(5, 3)

    def gradient(params, xs):
        return jax.grad(lambda p: jnp.sum(rnn.unroll(cell, p, xs, remat=True, reverse=True)[1] ** 2))(params)

    exported = export(gradient, (params, xs), (None, "T, B, ..."))
    assert_close(exported(params, xs), jax.jit(gradient)(params, xs), atol=1e-5)


def test_a_step_is_exported_with_its_state(cell):
    params, state, x = draw_params(cell), draw_state(cell, (3,)), draw_inputs(3)
    exported = export(cell.step, (params, state, x), (None, "B, ...", "B, ..."))
    assert_close(exported(params, state, x), cell.step(params, state, x))


def test_known_lengths_and_noise_fit_a_symbolic_program():
    cell = rnn.zoneout(rnn.LayerNormLSTM(4, recurrent_dropout=0.5), h=0.5)
    run = functools.partial(rnn.unroll, cell, key=jax.random.key(0))
    params, xs = draw_params(cell), draw_inputs(5, 3)
    exported = export(lambda params, xs: run(params, xs, lengths=np.array([2, 0, 1])), (params, xs), (None, "T, ..."))
    assert_close(exported(params, xs), run(params, xs, lengths=jnp.array([2, 0, 1])))
