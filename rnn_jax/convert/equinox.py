"""Equinox's `eqx.nn.LSTMCell` and `eqx.nn.GRUCell`.

| name | shape | here |
|---|---|---|
| `weight_ih` | (G H, D) | w_x, transposed |
| `weight_hh` | (G H, H) | w_h, transposed |
| `bias` | (G H) | b |
| `bias_n` | (H) | b_h; of a GRU only |

G is 4 (i, f, g, o) or 3 (r, z, n), the order of the columns here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnn_jax.base import Cell, Layer, Params
from rnn_jax.cells import GRU, LSTM
from rnn_jax.convert.networks import (
    GATES,
    Shape,
    assemble,
    cell_params,
    check_cell,
    places,
    take,
    take_apart,
)

_BIASES = ("bias", "bias_n")


def from_equinox(cell: Cell | Layer, modules: Any) -> Params:
    """Converts Equinox's cells.

    Args:
      cell: a cell or a layer.
      modules: for a cell, an Equinox module, or a dict of its arrays by the names in the table. For a layer, a list of
        one for each of its cells, bottom first, forward before backward. A module made with `use_bias=False` has no
        biases; they become zeros.

    Raises:
      ValueError: for a cell that Equinox lacks (a vanilla RNN, layer normalization, peepholes, projection or clips,
        reset before the product); for a wrong number of modules; for arrays missing, unexpected or of the wrong shape;
        for layers that do not fit on each other.
    """
    found = places(cell)
    modules = modules if isinstance(modules, Sequence) else [modules]
    if len(modules) != len(found):
        raise ValueError(f"{cell} needs {len(found)} modules, one for each of its cells, not {len(modules)}")
    return assemble(cell, [_read(place.cell, module) for place, module in zip(found, modules, strict=True)])


def to_equinox(cell: Cell | Layer, params: Params) -> Any:
    """Inverts `from_equinox`.

    Returns:
      For a cell, its arrays by name, to put in a module with `eqx.tree_at`; for a layer, a list of such dicts.

    Raises:
      ValueError: for a cell that Equinox lacks, as in `from_equinox`, or parameters of another one.
    """
    found = places(cell)
    arrays = [_write(place.cell, part) for place, part in zip(found, take_apart(cell, params), strict=True)]
    return arrays if found[0].layer is not None or found[0].direction is not None else arrays[0]


def _shapes(cell: Any) -> dict[str, Shape]:
    """Returns the names and shapes of a cell's arrays."""
    check_cell(cell, "Equinox", (LSTM, GRU), lacks=("peepholes", "projection_size", "cell_clip"), reset_after=True)
    H, columns = cell.hidden_size, GATES[type(cell)] * cell.hidden_size
    shapes: dict[str, Shape] = {"weight_ih": (columns, "D"), "weight_hh": (columns, H), "bias": (columns,)}
    return shapes | {"bias_n": (H,)} if isinstance(cell, GRU) else shapes


def _read(cell: Any, module: Any) -> Params:
    """Reads the parameters of one cell."""
    shapes = _shapes(cell)
    if not isinstance(module, Mapping):
        module = {name: getattr(module, name) for name in ("weight_ih", "weight_hh", *_BIASES) if hasattr(module, name)}
    own = {name: array for name, array in module.items() if array is not None}
    biased = any(name in own for name in _BIASES)
    arrays = take(own, {name: shape for name, shape in shapes.items() if biased or name not in _BIASES}, cell)
    w_x, w_h = arrays["weight_ih"].T, arrays["weight_hh"].T
    if not biased:
        zeros = np.zeros(w_h.shape[1], w_h.dtype)
        arrays |= {"bias": zeros, "bias_n": zeros[: cell.hidden_size]}
    return cell_params(cell, w_x, w_h, *(arrays[name] for name in _BIASES if name in shapes))


def _write(cell: Any, params: Any) -> dict[str, np.ndarray]:
    """Writes the arrays of one cell, by name."""
    values = [params.w_x.T, params.w_h.T, params.b, *([params.b_h] if isinstance(cell, GRU) else [])]
    return dict(zip(_shapes(cell), values, strict=True))
