"""The library against numbers that other frameworks computed: golden/record.py says which.

For each case the framework's weights are converted, the network is run on the same inputs, and outputs, final states
and all gradients must agree to 1e-5.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax as rnn
from rnn_jax.convert import from_equinox, from_flax, from_haiku, from_keras, from_tf, from_torch
from rnn_jax.layers import as_layer

TOLERANCE = 1e-5

everything = rnn.LSTM(4, peepholes=True, projection_size=3, cell_clip=0.7, projection_clip=0.2)
before = rnn.GRU(4, reset_after=False)
NETWORKS = {
    "tensorflow": {
        "basic_rnn": rnn.VanillaRNN(4),
        "basic_rnn_one_step": rnn.VanillaRNN(7),
        "basic_lstm": rnn.LSTM(4),
        "basic_lstm_one_step": rnn.LSTM(7),
        "basic_lstm_ragged": rnn.LSTM(4),
        "basic_lstm_bidirectional": rnn.bidirectional(rnn.LSTM(4)),
        "gru": before,
        "gru_one_step": rnn.GRU(7, reset_after=False),
        "gru_ragged": before,
        "gru_bidirectional": rnn.bidirectional(before),
        "lstm_peepholes": rnn.LSTM(4, peepholes=True),
        "lstm_projection": rnn.LSTM(4, projection_size=3, projection_clip=0.4),
        "lstm_cell_clip": rnn.LSTM(4, cell_clip=0.5),
        "lstm_everything": everything,
        "lstm_everything_bidirectional": rnn.bidirectional(everything),
        "layer_norm_lstm": rnn.LayerNormLSTM(4),
        "layer_norm_lstm_one_step": rnn.LayerNormLSTM(7),
        "layer_norm_lstm_ragged": rnn.LayerNormLSTM(4),
        "stack": rnn.stack(rnn.LSTM(4), rnn.LSTM(3, peepholes=True)),
    },
    "torch": {
        "lstm": rnn.LSTM(4),
        "lstm_one_step": rnn.LSTM(6),
        "lstm_bidirectional": rnn.bidirectional(rnn.LSTM(4)),
        "lstm_no_bias": rnn.LSTM(4),
        "lstm_projection": rnn.LSTM(4, projection_size=3),
        "lstm_projection_deep": rnn.stack(*[rnn.bidirectional(rnn.LSTM(4, projection_size=3))] * 2),
        "gru": rnn.GRU(4),
        "gru_one_step": rnn.GRU(6),
        "gru_deep": rnn.stack(*[rnn.bidirectional(rnn.GRU(4))] * 2),
        "rnn_tanh": rnn.VanillaRNN(4),
        "rnn_tanh_one_step": rnn.VanillaRNN(6),
        "rnn_tanh_deep": rnn.stack(*[rnn.bidirectional(rnn.VanillaRNN(4))] * 2),
        "rnn_relu": rnn.VanillaRNN(4, activation="relu"),
    },
    "keras": {
        "lstm": rnn.LSTM(4),
        "lstm_one_step": rnn.LSTM(4),
        "lstm_bidirectional": rnn.bidirectional(rnn.LSTM(4)),
        "lstm_bidirectional_masked": rnn.bidirectional(rnn.LSTM(4)),
        "gru_reset_after": rnn.GRU(4),
        "gru_reset_after_one_step": rnn.GRU(4),
        "gru_reset_before": before,
        "gru_reset_before_one_step": before,
        "gru_bidirectional": rnn.bidirectional(rnn.GRU(4)),
        "gru_bidirectional_masked": rnn.bidirectional(rnn.GRU(4)),
        "gru_no_bias": rnn.GRU(4),
        "simple_rnn": rnn.VanillaRNN(4),
        "simple_rnn_one_step": rnn.VanillaRNN(4),
        "simple_rnn_relu": rnn.VanillaRNN(4, activation="relu"),
    },
    "flax": {
        "linen_lstm": rnn.LSTM(4),
        "linen_lstm_bidirectional": rnn.bidirectional(rnn.LSTM(4)),
        "linen_optimized_lstm": rnn.LSTM(4),
        "linen_gru": rnn.GRU(4),
        "linen_gru_bidirectional": rnn.bidirectional(rnn.GRU(4)),
        "linen_simple": rnn.VanillaRNN(4),
        "nnx_lstm": rnn.LSTM(4),
        "nnx_optimized_lstm": rnn.LSTM(4),
        "nnx_optimized_lstm_bidirectional": rnn.bidirectional(rnn.LSTM(4)),
        "nnx_gru": rnn.GRU(4),
        "nnx_gru_bidirectional": rnn.bidirectional(rnn.GRU(4)),
        "nnx_simple": rnn.VanillaRNN(4),
    },
    "equinox": {
        "lstm": rnn.LSTM(4),
        "lstm_no_bias": rnn.LSTM(4),
        "gru": rnn.GRU(4),
        "gru_no_bias": rnn.GRU(4),
    },
    "haiku": {
        "lstm": rnn.LSTM(4),
        "gru": before,
        "vanilla_rnn": rnn.VanillaRNN(4, activation="relu"),
        "vanilla_rnn_one_bias": rnn.VanillaRNN(4, activation="relu"),
        "deep": rnn.stack(rnn.LSTM(4), rnn.GRU(3, reset_after=False), rnn.LSTM(2)),
    },
}
FORGET_BIAS = {"lstm_everything": 0.5}  # other than TensorFlow's 1

GOLDEN = {
    framework: dict(np.load(Path(__file__).parent / "golden" / f"{framework}.npz").items()) for framework in NETWORKS
}


def below(prefix, arrays):
    """The part of a flat dict under a prefix, which its names lose."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def convert(framework, case, net, weights):
    """Our parameters of the framework's, which are named as in the golden file."""
    match framework:
        case "tensorflow":
            name = case.removesuffix("_ragged").removesuffix("_bidirectional")
            return from_tf(net, weights, FORGET_BIAS.get(name, 1.0))
        case "torch":
            return from_torch(net, weights)
        case "keras":
            return from_keras(net, list(weights.values()))
        case "equinox":
            return from_equinox(net, weights)
        case "haiku":
            modules = {}
            for path, array in weights.items():
                module, _, name = path.rpartition("/")
                modules.setdefault(module, {})[name] = array
            return from_haiku(net, modules)
        case _:
            nested = {}
            for name, array in weights.items():
                *path, last = name.split("/")
                inner = nested
                for key in path:
                    inner = inner.setdefault(key, {})
                inner[last] = array
            return from_flax(net, nested)


def convert_gradients(framework, case, net, grads):
    """Our gradients of the framework's.

    A conversion only rearranges weights, and their gradients alike, with two exceptions: a constant forget bias has
    no gradient, and of two biases that are added both have the gradient of the sum, of which the second is left out.
    """
    grads = {name: np.array(grad) for name, grad in grads.items()}
    if framework == "tensorflow":
        return from_tf(net, grads, forget_bias=0)
    if framework == "haiku":
        constant = convert(framework, case, net, {name: np.zeros_like(grad) for name, grad in grads.items()})
        second_bias = {name: np.zeros_like(grad) for name, grad in grads.items() if name.endswith("linear_1/b")}
        converted = convert(framework, case, net, grads if case == "deep" else grads | second_bias)
        return jax.tree.map(lambda grad, zero: grad - zero, converted, constant)
    for name, grad in grads.items():
        if framework == "torch" and "bias_hh" in name:
            grad[: len(grad) * 2 // 3 if case.startswith("gru") else None] = 0
        if framework == "keras" and grad.ndim == 2 and len(grad) == 2 and case.startswith("gru"):
            grad[1, : grad.shape[1] * 2 // 3] = 0
    return convert(framework, case, net, grads)


@functools.partial(jax.jit, static_argnames="net")
def run(net, inputs, lengths, factors):
    """The loss's gradients with respect to the inputs; the final state and the outputs."""

    def loss(inputs):
        outputs = as_layer(net).apply(inputs["params"], inputs["xs"], inputs.get("state"), lengths=lengths)
        terms = jax.tree.map(lambda factor, output: jnp.sum(factor * output), factors, outputs)
        return sum(jax.tree.leaves(terms)), outputs

    with jax.default_matmul_precision("highest"):
        return jax.grad(loss, has_aux=True)(inputs)


def errors(framework, case):
    """How far the library is from the framework, at most: {what: largest absolute difference}."""
    net = NETWORKS[framework][case]
    golden = below(f"{case}/", GOLDEN[framework])
    xs, weights = golden["xs"], below("weights/", golden)
    structure = jax.tree.structure(jax.eval_shape(lambda: as_layer(net).initial_state(xs.shape[1:-1])))

    def state(prefix):
        return jax.tree.unflatten(structure, list(below(prefix, golden).values()))

    inputs = {"params": convert(framework, case, net, weights), "xs": xs}
    expected = {
        "params": convert_gradients(framework, case, net, below("grads/weights/", golden)),
        "xs": golden["grads/xs"],
    }
    if "state/0" in golden:
        inputs["state"] = state("state/")
        expected["state"] = state("grads/state/")
    grads, (final, ys) = run(net, inputs, golden.get("lengths"), (state("loss/final/"), golden["loss/ys"]))

    # Where the framework has no bias, ours has a gradient and the framework's none to compare it with.
    ones = {name: np.ones_like(weight) for name, weight in weights.items()}
    shared = convert_gradients(framework, case, net, ones)
    grads["params"] = jax.tree.map(lambda grad, has: np.asarray(grad) * (np.asarray(has) != 0), grads["params"], shared)

    def error(actual, expected):
        distances = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), actual, expected)
        return float(max(jax.tree.leaves(distances)))

    return {
        "outputs": error(ys, golden["ys"]),
        "final state": error(final, state("final/")),
        **{f"gradient of {name}": error(grads[name], expected[name]) for name in inputs},
    }


@pytest.mark.parametrize(
    ("framework", "case"), [(framework, case) for framework, cases in NETWORKS.items() for case in cases]
)
def test_agrees_with_the_framework(framework, case):
    for what, error in errors(framework, case).items():
        assert error <= TOLERANCE, what


@pytest.mark.parametrize("framework", list(NETWORKS))
def test_every_golden_case_is_compared(framework):
    assert {name.split("/")[0] for name in GOLDEN[framework]} == set(NETWORKS[framework])


@pytest.mark.parametrize(("name", "clip"), [("lstm_cell_clip/final/1", 0.5), ("lstm_projection/ys", 0.4)])
def test_the_clips_of_the_golden_cases_bite(name, clip):
    clipped = np.abs(GOLDEN["tensorflow"][name]) == np.float32(clip)
    assert 0 < clipped.sum() < clipped.size
