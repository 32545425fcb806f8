"""Loads text as a data set: streams of windows for training, and text that is held out."""

import bz2
from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError, Dataset
from rnn_jax.data.examples import Examples
from rnn_jax.data.text.info import TOKENS, TextInfo, Tokens, code_points, encode
from rnn_jax.data.text.read import read_text, refuse_binary
from rnn_jax.data.text.windows import make_windows

HELD_OUT, MOST_HELD_OUT = 0.1, 120_000  # the end of the text: this fraction, and at most as many tokens
STREAMS = 32  # that the held-out text is cut into, to be read quickly during training


def load_text(
    path: Path | None,
    test: Path | None = None,
    *,
    tokens: Tokens = "characters",
    window: int = 128,
    batch_size: int = 64,
) -> Dataset:
    """Loads a text to predict each of its tokens from those before it.

    The last tenth is held out, at most `MOST_HELD_OUT` tokens. It is both the validation part, cut into a few streams
    that are read at once, and the test part, read as one stream; `test` takes the place of the latter.

    Args:
      path: a file, or a folder of `*.txt` files; None for the help texts of Python, `pydoc_data.topics`.
      test: text to test with.
      tokens: "characters", of UTF-8, or "bytes", of anything.
      window: the tokens of a window.
      batch_size: the streams that the training part is cut into, at most.

    Returns:
      The windows of `make_windows`, with a `TextInfo`. The batch size is the number of windows that start a stream.

    Raises:
      DataError: in one line, if a file cannot be read, is not text, or is too short.
    """
    if tokens not in TOKENS:
        raise DataError(f"there are no tokens {tokens!r}: choose one of {', '.join(TOKENS)}")
    source = "pydoc_data.topics" if path is None else str(path)
    data = _topics() if path is None else read_text(path)
    tested = None if test is None else read_text(test)
    if tokens == "bytes":
        vocabulary, ids = "", np.frombuffer(data, np.uint8)
        first = _divide(len(ids))
    else:
        for text, file in ((data, path), (tested, test)):
            if text is not None and file is not None:
                refuse_binary(text, file)
        points = code_points(data, source)
        first = _divide(len(points))
        known = np.unique(points[:first])
        vocabulary = known.astype("<u4").tobytes().decode("utf-32-le")
        ids = np.empty(0)
    info = TextInfo("text" if path is None else path.stem, source, "", "language", tokens, vocabulary, window)
    if tokens == "characters":
        ids = encode(info, data)
    train, held = ids[:first], ids[first - 1 :]  # The first of the held-out tokens is predicted from the one before it.
    most = (len(train) - 1) // window
    if most < 1 or len(held) < 2:
        raise DataError(
            f"{source} is too short: {len(ids):,} {tokens}, of which the first {len(train):,} are to train on, and a "
            f"window takes {window + 1}"
        )
    streams = batch_size if batch_size <= most else max(1, most - most % 2)
    testing = held if tested is None else encode(info, tested)
    if len(testing) < 2:
        raise DataError(f"{test} is too short: one of the {tokens}, and there is nothing to predict")
    unseen = int(np.sum(testing == len(vocabulary))) if tokens == "characters" else 0
    held_out = f"the last {len(held) - 1:,} choose among checkpoints"
    where = ", and are the test" if tested is None else f"; the {len(testing):,} of {test} are the test"
    summary = f"{len(train):,} {tokens} to train on, in {streams} streams of windows of {window}; {held_out}{where}" + (
        f", of which {unseen:,} are none of the {len(vocabulary)} of the training part" if unseen else ""
    )
    counts = tuple(np.bincount(train, minlength=info.num_tokens).tolist())
    return Dataset(
        info._replace(summary=summary, counts=counts, compressed=8 * len(bz2.compress(data)) / len(ids)),
        make_windows(train, streams, window),
        make_streams(held, min(STREAMS, len(held) - 1)),
        make_streams(testing, 1),
    )


def _divide(count: int) -> int:
    """Returns the number of tokens to train on."""
    return count - min(int(count * HELD_OUT), MOST_HELD_OUT)


def make_streams(tokens: np.ndarray, streams: int) -> Examples:
    """Cuts a text into streams of equal length, one example each: inputs [B, T + 1], targets [B, T]."""
    return make_windows(tokens, streams, (len(tokens) - 1) // streams)


def _topics() -> bytes:
    """Returns the texts of `pydoc_data.topics`, which every Python has, in the order of their names."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics)).encode()
