"""Equinox: its cells under `lax.scan`, each sequence by itself under `vmap`, as in its documentation."""
# pyright: reportMissingImports=false

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.cases import Case, Shape
from benchmarks.peers import Program, Unsupported
from benchmarks.peers.jax_program import Network, make_program

PACKAGES = ("equinox",)


def prepare(case: Case) -> Program:
    """Compiles a case."""
    return make_program(case, build(case.cell, case.shape))


def build(cell: str, shape: Shape) -> Network:
    """The network of that name."""
    D, H = shape.input_size, shape.hidden_size
    first, second = jax.random.split(jax.random.key(0))
    match cell:
        case "lstm":
            cells = [eqx.nn.LSTMCell(D, H, key=first)]
        case "gru":
            cells = [eqx.nn.GRUCell(D, H, key=first)]
        case "bidirectional-lstm":
            cells = [eqx.nn.LSTMCell(D, H, key=first), eqx.nn.LSTMCell(D, H, key=second)]
        case "two-layer-lstm":
            cells = [eqx.nn.LSTMCell(D, H, key=first), eqx.nn.LSTMCell(H, H, key=second)]
        case "gru-reset-before":
            raise Unsupported("its GRU resets after the product")
        case _:
            raise Unsupported("has no such cell")
    params, static = eqx.partition(cells, eqx.is_array)

    def unroll(cell: Any, xs: jax.Array, reverse: bool = False) -> jax.Array:
        def step(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = cell(x, state)
            return state, state[0] if isinstance(state, tuple) else state

        zeros = jnp.zeros(H)
        state = zeros if isinstance(cell, eqx.nn.GRUCell) else (zeros, zeros)
        return lax.scan(step, state, xs, reverse=reverse)[1]

    def one_sequence(cells: list[Any], xs: jax.Array) -> jax.Array:
        ys = unroll(cells[0], xs)
        if cell == "bidirectional-lstm":
            return jnp.concatenate([ys, unroll(cells[1], xs, reverse=True)], -1)
        return unroll(cells[1], ys) if cell == "two-layer-lstm" else ys

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        cells = eqx.combine(params, static)
        return jax.vmap(lambda xs: one_sequence(cells, xs), in_axes=1, out_axes=1)(xs)

    return Network(params, apply)
