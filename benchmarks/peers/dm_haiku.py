"""Haiku."""
# pyright: reportMissingImports=false

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.cases import Case, Shape
from benchmarks.peers import Program, Unsupported
from benchmarks.peers.jax_program import Network, make_program, short_call

PACKAGES = ("dm-haiku",)


def prepare(case: Case, on_gpu: bool = False) -> Program:
    """Compiles a case."""
    return make_program(case, build(case.cell, case.shape), (), short_call(case.shape) if on_gpu else None)


def build(cell: str, shape: Shape) -> Network:
    """The network of that name."""
    B, T, D, H = shape

    def unroll(core: hk.RNNCore, xs: jax.Array, reverse: bool = False) -> Any:
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]), reverse=reverse)[0]

    def network(xs: jax.Array) -> jax.Array:
        match cell:
            case "lstm":
                return unroll(hk.LSTM(H), xs)
            case "gru-reset-before":
                return unroll(hk.GRU(H), xs)
            case "vanilla":
                return unroll(hk.VanillaRNN(H), xs)
            case "bidirectional-lstm":
                return jnp.concatenate([unroll(hk.LSTM(H), xs), unroll(hk.LSTM(H), xs, reverse=True)], -1)
            case "two-layer-lstm":
                return unroll(hk.DeepRNN([hk.LSTM(H), hk.LSTM(H)]), xs)
            case "gru":
                raise Unsupported("its GRU resets before the product")
            case _:
                raise Unsupported("has no such cell")

    init, apply = hk.without_apply_rng(hk.transform(network))
    return Network(init(jax.random.key(0), jnp.zeros((T, B, D))), apply)
