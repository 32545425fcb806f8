"""Layers against what they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import INPUT_SIZE, assert_close, draw_inputs, draw_params, draw_state, unroll

import rnn_jax as rnn

T, B = 5, 3
LENGTHS = jnp.array([5, 0, 2])
NETS = {
    "forward": rnn.Recurrent(rnn.LSTM(4)),
    "reverse": rnn.Recurrent(rnn.GRU(4), reverse=True),
    "both": rnn.bidirectional(rnn.LSTM(4), rnn.GRU(2)),
    "stack": rnn.stack(rnn.LSTM(4), rnn.bidirectional(rnn.GRU(2))),
}


@pytest.fixture(params=NETS.values(), ids=NETS.keys())
def net(request):
    return request.param


def test_recurrent_is_unroll():
    cell = rnn.GRU(4)
    params, xs = draw_params(cell), draw_inputs(T, B)
    layer = rnn.Recurrent(cell, reverse=True)
    assert_close(layer.apply(params, xs, lengths=LENGTHS), unroll(cell, params, xs, lengths=LENGTHS, reverse=True))


def test_bidirectional_is_two_unrolls():
    net = rnn.bidirectional(rnn.LSTM(4), rnn.GRU(2))
    params, xs, state = draw_params(net), draw_inputs(T, B), draw_state(net, (B,))
    states, ys = net.apply(params, xs, state, lengths=LENGTHS)
    forward, ys_forward = unroll(rnn.LSTM(4), params.forward, xs, state.forward, lengths=LENGTHS)
    backward, ys_backward = unroll(rnn.GRU(2), params.backward, xs, state.backward, lengths=LENGTHS, reverse=True)
    assert_close(states, rnn.BothWays(forward, backward))
    assert_close(ys, jnp.concatenate([ys_forward, ys_backward], axis=-1))


def test_both_directions_have_parameters_of_their_own():
    params = rnn.bidirectional(rnn.GRU(4)).init(jax.random.key(0), INPUT_SIZE)
    assert not np.array_equal(params.forward.w_x, params.backward.w_x)


def test_stack_is_layer_after_layer():
    bottom, top = rnn.LSTM(4), rnn.bidirectional(rnn.GRU(2))
    net = rnn.stack(bottom, top)
    params, xs, state = draw_params(net), draw_inputs(T, B), draw_state(net, (B,))
    bottom_state, ys = unroll(bottom, params[0], xs, state[0], lengths=LENGTHS)
    top_state, ys = top.apply(params[1], ys, state[1], lengths=LENGTHS)
    assert_close(net.apply(params, xs, state, lengths=LENGTHS), ((bottom_state, top_state), ys))
    assert net.output_size == 4


def test_a_layer_is_a_value(net):
    traces = []

    @jax.jit
    def run(net, params, xs):
        traces.append(net)
        return net.apply(params, xs)

    params, xs = draw_params(net), draw_inputs(T, B)
    assert_close(run(net, params, xs), net.apply(params, xs))
    run(net, params, xs)
    assert traces == [net]


def test_final_output_has_read_each_sequence_to_its_end(net):
    params, xs = draw_params(net), draw_inputs(T, B)
    _, ys = net.apply(params, xs, lengths=LENGTHS)
    final = net.final_output(ys, LENGTHS)
    assert final.shape == (B, net.output_size)
    for b, length in enumerate(LENGTHS):
        if length == 0:
            assert not final[b].any()
        else:
            _, own_ys = net.apply(params, xs[:length, b])
            assert_close(final[b], net.final_output(own_ys))


def test_final_output_of_a_cell_is_its_final_state():
    for layer in (rnn.Recurrent(rnn.LSTM(4)), rnn.Recurrent(rnn.LSTM(4), reverse=True)):
        state, ys = layer.apply(draw_params(layer), draw_inputs(T, B), lengths=LENGTHS)
        assert_close(layer.final_output(ys, LENGTHS), state.h)


def test_an_empty_stack_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        rnn.stack()


# --- dropout ---


def test_dropout_without_a_key_does_nothing():
    net, plain = rnn.dropout(rnn.LSTM(4), 0.5), rnn.Recurrent(rnn.LSTM(4))
    params, xs = draw_params(net), draw_inputs(T, B)
    assert_close(net.apply(params, xs), plain.apply(params, xs), atol=0, rtol=0)


def test_dropout_drops_its_rate_and_keeps_the_mean():
    net, plain = rnn.dropout(rnn.LSTM(4), 0.25), rnn.Recurrent(rnn.LSTM(4))
    params, xs = draw_params(net), draw_inputs(100, 50)
    state, ys = net.apply(params, xs, key=jax.random.key(0))
    plain_state, plain_ys = plain.apply(params, xs)
    assert_close(state, plain_state, atol=0, rtol=0)
    dropped = np.asarray(ys == 0)
    assert abs(dropped.mean() - 0.25) < 0.01
    assert_close(ys[~dropped], plain_ys[~dropped] / 0.75)


def test_each_layer_of_a_stack_drops_by_a_key_of_its_own():
    net = rnn.stack(*[rnn.dropout(rnn.LSTM(4), 0.5)] * 2)
    params, xs = draw_params(net), draw_inputs(T, B)
    first, again, other = (net.apply(params, xs, key=jax.random.key(seed))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    bottom_only = rnn.stack(rnn.dropout(rnn.LSTM(4), 0.5), rnn.LSTM(4)).apply(params, xs, key=jax.random.key(0))[1]
    kept = np.asarray(first != 0)
    assert_close(first[kept], 2 * bottom_only[kept])


def test_a_rate_of_one_is_refused():
    with pytest.raises(ValueError, match="rate must be at least 0 and below 1"):
        rnn.dropout(rnn.LSTM(4), 1.0)
