"""Tokens drawn from logits, sequences generated step by step, and the embedding folded into the cell above it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CELLS, assert_close, draw_inputs, draw_params, draw_state
from hypothesis import given, settings
from hypothesis import strategies as st

import rnn_jax as rnn
from rnn_jax.folding import Folded, fold_embedding, fold_inputs
from rnn_jax.generate import generate, read, sample

V, H = 7, 4
LOGITS = jnp.array([0.0, 2.0, 1.0, -1.0, 2.5, -3.0, 0.5])
KEY = jax.random.key(0)


def language_model(layer, seed=1, **options):
    """A network with outputs that depend on the tokens."""
    net = rnn.Classifier(rnn.embed(layer, V), V, readout="every_step", **options)
    params = net.init(jax.random.key(seed), V)
    return net, params if params.w is None else params._replace(w=5 * params.w)


NET, PARAMS = language_model(rnn.stack(rnn.GRU(H), rnn.LSTM(H)))


def begin(net, batch, logits=LOGITS):
    return net.initial_state((batch,)), jnp.broadcast_to(logits, (batch, V))


# --- drawing ---


def test_tokens_are_drawn_as_often_as_their_probabilities_say():
    n = 20_000
    for temperature in (1.0, 0.5):
        tokens = sample(jnp.broadcast_to(LOGITS, (n, V)), KEY, temperature=temperature)
        expected = n * np.asarray(jax.nn.softmax(LOGITS / temperature))
        chi_square = np.sum((np.bincount(tokens, minlength=V) - expected) ** 2 / expected)
        assert chi_square < 22.5  # exceeded once in a thousand, with six degrees of freedom


@pytest.mark.parametrize("temperature", [0, 1e-300, 1e-37])
def test_the_coldest_draw_is_the_likeliest_token(temperature):
    logits = jax.random.normal(KEY, (50, V))
    assert np.array_equal(sample(logits, KEY, temperature=temperature), jnp.argmax(logits, -1))


@pytest.mark.parametrize(
    ("options", "possible"),
    [
        ({"top_k": 1}, {4}),
        ({"top_k": 3}, {4, 1, 2}),
        ({"top_k": 99}, set(range(V))),
        ({"top_p": 1e-9}, {4}),  # p is 0.48, 0.29, 0.11, 0.065, 0.039, 0.014, 0.002
        ({"top_p": 0.47}, {4}),
        ({"top_p": 0.5}, {4, 1}),
        ({"top_p": 0.8}, {4, 1, 2}),
        ({"top_p": 1}, set(range(V))),
        ({"top_k": 2, "top_p": 0.61}, {4}),  # 0.48 of 0.77
        ({"top_k": 2, "top_p": 0.65}, {4, 1}),
        ({"top_p": 0.8, "temperature": 0.3}, {4}),  # 0.83
        ({"top_p": 0.99, "temperature": 0.3}, {4, 1}),
    ],
)
def test_only_the_likeliest_tokens_are_drawn(options, possible):
    tokens = sample(jnp.broadcast_to(LOGITS, (5_000, V)), KEY, **options)
    assert set(np.unique(tokens).tolist()) == possible


def test_tokens_as_likely_as_the_last_one_are_drawn_too():
    logits = jnp.array([1.0, 0.0, 1.0, 1.0])
    assert set(np.unique(sample(jnp.broadcast_to(logits, (500, 4)), KEY, top_k=2)).tolist()) == {0, 2, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature must be at least 0 and finite, not -1"),
        ({"temperature": float("nan")}, "temperature must be at least 0 and finite, not nan"),
        ({"top_k": 0}, "top_k must be a positive whole number, not 0"),
        ({"top_k": 1.5}, "top_k must be a positive whole number, not 1.5"),
        ({"top_p": 0}, "top_p must be above 0 and at most 1, not 0"),
        ({"top_p": 1.01}, "top_p must be above 0 and at most 1, not 1.01"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sample(LOGITS, KEY, **options)
    with pytest.raises(ValueError, match=message):
        generate(NET, PARAMS, *begin(NET, 1), KEY, 1, **options)


# --- generating ---


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}])
def test_a_sequence_is_generated_as_if_step_by_step(options):
    state, logits = begin(NET, 2)
    final, last, tokens = generate(NET, PARAMS, state, logits, KEY, 12, **options)
    step = jax.jit(NET.step)
    for i, found in enumerate(tokens):
        keys = [jax.random.fold_in(jax.random.fold_in(KEY, b), i) for b in range(2)]
        token = jnp.stack([sample(row, key, **options) for row, key in zip(logits, keys, strict=True)])
        assert np.array_equal(found, token)
        state, logits = step(PARAMS, state, token)
    assert_close((final, last), (state, logits))


@functools.cache
def ten_tokens(samples):
    return np.asarray(generate(NET, PARAMS, *begin(NET, samples), KEY, 10)[2])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 10), max_size=5))
def test_chunks_of_any_size_make_the_same_tokens(ends):
    (state, logits), start, chunks = begin(NET, 2), 0, []
    for end in sorted({*ends, 10}):
        count = end - start
        state, logits, tokens = generate(NET, PARAMS, state, logits, KEY, 10, start=start, count=count)
        assert not np.any(tokens[count:])
        chunks.append(tokens[:count])
        start = end
    assert np.array_equal(np.concatenate(chunks), ten_tokens(2))


def test_a_sample_is_the_same_alone_and_among_others():
    assert np.array_equal(ten_tokens(2)[:, :1], ten_tokens(1))
    assert not np.array_equal(ten_tokens(2)[:, 0], ten_tokens(2)[:, 1])


def test_reading_a_prompt_in_parts_gives_the_logits_of_the_whole():
    tokens = jax.random.randint(KEY, (9, 1), 0, V)
    state, logits = begin(NET, 1)
    for part, count in ((tokens[:5], 5), (tokens[5:], 3), (tokens[8:], 1)):
        state, logits = read(NET, PARAMS, state, logits, part, count)
    final, expected = NET.read(PARAMS, tokens)
    assert_close((state, logits), (final, expected[-1]))
    assert_close(read(NET, PARAMS, state, logits, tokens, 0), (state, logits))


# --- folding ---


@pytest.mark.parametrize("name", ["lstm-all-options", "lstm-layernorm", "gru-reset-before", "slstm"])
def test_a_folded_cell_computes_the_same_step(name):
    cell = CELLS[name]
    params, state, vectors = draw_params(cell), draw_state(cell, (2,)), draw_inputs(V)
    folded, tokens = Folded(cell, vectors.shape[1]), jnp.array([5, 0])

    @jax.jit
    def step_both(params, state, vectors):
        rows = fold_inputs(cell, params, vectors)
        assert rows.shape[1] > vectors.shape[1]
        return folded.step(params, state, rows[tokens]), cell.step(params, state, vectors[tokens])

    assert_close(*step_both(params, state, vectors), atol=1e-5, rtol=1e-5)


def test_a_network_is_folded_below_all_its_layers():
    net, params = language_model(rnn.dropout(rnn.stack(rnn.dropout(rnn.LSTM(H), 0.5), rnn.GRU(H)), 0.5))
    folded, folded_params = fold_embedding(net, params)
    tokens = jax.random.randint(KEY, (6, 2), 0, V)
    assert isinstance(folded.encoder.layer.layer.layers[0].layer.cell, Folded)
    assert_close(folded.read(folded_params, tokens), net.read(params, tokens), atol=1e-5, rtol=1e-5)


def test_a_tied_head_is_folded_too():
    net, params = language_model(rnn.LSTM(H), tied=True)
    folded, folded_params = fold_embedding(net, params)
    tokens = jax.random.randint(KEY, (6, 2), 0, V)
    assert_close(folded.read(folded_params, tokens), net.read(params, tokens), atol=1e-5, rtol=1e-5)


def test_other_networks_stay_unfolded():
    layers = [rnn.residual(rnn.GRU(H)), rnn.Recurrent(rnn.GRU(H), precision="bfloat16"), rnn.bidirectional(rnn.GRU(H))]
    nets = [language_model(layer) for layer in layers]
    for net, params in [*nets, (NET.encoder, PARAMS.encoder), (rnn.Classifier(rnn.GRU(H), V), None)]:
        assert fold_embedding(net, params) == (net, params)
