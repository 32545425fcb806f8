"""Keras 3 on JAX."""
# pyright: reportMissingImports=false

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"
import jax
import keras

from benchmarks.cases import Case, Shape
from benchmarks.peers import Program, Unsupported
from benchmarks.peers.jax_program import Network, make_program

PACKAGES = ("keras",)


def prepare(case: Case) -> Program:
    """Compiles a case."""
    return make_program(case, build(case.cell, case.shape))


def build(cell: str, shape: Shape) -> Network:
    """The network of that name; batch-major, as Keras is."""
    B, T, D, H = shape
    layers = keras.layers
    match cell:
        case "lstm":
            net = layers.LSTM(H, return_sequences=True)
        case "gru":
            net = layers.GRU(H, return_sequences=True)
        case "gru-reset-before":
            net = layers.GRU(H, reset_after=False, return_sequences=True)
        case "vanilla":
            net = layers.SimpleRNN(H, return_sequences=True)
        case "bidirectional-lstm":
            net = layers.Bidirectional(layers.LSTM(H, return_sequences=True))
        case "two-layer-lstm":
            net = keras.Sequential([layers.LSTM(H, return_sequences=True) for _ in range(2)])
        case _:
            raise Unsupported("has no such cell")
    net.build((B, T, D))
    constants = [variable.value for variable in net.non_trainable_variables]

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        return net.stateless_call(params, constants, xs)[0]

    return Network([variable.value for variable in net.trainable_variables], apply, time_major=False)
