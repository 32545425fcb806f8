"""Text: files of characters or bytes as streams of tokens, and labelled texts.

`load_text` makes a data set of one stream, `load_labelled` one of texts with labels. Needs only NumPy.
"""

from rnn_jax.data.text.info import TextInfo, decode, encode
from rnn_jax.data.text.labelled import load_labelled, pad_texts, read_labelled
from rnn_jax.data.text.load import load_text
from rnn_jax.data.text.read import find_text_task, read_text
from rnn_jax.data.text.windows import make_windows

__all__ = [
    "TextInfo",
    "decode",
    "encode",
    "find_text_task",
    "load_labelled",
    "load_text",
    "make_windows",
    "pad_texts",
    "read_labelled",
    "read_text",
]
