"""Flax's newer API."""
# pyright: reportMissingImports=false

from typing import Any

import jax
from flax import nnx

from benchmarks.cases import Case, Shape
from benchmarks.peers import Program, Unsupported
from benchmarks.peers.jax_program import Network, make_program

PACKAGES = ("flax",)


def prepare(case: Case) -> Program:
    """Compiles a case."""
    return make_program(case, build(case.cell, case.shape))


def build(cell: str, shape: Shape) -> Network:
    """The network of that name."""
    D, H = shape.input_size, shape.hidden_size
    rngs = nnx.Rngs(0)

    def layer(make_cell: Any, input_size: int = D) -> nnx.RNN:
        return nnx.RNN(make_cell(input_size, H, rngs=rngs), time_major=True, rngs=rngs)

    match cell:
        case "lstm":
            net = layer(nnx.OptimizedLSTMCell)
        case "gru":
            net = layer(nnx.GRUCell)
        case "vanilla":
            net = layer(nnx.SimpleCell)
        case "bidirectional-lstm":
            both = layer(nnx.OptimizedLSTMCell), layer(nnx.OptimizedLSTMCell)
            net = nnx.Bidirectional(*both, time_major=True, rngs=rngs)
        case "two-layer-lstm":
            net = nnx.Sequential(layer(nnx.OptimizedLSTMCell), layer(nnx.OptimizedLSTMCell, H))
        case "gru-reset-before":
            raise Unsupported("its GRU resets after the product")
        case _:
            raise Unsupported("has no such cell")
    graph, params, rest = nnx.split(net, nnx.Param, ...)

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        net: Any = nnx.merge(graph, params, rest, copy=True)
        return net(xs)

    return Network(params, apply)
