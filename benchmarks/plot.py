"""Draws the pictures of measurements."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.cases import Shape
from benchmarks.peers import OURS
from benchmarks.report import Results, machine_label, our_seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart without colour: by shade, and by hatching where shades come near each other.
FILLS = [
    ("0.15", ""),
    ("0.5", ""),
    ("0.75", ""),
    ("0.95", ""),
    ("1.0", "////"),
    ("0.75", "...."),
    ("1.0", "xxxx"),
    ("0.55", "----"),
    ("0.9", "\\\\\\\\"),
    ("1.0", "++++"),
]


def plot_ratios(results: Results) -> "Figure":
    """Training time of each peer in units of ours: a panel for every cell measured at several shapes."""
    from matplotlib.figure import Figure  # It takes a second to import.

    training = [result for result in results["cases"] if result["mode"] == "training"]
    cells = list(dict.fromkeys(result["cell"] for result in training))
    by_cell = {cell: [result for result in training if result["cell"] == cell] for cell in cells}
    several = {cell: found for cell, found in by_cell.items() if len(found) > 1} or by_cell
    names = list(dict.fromkeys(name for result in training for name in result["seconds"] if not name.startswith(OURS)))

    figure = Figure(figsize=(11, 1.2 + 2.4 * len(several)), layout="constrained")
    figure.suptitle(
        f"Time of a training step relative to {OURS}, on one device or all (above 1: slower)\n{machine_label(results)}",
        fontsize=10,
    )
    panels = figure.subplots(len(several), squeeze=False)[:, 0]
    width = 0.85 / max(1, len(names))
    for axes, (cell, found) in zip(panels, several.items(), strict=True):
        for k, name in enumerate(names):
            shade, hatch = FILLS[k % len(FILLS)]
            at, heights = [], []
            for group, result in enumerate(found):
                ours = our_seconds(result, None)
                if ours is not None and name in result["seconds"]:
                    at.append(group + (k - (len(names) - 1) / 2) * width)
                    heights.append(statistics.median(result["seconds"][name]) / ours - 1)
            axes.bar(
                at, heights, width, bottom=1, label=name, color=shade, hatch=hatch, edgecolor="black", linewidth=0.6
            )
        axes.set_yscale("log")
        axes.set_yticks([0.5, 0.7, 1, 1.5, 2, 3, 5], ["0.5", "0.7", "1", "1.5", "2", "3", "5"])
        axes.minorticks_off()
        axes.axhline(1, color="black", linewidth=1.2)
        axes.grid(axis="y", color="0.85")
        axes.set_axisbelow(True)
        axes.set_xticks(range(len(found)), [str(Shape(*result["shape"])) for result in found])
        axes.set_ylabel(f"{cell}\ntheir time / ours")
    panels[-1].set_xlabel("batch, time, input, hidden")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, max(1, len(names))), fontsize=9)
    return figure


def plot_curves(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    x_label: str,
    y_label: str,
    *,
    log: bool = False,
) -> "Figure":
    """Curves told apart by marker and shade: a panel for each name, of the (xs, ys) of each curve by its name.

    Args:
      panels: the curves.
      x_label: of every horizontal axis.
      y_label: of every vertical axis.
      log: True for logarithmic axes.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(panels))
    figure = Figure(figsize=(3.4 * columns, 0.6 + 2.9 * math.ceil(len(panels) / columns)), layout="constrained")
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    styles = {name: (f"C{k % 10}", "osv^D<>pXP"[k % 10]) for k, name in enumerate(names)}
    grid = figure.subplots(math.ceil(len(panels) / columns), columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
        for name, (xs, ys) in curves.items():
            color, marker = styles[name]
            axes.plot(xs, ys, label=name, color=color, marker=marker, markersize=4, linewidth=1.2)
        if log:
            axes.set_xscale("log")
            axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(color="0.9")
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, max(1, len(names))))
    return figure
