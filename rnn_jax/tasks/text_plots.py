"""Pictures of text: shaded by surprisal, and by token. All are readable without colour."""

import math
from typing import TYPE_CHECKING

import numpy as np

from rnn_jax.data import Examples
from rnn_jax.data.text import TextInfo, decode
from rnn_jax.tasks.plots import GRID, make_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, LINES, MOST_BITS = 90, 24, 8.0
SIGNS = {"\n": "↵", "\t": "→", " ": "·"}
TOKENS = 40  # of the picture of tokens, at most


def shaded_text(info: TextInfo, tokens: np.ndarray, nats: np.ndarray, title: str) -> "Figure":
    """Draws the beginning of a text, each token the darker the more it surprises.

    Args:
      info: the facts about the text.
      tokens: [T].
      nats: the surprisal of each, [T].
      title: the title of the picture.
    """
    bits = nats[: COLUMNS * LINES] / math.log(2)
    rows: list[list[tuple[str, float]]] = [[]]
    for token, value in zip(tokens, bits, strict=False):
        sign = decode(info, [token])
        if len(rows[-1]) == COLUMNS:
            rows.append([])
        rows[-1].append((sign, float(value)))
        if sign == "\n":
            rows.append([])
    rows = rows[:LINES]
    figure = make_figure(9.5, 0.23 * len(rows) + 1.2, f"{title}\nthe darker, the more bits a token takes")
    axes = figure.subplots()
    shades = np.zeros((len(rows), max(map(len, rows))))
    for r, row in enumerate(rows):
        for c, (sign, value) in enumerate(row):
            shades[r, c] = value
            shown = SIGNS.get(sign, sign) if sign == "\n" or sign == "\t" or sign.isprintable() else "?"
            ink = "w" if value > 0.55 * MOST_BITS else "0.6" if sign in SIGNS else "k"
            axes.text(
                c,
                r,
                shown,
                ha="center",
                va="center",
                color=ink,
                fontsize=7,
                family="DejaVu Sans Mono",
                parse_math=False,
            )
    image = axes.imshow(shades, cmap="Greys", vmin=0, vmax=MOST_BITS, aspect="auto")
    axes.set_axis_off()
    figure.colorbar(image, label="bits", shrink=0.8, pad=0.01)
    return figure


def by_token(info: TextInfo, tokens: np.ndarray, nats: np.ndarray, title: str) -> "Figure":
    """Draws the mean surprisal of the most frequent tokens, beside the one of their frequency alone.

    Args:
      info: the facts about the text.
      tokens: [N, T].
      nats: the surprisal of each, [N, T].
      title: the title of the picture.
    """
    flat = np.ravel(tokens)
    counts = np.bincount(flat, minlength=info.num_tokens)
    sums = np.bincount(flat, np.ravel(nats) / math.log(2), minlength=info.num_tokens)
    chosen = np.argsort(-counts, kind="stable")[: min(TOKENS, int(np.sum(counts > 0)))]
    figure = make_figure(9, 4, title)
    axes = figure.subplots()
    x = np.arange(len(chosen))
    axes.bar(x, sums[chosen] / counts[chosen], color="0.4", label="the model")
    trained = np.array(info.counts) + 1.0
    axes.plot(x, -np.log2(trained / trained.sum())[chosen], "k_", markersize=10, label="its frequency alone")
    names = [decode(info, [token]) for token in chosen]
    axes.set_xticks(x, [SIGNS.get(name, name) if name.isprintable() or name in SIGNS else "?" for name in names])
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_xlabel(f"{info.noun}, the most frequent first")
    axes.set_ylabel("mean bits")
    axes.grid(color=GRID, axis="y")
    axes.set_axisbelow(True)
    axes.legend()
    return figure


def worst_texts(
    info: TextInfo, examples: Examples, probabilities: np.ndarray, title: str, *, rows: int = 12
) -> "Figure":
    """Writes the beginnings of the misclassified texts of which the classifier was most certain, the worst first.

    Args:
      info: the facts about the texts.
      examples: the texts and their labels.
      probabilities: the predicted probabilities [N, C].
      title: the title of the picture.
      rows: the number of texts, at most.
    """
    chosen, certainty = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(chosen != examples.targets)
    worst = wrong[np.argsort(-certainty[wrong], kind="stable")][:rows]
    figure = make_figure(
        9, 0.45 * max(1, len(worst)) + 0.9, f"{title}\nthe {len(worst)} most certain of {len(wrong)} mistakes"
    )
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_ylim(len(worst), -0.5)
    for r, i in enumerate(worst):
        length = COLUMNS if examples.lengths is None else min(COLUMNS, int(examples.lengths[i]))
        text = "".join(sign if sign.isprintable() else " " for sign in decode(info, examples.inputs[i, :length]))
        true, guess = info.classes[examples.targets[i]], info.classes[chosen[i]]
        caption = f"true {true}, predicted {guess} ({certainty[i]:.1%}): {text}"
        axes.text(0, r, caption, fontsize=8, va="center", clip_on=True, parse_math=False)
    return figure
