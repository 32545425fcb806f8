"""People's own sequences: files of many formats, read into one kind of value.

`read_sequences` reads a file; `load_sequences` also divides it into training, validation and test. Missing values,
scaling, hold-outs and windows are functions beside them. NumPy only; tables are read by pyarrow.
"""

from rnn_jax.data.series.read import Parts, load_sequences, read_sequences
from rnn_jax.data.series.scaling import Scaling, fill_missing, fit_scaling, refuse_missing, scale, unscale
from rnn_jax.data.series.sequences import Form, Sequences, describe, pad, select

__all__ = [
    "Form",
    "Parts",
    "Scaling",
    "Sequences",
    "describe",
    "fill_missing",
    "fit_scaling",
    "load_sequences",
    "pad",
    "read_sequences",
    "refuse_missing",
    "scale",
    "select",
    "unscale",
]
