"""This library, on one device or with the batch divided among all of them."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax as rnn
from benchmarks.cases import Case, Shape
from benchmarks.peers import Program, Unsupported
from benchmarks.peers.jax_program import Network, make_program, train_step

PACKAGES = ("jax", "jaxlib")


def prepare(case: Case, implementation: Any) -> Program:
    """Compiles a case for all of JAX's devices."""
    network = build(case.cell, case.shape, implementation)
    devices = jax.devices()
    if case.shape.batch % len(devices):
        raise Unsupported(f"a batch of {case.shape.batch} cannot be divided among {len(devices)} devices")
    return make_program(case, network, devices if len(devices) > 1 else ())


def build(cell: str, shape: Shape, implementation: Any) -> Network:
    """A network by its name in the tables; layers are composed of `unroll`, to choose its implementation."""
    H = shape.hidden_size
    layer = {
        "lstm": rnn.LSTM(H),
        "gru": rnn.GRU(H),
        "gru-reset-before": rnn.GRU(H, reset_after=False),
        "vanilla": rnn.VanillaRNN(H),
        "layer-norm-lstm": rnn.LayerNormLSTM(H),
        "bidirectional-lstm": rnn.bidirectional(rnn.LSTM(H)),
        "two-layer-lstm": rnn.stack(rnn.LSTM(H), rnn.LSTM(H)),
    }[cell]

    def outputs(cell: rnn.LSTM, params: Any, xs: jax.Array, reverse: bool = False) -> jax.Array:
        return rnn.unroll(cell, params, xs, reverse=reverse, implementation=implementation)[1]

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        match cell:
            case "bidirectional-lstm":
                forward = outputs(rnn.LSTM(H), params.forward, xs)
                return jnp.concatenate([forward, outputs(rnn.LSTM(H), params.backward, xs, reverse=True)], -1)
            case "two-layer-lstm":
                return outputs(rnn.LSTM(H), params[1], outputs(rnn.LSTM(H), params[0], xs))
            case _:
                return outputs(layer, params, xs)

    return Network(layer.init(jax.random.key(0), shape.input_size), apply)


def compile_seconds(shape: Shape, implementation: Any) -> float:
    """Seconds from the Python function of an LSTM's training step to machine code, with nothing remembered."""
    network = build("lstm", shape, implementation)
    xs = jax.ShapeDtypeStruct((shape.time, shape.batch, shape.input_size), np.float32)
    jax.clear_caches()
    began = time.perf_counter()
    jax.jit(lambda params, xs: train_step(network, params, xs)).lower(network.params, xs).compile()
    return time.perf_counter() - began
