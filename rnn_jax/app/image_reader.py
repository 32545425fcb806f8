"""Readings of pictures by a trained run, in the form that the page of `demo` takes."""

import dataclasses
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
    worst_first,
)
from rnn_jax.base import Array
from rnn_jax.data.mnist.family import FAMILY
from rnn_jax.tasks.image_order import reading_steps
from rnn_jax.tasks.images import check_pixels, read_images
from rnn_jax.tasks.reading import explain_answers, input_gradient, read


class ImageReader(Reader):
    """Reads pictures and test images with a trained classifier of images."""

    def describe(self) -> Json:
        """Returns the facts about the run that the page shows."""
        return describe_run(
            self.model,
            self.folder,
            kind="images",
            word=self.word,
            classes=self.classes,
            when=reading_steps(self.model.data.image_shape, self.task.order).tolist(),
            explanation=explain_answers(self.task.network, self.word),
        )

    @property
    def word(self) -> str:
        """The word for one step."""
        return "row" if self.task.order == "rows" else "pixel"

    def warm_up(self) -> None:
        """Compiles ahead of the first picture."""
        self._read(np.zeros(self.model.data.image_shape, np.float32), None)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        data = self.model.data
        return list(FAMILY[data.name].class_names) if data.name in FAMILY else list(map(str, range(data.num_classes)))

    def read_file(self, name: str, content: bytes, choice: int | None = None) -> Json:
        """Reads a picture, as `predict` does.

        Args:
          name: the file's name; only its suffix matters.
          content: the file.
          choice: the class of the gradient; None for the answer.

        Raises:
          ValueError: in one line, for anything but a picture.
        """
        notes: list[str] = []
        name = name or "the picture"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"picture{Path(name).suffix[:8]}"
            file.write_bytes(content)
            try:
                _, images = read_images(file, self.model.data, invert=False, notify=notes.append)
            except ValueError as error:
                raise named_error(error, file, name) from error
        if not len(images):
            raise ValueError(f"{name} holds no images")
        return {"notes": [note.removeprefix(f"{file}: ") for note in notes], **self._read(images[0], choice)}

    def read_example(self, index: int, choice: int | None = None) -> Json:
        """Reads a test image.

        Raises:
          ValueError: if there is no such image, or the data are not here.
        """
        test = self._data.test
        check_index(index, len(test.targets), "example")
        return {"notes": [], "label": int(test.targets[index]), **self._read(test.inputs[index], choice)}

    def examples(self, start: int) -> Json:
        """Lists test images, see `worst_first`.

        Args:
          start: the place of the first in that order.

        Raises:
          ValueError: if the data are not here.
        """
        test, (order, probabilities) = self._data.test, self._ranked
        answers = probabilities.argmax(-1)
        return list_examples(
            order,
            start,
            int(np.sum(answers != test.targets)),
            lambda i: {
                "label": int(test.targets[i]),
                "answer": int(answers[i]),
                "pixels": rounded(test.inputs[i] / self.model.data.max_pixel, 2),
            },
        )

    @functools.cached_property
    def _ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """The order of the test images, and their probabilities."""
        with self._lock:
            probabilities = self.model.predict(self._data.test.inputs)
        return worst_first(probabilities, self._data.test.targets), probabilities

    def _read(self, image: np.ndarray, choice: int | None) -> Json:
        """Reads an image [R, C] of whole pixels or fractions."""
        wanted = -1 if choice is None else check_index(choice, self.model.data.num_classes, "class")
        pixels = jnp.asarray(image.astype(np.float32) / check_pixels(image, self.model.data.max_pixel))
        with self._lock:
            reading, gradient = jax.device_get(self._compute(pixels, jnp.int32(wanted)))
        answer = int(reading.answers[-1].argmax())
        return {
            "pixels": rounded(pixels),
            "answer": answer,
            "gradient_of": answer if choice is None else choice,
            "gradient": rounded(gradient),
            "answers": rounded(reading.answers),
            "passes": show_passes(reading, len(reading.answers)),
        }

    @functools.cached_property
    def _compute(self) -> Callable[[Array, Array], Any]:
        """The jitted reading of fractions [R, C] and the gradient for a class; -1 for the answer."""
        task, params = dataclasses.replace(self.task, scale=1.0), self.model.params

        def compute(pixels: Array, wanted: Array) -> Any:
            reading = read(task, params, pixels)
            index = jnp.where(wanted < 0, jnp.argmax(reading.answers[-1]).astype(wanted.dtype), wanted)
            return reading, input_gradient(task, params, pixels, index)

        return jax.jit(compute)
