"""The cells, each with its equation, parameters, state and configuration; and `CELLS`, the table of their names.

Gates share fused matrices and are split along the last axis, in the order that each docstring gives; it is the order
of PyTorch, Keras, Flax and Equinox. In the equations `s` is the logistic function, and products of vectors are
elementwise.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from rnn_jax.base import Cell
from rnn_jax.cells.gru import GRU, GRUParams, GRUState
from rnn_jax.cells.layer_norm_lstm import LayerNormLSTM, LayerNormLSTMParams
from rnn_jax.cells.linear import ComplexState, LinearCell, LinearState
from rnn_jax.cells.lru import LRU, LRUParams
from rnn_jax.cells.lstm import LSTM, LSTMParams, LSTMState, Peepholes
from rnn_jax.cells.min_gru import MinGRU, MinGRUParams
from rnn_jax.cells.min_lstm import MinLSTM, MinLSTMParams
from rnn_jax.cells.rg_lru import RGLRU, RGLRUParams
from rnn_jax.cells.slstm import SLSTM, SLSTMParams, SLSTMState
from rnn_jax.cells.vanilla import VanillaRNN, VanillaRNNParams, VanillaRNNState

__all__ = [
    "CELLS",
    "GRU",
    "LRU",
    "LSTM",
    "RGLRU",
    "SLSTM",
    "ComplexState",
    "GRUParams",
    "GRUState",
    "LRUParams",
    "LSTMParams",
    "LSTMState",
    "LayerNormLSTM",
    "LayerNormLSTMParams",
    "LinearCell",
    "LinearState",
    "MinGRU",
    "MinGRUParams",
    "MinLSTM",
    "MinLSTMParams",
    "Peepholes",
    "RGLRUParams",
    "SLSTMParams",
    "SLSTMState",
    "VanillaRNN",
    "VanillaRNNParams",
    "VanillaRNNState",
]


class NamedCell(NamedTuple):
    """A row of `CELLS`: the facts about a cell for the command, the converters, the benchmarks and the tests.

    Attributes:
      cell: the class; its first argument is the hidden size.
      params: the NamedTuple of its parameters.
      gates: G, if its parameters begin with w_x [D, GH], w_h [R, GH], b [GH], as in every other framework; else None.
      options: the options that the name stands for.
      learning_rate: the highest learning rate of the command's default recipe; None for the recipe's own.
    """

    cell: type
    params: type
    gates: int | None = None
    options: Mapping[str, Any] = {}
    learning_rate: float | None = None

    def make(self, hidden_size: int, defaults: Mapping[str, Any] | None = None) -> Cell:
        """Makes the cell.

        Args:
          hidden_size: H.
          defaults: values for options of any cells; options that this cell lacks are ignored.
        """
        fields = {field.name for field in dataclasses.fields(self.cell)}
        known = {name: value for name, value in (defaults or {}).items() if name in fields}
        return self.cell(hidden_size, **{**known, **self.options})


CELLS = {
    # The vanilla cell has no gates to bound its gradients: it learns at a tenth of the others' rate.
    "vanilla": NamedCell(VanillaRNN, VanillaRNNParams, gates=1, learning_rate=0.03),
    "lstm": NamedCell(LSTM, LSTMParams, gates=4),
    "gru": NamedCell(GRU, GRUParams, gates=3),
    "lstm-peephole": NamedCell(LSTM, LSTMParams, gates=4, options={"peepholes": True}),
    "lstm-layernorm": NamedCell(LayerNormLSTM, LayerNormLSTMParams),
    "mingru": NamedCell(MinGRU, MinGRUParams),
    "minlstm": NamedCell(MinLSTM, MinLSTMParams),
    "lru": NamedCell(LRU, LRUParams),
    "rglru": NamedCell(RGLRU, RGLRUParams),
    "slstm": NamedCell(SLSTM, SLSTMParams),
}
