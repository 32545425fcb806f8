"""Recurrent networks as pure functions in JAX."""

from rnn_jax import convert, hopfield
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
from rnn_jax.choice import explain
from rnn_jax.equations import Dense, EquationsCell
from rnn_jax.layers import Bidirectional, BothWays, Recurrent, Residual, Stack, bidirectional, residual, stack
from rnn_jax.lengths import last_output
from rnn_jax.predict import Model, load_run
from rnn_jax.regularization import dropout, variational_dropout, zoneout
from rnn_jax.unroll import unroll

__all__ = [
    "GRU",
    "LSTM",
    "Bidirectional",
    "BothWays",
    "Dense",
    "EquationsCell",
    "GRUParams",
    "GRUState",
    "LSTMParams",
    "LSTMState",
    "LayerNormLSTM",
    "LayerNormLSTMParams",
    "Model",
    "Peepholes",
    "Recurrent",
    "Residual",
    "Stack",
    "VanillaRNN",
    "VanillaRNNParams",
    "VanillaRNNState",
    "bidirectional",
    "convert",
    "dropout",
    "explain",
    "hopfield",
    "last_output",
    "load_run",
    "residual",
    "stack",
    "unroll",
    "variational_dropout",
    "zoneout",
]
