"""The user's own sequences: files of many formats, read as `Sequences`.

`read_sequences` reads a file; `load_series` makes a data set of it. Other functions handle missing
values, scaling, hold-outs and windows. Needs only NumPy, and pyarrow for tables.
"""

from rnn_jax.data.series.info import SeriesInfo, prepare_like
from rnn_jax.data.series.load import load_series, make_examples
from rnn_jax.data.series.read import read_sequences
from rnn_jax.data.series.scaling import Scaling, fill_missing, fit_scaling, refuse_missing, scale, unscale
from rnn_jax.data.series.sequences import Form, Sequences, describe, pad, select
from rnn_jax.data.series.windows import make_windows

__all__ = [
    "Form",
    "Scaling",
    "Sequences",
    "SeriesInfo",
    "describe",
    "fill_missing",
    "fit_scaling",
    "load_series",
    "make_examples",
    "make_windows",
    "pad",
    "prepare_like",
    "read_sequences",
    "refuse_missing",
    "scale",
    "select",
    "unscale",
]
