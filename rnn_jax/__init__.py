"""Recurrent networks as pure functions in JAX."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if os.path.basename(getattr(sys, "argv", [""])[0]) in ("-m", "train.py"):  # perhaps one of our commands
    importlib.import_module("rnn_jax.app.program").begin_if_command()

from rnn_jax import convert, hopfield
from rnn_jax.base import Cell, Layer
from rnn_jax.cells import (
    GRU,
    LRU,
    LSTM,
    RGLRU,
    SLSTM,
    ComplexState,
    GRUParams,
    GRUState,
    LayerNormLSTM,
    LayerNormLSTMParams,
    LinearCell,
    LinearState,
    LRUParams,
    LSTMParams,
    LSTMState,
    MinGRU,
    MinGRUParams,
    MinLSTM,
    MinLSTMParams,
    Peepholes,
    RGLRUParams,
    SLSTMParams,
    SLSTMState,
    VanillaRNN,
    VanillaRNNParams,
    VanillaRNNState,
)
from rnn_jax.cells.equations import Dense, EquationsCell
from rnn_jax.embedding import Embed, EmbedParams, embed
from rnn_jax.generate import generate, sample
from rnn_jax.implementations.table import explain
from rnn_jax.layers import Bidirectional, BothWays, Recurrent, Residual, Stack, bidirectional, residual, stack
from rnn_jax.lengths import last_output
from rnn_jax.newton import NewtonReport, newton_report
from rnn_jax.readout import Classifier, ClassifierParams
from rnn_jax.regularization import Dropout, VariationalDropout, Zoneout, dropout, variational_dropout, zoneout
from rnn_jax.saving import load, save
from rnn_jax.sharding import TensorParallel, make_mesh, shardings, tensor_parallel
from rnn_jax.states import (
    LearnedInitialState,
    LearnedInitialStateParams,
    WithStates,
    learn_initial_state,
    with_states,
)
from rnn_jax.unroll import unroll
from rnn_jax.wrappers import CellWrapper, LayerWrapper

if TYPE_CHECKING:
    from rnn_jax.app.model import Model, load_run
    from rnn_jax.modules import linen, nnx

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LRU",
    "LSTM",
    "RGLRU",
    "SLSTM",
    "Bidirectional",
    "BothWays",
    "Cell",
    "CellWrapper",
    "Classifier",
    "ClassifierParams",
    "ComplexState",
    "Dense",
    "Dropout",
    "Embed",
    "EmbedParams",
    "EquationsCell",
    "GRUParams",
    "GRUState",
    "LRUParams",
    "LSTMParams",
    "LSTMState",
    "Layer",
    "LayerNormLSTM",
    "LayerNormLSTMParams",
    "LayerWrapper",
    "LearnedInitialState",
    "LearnedInitialStateParams",
    "LinearCell",
    "LinearState",
    "MinGRU",
    "MinGRUParams",
    "MinLSTM",
    "MinLSTMParams",
    "Model",
    "NewtonReport",
    "Peepholes",
    "RGLRUParams",
    "Recurrent",
    "Residual",
    "SLSTMParams",
    "SLSTMState",
    "Stack",
    "TensorParallel",
    "VanillaRNN",
    "VanillaRNNParams",
    "VanillaRNNState",
    "VariationalDropout",
    "WithStates",
    "Zoneout",
    "bidirectional",
    "convert",
    "dropout",
    "embed",
    "explain",
    "generate",
    "hopfield",
    "last_output",
    "learn_initial_state",
    "linen",
    "load",
    "load_run",
    "make_mesh",
    "newton_report",
    "nnx",
    "residual",
    "sample",
    "save",
    "shardings",
    "stack",
    "tensor_parallel",
    "unroll",
    "variational_dropout",
    "with_states",
    "zoneout",
]

# Names of the program and of the Flax modules, which are imported when one of them is asked for (PEP 562).
_ON_DEMAND = {
    "Model": "rnn_jax.app.model",
    "linen": "rnn_jax.modules",
    "load_run": "rnn_jax.app.model",
    "nnx": "rnn_jax.modules",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_DEMAND[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_DEMAND})
