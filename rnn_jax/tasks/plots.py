"""The pictures of a run: curves, confusions, and the worst mistakes. All are readable without colour."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnn_jax.data import Examples
from rnn_jax.tasks.task import VALIDATION, Quantity, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = "0.85"


def training_curve(reports: Sequence[Report], quantities: Mapping[str, Quantity], title: str) -> "Figure":
    """Draws each metric over the steps, of the minibatches and of the validation examples.

    Several seeds are drawn as their mean, and a band from the lowest to the highest.

    Args:
      reports: rows with a step, a seed and values, in the order of the steps.
      quantities: the metrics to draw.
      title: the title of the picture.
    """
    figure = make_figure(7, 0.5 + 2.5 * len(quantities), title)
    by_step: dict[int, list[Report]] = {}
    for report in reports:
        by_step.setdefault(report.step, []).append(report)
    steps, seeds = list(by_step), len(next(iter(by_step.values())))

    def table(name: str, factor: float) -> np.ndarray:  # [step, seed]
        return factor * np.array([[report.values.get(name) for report in by_step[step]] for step in steps], float)

    every_axes = figure.subplots(len(quantities), sharex=True, squeeze=False)[:, 0]
    for axes, (name, quantity) in zip(every_axes, quantities.items(), strict=True):
        _draw_curves(axes, steps, *(table(prefix + name, quantity.factor) for prefix in ("", VALIDATION)))
        if quantity.log:
            axes.set_yscale("log")
        axes.set_ylabel(quantity.axis)
        axes.grid(color=GRID)
        axes.margins(x=0.01)
    every_axes[-1].set_xlabel("step")
    corner = "lower right" if list(quantities.values())[-1].better == "higher" else "upper right"  # free of curves
    every_axes[-1].legend(loc=corner, title=f"mean and range of {seeds} seeds" if seeds > 1 else None)
    return figure


def confusion_matrix(
    labels: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    title: str,
    *,
    names: Sequence[str] = (),
    noun: str = "images",
) -> "Figure":
    """Draws the confusion matrix of labels and predictions [N].

    The diagonal is left white, because its counts would dominate the shades.

    Args:
      labels: the true classes.
      predictions: the predicted classes.
      num_classes: C.
      title: the title of the picture.
      names: the names of the classes; numbers without them.
      noun: the noun for the examples.
    """
    from matplotlib.ticker import MaxNLocator

    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (labels, predictions), 1)
    figure = make_figure(6.5, 6, title)
    axes = figure.subplots()
    errors = np.where(np.eye(num_classes, dtype=bool), 0, counts)
    image = axes.imshow(errors, cmap="Greys", vmin=0, vmax=max(1, errors.max()))
    for (row, column), count in np.ndenumerate(counts):
        dark = errors[row, column] > 0.5 * errors.max()
        weight = "bold" if row == column else "normal"
        if count:
            axes.text(column, row, str(count), ha="center", va="center", weight=weight, color="w" if dark else "k")
    names = names or [str(c) for c in range(num_classes)]
    axes.set_xticks(range(num_classes), names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(range(num_classes), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(image, label=f"{noun} misclassified", shrink=0.8)
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()
    return figure


def worst_mistakes(
    examples: Examples, probabilities: np.ndarray, title: str, *, rows: int = 4, columns: int = 6
) -> "Figure":
    """Draws the misclassified images of which the classifier was most certain, the worst first.

    Args:
      examples: the images and their labels.
      probabilities: the predicted probabilities [N, C].
      title: the title of the picture.
      rows: the rows of images, at most.
      columns: the images in a row.
    """
    predictions, certainty = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predictions != examples.targets)
    worst = wrong[np.argsort(-certainty[wrong], kind="stable")][: rows * columns]
    rows = max(1, -(-len(worst) // columns))
    figure = make_figure(
        1.25 * columns, 1.65 * rows + 0.8, f"{title}\nthe {len(worst)} most certain of {len(wrong)} mistakes"
    )
    without_ticks = {"xticks": [], "yticks": []}  # Half of the time would go into ticks that are not shown.
    for axes in figure.subplots(rows, columns, squeeze=False, subplot_kw=without_ticks).flat:
        axes.set_axis_off()
    for axes, i in zip(figure.axes, worst, strict=False):
        axes.imshow(examples.inputs[i], cmap="Greys")
        axes.set_title(
            f"true {examples.targets[i]} ({probabilities[i, examples.targets[i]]:.1%})\n"
            f"predicted {predictions[i]} ({certainty[i]:.1%})",
            fontsize=8,
        )
    return figure


def make_figure(width: float, height: float, title: str) -> "Figure":
    """Makes an empty figure, its sizes in inches."""
    from matplotlib.figure import Figure  # Imported on demand: it takes a second.

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_curves(axes: "Axes", steps: Sequence[int], minibatch: np.ndarray, validation: np.ndarray) -> None:
    """Draws two quantities [step, seed]; the second may be missing at some steps, where it is nan."""
    looked = ~np.isnan(validation[:, 0])
    curves = [
        ("minibatch", np.asarray(steps), minibatch, {"color": "0.55", "linewidth": 0.8}),
        (
            "validation",
            np.asarray(steps)[looked],
            validation[looked],
            {"color": "black", "linewidth": 1.2, "marker": "o", "markersize": 3},
        ),
    ]
    for label, x, values, style in curves:
        axes.plot(x, values.mean(1), label=label, **style)
        if values.shape[1] > 1:
            axes.fill_between(x, values.min(1), values.max(1), color=style["color"], alpha=0.25, linewidth=0)
