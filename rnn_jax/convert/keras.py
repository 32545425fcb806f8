"""Keras's `SimpleRNN`, `LSTM` and `GRU` (Keras 3, and Keras 2.3 or later).

`get_weights()` of a layer is a list of three:

| layer | `kernel` | `recurrent_kernel` | `bias` |
|---|---|---|---|
| `SimpleRNN` | w_x | w_h | b |
| `LSTM` | w_x | w_h | b; i, f, g, o as here |
| `GRU(reset_after=False)` | w_x | w_h | b; all in the order z, r, n |
| `GRU(reset_after=True)` | w_x | w_h | (2, 3H): for the input and for the recurrent product; the order z, r, n |

`Bidirectional` lists the forward layer's before the backward layer's, and a model its layers' from the bottom.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnn_jax.base import Cell, Layer, Params
from rnn_jax.cells import GRU
from rnn_jax.convert.networks import (
    GATES,
    Shape,
    as_numpy,
    assemble,
    cell_params,
    check_cell,
    merge_gru_biases,
    places,
    reorder,
    split_gru_biases,
    take,
    take_apart,
)

_ZRN = (1, 0, 2)  # r, z, n <-> z, r, n: its own inverse


def from_keras(cell: Cell | Layer, weights: Any) -> Params:
    """Converts the weights of a Keras layer or model.

    Args:
      cell: a cell or a layer.
      weights: the list that `get_weights()` returns, or the layer or model itself: `kernel`, `recurrent_kernel` and
        `bias` of each cell. If all layers were made with `use_bias=False`, there is no `bias`; it becomes zeros.

    Raises:
      ValueError: for a cell that Keras lacks (with peepholes, projection or clips, or layer normalization); for a
        wrong number of weights or wrong shapes, such as those of the other kind of GRU; for layers that do not fit on
        each other.
    """
    if hasattr(weights, "get_weights"):
        weights = weights.get_weights()
    if not isinstance(weights, Sequence):
        raise ValueError(f"weights is {type(weights).__name__}, but needs a list: pass layer.get_weights()")
    found = places(cell)
    each = 2 if len(weights) == 2 * len(found) else 3
    if len(weights) != each * len(found):
        raise ValueError(
            f"{cell} needs {3 * len(found)} weights ({2 * len(found)} without bias), not {len(weights)}: pass those of "
            "the recurrent layers only"
        )
    return assemble(cell, [_read(place.cell, weights[each * k : each * (k + 1)]) for k, place in enumerate(found)])


def to_keras(cell: Cell | Layer, params: Params) -> list[np.ndarray]:
    """Inverts `from_keras`: returns a list for `set_weights`.

    Raises:
      ValueError: for a cell that Keras lacks, as in `from_keras`, or parameters of another one.
    """
    parts = zip(places(cell), take_apart(cell, params), strict=True)
    return [weight for place, part in parts for weight in _write(place.cell, part)]


def _shapes(cell: Any) -> dict[str, Shape]:
    """Returns the names and shapes of a cell's weights."""
    check_cell(cell, "Keras", GATES, lacks=("peepholes", "projection_size", "cell_clip"))
    H = cell.hidden_size
    columns = GATES[type(cell)] * H
    bias = (2, columns) if isinstance(cell, GRU) and cell.reset_after else (columns,)
    return {"kernel": ("D", columns), "recurrent_kernel": (H, columns), "bias": bias}


def _read(cell: Any, weights: Sequence[Any]) -> Params:
    """Reads the parameters of one cell."""
    shapes = _shapes(cell)
    if len(weights) == 2:
        weights = [*weights, np.zeros(shapes["bias"], as_numpy(weights[1], "recurrent_kernel").dtype)]  # type: ignore
    w_x, w_h, b = take(dict(zip(shapes, weights, strict=True)), shapes, cell).values()
    if isinstance(cell, GRU):
        w_x, w_h, b = (reorder(w, _ZRN) for w in (w_x, w_h, b))
        return cell_params(cell, w_x, w_h, *(merge_gru_biases(*b) if cell.reset_after else (b,)))
    return cell_params(cell, w_x, w_h, b)


def _write(cell: Any, params: Any) -> list[np.ndarray]:
    """Writes the weights of one cell."""
    _shapes(cell)
    weights = [params.w_x, params.w_h, params.b]
    if isinstance(cell, GRU):
        if cell.reset_after:
            weights[2] = np.stack(split_gru_biases(params.b, params.b_h))
        return [reorder(w, _ZRN) for w in weights]
    return weights
