"""Readings of the user's own sequences by a trained run, in the form that the page of `demo` takes."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
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
    named_error,
    rounded,
    show_passes,
    significant,
)
from rnn_jax.base import Array
from rnn_jax.data import DataError
from rnn_jax.data.examples import pieces
from rnn_jax.data.series import SeriesInfo, prepare_like, read_sequences, scale, select, unscale
from rnn_jax.tasks.features import steps_at_once
from rnn_jax.tasks.reading import Reading, explain_answers, read
from rnn_jax.tasks.series_plots import CHANNELS, judge
from rnn_jax.tasks.task import predict_examples

MOST_STEPS = 2000  # of a sequence
MOST_NAMES = 500  # of the sequences of a file


class SeriesReader(Reader):
    """Reads sequences with a classifier, a regression or a forecast of the user's own."""

    @property
    def info(self) -> SeriesInfo:
        """The facts about the sequences."""
        return self.model.data

    def describe(self) -> Json:
        """Returns the facts about the run that the page shows."""
        form, joined = self.info.form, steps_at_once(self.info)
        word = "step" if joined == 1 else "part"
        explanation = explain_answers(self.task.network, word) + (f" A part is {joined} steps." if joined > 1 else "")
        return describe_run(
            self.model,
            self.folder,
            kind="series",
            task=form.task,
            word=word,
            joined=joined,
            per_step=form.per_step,
            classes=list(form.classes),
            channels=list(form.channels),
            target=form.target,
            horizon=self.info.horizon,
            suffix=self._suffix,
            explanation=explanation,
        )

    @property
    def _suffix(self) -> str:
        """The suffix of the run's own file, whose format pasted text has; of a folder or a binary file ".csv"."""
        suffix = Path(self.model.config.data or "").suffix.lower()
        return suffix if suffix in (".ts", ".arff", ".tsv", ".json", ".jsonl", ".ndjson") else ".csv"

    def warm_up(self) -> None:
        """Compiles ahead of the first sequence."""
        self._compute(self.model.params, jnp.zeros((self.info.steps, len(self.info.scaling.mean)), np.float32))

    def read_file(self, name: str, content: bytes, choice: int | None = None) -> Json:
        """Reads one sequence of a file of the kind that the run was trained on.

        Args:
          name: the file's name; its suffix tells the format, of none the run's own is taken.
          content: the file.
          choice: the number of the sequence; None for the first.

        Raises:
          ValueError: in one line, for a file of another kind, or a sequence that is too short or too long.
        """
        notes: list[str] = []
        name = name or f"pasted{self._suffix}"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"sequences{Path(name).suffix[:8] or self._suffix}"
            file.write_bytes(content)
            try:
                found = read_sequences(file, like=self.info.form, notify=notes.append)
                sequences = prepare_like(found, self.info)
            except DataError as error:
                raise named_error(error, file, name) from error
        i = check_index(choice or 0, len(sequences.lengths), "sequence")
        one = select(sequences, np.array([i]))
        truth = None if one.targets is None else one.targets if self.info.form.per_step else one.targets[0]
        return {
            "notes": [note.replace(str(file), name) for note in notes],
            "sequence": i,
            "names": list(sequences.names[:MOST_NAMES]),
            **self._read(scale(self.info.scaling, one.values), truth),
        }

    def read_example(self, index: int, choice: int | None = None) -> Json:
        """Reads a sequence of the test; raises `ValueError` if there is none, or the data are not here."""
        test, info = self._data.test, self.info
        check_index(index, len(test.targets), "example")
        length = test.inputs.shape[1] if test.lengths is None else test.lengths[index]
        truth = test.targets[index]
        if info.form.per_step:
            truth = truth[:length]
        if not info.form.classes:
            truth = unscale(info.goal, truth[..., None])[..., 0]
        return {"notes": [], **self._read(test.inputs[index, :length], truth)}

    def examples(self, start: int) -> Json:
        """Lists sequences of the test, the worst first."""
        order, errors, captions = self._judged
        of_classes = bool(self.info.form.classes)
        mistakes = int(np.sum(errors > 0)) if of_classes else None
        return list_examples(
            order,
            start,
            mistakes,
            lambda i: {"text": ", ".join(captions[i].splitlines()), "wrong": of_classes and bool(errors[i] > 0)},
        )

    @functools.cached_property
    def _judged(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """(the order of the test's sequences, their errors, a line about each)."""
        test, predict = self._data.test, jax.jit(functools.partial(predict_examples, self.task))
        with self._lock:
            parts = [np.asarray(predict(self.model.params, each.inputs, each.lengths)) for each in pieces(test)]
        errors, captions = judge(test, np.concatenate(parts), self.info)
        return np.argsort(-errors, kind="stable"), errors, captions

    def _read(self, inputs: np.ndarray, truth: Any) -> Json:
        """Reads scaled inputs [T, D]; truth is in units of the target, or None."""
        info, form = self.info, self.info.form
        if form.task == "forecast":
            if len(inputs) < info.steps:
                raise ValueError(f"{len(inputs)} steps are too few to forecast from, at least {info.steps} are needed")
            inputs = inputs[-info.steps :]
        if len(inputs) > MOST_STEPS:
            raise ValueError(f"the page shows at most {MOST_STEPS:,} steps, and the sequence has {len(inputs):,}")
        with self._lock:
            reading = jax.device_get(self._compute(self.model.params, jnp.asarray(inputs)))
        answers = reading.answers
        values = unscale(info.scaling, inputs)[:, : len(form.channels)]
        shown = list(dict.fromkeys([*([form.target] if form.target in form.channels else []), *form.channels]))
        return {
            "plot": [{"name": n, "values": significant(values[:, form.channels.index(n)])} for n in shown[:CHANNELS]],
            "hidden": len(shown[CHANNELS:]),
            "pixels": rounded(inputs, 3),
            "truth": None if truth is None else truth.tolist() if form.classes else significant(truth),
            "answers": rounded(answers)
            if form.classes
            else significant(unscale(info.goal, answers[..., None])[..., 0]),
            "passes": show_passes(reading, len(answers)),
        }

    @functools.cached_property
    def _compute(self) -> Callable[[Any, Array], Reading]:
        """The jitted reading of scaled inputs [T, D]."""
        return jax.jit(lambda params, inputs: read(self.task, params, inputs))
