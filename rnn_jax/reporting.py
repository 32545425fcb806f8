"""What a run tells: the lines of the tutorial, a table and a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rnn_jax.data import Dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report(NamedTuple):
    """Where training was: step, minibatch loss in nats, minibatch accuracy as a fraction."""

    step: int
    loss: float
    accuracy: float


def data_label(data: Dataset) -> str:
    """What every report appends to name data other than MNIST; nothing for MNIST itself."""
    return "" if data.name == "mnist" else f" ({data.name})"


def step_line(report: Report) -> str:
    """The tutorial's report.

    >>> step_line(Report(200, 2.07221, 0.328125))
    'Step 200, Minibatch Loss= 2.0722, Training Accuracy= 0.328'
    """
    return f"Step {report.step}, Minibatch Loss= {report.loss:.4f}, Training Accuracy= {report.accuracy:.3f}"


def save_history(folder: Path, history: Sequence[Report], title: str) -> None:
    """Writes `metrics.csv` and `training_curve.png` into a folder."""
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Report._fields)
        writer.writerows(history)
    training_curve(history, title).savefig(folder / "training_curve.png", dpi=150)


def training_curve(history: Sequence[Report], title: str) -> "Figure":
    """Draws minibatch loss and accuracy over the steps, one above the other."""
    from matplotlib.figure import Figure  # It takes a second to import, which most runs need not spend.

    figure = Figure(figsize=(7, 5), layout="constrained")
    figure.suptitle(title)
    loss_axes, accuracy_axes = figure.subplots(2, sharex=True)
    steps = [report.step for report in history]
    loss_axes.semilogy(steps, [report.loss for report in history], color="black", linewidth=0.8)
    loss_axes.set_ylabel("minibatch loss [nats]")
    accuracy_axes.plot(steps, [100 * report.accuracy for report in history], color="black", linewidth=0.8)
    accuracy_axes.set_ylabel("minibatch accuracy [%]")
    accuracy_axes.set_xlabel("step")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(color="0.85")
        axes.margins(x=0.01)
    return figure
