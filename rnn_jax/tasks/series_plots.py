"""Pictures of sequences and series, on the axes and in the units of the data. All are readable without colour."""

from typing import TYPE_CHECKING

import numpy as np

from rnn_jax.data import Examples
from rnn_jax.data.series import SeriesInfo, unscale
from rnn_jax.tasks.plots import GRID, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANNELS = 4  # drawn for each sequence, at most


def worst_sequences(
    examples: Examples, predictions: np.ndarray, info: SeriesInfo, title: str, *, rows: int = 3, columns: int = 3
) -> "Figure":
    """Draws the sequences with the worst predictions, the worst first.

    Args:
      examples: the sequences, scaled.
      predictions: probabilities [N, C], scaled numbers [N], or either for every step.
      info: the facts about the data.
      title: the title of the picture.
      rows: the rows of small pictures, at most.
      columns: the small pictures in a row.
    """
    badness, captions = judge(examples, predictions, info)
    worst = np.argsort(-badness, kind="stable")[: rows * columns]
    worst = worst[badness[worst] > 0]
    rows = max(1, -(-len(worst) // columns))
    channels = unscale(info.scaling, examples.inputs)[..., :CHANNELS]
    figure = make_figure(
        3.2 * columns, 2.4 * rows + 0.8, f"{title}\nthe {len(worst)} worst of {len(badness)} sequences"
    )
    every_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in every_axes[len(worst) :]:
        axes.set_axis_off()
    for axes, i in zip(every_axes, worst, strict=False):
        length = channels.shape[1] if examples.lengths is None else examples.lengths[i]
        for d, style in zip(range(channels.shape[2]), ("-", "--", ":", "-."), strict=False):
            axes.plot(channels[i, :length, d], style, color="black", linewidth=0.9, label=info.form.channels[d])
        axes.set_title(captions[i], fontsize=8)
        axes.grid(color=GRID)
        axes.set_xlabel("step", fontsize=8)
    if len(worst) and channels.shape[2] > 1:
        every_axes[0].legend(fontsize=7)
    return figure


def judge(examples: Examples, predictions: np.ndarray, info: SeriesInfo) -> tuple[np.ndarray, list[str]]:
    """Rates the error of each prediction, 0 for a correct one: (errors [N], captions)."""
    form = info.form
    if form.task == "forecast":
        errors = np.abs(predictions - examples.targets).mean(1)
        return errors, [f"mean error {error * info.goal.deviation[0]:.4g}" for error in errors]
    T = examples.inputs.shape[1]
    lengths = np.full(len(predictions), T) if examples.lengths is None else examples.lengths
    valid = np.arange(T) < lengths[:, None]
    if form.task == "regress":
        errors = np.abs(predictions - examples.targets)
        if form.per_step:
            errors = np.where(valid, errors, 0).sum(1) / lengths
            return errors, [f"mean error {error * info.goal.deviation[0]:.4g}" for error in errors]
        true, predicted = unscale(info.goal, examples.targets), unscale(info.goal, predictions)
        return errors, [f"true {t:.4g}\npredicted {p:.4g}" for t, p in zip(true, predicted, strict=True)]
    chosen = predictions.argmax(-1)
    if form.per_step:
        wrong = np.where(valid, chosen != examples.targets, False).sum(1) / lengths
        return wrong, [f"{fraction:.1%} of {n} steps wrong" for fraction, n in zip(wrong, lengths, strict=True)]
    certainty = predictions.max(-1)
    captions = [
        f"true {form.classes[t]} ({p[t]:.1%})\npredicted {form.classes[c]} ({p[c]:.1%})"
        for t, c, p in zip(examples.targets, chosen, predictions, strict=True)
    ]
    return np.where(chosen != examples.targets, certainty, 0), captions


def predicted_and_true(true: np.ndarray, predicted: np.ndarray, info: SeriesInfo, title: str) -> "Figure":
    """Draws predicted against true numbers [N], in units of the target; correct ones lie on the line."""
    figure = make_figure(5.5, 5.5, title)
    axes = figure.subplots()
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, color="0.6", linewidth=1)
    axes.plot(true, predicted, "o", color="black", markersize=3, alpha=0.6)
    axes.set_xlabel(f"true {info.form.target}")
    axes.set_ylabel(f"predicted {info.form.target}")
    axes.grid(color=GRID)
    return figure


def forecasts(past: np.ndarray, true: np.ndarray, forecast: np.ndarray, info: SeriesInfo, title: str) -> "Figure":
    """Draws the first, the middle and the last forecast with their past.

    Args:
      past: the windows [N, W], in units of the target like all values.
      true: the true values [N, H].
      forecast: the forecasts [N, H].
      info: the facts about the data.
      title: the title of the picture.
    """
    return _draw_forecasts(past, true, forecast, info, title, np.unique([0, len(past) // 2, len(past) - 1]))


def worst_forecasts(past: np.ndarray, true: np.ndarray, forecast: np.ndarray, info: SeriesInfo, title: str) -> "Figure":
    """Draws the three forecasts with the largest errors; see `forecasts`."""
    worst = np.argsort(-np.abs(true - forecast).mean(1), kind="stable")[:3]
    return _draw_forecasts(past, true, forecast, info, f"{title}\nthe largest errors", worst)


def _draw_forecasts(
    past: np.ndarray, true: np.ndarray, forecast: np.ndarray, info: SeriesInfo, title: str, chosen: np.ndarray
) -> "Figure":
    W, H = past.shape[1], true.shape[1]
    figure = make_figure(8, 2.6 * len(chosen) + 0.6, title)
    every_axes: list[Axes] = list(figure.subplots(len(chosen), sharex=True, squeeze=False)[:, 0])
    for axes, i in zip(every_axes, chosen, strict=True):
        axes.plot(np.arange(-W + 1, 1), past[i], color="0.55", label="past")
        axes.plot(np.arange(1, H + 1), true[i], color="black", label="true")
        axes.plot(np.arange(1, H + 1), forecast[i], "o--", color="black", markersize=3, label="forecast")
        error = np.abs(true[i] - forecast[i]).mean()
        axes.set_title(f"forecast {i + 1} of {len(past)}: mean absolute error {error:.4g}", fontsize=9)
        axes.set_ylabel(info.form.target)
        axes.grid(color=GRID)
    every_axes[0].legend(fontsize=8)
    every_axes[-1].set_xlabel("step, 0 is the last one known")
    return figure
