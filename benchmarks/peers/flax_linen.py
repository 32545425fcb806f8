"""Flax's older API."""
# pyright: reportMissingImports=false

import jax
import jax.numpy as jnp
from flax import linen

from benchmarks.cases import Case, Shape
from benchmarks.peers import Program, Unsupported
from benchmarks.peers.jax_program import Network, make_program, short_call

PACKAGES = ("flax",)


def prepare(case: Case, on_gpu: bool = False) -> Program:
    """Compiles a case."""
    return make_program(case, build(case.cell, case.shape), (), short_call(case.shape) if on_gpu else None)


def build(cell: str, shape: Shape) -> Network:
    """The network of that name."""
    B, T, D, H = shape

    def layer(make_cell: type) -> linen.RNN:
        return linen.RNN(make_cell(H), time_major=True)

    match cell:
        case "lstm":
            net = layer(linen.OptimizedLSTMCell)
        case "gru":
            net = layer(linen.GRUCell)
        case "vanilla":
            net = layer(linen.SimpleCell)
        case "bidirectional-lstm":
            both = layer(linen.OptimizedLSTMCell), layer(linen.OptimizedLSTMCell)
            net = linen.Bidirectional(*both, time_major=True)
        case "two-layer-lstm":
            net = linen.Sequential([layer(linen.OptimizedLSTMCell), layer(linen.OptimizedLSTMCell)])
        case "gru-reset-before":
            raise Unsupported("its GRU resets after the product")
        case _:
            raise Unsupported("has no such cell")
    return Network(net.init(jax.random.key(0), jnp.zeros((T, B, D))), net.apply)  # type: ignore
