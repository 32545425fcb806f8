"""The pictures of a run: its curves, what it confuses, and where it is most wrong. All readable without colour."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnn_jax.app.folder import Report
from rnn_jax.data import Split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = "0.85"


def training_curve(reports: Sequence[Report], title: str) -> "Figure":
    """Draws loss and accuracy over the steps, of the minibatches and of the validation images.

    Of several seeds the mean is drawn, and the range from the lowest to the highest as a band.
    """
    figure = _figure(7, 5.5, title)
    loss_axes, accuracy_axes = figure.subplots(2, sharex=True)
    by_step: dict[int, list[Report]] = {}
    for report in reports:
        by_step.setdefault(report.step, []).append(report)
    steps = list(by_step)
    table = np.array([[report[2:] for report in by_step[step]] for step in steps], float)  # [step, seed, column]
    _draw_curves(loss_axes, steps, table[..., 0], table[..., 2])
    _draw_curves(accuracy_axes, steps, 100 * table[..., 1], 100 * table[..., 3])
    loss_axes.set_yscale("log")
    loss_axes.set_ylabel("loss [nats]")
    accuracy_axes.set_ylabel("accuracy [%]")
    accuracy_axes.set_xlabel("step")
    seeds = table.shape[1]
    accuracy_axes.legend(loc="lower right", title=f"mean and range of {seeds} seeds" if seeds > 1 else None)
    for axes in (loss_axes, accuracy_axes):
        axes.grid(color=GRID)
        axes.margins(x=0.01)
    return figure


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int, title: str) -> "Figure":
    """Draws how often each class was taken for each; labels and predictions [N].

    The diagonal, which would outshine all else, is left white.
    """
    from matplotlib.ticker import MaxNLocator

    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (labels, predictions), 1)
    figure = _figure(6.5, 6, title)
    axes = figure.subplots()
    errors = np.where(np.eye(num_classes, dtype=bool), 0, counts)
    image = axes.imshow(errors, cmap="Greys", vmin=0, vmax=max(1, errors.max()))
    for (row, column), count in np.ndenumerate(counts):
        dark = errors[row, column] > 0.5 * errors.max()
        weight = "bold" if row == column else "normal"
        if count:
            axes.text(column, row, str(count), ha="center", va="center", weight=weight, color="w" if dark else "k")
    axes.set_xticks(range(num_classes))
    axes.set_yticks(range(num_classes))
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(image, label="images misclassified", shrink=0.8)
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()
    return figure


def worst_mistakes(split: Split, probabilities: np.ndarray, title: str, *, rows: int = 4, columns: int = 6) -> "Figure":
    """Draws the misclassified images of which the classifier was most certain, the worst first.

    Args:
      split: the images and their labels.
      probabilities: the classifier's, [N, C].
      title: the picture's.
      rows: of images in the picture, at most.
      columns: of images in the picture.
    """
    predictions, certainty = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predictions != split.labels)
    worst = wrong[np.argsort(-certainty[wrong], kind="stable")][: rows * columns]
    rows = max(1, -(-len(worst) // columns))
    figure = _figure(
        1.25 * columns, 1.65 * rows + 0.8, f"{title}\nthe {len(worst)} most certain of {len(wrong)} mistakes"
    )
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, i in zip(figure.axes, worst, strict=False):
        axes.imshow(split.images[i], cmap="Greys")
        axes.set_title(
            f"true {split.labels[i]} ({probabilities[i, split.labels[i]]:.1%})\n"
            f"predicted {predictions[i]} ({certainty[i]:.1%})",
            fontsize=8,
        )
    return figure


def _figure(width: float, height: float, title: str) -> "Figure":
    from matplotlib.figure import Figure  # It takes a second to import, which most who import us need not spend.

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
