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


@pytest.fixture(params=list(NETS.values()), ids=list(NETS))
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


def test_final_output_of_nothing_is_zero(net):
    assert not net.final_output(jnp.ones((0, B, net.output_size))).any()


def test_an_empty_stack_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        rnn.stack()


def test_parts_that_are_not_the_net_s_are_refused():
    net = rnn.stack(rnn.GRU(4), rnn.GRU(4))
    params, xs = draw_params(net), draw_inputs(T, B)
    with pytest.raises(ValueError, match="params must be a tuple of 2 parts"):
        net.apply(params[:1], xs)
    with pytest.raises(ValueError, match="state must be a tuple of 2 parts"):
        net.apply(params, xs, net.initial_state((B,))[:1])
    with pytest.raises(ValueError, match="params must be a tuple of 2 parts"):
        rnn.bidirectional(rnn.GRU(4)).apply(params[0], xs)  # type: ignore
    with pytest.raises(ValueError, match="needs a cell, which has a step"):
        rnn.bidirectional(net)  # type: ignore


def test_last_output_is_at_the_last_valid_step():
    ys = jnp.arange(1.0, 1 + T * B * 2).reshape(T, B, 2)
    np.testing.assert_array_equal(rnn.last_output(ys, LENGTHS), [ys[4, 0], [0, 0], ys[1, 2]])
    np.testing.assert_array_equal(rnn.last_output(ys), ys[-1])
    with pytest.raises(ValueError, match=r"lengths has shape \(2,\), but needs \(3,\)"):
        rnn.last_output(ys, jnp.array([1, 2]))


# --- merging directions ---


def test_ways_to_merge_the_directions():
    concat, total, both = (rnn.bidirectional(rnn.GRU(4), merge=merge) for merge in ("concat", "sum", "both"))
    params, xs = draw_params(concat), draw_inputs(T, B)
    _, ys = both.apply(params, xs, lengths=LENGTHS)
    assert isinstance(ys, rnn.BothWays)
    assert_close(concat.apply(params, xs, lengths=LENGTHS)[1], jnp.concatenate(ys, axis=-1))
    assert_close(total.apply(params, xs, lengths=LENGTHS)[1], ys.forward + ys.backward)
    assert (concat.output_size, total.output_size) == (8, 4)
    expected = concat.final_output(jnp.concatenate(ys, axis=-1), LENGTHS)
    assert_close(both.final_output(ys, LENGTHS), expected)


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(ValueError, match="merge must be one of concat, sum, both"):
        rnn.bidirectional(rnn.GRU(4), merge="mean")  # type: ignore
    with pytest.raises(ValueError, match="outputs of equal size, not 4 and 2"):
        rnn.bidirectional(rnn.GRU(4), rnn.GRU(2), merge="sum")
    with pytest.raises(ValueError, match="no layer can read two"):
        rnn.dropout(rnn.bidirectional(rnn.GRU(4), merge="both"), 0.5)
    with pytest.raises(ValueError, match="no layer can read two"):
        rnn.stack(rnn.bidirectional(rnn.GRU(4), merge="both"), rnn.GRU(4)).init(jax.random.key(0), INPUT_SIZE)
    with pytest.raises(ValueError, match="does not tell the directions' final outputs apart"):
        rnn.bidirectional(rnn.GRU(4), merge="sum").final_output(jnp.ones((T, B, 4)))


# --- residual connections ---


def test_a_residual_layer_adds_its_inputs():
    net = rnn.residual(rnn.bidirectional(rnn.GRU(INPUT_SIZE), merge="sum"))
    params, xs = draw_params(net), draw_inputs(T, B)
    state, ys = net.layer.apply(params, xs)
    assert_close(net.apply(params, xs), (state, xs + ys))
    assert net.output_size == INPUT_SIZE


def test_padding_does_not_pass_a_residual_layer():
    net = rnn.residual(rnn.GRU(INPUT_SIZE))
    params, xs = draw_params(net), draw_inputs(T, B)
    _, ys = net.apply(params, xs.at[2:, 2].set(jnp.nan), lengths=LENGTHS)
    assert_close(ys[:2, 2], net.apply(params, xs[:2, 2])[1])
    assert not ys[2:, 2].any()


def test_a_residual_layer_needs_inputs_of_its_own_size():
    with pytest.raises(ValueError, match="needs inputs of size 4, not 3"):
        rnn.residual(rnn.GRU(4)).init(jax.random.key(0), INPUT_SIZE)
