"""The reader of a trained run for the page of `demo`, whatever its task."""

from pathlib import Path

from rnn_jax.app.image_reader import ImageReader
from rnn_jax.app.model import Model
from rnn_jax.app.readings import Reader
from rnn_jax.app.series_reader import SeriesReader
from rnn_jax.app.text_reader import TextReader
from rnn_jax.data.series import SeriesInfo
from rnn_jax.data.text import TextInfo


def make_reader(model: Model, folder: Path) -> Reader:
    """Makes the reader for a run's kind of data."""
    if isinstance(model.data, TextInfo):
        return TextReader(model, folder)
    return SeriesReader(model, folder) if isinstance(model.data, SeriesInfo) else ImageReader(model, folder)
