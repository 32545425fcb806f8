"""Readings of text by a trained run, in the form that the page of `demo` takes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.app.readings import (
    Json,
    Reader,
    check_index,
    describe_run,
    list_examples,
    rounded,
    show_passes,
    worst_first,
)
from rnn_jax.base import Array
from rnn_jax.data import DataError
from rnn_jax.data.text import TextInfo, decode, encode
from rnn_jax.tasks.reading import Reading, explain_answers, list_passes, read

MOST_TOKENS = 1000  # of a text, at once
LEAST_TOKENS = 32  # compiled for; others are powers of two, as a text grows with every key
LIKELIEST = 10  # answers of each step
EXCERPT = 200  # tokens of an example of a language model


class TextReader(Reader):
    """Reads text with a language model or a classifier of texts."""

    @property
    def info(self) -> TextInfo:
        """The facts about the text."""
        return self.model.data

    @property
    def _is_language(self) -> bool:
        return self.info.task == "language"

    def describe(self) -> Json:
        """Returns the facts about the run that the page shows."""
        word = self.info.noun.removesuffix("s")
        explanation = f"After each {word}: the probabilities of the next one."
        return describe_run(
            self.model,
            self.folder,
            kind="text",
            word=word,
            classes=self._names(range(self.info.num_tokens)) if self._is_language else list(self.info.classes),
            generates=self._is_language,
            most_tokens=MOST_TOKENS,
            explanation=explanation if self._is_language else explain_answers(self.task.network, word),
        )

    def warm_up(self) -> None:
        """Compiles ahead of the first text."""
        self._read(np.zeros(1, np.int32))

    def read_file(self, name: str, content: bytes, choice: int | None = None) -> Json:
        """Reads a text in UTF-8, its first `MOST_TOKENS`; raises `ValueError` in one line if it is empty or none."""
        try:
            tokens = encode(self.info, content.removeprefix(b"\xef\xbb\xbf"))
        except DataError as error:
            raise ValueError(str(error).replace("the text", name or "the text")) from error
        if not len(tokens):
            raise ValueError("there is no text to read yet")
        few = len(tokens) > MOST_TOKENS
        notes = [f"the first {MOST_TOKENS:,} of {len(tokens):,} {self.info.noun} are read"] if few else []
        return {"notes": notes, **self._read(tokens[:MOST_TOKENS])}

    def read_example(self, index: int, choice: int | None = None) -> Json:
        """Reads a text of the test; raises `ValueError` if there is none, or the data are not here."""
        test = self._data.test
        check_index(index, len(self._ranked[0]), "example")
        truth = {} if self._is_language else {"label": int(test.targets[index])}
        return {"notes": [], **truth, **self._read(self._example(index)[:MOST_TOKENS])}

    def examples(self, start: int) -> Json:
        """Lists texts of the test: of a language model excerpts in their order, of a classifier the worst first."""
        order, answers = self._ranked
        targets, classes = self._data.test.targets, self.info.classes

        def show(i: int) -> Json:
            beginning = " ".join(decode(self.info, self._example(i)[:80]).split())
            if self._is_language:
                return {"text": beginning}
            wrong = bool(answers[i] != targets[i])
            return {"text": f"{classes[targets[i]]}: {beginning}", "wrong": wrong}

        return list_examples(order, start, None if self._is_language else int(np.sum(answers != targets)), show)

    def _example(self, i: int) -> np.ndarray:
        """Returns the tokens of a text of the test, or of an excerpt."""
        test = self._data.test
        if self._is_language:
            return test.inputs[0, i * EXCERPT : (i + 1) * EXCERPT]
        return test.inputs[i] if test.lengths is None else test.inputs[i, : test.lengths[i]]

    @functools.cached_property
    def _ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """The order of the texts, and the class that the model answers for each."""
        test = self._data.test
        if self._is_language:
            return np.arange(-(-test.inputs.shape[1] // EXCERPT)), np.zeros(0, int)
        with self._lock:
            texts = [bytes(decode(self.info, self._example(i)), "utf-8") for i in range(len(test.targets))]
            probabilities = np.array(self.model.predict(texts))
        return worst_first(probabilities, test.targets), probabilities.argmax(-1)

    def _names(self, tokens: Any) -> list[str]:
        """Returns each token as text; of bytes beyond ASCII their hexadecimal digits."""
        if self.info.tokens == "characters":
            return list(decode(self.info, list(tokens)))
        return [chr(token) if token < 128 else f"{token:02x}" for token in tokens]

    def _read(self, tokens: np.ndarray) -> Json:
        """Reads tokens [T], padded to a power of two that is compiled once."""
        T = len(tokens)
        padded = np.zeros(max(LEAST_TOKENS, 1 << (T - 1).bit_length()), np.int32)
        padded[:T] = tokens
        # A network that reads from the end must not see the padding.
        causal = not any(each.reverse for each in list_passes(self.task.network.encoder))
        with self._lock:
            reading = jax.device_get(self._compute(self.model.params, jnp.asarray(padded if causal else padded[:T])))
        answers = reading.answers[:T]
        likeliest = np.argsort(-answers, axis=-1, kind="stable")[:, :LIKELIEST]
        values = {
            "text": decode(self.info, tokens),
            "tokens": self._names(tokens),
            "answer": int(answers[-1].argmax()),
            "likeliest": [
                [[int(i), float(f"{p:.4g}")] for i, p in zip(row, each[row], strict=True)]
                for row, each in zip(likeliest, answers, strict=True)
            ],
            "passes": show_passes(reading, T),
        }
        if self._is_language:
            seen = np.take_along_axis(answers[:-1], tokens[1:, None].astype(int), axis=-1)[:, 0]
            values["bits"] = [None, *rounded(-np.log2(np.maximum(seen, 1e-30)), 3)]
        return values

    @functools.cached_property
    def _compute(self) -> Callable[[Any, Array], Reading]:
        """The jitted reading of tokens int [T]."""
        return jax.jit(lambda params, tokens: read(self.task, params, tokens))
