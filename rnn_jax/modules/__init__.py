"""Flax modules around cells and layers, and Flax's cells under `unroll`: `linen` and `nnx`."""

from rnn_jax.modules import linen, nnx

__all__ = ["linen", "nnx"]
