"""Labelled images: MNIST and its siblings, and a small set that needs no network."""

from rnn_jax.data.dataset import DataError, Dataset, Split
from rnn_jax.data.named import load_dataset

__all__ = ["DataError", "Dataset", "Split", "load_dataset"]
