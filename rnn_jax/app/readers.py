"""Readings of pictures by a trained run, in the form that the page of `demo` takes: values that `json` can write."""

import dataclasses
import functools
import io
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.app.digest import digest
from rnn_jax.app.folder import check_data
from rnn_jax.app.model import Model
from rnn_jax.base import Array
from rnn_jax.data import DataError, load_dataset
from rnn_jax.data.mnist.family import FAMILY
from rnn_jax.tasks.images import check_pixels, read_images
from rnn_jax.tasks.reading import Reading, explain_answers, input_gradient, list_passes, read

Json: TypeAlias = dict[str, Any]
FEW = 24  # examples shown at once
DIGITS = 6  # kept of each number, which is more than a screen shows


class ImageReader:
    """Reads pictures and test images with a trained classifier of images.

    Args:
      model: the trained run.
      folder: the run's folder.
    """

    def __init__(self, model: Model, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.task: Any = model.task
        self._lock = threading.Lock()  # One computation at a time: a second one would only slow both.
        self._loading = threading.Lock()
        self._order: np.ndarray | None = None

    def describe(self) -> Json:
        """Returns the facts about the run that the page shows."""
        config, data, network = self.model.config, self.model.data, self.task.network
        return {
            "kind": "images",
            "run": self.folder.name,
            "cell": f"{config.cell}, {config.hidden_size} units"
            + (f", {config.layers} layers" if config.layers > 1 else "")
            + (", both ways" if config.bidirectional else ""),
            "data": data.name,
            "step": self.model.step,
            "shape": data.image_shape,
            "classes": self.classes,
            "explanation": explain_answers(network, "row"),
            "passes": [{"name": info.name, "reverse": info.reverse} for info in list_passes(network.encoder)],
        }

    def warm_up(self) -> None:
        """Compiles ahead of the first picture."""
        self._read(np.zeros(self.model.data.image_shape, np.float32), None)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        data = self.model.data
        return list(FAMILY[data.name].class_names) if data.name in FAMILY else list(map(str, range(data.num_classes)))

    @property
    def _has_ink(self) -> bool:
        """True for images of characters."""
        return self.model.data.name != "fashion_mnist"

    def read_file(self, name: str, content: bytes, wanted: int | None = None) -> Json:
        """Reads a picture, as `predict` does.

        Args:
          name: the file's name; only its suffix matters.
          content: the file.
          wanted: the class of the gradient; None for the answer.

        Raises:
          ValueError: in one line, for anything but a picture.
        """
        notes: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"picture{Path(name).suffix[:8]}"
            file.write_bytes(centre_ink(content, self.model.data.image_shape[0]) if self._has_ink else content)
            try:
                _, images = read_images(file, self.model.data, invert=False, notify=notes.append)
            except ValueError as error:
                raise ValueError(str(error).replace(str(file), name or "the picture")) from error
        if not len(images):
            raise ValueError(f"{name or 'the picture'} holds no images")
        notes = [note.removeprefix(f"{file}: ") for note in notes]
        return {"notes": notes, **self._read(images[0], wanted)}

    def read_example(self, index: int, wanted: int | None = None) -> Json:
        """Reads a test image.

        Raises:
          ValueError: if there is no such image, or the data are not here.
        """
        test = self._data.test
        if not 0 <= index < len(test.targets):
            raise ValueError(f"there is no example {index}, but {len(test.targets)} from 0")
        return {"notes": [], "label": int(test.targets[index]), **self._read(test.inputs[index], wanted)}

    def examples(self, start: int) -> Json:
        """Lists test images, see `worst_first`.

        Args:
          start: the place of the first in that order.

        Raises:
          ValueError: if the data are not here.
        """
        with self._loading:
            test = self._data.test
            if self._order is None:
                with self._lock:
                    self._probabilities = self.model.predict(test.inputs)
                self._order = worst_first(self._probabilities, test.targets)
        shown = [
            {
                "index": int(i),
                "label": int(test.targets[i]),
                "answer": int(self._probabilities[i].argmax()),
                "pixels": rounded(test.inputs[i] / self.model.data.max_pixel, 2),
            }
            for i in self._order[start : start + FEW]
        ]
        wrong = int(np.sum(self._probabilities.argmax(-1) != test.targets))
        return {"examples": shown, "count": len(self._order), "mistakes": wrong}

    @functools.cached_property
    def _data(self) -> Any:
        """The run's data; raises `ValueError` if they are not here or are others."""
        try:
            data = load_dataset(self.model.data.name, self.model.config.data_dir)
            check_data(self.folder, digest(data), data.info, accept=False, remedy="the page shows none of them")
        except DataError as error:
            raise ValueError(str(error)) from error
        return data

    def _read(self, image: np.ndarray, wanted: int | None) -> Json:
        """Reads an image [R, C] of whole pixels or fractions."""
        classes = self.model.data.num_classes
        if wanted is not None and not 0 <= wanted < classes:
            raise ValueError(f"there is no class {wanted}, but {classes} from 0")
        pixels = jnp.asarray(image.astype(np.float32) / check_pixels(image, self.model.data.max_pixel))
        with self._lock:
            reading, gradient = jax.device_get(self._compute(pixels, jnp.int32(-1 if wanted is None else wanted)))
        answer = int(reading.answers[-1].argmax())
        return {
            "pixels": rounded(pixels),
            "answer": answer,
            "gradient_of": answer if wanted is None else wanted,
            "gradient": rounded(gradient),
            **show(reading),
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


def worst_first(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Orders examples: the mistakes, the most certain first; then the right answers, the least certain first.

    Args:
      probabilities: [N, C].
      targets: int [N].

    Returns:
      The indices, int [N].
    """
    certainty = probabilities.max(-1)
    wrong = probabilities.argmax(-1) != targets
    return np.lexsort((np.where(wrong, -certainty, certainty), ~wrong))


def show(reading: Reading) -> Json:
    """Returns the probabilities and, for each pass, the states and gates by name, in the form of JSON."""

    def named(values: Any) -> dict[str, Any]:
        return {name: rounded(value) for name, value in values._asdict().items()} if values is not None else {}

    return {
        "answers": rounded(reading.answers),
        "passes": [{"states": named(each.states), "gates": named(each.gates)} for each in reading.passes],
    }


def rounded(values: Any, digits: int = DIGITS) -> Any:
    """Returns an array as lists of numbers; zero where it is not finite, which JSON cannot write."""
    return np.round(np.nan_to_num(np.asarray(values, np.float64), posinf=0, neginf=0), digits).tolist()


def centre_ink(content: bytes, side: int) -> bytes:
    """Puts the ink of a picture into the middle of a square, as MNIST's digits are; anything else stays unchanged.

    Its longest side becomes 20/28 of the square's, or all of it for squares of 8 pixels, and its centre of mass the
    middle.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as picture:
            grey = np.asarray(picture.convert("L"), np.float32)
    except Exception:  # The reader of pictures says what is wrong.
        return content
    if np.median([*grey[0], *grey[-1], *grey[:, 0], *grey[:, -1]]) > 127:
        grey = 255 - grey
    inked = grey > grey.max() * 0.3
    if not inked.any():
        return content
    rows, columns = (np.flatnonzero(inked.any(axis)) for axis in (1, 0))
    ink = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = round(max(ink.shape) * (1.0 if side == 8 else 28 / 20))
    mass = [np.average(np.arange(n), weights=ink.sum(1 - axis)) for axis, n in enumerate(ink.shape)]
    corner = [int(np.clip(round(size / 2 - m), 0, size - n)) for m, n in zip(mass, ink.shape, strict=True)]
    square = np.zeros((size, size), np.uint8)
    square[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    out = io.BytesIO()
    Image.fromarray(square).save(out, "png")
    return out.getvalue()
