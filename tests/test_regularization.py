"""Regularizers against their formulas: masks by hand, expected values, and no key, no randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, draw_inputs, draw_params, draw_state, unroll

import rnn_jax as rnn

T, B = 5, 3
KEY = jax.random.key(7)


def loop(cell, params, xs, after):
    """A Python loop that hands each step's state and output to `after`."""
    state, ys = cell.initial_state(xs.shape[1:-1]), []
    for t in range(len(xs)):
        state, y = after(t, state, *cell.step(params, state, xs[t]))
        ys.append(y)
    return state, jnp.stack(ys)


# --- dropout between layers ---


def test_dropout_without_a_key_does_nothing():
    net, plain = rnn.dropout(rnn.LSTM(4), 0.5), rnn.Recurrent(rnn.LSTM(4))
    params, xs = draw_params(net), draw_inputs(T, B)
    assert_close(net.apply(params, xs), plain.apply(params, xs), atol=0, rtol=0)


def test_dropout_drops_its_rate_and_keeps_the_mean():
    net, plain = rnn.dropout(rnn.LSTM(4), 0.25), rnn.Recurrent(rnn.LSTM(4))
    params, xs = draw_params(net), draw_inputs(100, 50)
    state, ys = net.apply(params, xs, key=KEY)
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


# --- variational dropout ---


def test_variational_masks_are_one_in_time_and_one_for_each_sequence():
    cell = rnn.variational_dropout(rnn.LSTM(64), inputs=0.2, states=0.3, outputs=0.5)
    _, masks = cell.noise(KEY, jnp.ones((T, 50, 40)))
    for mask, rate in zip(masks, (0.2, 0.3, 0.5), strict=True):
        assert (mask == mask[0]).all(), "the same at every step"
        assert not np.array_equal(mask[0, 0], mask[0, 1])
        assert_close(jnp.unique(mask), jnp.array([0, 1 / (1 - rate)]))
        assert abs(mask[0].mean() - 1) < 0.1


@pytest.mark.parametrize("inner", [rnn.LSTM(4), rnn.GRU(4)])
def test_variational_dropout_is_its_formula(inner):
    cell = rnn.variational_dropout(inner, inputs=0.2, states=0.3, outputs=0.5)
    params, xs = draw_params(cell), draw_inputs(T, B)
    _, (m_x, m_h, m_y) = cell.noise(KEY, xs)

    def mask(t, state, new_state, y):
        return new_state._replace(h=new_state.h * m_h[t]), y * m_y[t]

    assert_close(unroll(cell, params, xs, key=KEY), loop(inner, params, xs * m_x, mask))


# --- zoneout ---


def test_zoneout_keeps_its_rate_of_the_state():
    cell = rnn.zoneout(rnn.LSTM(64), h=0.1, c=0.5)
    _, kept = cell.noise(KEY, jnp.ones((T, 50, 3)))
    assert abs(kept["h"].mean() - 0.1) < 0.01
    assert abs(kept["c"].mean() - 0.5) < 0.01
    assert not np.array_equal(kept["h"][0], kept["h"][1]), "fresh at every step"


@pytest.mark.parametrize("key", [None, KEY])
def test_zoneout_is_its_formula(key):
    cell = rnn.zoneout(rnn.LSTM(4), h=0.1, c=0.5)
    params, xs = draw_params(cell), draw_inputs(T, B)
    d = {"h": jnp.full(T, 0.1), "c": jnp.full(T, 0.5)} if key is None else cell.noise(key, xs)[1]

    def keep(t, state, new_state, y):
        h = d["h"][t] * state.h + (1 - d["h"][t]) * new_state.h
        c = d["c"][t] * state.c + (1 - d["c"][t]) * new_state.c
        return rnn.LSTMState(h, c), h

    assert_close(unroll(cell, params, xs, key=key), loop(rnn.LSTM(4), params, xs, keep))


def test_one_step_of_zoneout_has_the_expected_value():
    cell = rnn.zoneout(rnn.GRU(4), h=0.3)
    params, x, state = draw_params(cell), draw_inputs(1, B), draw_state(cell, (B,))
    run = jax.jit(jax.vmap(lambda key: rnn.unroll(cell, params, x, state, key=key)[1]))
    mean = run(jax.random.split(KEY, 4000)).mean(axis=0)
    assert_close(mean, unroll(cell, params, x, state)[1], atol=0.03)


# --- what all of them keep ---

WRAPPED = {
    "variational": rnn.variational_dropout(rnn.LSTM(4), inputs=0.2, states=0.3, outputs=0.5),
    "zoneout": rnn.zoneout(rnn.LSTM(4), h=0.1, c=0.5),
    "both": rnn.zoneout(rnn.variational_dropout(rnn.LayerNormLSTM(4, recurrent_dropout=0.1), states=0.3), h=0.5),
}


@pytest.mark.parametrize("cell", list(WRAPPED.values()), ids=list(WRAPPED))
def test_a_regularized_cell_is_a_cell_like_any_other(cell):
    params, xs, lengths = draw_params(cell), draw_inputs(T, B), jnp.array([5, 0, 2])
    plain, first, again, other = (
        unroll(cell, params, xs, lengths=lengths, key=key) for key in (None, KEY, KEY, jax.random.key(8))
    )
    assert_close(again, first, atol=0, rtol=0)
    assert not np.array_equal(first[1], other[1])
    assert not np.array_equal(first[1], plain[1])
    assert not first[1][2:, 2].any()
    final, ys = unroll(cell, params, xs, reverse=True, key=KEY)
    assert jax.tree.structure(final) == jax.tree.structure(plain[0])
    assert ys.shape == plain[1].shape


def test_directions_and_layers_draw_apart():
    net = rnn.bidirectional(rnn.variational_dropout(rnn.GRU(4), outputs=0.5), merge="both")
    params = draw_params(net)
    same = rnn.BothWays(params.forward, params.forward)
    _, ys = net.apply(same, jnp.ones((1, 20, 3)), key=KEY)
    assert not np.array_equal(ys.forward == 0, ys.backward == 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rnn.dropout(rnn.LSTM(4), 1.0), "rate must be at least 0 and below 1, not 1.0"),
        (lambda: rnn.variational_dropout(rnn.LSTM(4), inputs=-0.1), "inputs must be at least 0"),
        (lambda: rnn.zoneout(rnn.LSTM(4), h=1.5), "h must be at least 0 and below 1"),
        (lambda: rnn.dropout(rnn.LSTM(4), "0.5"), "rate must be at least 0 and below 1, not '0.5'"),  # type: ignore
        (lambda: rnn.zoneout(rnn.variational_dropout(rnn.GRU(4), outputs=0.5)), "would undo the dropout of outputs"),
        (lambda: rnn.zoneout(rnn.GRU(4), c=0.5), "zoneout on c needs a cell with c in its state"),
    ],
)
def test_what_cannot_be_regularized_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
