"""Recurrent networks as pure functions in JAX."""

from rnn_jax.cells import (
    GRU,
    LSTM,
    GRUParams,
    GRUState,
    LayerNormLSTM,
    LayerNormLSTMParams,
    LSTMParams,
    LSTMState,
    Peepholes,
    VanillaRNN,
    VanillaRNNParams,
    VanillaRNNState,
)
from rnn_jax.layers import Bidirectional, BothWays, Recurrent, Stack, bidirectional, stack
from rnn_jax.regularization import dropout
from rnn_jax.unroll import unroll

__all__ = [
    "GRU",
    "LSTM",
    "Bidirectional",
    "BothWays",
    "GRUParams",
    "GRUState",
    "LSTMParams",
    "LSTMState",
    "LayerNormLSTM",
    "LayerNormLSTMParams",
    "Peepholes",
    "Recurrent",
    "Stack",
    "VanillaRNN",
    "VanillaRNNParams",
    "VanillaRNNState",
    "bidirectional",
    "dropout",
    "stack",
    "unroll",
]
