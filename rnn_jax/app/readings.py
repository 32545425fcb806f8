"""Readings as values that `json` can write, and the parts that every reader of `demo` needs."""

import abc
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rnn_jax.app.digest import digest
from rnn_jax.app.folder import check_data
from rnn_jax.app.model import Model
from rnn_jax.app.series import load_own
from rnn_jax.data import DataError, DataInfo, Dataset, load_dataset
from rnn_jax.tasks.reading import Reading, list_passes

Json: TypeAlias = dict[str, Any]
FEW = 24  # examples shown at once
DIGITS = 6  # kept of each number, which is more than a screen shows
MOST_NUMBERS = 500_000  # with `DIGITS`; readings of more numbers are sent with half of them


class Reader(abc.ABC):
    """A trained run that reads examples and files. All results can be written as JSON.

    Args:
      model: the trained run.
      folder: the run's folder.
    """

    def __init__(self, model: Model, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.task: Any = model.task
        self._lock = threading.Lock()  # One computation at a time: a second one would only slow both.

    @functools.cached_property
    def _data(self) -> Any:
        """The run's data, see `load_data`."""
        return load_data(self.model, self.folder)

    @abc.abstractmethod
    def describe(self) -> Json:
        """Returns the facts about the run; "kind" is "images", "text" or "series"."""

    @abc.abstractmethod
    def warm_up(self) -> None:
        """Compiles ahead of the first request."""

    @abc.abstractmethod
    def examples(self, start: int) -> Json:
        """Lists test examples from a place in their order."""

    @abc.abstractmethod
    def read_example(self, index: int, choice: int | None = None) -> Json:
        """Reads a test example; of images, `choice` is the class of the gradient."""

    @abc.abstractmethod
    def read_file(self, name: str, content: bytes, choice: int | None = None) -> Json:
        """Reads a file, or one of its sequences; raises `ValueError` in one line for one of another kind."""


def describe_run(model: Model, folder: Path, **facts: Any) -> Json:
    """Returns the facts about a run that the page shows for any task, and others."""
    task: Any = model.task
    config, data = model.config, model.data
    return {
        "run": folder.name,
        "cell": f"{config.cell}, {config.hidden_size} units"
        + (f", {config.layers} layers" if config.layers > 1 else "")
        + (", both ways" if config.bidirectional else ""),
        "data": data.name,
        "step": model.step,
        "passes": [{"name": info.name, "reverse": info.reverse} for info in list_passes(task.network.encoder)],
        **facts,
    }


def load_data(model: Model, folder: Path) -> Dataset:
    """Loads the run's data; raises `ValueError` if they are not here or are others."""
    try:
        if isinstance(model.data, DataInfo):
            data = load_dataset(model.data.name, model.config.data_dir)
        else:
            data = load_own(model.config, quiet=True)
        check_data(folder, digest(data), data.info, accept=False, remedy="the page shows none of them")
    except DataError as error:
        raise ValueError(str(error)) from error
    return data


def list_examples(order: np.ndarray, start: int, mistakes: int | None, show: Callable[[int], Json]) -> Json:
    """Lists a few examples from a place in their order; `mistakes` is None where nothing is right or wrong."""
    few = [{"index": int(i), **show(int(i))} for i in order[start : start + FEW]]
    return {"examples": few, "count": len(order), "mistakes": mistakes}


def check_index(index: int, count: int, noun: str) -> int:
    """Returns an index; raises `ValueError` if there is no such thing."""
    if not 0 <= index < count:
        raise ValueError(f"there is no {noun} {index}, but {count} from 0")
    return index


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


def show_passes(reading: Reading, steps: int) -> list[Json]:
    """Returns the states and the gates of each pass by name, of the first steps."""
    arrays = [array for each in reading.passes for part in each if part is not None for array in part]
    digits = DIGITS if sum(array[:steps].size for array in arrays) <= MOST_NUMBERS else DIGITS // 2

    def named(values: Any) -> Json:
        return {} if values is None else {k: rounded(v[:steps], digits) for k, v in values._asdict().items()}

    return [{"states": named(each.states), "gates": named(each.gates)} for each in reading.passes]


def rounded(values: Any, digits: int = DIGITS) -> Any:
    """Returns an array as lists of numbers; zero where it is not finite, which JSON cannot write."""
    return np.round(np.nan_to_num(np.asarray(values, np.float64), posinf=0, neginf=0), digits).tolist()


def significant(values: Any) -> Any:
    """Returns numbers in units of the data as lists, with `DIGITS` significant digits; None where not finite."""
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [significant(each) for each in array]
    return float(f"{array:.{DIGITS}g}") if np.isfinite(array) else None


def named_error(error: Exception, file: Path, name: str) -> ValueError:
    """Returns an error of a reader of files with the name that the user knows."""
    return ValueError(str(error).replace(str(file), name))
