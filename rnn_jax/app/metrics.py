"""The table of a run's metrics: a row for each report, in a CSV file that survives a crash."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rnn_jax.app.files import naming, write_text
from rnn_jax.tasks.task import VALIDATION, Report, Task


class MetricsTable:
    """A table of metrics, open for the rows after a step; `close` closes it.

    Args:
      file: the CSV file; rows of later steps are dropped.
      names: the metrics of a minibatch; those of the validation split follow them.
      step: the last step to keep.

    Attributes:
      reports: all rows, up to `step` at first.

    Raises:
      ValueError: in one line, if the file is not a table of these metrics.
    """

    def __init__(self, file: Path, names: Sequence[str], step: int) -> None:
        self._columns = [*names, *(VALIDATION + name for name in names)]
        self.reports = [report for report in read_metrics(file) if report.step <= step] if file.exists() else []
        if any(set(report.values) != set(self._columns) for report in self.reports):
            raise ValueError(f"{file} is not a table of {', '.join(self._columns)}")
        rows = [["step", "seed", *self._columns], *map(self._row, self.reports)]
        write_text(file, "".join(map(_line, rows)))
        self._path = file
        self._file = file.open("a", buffering=1, encoding="utf-8")  # Line-buffered: a crash loses no row.

    def add(self, reports: Sequence[Report]) -> None:
        """Adds a row for each report."""
        with naming(self._path):
            self._file.write("".join(_line(self._row(report)) for report in reports))
        self.reports += reports

    def close(self) -> None:
        """Closes the file."""
        with naming(self._path):
            self._file.close()

    def _row(self, report: Report) -> list[object]:
        return [report.step, report.seed, *(report.values.get(column) for column in self._columns)]


def read_metrics(file: Path) -> list[Report]:
    """Reads a table of metrics and ignores an unfinished line at its end.

    Raises:
      ValueError: in one line, if it is not a table of metrics.
      OSError: if it cannot be read.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        return [
            Report(
                int(row.pop("step")),
                int(row.pop("seed")),
                {name: float(value) if value else None for name, value in row.items()},
            )
            for row in csv.DictReader(lines, strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{file} is not a table of metrics") from error


def scores(reports: Sequence[Report], task: Task) -> dict[int, float]:
    """Returns the score of each step with a validation, the mean over the seeds; the highest is the best."""
    sign = 1 if task.quantities[task.score].better == "higher" else -1
    by_step: dict[int, list[float]] = {}
    for report in reports:
        value = report.values.get(VALIDATION + task.score)
        if value is not None:
            by_step.setdefault(report.step, []).append(sign * value)
    return {step: float(np.mean(values)) for step, values in by_step.items()}


def has_stopped(reports: Sequence[Report], task: Task, patience: int | None) -> bool:
    """True if the last `patience` validations are all worse than the best before them; None never stops."""
    found = list(scores(reports, task).values())
    return patience is not None and len(found) > patience and max(found[-patience:]) < max(found[:-patience])


def _line(values: Sequence[object]) -> str:
    return ",".join("" if value is None else str(value) for value in values) + "\n"
