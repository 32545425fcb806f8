"""Labelled images: MNIST, its siblings, and a small set that needs no network."""

from rnn_jax.data.dataset import DataError, DataInfo, Dataset
from rnn_jax.data.examples import Examples
from rnn_jax.data.named import load_dataset

__all__ = ["DataError", "DataInfo", "Dataset", "Examples", "load_dataset"]
