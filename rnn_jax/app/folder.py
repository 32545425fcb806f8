"""The folder of a run: its configuration, the data it is about, and a table of metrics that outlives a crash.

| in the folder | what it is |
|---|---|
| config.json | the configuration; `train.py --config` runs it again |
| data.json | what the classifier is for: the data's name, the size of its images |
| metrics.csv | a row for every 50 steps, and for each seed |
| checkpoints/ | the newest and the best states, see `rnn_jax.app.checkpoint` |
| training_curve.png, confusion_matrix.png, worst_mistakes.png | pictures, see `rnn_jax.tasks.plots` |
| tensorboard/ | events, if asked for |
"""

import csv
import fcntl
import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from rnn_jax.data import Dataset

if TYPE_CHECKING:
    from rnn_jax.app.config import Config

RUNS = Path("runs")
CONFIG, DATA, METRICS, CHECKPOINTS, TENSORBOARD = (
    "config.json",
    "data.json",
    "metrics.csv",
    "checkpoints",
    "tensorboard",
)


class Report(NamedTuple):
    """Where the training of one seed was: loss in nats, accuracy as a fraction.

    Attributes:
      step: updates made.
      seed: the seed.
      loss: of the minibatch.
      accuracy: of the minibatch.
      validation_loss: of the whole validation split; None where it was not looked at.
      validation_accuracy: the same.
    """

    step: int
    seed: int
    loss: float
    accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


class DataInfo(NamedTuple):
    """What a trained classifier must know of its data.

    Attributes:
      name: the data set's.
      source: where it came from, in words.
      image_shape: (rows, columns) of pixels.
      max_pixel: the value of a white pixel; that of a black one is 0.
      num_classes: how many different labels there are.
    """

    name: str
    source: str
    image_shape: tuple[int, int]
    max_pixel: int
    num_classes: int


class RunFolder:
    """A run's folder while the run goes on: nobody else can go on with it meanwhile.

    Args:
      config: the run; `output_dir` names the folder, None one of `runs/` by cell, data and time. It must be new or
        empty, unless the run is resumed.
      data: what it is about.

    Attributes:
      path: the folder.

    Raises:
      ValueError: in one line, if the folder cannot be made or written, belongs to something else, or is in use.
    """

    def __init__(self, config: "Config", data: Dataset) -> None:
        self.path = config.output_dir or _new_name(config, data)
        self._metrics: TextIO | None = None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # A process that dies before the configuration is in its place leaves no more than these.
            if set(os.listdir(self.path)) <= {DATA, _unfinished(DATA), _unfinished(CONFIG)}:
                info = DataInfo(data.name, data.source, data.train.images.shape[1:], data.max_pixel, data.num_classes)
                write_text(self.path / DATA, json.dumps(info._asdict(), indent=2) + "\n")
                write_text(self.path / CONFIG, config.to_json())
            elif not (self.path / CONFIG).exists():
                raise ValueError(f"--output-dir {self.path} is not empty, and no run: choose a new folder")
            elif not config.resume:
                raise ValueError(
                    f"--output-dir {self.path} holds a run: go on with it by --resume, or choose a new folder"
                )
            self._lock = (self.path / CONFIG).open()
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.access(self.path, os.W_OK):
                raise PermissionError(None, "Permission denied", str(self.path))
        except BlockingIOError as error:
            raise ValueError(f"--output-dir {self.path} is in use by another process") from error
        except OSError as error:
            raise ValueError(
                f"cannot write --output-dir {error.filename or self.path}: {error.strerror}: choose another folder"
            ) from error

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._metrics is not None:
            self._metrics.close()
        self._lock.close()

    def begin_metrics(self, step: int) -> list[Report]:
        """Opens the table of metrics for what comes after `step`, and drops what it holds of later steps.

        Returns:
          What it holds: the reports up to `step`.
        """
        file = self.path / METRICS
        reports = [report for report in read_metrics(file) if report.step <= step] if file.exists() else []
        text = "".join(_row(line) for line in (Report._fields, *reports))
        write_text(file, text)
        self._metrics = file.open("a", buffering=1)  # each line is out of the process once it is complete
        return reports

    def add_metrics(self, reports: Sequence[Report]) -> None:
        """Adds rows to the table that `begin_metrics` has opened."""
        assert self._metrics is not None
        self._metrics.write("".join(map(_row, reports)))


def newest_run(runs: Path = RUNS) -> Path:
    """The run that was begun last.

    Raises:
      ValueError: if there is none.
    """
    folders = [config.parent for config in runs.glob(f"*/{CONFIG}")]
    if not folders:
        raise ValueError(f"there is no run to resume in {runs}/: name one with --output-dir, or leave --resume out")
    return max(folders, key=lambda folder: (folder / CONFIG).stat().st_mtime_ns)


def read_data_info(folder: Path) -> DataInfo:
    """Reads what a run's folder says of its data; raises `OSError` or `ValueError` if that cannot be."""
    values = json.loads((folder / DATA).read_text())
    return DataInfo(**{**values, "image_shape": tuple(values["image_shape"])})


def read_metrics(file: Path) -> list[Report]:
    """Reads a table of metrics; an unfinished line at its end is passed over."""
    lines = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [
        Report(int(row[0]), int(row[1]), *(float(value) if value else None for value in row[2:]))  # type: ignore
        for row in csv.reader(lines[1:])
    ]


def write_text(file: Path, text: str) -> None:
    """Writes a file as a whole or not at all."""
    unfinished = file.with_name(_unfinished(file.name))
    unfinished.write_text(text)
    unfinished.replace(file)


def _unfinished(name: str) -> str:
    return name + ".unfinished"


def _row(values: Sequence[object]) -> str:
    return ",".join("" if value is None else str(value) for value in values) + "\n"


def _new_name(config: "Config", data: Dataset) -> Path:
    name = f"{config.cell}-{data.name}-{datetime.now():%Y-%m-%d-%H%M%S}"
    path, number = RUNS / name, 1
    while path.exists():
        number += 1
        path = RUNS / f"{name}-{number}"
    return path
