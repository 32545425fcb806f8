"""The residual block that linear recurrent cells are published with, as layers of one's own around those of rnn_jax."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import rnn_jax as rnn
from rnn_jax.base import Array, Cell, Layer, Params, State
from rnn_jax.layers import Recurrent


class DenseParams(NamedTuple):
    """Parameters of a layer with a dense one: the layer's, w [K, M] and b [M]."""

    layer: Params
    w: Array
    b: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Gated(rnn.LayerWrapper):
    """A layer between a normalization and a gated linear unit (as in Smith et al., 2023, arXiv:2208.04933).

    [u, v] = gelu(layer(norm(x))) w + b
    y = u s(v)

    norm gives the features of a step the mean 0 and the variance 1.
    """

    def init(self, key: Array, input_size: int) -> DenseParams:
        """Draws the parameters. Consumes `key`."""
        k_layer, k_dense = jax.random.split(key)
        return DenseParams(
            self.layer.init(k_layer, input_size), *_init_dense(k_dense, self.output_size, 2 * input_size)
        )

    def apply(self, params: DenseParams, xs: Array, state: State | None = None, **options: Any) -> tuple[State, Array]:
        """Runs over a sequence: xs [T, B, H] -> (final state, ys [T, B, H])."""
        centered = xs - jnp.mean(xs, axis=-1, keepdims=True)
        deviation = jnp.sqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + 1e-6)
        state, ys = self.layer.apply(params.layer, centered / deviation, state, **options)
        u, v = jnp.split(jax.nn.gelu(ys) @ params.w + params.b, 2, axis=-1)
        return state, u * jax.nn.sigmoid(v)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Projected(rnn.LayerWrapper):
    """A layer that reads x w + b, as many features as it puts out."""

    def init(self, key: Array, input_size: int) -> DenseParams:
        """Draws the parameters. Consumes `key`."""
        k_layer, k_dense = jax.random.split(key)
        return DenseParams(
            self.layer.init(k_layer, self.output_size), *_init_dense(k_dense, input_size, self.output_size)
        )

    def apply(self, params: DenseParams, xs: Array, state: State | None = None, **options: Any) -> tuple[State, Array]:
        """Runs over a sequence: xs [T, B, D] -> (final state, ys [T, B, H])."""
        return self.layer.apply(params.layer, xs @ params.w + params.b, state, **options)


def make_encoder(cell: Cell, num_layers: int, num_tokens: int | None = None) -> Layer:
    """Makes a stack of residual blocks of one cell, which reads features or, of `num_tokens`, tokens."""
    blocks = rnn.stack(*[rnn.residual(Gated(Recurrent(cell)))] * num_layers)
    return Projected(blocks) if num_tokens is None else rnn.embed(blocks, num_tokens)


def _init_dense(key: Array, rows: int, columns: int) -> tuple[Array, Array]:
    return jax.random.normal(key, (rows, columns)) / rows**0.5, jnp.zeros(columns)
