"""Tokens as inputs, the tied head, and reading in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CELLS, assert_close

import rnn_jax as rnn
from rnn_jax.training.step import evaluate

V, T, B, H = 7, 6, 3, 4


def draw_tokens(dtype=jnp.int32):
    return jax.random.randint(jax.random.key(0), (T, B), 0, V).astype(dtype)


def language_model(layer, **options):
    net = rnn.Classifier(rnn.embed(layer, V, options.pop("size", None)), V, readout="every_step", **options)
    return net, net.init(jax.random.key(1), V)


@pytest.mark.parametrize("name", ["vanilla", "lstm-all-options", "lru"])
def test_an_embedding_is_a_product_with_one_hot_vectors(name):
    layer = rnn.embed(CELLS[name], V, 5)
    params, tokens = layer.init(jax.random.key(0), V), draw_tokens()
    final, ys = layer.apply(params, tokens, lengths=jnp.array([6, 0, 2]))
    vectors = jax.nn.one_hot(tokens, V) @ params.embedding
    assert_close((final, ys), layer.layer.apply(params.layer, vectors, lengths=jnp.array([6, 0, 2])))
    assert params.embedding.shape == (V, 5)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32])
def test_bytes_and_other_whole_numbers_are_tokens(dtype):
    layer = rnn.embed(rnn.GRU(H), 256)
    params = layer.init(jax.random.key(0), 256)
    tokens = jnp.array([[0], [255], [128]])
    assert_close(layer.apply(params, tokens.astype(dtype)), layer.apply(params, tokens))


@pytest.mark.parametrize("readout", ["final", "last_step", "mean", "every_step"])
def test_reading_in_parts_equals_reading_at_once(readout):
    net = rnn.Classifier(rnn.embed(rnn.stack(rnn.dropout(rnn.LSTM(H), 0.5), rnn.GRU(3)), V, 2), V, readout=readout)
    params, tokens = net.init(jax.random.key(1), V), draw_tokens()
    state, logits = net.initial_state((B,)), []
    for part in (tokens[:1], tokens[1:4], tokens[4:5]):
        state, some = net.read(params, part, state)
        logits.append(some)
    state, last = net.step(params, state, tokens[-1])
    whole_state, whole = net.read(params, tokens)
    assert_close(state, whole_state)
    assert_close(jnp.concatenate([*logits, last[None]]) if readout == "every_step" else last, whole)


@pytest.mark.parametrize("readout", ["final", "mean"])
def test_parts_of_unequal_lengths_are_read_on(readout):
    net = rnn.Classifier(rnn.embed(rnn.GRU(H), V), 2, readout=readout)
    params, tokens = net.init(jax.random.key(1), V), draw_tokens()
    state, _ = net.read(params, tokens, lengths=jnp.array([6, 2, 4]))
    _, logits = net.read(params, tokens[:2], state)
    for i, length in enumerate((6, 2, 4)):
        whole = jnp.concatenate([tokens[:length, i], tokens[:2, i]])
        assert_close(logits[i], net.apply(params, whole))


def test_a_tied_head_has_the_vectors_of_the_embedding():
    net, params = language_model(rnn.GRU(H), tied=True)
    assert params.w is None
    _, ys = net.encoder.apply(params.encoder, draw_tokens())
    assert_close(net.apply(params, draw_tokens()), ys @ params.encoder.embedding.T / np.sqrt(H) + params.b)
    gradient = jax.grad(lambda params: net.apply(params, draw_tokens()).var())(params)
    assert bool(jnp.all(jnp.any(gradient.encoder.embedding != 0, axis=1)))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (rnn.GRU(H), "tied=True needs an encoder of embed"),
        (rnn.embed(rnn.GRU(H), V, 5), "vectors as large as the outputs, 4, not 7 tokens and vectors of size 5"),
        (rnn.embed(rnn.GRU(H), 9), "as many tokens as classes, 7, .* not 9 tokens"),
    ],
)
def test_a_head_that_cannot_be_tied_is_refused(encoder, message):
    with pytest.raises(ValueError, match=message):
        rnn.Classifier(encoder, V, tied=True)


def test_inputs_that_are_no_tokens_are_refused():
    layer = rnn.embed(rnn.GRU(H), V)
    with pytest.raises(ValueError, match="must be its number of tokens, 7"):
        layer.init(jax.random.key(0), 5)
    params = layer.init(jax.random.key(0), V)
    for xs in (jnp.ones((T, B)), jnp.array(1)):
        with pytest.raises(ValueError, match="xs needs whole numbers"):
            layer.apply(params, xs)
    with pytest.raises(ValueError, match="num_tokens must be a positive whole number"):
        rnn.embed(rnn.GRU(H), 0)


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_goes_through_a_file(tmp_path, tied):
    net, params = language_model(rnn.stack(rnn.bidirectional(rnn.GRU(2)), rnn.GRU(H)), tied=tied)
    rnn.save(tmp_path / "net.safetensors", net, params)  # type: ignore
    again, loaded = rnn.load(tmp_path / "net.safetensors")
    assert again == net
    assert_close(again.apply(loaded, draw_tokens()), net.apply(params, draw_tokens()), atol=0)


def test_tokens_without_a_batch_axis_go_through_vmap():
    net, params = language_model(rnn.GRU(H), tied=True)

    def loss(params, tokens, key):
        value = net.apply(params, tokens).mean()
        return value, value

    tokens = draw_tokens()
    assert_close(evaluate(loss, params, tokens.T), net.apply(params, tokens).mean())
