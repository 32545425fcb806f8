import os

# The suite runs on the CPU unless it is told otherwise, and keeps hypothesis from mistaking compilation for slowness.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

import rnn_jax as rnn

jax.config.update("jax_numpy_dtype_promotion", "strict")
hypothesis.settings.register_profile("default", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("default")

CELLS = {
    "vanilla": rnn.VanillaRNN(4),
    "vanilla-relu": rnn.VanillaRNN(4, activation="relu"),
    "lstm": rnn.LSTM(4),
    "lstm-all-options": rnn.LSTM(4, peepholes=True, projection_size=3, cell_clip=0.5, projection_clip=0.3),
    "gru": rnn.GRU(4),
    "gru-reset-before": rnn.GRU(4, reset_after=False),
    "layer-norm-lstm": rnn.LayerNormLSTM(4),
}


@pytest.fixture(params=list(CELLS.values()), ids=list(CELLS))
def cell(request):
    return request.param
