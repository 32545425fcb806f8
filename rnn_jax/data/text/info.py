"""The facts about text that a trained model depends on, and tokens as numbers."""

import sys
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from rnn_jax.data.dataset import DataError

Tokens: TypeAlias = Literal["characters", "bytes"]
TOKENS = ("characters", "bytes")
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class TextInfo(NamedTuple):
    """The facts about text that a trained model depends on. All of them can be hashed and written as JSON.

    Attributes:
      name: the name of the data, part of every report.
      source: the files, in words.
      summary: the size of the data, in words.
      task: "language", to predict the next token, or "classify".
      tokens: "characters" or "bytes".
      vocabulary: the characters of the training part in the order of their numbers; empty for bytes.
      window: W, the tokens that the gradient goes back over; the tokens of the longest text of the task "classify".
      counts: how often each token occurs in the training part, V numbers.
      compressed: bits per token of the whole text in a file of bzip2, of the task "language".
      classes: the labels, of the task "classify".
      usual: the most frequent class of the training part.
    """

    name: str
    source: str
    summary: str
    task: str
    tokens: Tokens
    vocabulary: str
    window: int
    counts: tuple[int, ...] = ()
    compressed: float = 0.0
    classes: tuple[str, ...] = ()
    usual: int = 0

    @property
    def num_tokens(self) -> int:
        """V: the characters and, after them, one for all that training has not seen; or 256 bytes."""
        return len(self.vocabulary) + 1 if self.tokens == "characters" else 256

    @property
    def noun(self) -> str:
        """The plural of a token."""
        return str(self.tokens)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TextInfo":
        """Inverts `to_json`."""
        return cls(**{**values, **{key: tuple(values[key]) for key in ("counts", "classes")}})

    def to_json(self) -> dict[str, Any]:
        """Returns the facts as a dictionary that `json` can write."""
        return self._asdict()


def encode(info: TextInfo, data: bytes) -> np.ndarray:
    """Numbers the tokens of UTF-8: the smallest unsigned integers [T]; unseen characters become the last token.

    Raises:
      DataError: for bytes that are not UTF-8, if the tokens are characters.
    """
    if info.tokens == "bytes":
        return np.frombuffer(data, np.uint8)
    points = code_points(data, "the text")
    known = code_points(info.vocabulary.encode(), "the vocabulary")
    numbers = np.full(sys.maxunicode + 1, len(known), np.min_scalar_type(len(known)))
    numbers[known] = np.arange(len(known))
    return numbers[points]


def decode(info: TextInfo, tokens: Sequence[int] | np.ndarray) -> str:
    """Returns the text of tokens; unseen characters, and bytes that are not UTF-8, as replacement characters."""
    if info.tokens == "bytes":
        return bytes(np.asarray(tokens, np.uint8)).decode("utf-8", errors="replace")
    characters = info.vocabulary + UNKNOWN
    return "".join(characters[token] for token in tokens)


def code_points(data: bytes, where: object) -> np.ndarray:
    """Returns the Unicode code points of UTF-8, uint32 [T].

    Raises:
      DataError: for bytes that are not UTF-8; `where` names them.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} of {where}, 0x{data[error.start]:02x}, is not UTF-8"
        raise DataError(f'{byte}: convert it, or read it with tokens="bytes"') from error
    return np.frombuffer(text.encode("utf-32-le"), "<u4")
