"""The cells: one equation, its parameters, its state and its configuration each.

Gates share fused matrices and are split along the last axis, in the order that each docstring gives; it is the order
of PyTorch, Keras, Flax and Equinox. In the equations `s` is the logistic function, and products of vectors are
elementwise.
"""

from rnn_jax.cells.gru import GRU, GRUParams, GRUState
from rnn_jax.cells.layer_norm_lstm import LayerNormLSTM, LayerNormLSTMParams
from rnn_jax.cells.lstm import LSTM, LSTMParams, LSTMState, Peepholes
from rnn_jax.cells.vanilla import VanillaRNN, VanillaRNNParams, VanillaRNNState

__all__ = [
    "GRU",
    "LSTM",
    "GRUParams",
    "GRUState",
    "LSTMParams",
    "LSTMState",
    "LayerNormLSTM",
    "LayerNormLSTMParams",
    "Peepholes",
    "VanillaRNN",
    "VanillaRNNParams",
    "VanillaRNNState",
]
