"""`unroll` against the slow and obvious: a Python loop over the steps, and one sequence at a time."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CELLS, INPUT_SIZE, assert_close, draw_inputs, draw_params, draw_state, loss, unroll
from hypothesis import given
from hypothesis import strategies as st

import rnn_jax as rnn
from rnn_jax.readout import Classifier

T, B = 5, 3


@functools.partial(jax.jit, static_argnames="cell")
def unroll_slowly(cell, params, xs, state):
    ys = []
    for x in xs:
        state, y = cell.step(params, state, x)
        ys.append(y)
    return state, jnp.stack(ys)


def test_unroll_is_a_loop_over_the_steps(cell):
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    assert_close(unroll(cell, params, xs, state), unroll_slowly(cell, params, xs, state))


def test_the_default_state_is_the_initial_one(cell):
    params, xs = draw_params(cell), draw_inputs(T, B)
    assert_close(unroll(cell, params, xs), unroll(cell, params, xs, cell.initial_state((B,))), atol=0, rtol=0)


def test_reverse_is_forward_on_the_flipped_sequence(cell):
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    final, ys = unroll(cell, params, xs, state, reverse=True)
    final_flipped, ys_flipped = unroll(cell, params, xs[::-1], state)
    assert_close((final, ys), (final_flipped, ys_flipped[::-1]))


@pytest.mark.parametrize("name", list(CELLS))
@given(cut=st.sampled_from([0, 1, T]), seed=st.integers(0, 9))
def test_a_sequence_in_pieces_is_the_whole(name, cut, seed):
    """Each length of a piece is compiled anew: nothing, one step, several, and all are in these cuts."""
    cell = CELLS[name]
    params, xs = draw_params(cell), np.asarray(draw_inputs(T, B, seed=seed))
    state, first = unroll(cell, params, xs[:cut])
    state, second = unroll(cell, params, xs[cut:], state)
    assert_close((state, np.concatenate([first, second])), unroll(cell, params, xs))


def test_jit_changes_nothing(cell):
    params, xs, lengths = draw_params(cell), draw_inputs(T, B), jnp.array([5, 0, 2])
    assert_close(unroll(cell, params, xs, lengths=lengths), rnn.unroll(cell, params, xs, lengths=lengths))


def test_equal_cells_trace_once():
    traces = []

    @jax.jit
    def run(cell, params, xs):
        traces.append(cell)
        return rnn.unroll(cell, params, xs)

    params = draw_params(rnn.LSTM(4))
    for _ in range(3):
        run(rnn.LSTM(4), params, draw_inputs(T, B))
    assert traces == [rnn.LSTM(4)]


@pytest.mark.parametrize("batch_shape", [(), (1,), (2, 3)])
def test_any_number_of_batch_axes(cell, batch_shape):
    params, xs = draw_params(cell), draw_inputs(T, *batch_shape)
    state, ys = unroll(cell, params, xs)
    flat_state, flat_ys = unroll(cell, params, xs.reshape(T, -1, INPUT_SIZE))
    assert ys.shape == (T, *batch_shape, cell.output_size)
    flat = jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), (flat_state, flat_ys), (state, ys))
    assert_close((state, ys), flat)


def test_vmap_over_sequences_is_a_batch(cell):
    params, xs, lengths = draw_params(cell), draw_inputs(T, B), jnp.array([5, 0, 2])

    def one(x, length):
        return unroll(cell, params, x, lengths=length)

    batched = jax.jit(jax.vmap(one, in_axes=(1, 0), out_axes=(0, 1)))(xs, lengths)
    assert_close(batched, unroll(cell, params, xs, lengths=lengths))


# --- sequences of unequal lengths ---


@pytest.mark.parametrize("reverse", [False, True])
@given(lengths=st.lists(st.integers(0, T), min_size=B, max_size=B))
def test_each_sequence_runs_as_if_it_were_alone(reverse, lengths):
    for cell in (rnn.LSTM(4, projection_size=3), rnn.GRU(4)):
        params, (xs, state) = draw_params(cell), jax.device_get((draw_inputs(T, B), draw_state(cell, (B,))))
        final, ys = jax.device_get(unroll(cell, params, xs, state, lengths=jnp.array(lengths), reverse=reverse))
        for b, length in enumerate(lengths):  # NumPy's slices, of which none is compiled
            own_state = jax.tree.map(lambda leaf, b=b: leaf[b], state)
            own_final, own_ys = unroll(cell, params, xs[:length, b], own_state, reverse=reverse)
            assert_close(jax.tree.map(lambda leaf, b=b: leaf[b], final), own_final)
            assert_close(ys[:length, b], own_ys)
            assert not ys[length:, b].any()


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_reaches_no_output_and_no_gradient(cell, reverse):
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    lengths = jnp.array([5, 0, 2])
    padding = jnp.arange(T)[:, None] >= lengths

    def run(params, xs, state):
        outputs = unroll(cell, params, xs, state, lengths=lengths, reverse=reverse)
        return loss(outputs), outputs

    grad = jax.jit(jax.grad(run, argnums=(0, 1, 2), has_aux=True))
    clean = grad(params, xs, state)
    assert not clean[0][1][padding].any(), "the padding's own gradient is zero"
    for poison in (jnp.nan, jnp.inf):
        poisoned = grad(params, jnp.where(padding[..., None], poison, xs), state)
        assert_close(poisoned, clean, atol=0, rtol=0)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(poisoned))


@pytest.mark.parametrize("make", [list, np.array, lambda n: np.array(n, np.int8), jnp.array])
def test_lengths_known_while_something_else_is_traced(make):
    cell, params, xs = rnn.GRU(4), draw_params(rnn.GRU(4)), draw_inputs(200, B)
    expected = unroll(cell, params, xs, lengths=jnp.array([5, 0, 2]))
    lengths = make([5, 0, 2])

    def run(xs):
        return rnn.unroll(cell, params, xs, lengths=lengths)

    assert_close(jax.jit(run)(xs), expected)
    assert_close(jax.checkpoint(run)(xs), expected)
    with pytest.raises(ValueError, match="lengths must be from 0 to 4"):
        jax.jit(run)(xs[:4])


PADDED = {
    "variational": rnn.variational_dropout(rnn.LSTM(3), inputs=0.2, states=0.3, outputs=0.5),
    "zoneout": rnn.zoneout(rnn.LSTM(3), h=0.1, c=0.5),
    "recurrent dropout": rnn.LayerNormLSTM(3, recurrent_dropout=0.3),
}


@pytest.mark.parametrize(("name", "seed"), [*[(name, 5) for name in PADDED], ("zoneout", None)])
def test_padding_stays_out_of_whole_networks(name, seed):
    """With a key for each wrapper, and without one."""
    cell, key = PADDED[name], None if seed is None else jax.random.key(seed)
    net = rnn.stack(rnn.residual(rnn.dropout(cell, 0.2)), rnn.bidirectional(cell), rnn.Recurrent(cell, reverse=True))
    classifier = Classifier(net, 2)
    params, xs, lengths = draw_params(classifier), draw_inputs(T, B), jnp.array([5, 0, 2])

    def run(params, xs):
        outputs = classifier.apply(params, xs, lengths=lengths, key=key), net.apply(params.encoder, xs, lengths=lengths)
        return loss(outputs), outputs

    grad = jax.jit(jax.grad(run, argnums=(0, 1), has_aux=True))
    padding = jnp.arange(T)[:, None, None] >= lengths[:, None]
    assert_close(grad(params, jnp.where(padding, jnp.nan, xs)), grad(params, xs), atol=0, rtol=0)


def test_length_zero_keeps_the_initial_state(cell):
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    final, ys = unroll(cell, params, xs, state, lengths=jnp.zeros(B, int))
    assert_close(final, state, atol=0, rtol=0)
    assert not ys.any()


def test_full_lengths_are_no_lengths(cell):
    params, xs = draw_params(cell), draw_inputs(T, B)
    assert_close(unroll(cell, params, xs, lengths=jnp.full(B, T)), unroll(cell, params, xs))


# --- a cell of the user's own ---


class MGUParams(NamedTuple):
    w: jax.Array
    b: jax.Array


@dataclasses.dataclass(frozen=True)
class MGU:
    """The minimal gated unit (Zhou et al., 2016), written to the protocol and to nothing else."""

    output_size: int

    def init(self, key, input_size):
        return MGUParams(
            0.3 * jax.random.normal(key, (2, input_size + self.output_size, self.output_size)),
            jnp.zeros((2, self.output_size)),
        )

    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.zeros((*batch_shape, self.output_size), dtype)

    def step(self, params, state, x):
        f = jax.nn.sigmoid(jnp.concatenate([x, state], -1) @ params.w[0] + params.b[0])
        n = jnp.tanh(jnp.concatenate([x, f * state], -1) @ params.w[1] + params.b[1])
        h = (1 - f) * state + f * n
        return h, h


def test_a_user_s_cell_gets_everything_for_nothing():
    cell = MGU(4)
    params, xs, lengths = draw_params(cell), draw_inputs(T, B), jnp.array([5, 0, 2])
    assert_close(unroll(cell, params, xs), unroll_slowly(cell, params, xs, cell.initial_state((B,))))
    final, ys = unroll(cell, params, xs, lengths=lengths, reverse=True)
    assert_close(ys[:2, 2], unroll(cell, params, xs[:2, 2], reverse=True)[1])
    assert not final[1].any()

    net = rnn.stack(rnn.bidirectional(cell), rnn.dropout(cell, 0.5))
    _, ys = net.apply(draw_params(net), xs, lengths=lengths, key=jax.random.key(0))
    assert ys.shape == (T, B, 4)


# --- the door ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xs": jnp.ones((T, B, 7))}, r"params.w_x has shape \(3, 16\), but xs with 7 features .* needs \(7, 16\)"),
        ({"xs": jnp.ones((T, B, 3), int)}, "xs has dtype int32, but needs a floating-point one"),
        ({"xs": jnp.ones(T)}, r"xs has shape \(5,\), but needs \[T, ..., input_size\]"),
        ({"xs": jnp.ones((T, B, 3), jnp.bfloat16)}, "params.w_x has dtype float32, but xs .* is bfloat16: cast one"),
        ({"state": rnn.LSTMState(jnp.ones((2, 4)), jnp.ones((3, 4)))}, r"state.h has shape .2, 4., but .*.3, 4."),
        ({"state": rnn.GRUState(jnp.ones((3, 4)))}, "state has the structure"),
        ({"params": rnn.GRU(4).init(jax.random.key(0), 3)}, "params has the structure"),
        ({"lengths": jnp.array([1, 2])}, r"lengths has shape \(2,\), but needs \(3,\)"),
        ({"lengths": jnp.array([1.0, 2, 3])}, "lengths has dtype float32, but needs an integer one"),
        ({"lengths": [1, 6, 2]}, r"lengths must be from 0 to 5, the steps of xs, not \[1, 6, 2\]"),
        ({"lengths": [1, -1, 2]}, "lengths must be from 0 to 5"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    cell = rnn.LSTM(4)
    arguments = {"params": draw_params(cell), "xs": draw_inputs(T, B), "state": None, "lengths": None, **changes}
    with pytest.raises(ValueError, match=message):
        rnn.unroll(cell, **arguments)


def test_a_step_checks_its_arguments_too(cell):
    params = draw_params(cell)
    with pytest.raises(ValueError, match="needs"):
        cell.step(params, cell.initial_state((2,)), draw_inputs(B))
    with pytest.raises(ValueError, match="x has dtype int32"):
        cell.step(params, cell.initial_state((2,)), jnp.ones((2, 3), int))
    state, y = cell.step(params, cell.initial_state((2,)), [[1.0, 2.0, 3.0]] * 2)
    assert_close((state, y), cell.step(params, cell.initial_state((2,)), np.array([[1.0, 2, 3]] * 2, np.float32)))


def test_an_unknown_implementation():
    cell, params, xs = rnn.GRU(4), draw_params(rnn.GRU(4)), draw_inputs(T, B)
    with pytest.raises(
        ValueError, match="implementation must be one of None, scan, fused, parallel, pallas, cudnn, not 'fast'"
    ):
        rnn.unroll(cell, params, xs, implementation="fast")  # type: ignore


def test_no_steps_at_all(cell):
    state, ys = rnn.unroll(cell, draw_params(cell), draw_inputs(0, B))
    assert_close(state, cell.initial_state((B,)))
    assert ys.shape == (0, B, cell.output_size)


def test_a_user_s_cell_may_mix_dtypes_and_draw_parameters_as_it_likes():
    class Decay:
        """Averages in float32, whatever comes in."""

        output_size = 3

        def init(self, key, input_size):
            return np.random.default_rng(int(jax.random.randint(key, (), 0, 9))).random(input_size, np.float32)

        def initial_state(self, batch_shape=(), dtype=float):
            return jnp.zeros((*batch_shape, 3), jnp.float32)

        def step(self, params, state, x):
            state = params * state + (1 - params) * x.astype(jnp.float32)
            return state, state.astype(x.dtype)

    cell = Decay()
    state, ys = rnn.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones((T, B, 3), jnp.bfloat16))
    assert (state.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)
