"""The folder of a run: its configuration, the facts about its data, and everything that the run leaves.

| in the folder | contents |
|---|---|
| config.json | the configuration; `train.py --config` runs it again |
| data.json | the facts about the data that the model depends on: name, image size, classes, scaling |
| metrics.csv | a row for every 50 steps and each seed, see `rnn_jax.app.metrics` |
| checkpoints/ | the newest and the best states, see `rnn_jax.app.checkpoint` |
| training_curve.png and others | pictures, see `rnn_jax.tasks.plots` |
| tensorboard/ | events, if asked for |
"""

import json
import os
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from rnn_jax.app.files import unfinished, write_text
from rnn_jax.data import DataInfo
from rnn_jax.data.series import SeriesInfo

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None

RUNS = Path("runs")
CONFIG, DATA, METRICS, CHECKPOINTS, TENSORBOARD = (
    "config.json",
    "data.json",
    "metrics.csv",
    "checkpoints",
    "tensorboard",
)


class RunFolder:
    """The folder of a run in progress, locked against other processes. A context manager that unlocks it.

    Args:
      path: the folder, which must be new or empty unless the run is resumed.
      config: the configuration as JSON.
      info: the facts about the data.
      resume: whether the folder may hold a run, which then keeps its files.

    Attributes:
      path: the folder.

    Raises:
      ValueError: in one line, if the folder cannot be made or written, belongs to something else, or is in use.
    """

    def __init__(self, path: Path, config: str, info: DataInfo | SeriesInfo, *, resume: bool = False) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            # A process that dies before the configuration is in its place leaves no more than these.
            if set(os.listdir(path)) <= {DATA, unfinished(path / DATA).name, unfinished(path / CONFIG).name}:
                write_text(path / DATA, json.dumps(info.to_json(), indent=2) + "\n")
                write_text(path / CONFIG, config)
            elif not (path / CONFIG).exists():
                raise ValueError(f"--output-dir {path} is not empty, and no run: choose a new folder")
            elif not resume:
                raise ValueError(f"--output-dir {path} holds a run: go on with it by --resume, or choose a new folder")
            self._lock = (path / CONFIG).open()
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.access(path, os.W_OK):
                raise PermissionError(None, "Permission denied", str(path))
        except BlockingIOError as error:
            raise ValueError(f"--output-dir {path} is in use by another process") from error
        except OSError as error:
            raise ValueError(
                f"cannot write --output-dir {error.filename or path}: {error.strerror}: choose another folder"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.close()


def new_run(cell: str, data: str, runs: Path = RUNS) -> Path:
    """Names a new run by its cell, its data and the time."""
    name = f"{cell}-{data}-{datetime.now():%Y-%m-%d-%H%M%S}"
    path, number = runs / name, 1
    while path.exists():
        number += 1
        path = runs / f"{name}-{number}"
    return path


def newest_run(runs: Path = RUNS) -> Path:
    """Finds the run that was begun last.

    Raises:
      ValueError: if there is none.
    """
    folders = [config.parent for config in runs.glob(f"*/{CONFIG}")]
    if not folders:
        raise ValueError(f"there is no run to resume in {runs}/: name one with --output-dir, or leave --resume out")
    return max(folders, key=lambda folder: (folder / CONFIG).stat().st_mtime_ns)


def read_data_info(folder: Path) -> DataInfo | SeriesInfo:
    """Reads the facts about a run's data; raises `OSError` or `ValueError` if they cannot be read."""
    values = json.loads((folder / DATA).read_text())
    return (SeriesInfo if "form" in values else DataInfo).from_json(values)
