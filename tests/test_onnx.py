"""ONNX models, checked by onnx and run by onnxruntime, beside the networks that they were written from."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import INPUT_SIZE, draw_inputs, draw_params, draw_state

import rnn_jax as rnn
from rnn_jax.convert import to_onnx
from rnn_jax.convert.onnx_ops import Graph, write_function
from rnn_jax.layers import as_layer
from rnn_jax.saving import name_arrays

pytest.importorskip("onnx", reason="onnx is an extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra")

T, B = 5, 4
LENGTHS = np.array([5, 0, 1, 3], np.int32)


@functools.partial(jax.jit, static_argnums=0)
def apply(net, params, xs, state, lengths):
    final_state, ys = as_layer(net).apply(params, xs, state, lengths=lengths)
    return name_arrays(ys, "ys") | name_arrays(final_state, "final_state")


class Session:
    """A network in onnxruntime."""

    def __init__(self, net, params):
        self.model = to_onnx(net, params)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # It warns of every input that has a default.
        self.session = onnxruntime.InferenceSession(self.model.SerializeToString(), options)
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.operators = {node.op_type for node in self.model.graph.node} & {"LSTM", "GRU", "RNN", "Scan"}

    def __call__(self, xs, state=None, lengths=None):
        inputs = {"xs": np.asarray(xs)} | name_arrays(state, "state")
        inputs |= {} if lengths is None else {"lengths": lengths}
        inputs = {name: np.asarray(array) for name, array in inputs.items()}
        return dict(zip(self.outputs, self.session.run(None, inputs), strict=True))


def check(net):
    """Compares a network with its model on a ragged batch, and returns the recurrent operators."""
    params = draw_params(net)
    session = Session(net, params)
    state = draw_state(as_layer(net), (B,))
    padding = np.arange(T)[:, None] >= LENGTHS
    xs = np.where(padding[..., None], np.nan, np.asarray(draw_inputs(T, B)))
    actual, expected = session(xs, state, LENGTHS), apply(net, params, xs, state, LENGTHS)
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-5, rtol=1e-5, err_msg=name)
    return session.operators


NATIVE = {
    "vanilla": {"RNN"},
    "vanilla-relu": {"RNN"},
    "lstm": {"LSTM"},
    "lstm-peephole": {"LSTM"},
    "gru": {"GRU"},
    "gru-reset-before": {"GRU"},
}


def test_every_cell_both_ways_and_in_two_layers_computes_the_same(cell, request):
    operators = check(rnn.stack(rnn.bidirectional(cell), cell))
    assert operators == NATIVE.get(request.node.callspec.id, {"Scan"})


@pytest.mark.parametrize(
    ("net", "operators"),
    [
        (rnn.LSTM(4, peepholes=True), {"LSTM"}),
        (rnn.tensor_parallel(rnn.variational_dropout(rnn.GRU(4), inputs=0.5)), {"GRU"}),
        (rnn.bidirectional(rnn.zoneout(rnn.LSTM(4), h=0.3, c=0.2), rnn.GRU(4), merge="sum"), {"Scan", "GRU"}),
        (rnn.bidirectional(rnn.GRU(4), rnn.VanillaRNN(2), merge="both"), {"GRU", "RNN"}),
        (
            rnn.stack(rnn.residual(rnn.GRU(INPUT_SIZE)), rnn.dropout(rnn.Recurrent(rnn.LSTM(4), reverse=True), 0.5)),
            {"GRU", "LSTM"},
        ),
    ],
)
def test_layers_and_wrappers_compute_the_same(net, operators):
    assert check(net) == operators


def test_one_model_streams_step_by_step():
    net = rnn.stack(rnn.LSTM(4), rnn.zoneout(rnn.GRU(3), h=0.1))
    session, xs = Session(net, draw_params(net)), draw_inputs(T, 2)
    whole, steps, state = session(xs), [], {}
    _, ys = net.apply(draw_params(net), xs)
    np.testing.assert_allclose(whole["ys"], ys, atol=1e-5)
    for x in xs:
        inputs = {"xs": np.asarray(x[None])} | state
        outputs = dict(zip(session.outputs, session.session.run(None, inputs), strict=True))
        state = {name.removeprefix("final_"): outputs[name] for name in outputs if name != "ys"}
        steps.append(outputs["ys"])
    np.testing.assert_allclose(np.concatenate(steps), whole["ys"], atol=1e-6)


def test_parameters_in_bfloat16_are_written_as_float32():
    params = jax.tree.map(lambda array: array.astype(jnp.bfloat16), draw_params(rnn.GRU(4)))
    wide = jax.tree.map(lambda array: array.astype(np.float32), params)
    xs = draw_inputs(T, B)
    np.testing.assert_array_equal(Session(rnn.GRU(4), params)(xs)["ys"], Session(rnn.GRU(4), wide)(xs)["ys"])


@dataclasses.dataclass(frozen=True)
class Own:
    """A cell of the user's, made of a function of its state and input."""

    function: Callable[..., Any]
    output_size: int = 4

    def init(self, key, input_size):
        return {"w": jax.random.normal(key, (input_size, 4)), "blocks": jax.random.normal(key, (2, 2, 2))}

    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.full((*batch_shape, 4), 0.5, dtype)

    def step(self, params, state, x):
        y = self.function(state + x @ params["w"], params)
        return y, y


def rotate(v, params):
    z = jax.lax.complex(v, jnp.ones_like(v)) * jnp.complex64(0.3 + 0.4j)
    z = jnp.exp(z) - jnp.conj(z).reshape(-1, 4)
    return jnp.concatenate([z.real[..., :2], z.imag[..., 2:]], axis=-1)


OWN = {
    "blocks": lambda v, p: jnp.tanh(jnp.einsum("...ki,kij->...kj", v.reshape(-1, 2, 2), p["blocks"]).reshape(v.shape)),
    "softplus": lambda v, _: jax.nn.softplus(v) - jnp.logaddexp(v, 2 * v) + jax.nn.log_sigmoid(v),
    "softmax": lambda v, _: jax.nn.softmax(v) + jax.nn.silu(v) + jax.nn.gelu(v),
    "small": lambda v, _: 100 * (jnp.log1p(1e-5 * v * v) - jnp.expm1(-1e-5 * v * v) + jnp.expm1(-jnp.abs(v)) ** 3),
    "norm": lambda v, _: (v - v.mean(-1, keepdims=True)) * jax.lax.rsqrt(v.var(-1, keepdims=True) + 1e-3),
    "parts": lambda v, _: jnp.concatenate([v[..., 2:], jnp.sin(v[..., :1]), jnp.exp2(v[..., 1:2] / 4)], axis=-1),
    "choices": lambda v, _: jnp.where((v > 0) & (v != 1) | ~(v <= 2), jnp.clip(v, -1, 1), jnp.sign(v) * jnp.floor(v)),
    "order": lambda v, _: jnp.tanh(jnp.cumsum(v, axis=-1).T.T + jnp.arange(4.0) - v.max(-1, keepdims=True)),
    "complex": rotate,
    "stacks": lambda v, p: jnp.tanh(v * sum(jnp.stack([*jnp.tile(p["blocks"].reshape(2, 4), 2)[:, :4], jnp.ones(4)]))),
    "constants": lambda v, _: jnp.broadcast_to(jnp.asarray([1.0, 2.0, 3.0, 4.0]), v.shape) / (1 + jnp.square(v)),
}


@pytest.mark.parametrize("name", list(OWN))
def test_cells_of_the_user_s_are_written_primitive_by_primitive(name):
    assert check(Own(OWN[name])) == {"Scan"}


def test_log1p_and_expm1_are_exact_near_zero():
    graph, like = Graph(), jax.ShapeDtypeStruct((5,), np.float32)
    from onnx import TensorProto, helper, numpy_helper

    outputs = write_function(graph, lambda x: (jnp.log1p(x), jnp.expm1(x)), (like,), ["x"], "batch")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (5,)) for name in ("x", *outputs)]
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "test", info[:1], info[1:], constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    x = np.array([1e-7, -3e-4, 0.4, 5.0, 0.0], np.float32)
    actual = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(actual, [np.log1p(x), np.expm1(x)], rtol=1e-6)


class Twice:
    """A layer of the user's."""

    output_size = 4
    init, initial_state = rnn.GRU(4).init, rnn.GRU(4).initial_state

    def apply(self, params, xs, state=None, *, lengths=None, key=None):
        state, ys = rnn.unroll(rnn.GRU(4), params, xs, state, lengths=lengths)
        return state, ys * 2


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Own(lambda v, _: jnp.sort(v)), "cannot write Own.* no ONNX operator for JAX's sort"),
        (Own(lambda v, _: jnp.tanh(jax.lax.complex(v, v)).real), "no ONNX operator for JAX's tanh of complex numbers"),
        (Twice(), "knows no layer like .*Twice"),
    ],
)
def test_what_onnx_lacks_is_refused_with_a_reason(net, message):
    with pytest.raises(ValueError, match=message):
        to_onnx(net, net.init(jax.random.key(0), INPUT_SIZE))


def test_parameters_of_another_network_are_refused():
    with pytest.raises(ValueError, match="params has the structure"):
        to_onnx(rnn.LSTM(4), draw_params(rnn.GRU(4)))


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"needs the package onnx: pip install 'rnn_jax\[onnx\]'"):
        to_onnx(rnn.GRU(4), draw_params(rnn.GRU(4)))
