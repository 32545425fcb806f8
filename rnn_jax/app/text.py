"""Predicts for texts: how much each surprises a language model, or the class of each."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Params
from rnn_jax.data import DataError
from rnn_jax.data.text import TextInfo, encode, pad_texts, read_labelled, read_text
from rnn_jax.tasks.task import Task, predict_examples


def predict_texts(task: Task, params: Params, info: TextInfo, texts: Sequence[str | bytes]) -> list[np.ndarray]:
    """Predicts for texts.

    Args:
      task: the task.
      params: its parameters.
      info: the facts about the data.
      texts: the texts.

    Returns:
      For each text: the probabilities of the classes [C] or, by a language model, the surprisal of each token after the
      first in nats [T - 1].

    Raises:
      DataError: for bytes that are not UTF-8, if the tokens are characters.
      ValueError: for a text that is too short: empty or, for a language model, of less than two tokens.
    """
    encoded = [encode(info, text.encode() if isinstance(text, str) else text) for text in texts]
    least = 2 if info.task == "language" else 1
    for i, tokens in enumerate(encoded):
        if len(tokens) < least:
            raise ValueError(f"text {i} has {len(tokens)} {info.noun}, but needs at least {least}")
    if info.task == "language":
        predict = jax.jit(task.predict)
        return [np.asarray(predict(params, jnp.asarray(tokens))) for tokens in encoded]
    examples = pad_texts(encoded, max(map(len, encoded)), info)
    predict = jax.jit(functools.partial(predict_examples, task))
    return list(np.asarray(predict(params, examples.inputs, examples.lengths)))


def predict_text_file(task: Task, params: Params, info: TextInfo, file: Path) -> Iterator[list[object]]:
    """Yields a row of names, then the rows of a table of predictions for a file.

    A language model has one row: the tokens predicted, those that training has not seen, and their surprisal. Otherwise
    a row is a text: its line, the class and the probabilities of all classes.

    Raises:
      DataError: in one line, for a file that cannot be read, or is too short.
    """
    if info.task == "language":
        data = read_text(file)
        tokens = encode(info, data)
        if len(tokens) < 2:
            raise DataError(f"{file} is too short: there is nothing to predict")
        bits = float(np.mean(predict_texts(task, params, info, [data])[0], dtype=np.float64)) / np.log(2)
        unseen = int(np.sum(tokens[1:] == len(info.vocabulary))) if info.tokens == "characters" else 0
        yield ["file", info.noun, "unseen", "nats", "bits"]
        yield [str(file), len(tokens) - 1, unseen, f"{bits * np.log(2):.4f}", f"{bits:.4f}"]
        return
    read = read_labelled(file, labels=False)
    yield ["text", "predicted", *info.classes]
    for i, probabilities in enumerate(predict_texts(task, params, info, read.texts), 1):
        yield [i, info.classes[probabilities.argmax()], *(f"{p:.6f}" for p in probabilities)]
