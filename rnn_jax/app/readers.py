"""The readers of `demo`: how the page asks a trained run, whatever its task."""

from pathlib import Path
from typing import Protocol

from rnn_jax.app.image_reader import ImageReader
from rnn_jax.app.model import Model
from rnn_jax.app.readings import Json
from rnn_jax.app.series_reader import SeriesReader
from rnn_jax.app.text_reader import TextReader
from rnn_jax.data.series import SeriesInfo
from rnn_jax.data.text import TextInfo


class Reader(Protocol):
    """A trained run that reads examples and files. All results can be written as JSON.

    Attributes:
      model: the run.
    """

    model: Model

    def describe(self) -> Json:
        """Returns the facts about the run; "kind" is "images", "text" or "series"."""
        ...

    def warm_up(self) -> None:
        """Compiles ahead of the first request."""
        ...

    def examples(self, start: int) -> Json:
        """Lists test examples from a place in their order."""
        ...

    def read_example(self, index: int, choice: int | None = None) -> Json:
        """Reads a test example; of images, `choice` is the class of the gradient."""
        ...

    def read_file(self, name: str, content: bytes, choice: int | None = None) -> Json:
        """Reads a file, or one of its sequences; raises `ValueError` in one line for one of another kind."""
        ...


def make_reader(model: Model, folder: Path) -> Reader:
    """Makes the reader for a run's kind of data."""
    if isinstance(model.data, TextInfo):
        return TextReader(model, folder)
    return SeriesReader(model, folder) if isinstance(model.data, SeriesInfo) else ImageReader(model, folder)
