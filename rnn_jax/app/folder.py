"""The folder of a run: its configuration, the facts about its data, and its outputs.

| in the folder | contents |
|---|---|
| config.json | the configuration; `train.py --config` runs it again |
| data.json | facts about the data that the model depends on: name, form, classes, scaling; a digest of the data |
| metrics.csv | a row for every 50 steps and each seed, see `rnn_jax.app.metrics` |
| checkpoints/ | the newest and the best states, see `rnn_jax.app.checkpoint` |
| training_curve.png and others | pictures, see `rnn_jax.tasks.plots` |
| tensorboard/ | events, with `--tensorboard` |
| lock | locked while a process trains |
"""

import itertools
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rnn_jax.app.files import unfinished, write_text
from rnn_jax.data import DataInfo
from rnn_jax.data.series import SeriesInfo
from rnn_jax.data.text import TextInfo
from rnn_jax.tasks.features import steps_at_once

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None

RUNS = Path("runs")
CONFIG, DATA, METRICS, CHECKPOINTS, TENSORBOARD, LOCK = (
    "config.json",
    "data.json",
    "metrics.csv",
    "checkpoints",
    "tensorboard",
    "lock",
)
DIGEST = "digest"  # of the data, among the facts about them


class RunFolder:
    """The locked folder of a run in progress; a context manager that unlocks it on exit.

    Args:
      path: the folder, which must be new or empty unless the run is resumed.
      config: the configuration as JSON.
      info: the facts about the data.
      digest: the digest of the data.
      resume: True if the folder may hold a run, whose files are kept.
      accept_data: True if a resumed run may continue with other data.
      warn: called with one line if the file system has no locks.

    Attributes:
      path: the folder.

    Raises:
      ValueError: in one line, if the folder cannot be made or written, belongs to something else, is in use, or holds
        a run on other data.
    """

    def __init__(
        self,
        path: Path,
        config: str,
        info: DataInfo | SeriesInfo | TextInfo,
        digest: str = "",
        *,
        resume: bool = False,
        accept_data: bool = False,
        warn: Callable[[str], None] = print,
    ) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            check_owner(path, resume=resume)
            if not os.access(path, os.W_OK):
                raise PermissionError(None, "Permission denied", str(path))
            self._lock = (path / LOCK).open("a")
            try:
                self._take_lock(warn)
                check_owner(path, resume=resume)  # Another process may have begun a run meanwhile.
                facts = json.dumps({**info.to_json(), DIGEST: digest}, indent=2) + "\n"
                is_new = not (path / CONFIG).exists()
                if is_new or not check_data(path, digest, info, accept=accept_data, remedy=_REMEDY):
                    write_text(path / DATA, facts)
                if is_new:
                    write_text(path / CONFIG, config)
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise ValueError(
                f"cannot write --output-dir {error.filename or path}: {error.strerror}: choose another folder"
            ) from error

    def keep_steps(self, steps: int | None) -> None:
        """Updates the number of steps in the saved configuration, to extend a run."""
        values = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
        if values.get("steps") != steps:
            write_text(self.path / CONFIG, json.dumps({**values, "steps": steps}, indent=2) + "\n")

    def _take_lock(self, warn: Callable[[str], None]) -> None:
        """Locks the folder; where the file system has no locks, warns instead."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"--output-dir {self.path} is in use by another process") from error
        except OSError as error:
            warn(f"{self.path} cannot be locked ({error.strerror}): let no other process train in it")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.close()


def check_owner(path: Path, *, resume: bool) -> None:
    """Raises `ValueError`, in one line, if a folder holds something other than a run, or a run that is not resumed."""
    # One listing answers both questions: between two looks, another process may begin a run.
    files = set(os.listdir(path)) if path.is_dir() else set()
    # A process that died before it wrote the configuration leaves at most these files.
    begun = {DATA, LOCK, unfinished(path / DATA).name, unfinished(path / CONFIG).name}
    if CONFIG in files:
        if not resume:
            raise ValueError(f"--output-dir {path} holds a run: go on with it by --resume, or choose a new folder")
    elif not files <= begun:
        raise ValueError(f"--output-dir {path} is not empty, and no run: choose a new folder")


def new_run(cell: str, data: str, runs: Path = RUNS) -> Path:
    """Makes a unique folder for a new run, named after its cell, its data and the time.

    Raises:
      ValueError: in one line, if it cannot be made.
    """
    name = f"{cell}-{data}-{datetime.now():%Y-%m-%d-%H%M%S}"
    for number in itertools.count(1):
        path = runs / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError as error:
            if not path.is_dir():
                raise ValueError(f"cannot make {path}: {error.strerror}: name a folder with --output-dir") from error
        except OSError as error:
            raise ValueError(f"cannot make {path}: {error.strerror}: name a folder with --output-dir") from error
    return path


def newest_run(runs: Path = RUNS) -> Path:
    """Finds the run that started last.

    Raises:
      ValueError: if there is none.
    """
    folders = [config.parent for config in runs.glob(f"*/{CONFIG}")]
    if not folders:
        raise ValueError(f"there is no run to resume in {runs}/: name one with --output-dir, or leave --resume out")
    return max(folders, key=lambda folder: (folder / CONFIG).stat().st_mtime_ns)


def read_data_info(folder: Path) -> DataInfo | SeriesInfo | TextInfo:
    """Reads the facts about a run's data; raises `OSError` or `ValueError` if they cannot be read."""
    values = _read_facts(folder)
    values.pop(DIGEST, None)
    try:
        kind = SeriesInfo if "form" in values else TextInfo if "vocabulary" in values else DataInfo
        return kind.from_json(values)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / DATA} does not hold the facts about data") from error


def check_data(folder: Path, digest: str, info: DataInfo | SeriesInfo | TextInfo, *, accept: bool, remedy: str) -> bool:
    """Compares data with the data of a run: the form, and the digest if the folder records one.

    Args:
      folder: the run's.
      digest: the digest of the data.
      info: the facts about them.
      accept: True to accept other data of the same form.
      remedy: the end of the error's message.

    Returns:
      True if the data are those of the run.

    Raises:
      ValueError: in one line, if they are not and `accept` is False, or if their form differs.
    """
    expected = read_data_info(folder)
    if _form(expected) != _form(info):
        raise ValueError(f"{info.source} has another form than {expected.source}, the data of the run in {folder}")
    same = _read_facts(folder).get(DIGEST, "") in ("", digest)
    if not (same or accept):
        raise ValueError(f"{info.source} is other data than those of the run in {folder}, {expected.source}: {remedy}")
    return same


_REMEDY = "name those by --data-dir or --data, or go on with these by --accept-data"


def _form(info: DataInfo | SeriesInfo | TextInfo) -> tuple[Any, ...]:
    """Returns the facts that a network depends on."""
    if isinstance(info, SeriesInfo):
        window = info.steps if info.form.task == "forecast" else steps_at_once(info)
        return info.form, info.missing, info.horizon, info.season, window
    if isinstance(info, TextInfo):
        return info.task, info.tokens, info.vocabulary, info.classes
    return info.image_shape, info.max_pixel, info.num_classes


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / DATA).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {folder / DATA}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{folder / DATA} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{folder / DATA} does not hold the facts about data")
    return values
