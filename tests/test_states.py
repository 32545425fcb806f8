"""The states of every step among the outputs, and initial states that are learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CELLS, assert_close, draw_inputs, draw_params, draw_state, loss

import rnn_jax as rnn

T, B = 5, 3


@functools.partial(jax.jit, static_argnames=("cell", "options"))
def states_of(cell, params, xs, state, lengths, options):
    final, outputs = rnn.unroll(cell, params, xs, state, lengths=lengths, **dict(options))
    return final, *cell.split(outputs)


@pytest.mark.parametrize("implementation", ["scan", "fused", "parallel"])
@pytest.mark.parametrize("name", ["lstm-all-options", "gru", "lru"])
def test_every_state_is_the_final_one_of_a_shorter_sequence(name, implementation):
    cell = CELLS[name]
    if (name, implementation) == ("lru", "fused"):
        pytest.skip("has no equations")
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    options, lengths = (("implementation", implementation),), jnp.array([5, 0, 2])
    final, ys, states = states_of(rnn.with_states(cell), params, xs, state, lengths, options)
    expected_final, expected_ys = rnn.unroll(cell, params, xs, state, lengths=lengths)
    assert_close((final, ys), (expected_final, expected_ys), atol=1e-5)
    for t in range(T):
        reached, _ = rnn.unroll(cell, params, xs[: t + 1], state)
        for leaf, expected in zip(states, reached, strict=True):
            np.testing.assert_allclose(leaf[t, 0], expected[0], atol=1e-5)
    assert all(not leaf[:, 1].any() and not leaf[2:, 2].any() for leaf in states)


def test_states_and_regularizers_compose():
    zoned = rnn.zoneout(rnn.LSTM(4), h=0.1, c=0.2)
    cell = rnn.with_states(zoned)
    params, xs, key = draw_params(cell), draw_inputs(T, B), jax.random.key(0)
    net = rnn.stack(rnn.bidirectional(cell), rnn.GRU(4))
    assert net.apply(draw_params(net), xs, key=key)[1].shape == (T, B, 4)
    (final, outputs), (expected, ys) = (rnn.unroll(c, params, xs, key=key) for c in (cell, zoned))
    assert_close((final, *cell.split(outputs)[:1]), (expected, ys))
    with pytest.raises(ValueError, match="zoneout needs a cell whose output is h: wrap WithStates"):
        rnn.zoneout(rnn.with_states(rnn.LSTM(4)), h=0.1)


def test_large_states_with_the_features_first():
    cell = rnn.with_states(rnn.LSTM(400))  # more numbers than the fused path keeps with the features last
    params, xs = cell.init(jax.random.key(0), 3), draw_inputs(2, 2)
    fused, scan = (rnn.unroll(cell, params, xs, implementation=name) for name in ("fused", "scan"))
    assert_close(fused, scan, atol=1e-5)


@pytest.mark.parametrize(
    "layer", [rnn.LSTM(4), rnn.bidirectional(rnn.GRU(4)), rnn.stack(rnn.LRU(4), rnn.SLSTM(4))], ids=str
)
def test_the_initial_state_is_a_parameter(layer):
    learned = rnn.learn_initial_state(layer)
    params, xs, lengths = draw_params(learned), draw_inputs(T, B), jnp.array([5, 0, 2])
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (B, *leaf.shape)), params.state)

    @jax.jit
    def grads(params, state):
        def from_own(params):
            return loss(learned.apply(params, xs, lengths=lengths))

        def from_given(state):
            return loss(learned.layer.apply(params.layer, xs, state, lengths=lengths))

        return jax.value_and_grad(from_own)(params), jax.value_and_grad(from_given)(state)

    (own, d_params), (given, d_state) = grads(params, state)
    assert_close(own, given, atol=1e-5)
    assert_close(d_params.state, jax.tree.map(lambda leaf: leaf.sum(0), d_state), atol=1e-5)
    assert all(leaf.any() for leaf in jax.tree.leaves(d_params.layer))


def test_the_initial_state_begins_as_the_layer_s_own_and_gives_way_to_one_that_is_given():
    learned = rnn.learn_initial_state(rnn.GRU(4))
    params, xs = learned.init(jax.random.key(0), 3), draw_inputs(T, B)
    plain = rnn.unroll(rnn.GRU(4), params.layer, xs)
    assert_close(learned.apply(params, xs), plain)
    other = params._replace(state=rnn.GRUState(jnp.ones(4)))
    assert_close(learned.apply(other, xs, learned.initial_state((B,))), plain)
    assert rnn.stack(learned, rnn.dropout(learned, 0.1)).init(jax.random.key(0), 3)[1].layer.w_x.shape == (4, 12)


def test_a_learned_state_is_not_converted():
    learned = rnn.learn_initial_state(rnn.GRU(4))
    with pytest.raises(ValueError, match="other frameworks learn no initial state"):
        rnn.convert.to_torch(learned, draw_params(learned))
