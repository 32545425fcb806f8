"""Haiku's `hk.VanillaRNN`, `hk.LSTM` and `hk.GRU`.

| ours | module | arrays |
|---|---|---|
| `VanillaRNN(activation="relu")` | `vanilla_rnn/linear` | `w [D, H]` is w_x; `b [H]` |
| | `vanilla_rnn/linear_1` | `w [H, H]` is w_h; `b [H]`, with `double_bias`. b is the sum |
| `LSTM` | `lstm/linear` | `w [D+H, 4H]`, the rows of w_x above those of w_h; `b [4H]`; i, g, f, o |
| `GRU(reset_after=False)` | `gru` | `w_i [D, 3H]`, `w_h [H, 3H]`, `b [3H]`; z, r, n |

Haiku adds 1 to an LSTM's f at each step; here it is part of b. Its GRU's update gate is 1 - z, so the columns of z have
the opposite sign here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnn_jax.base import Cell, Layer, Params
from rnn_jax.cells import GRU, LSTM, VanillaRNN
from rnn_jax.convert.networks import (
    Shape,
    assemble,
    cell_params,
    check_cell,
    check_mapping,
    listed,
    places,
    reorder,
    take,
    take_apart,
)

_IGFO = (0, 2, 1, 3)  # i, f, g, o <-> i, g, f, o: its own inverse
_ZRN = (1, 0, 2)  # r, z, n <-> z, r, n: its own inverse
_NAMES: dict[type, str] = {VanillaRNN: "vanilla_rnn", LSTM: "lstm", GRU: "gru"}


def from_haiku(
    cell: Cell | Layer, params: Mapping[str, Mapping[str, Any]], names: Sequence[str] | None = None
) -> Params:
    """Converts the parameters of Haiku's recurrent modules.

    Args:
      cell: a cell or a layer.
      params: module -> name -> array, as `hk.transform(...).init` returns.
      names: the names of the modules of the layer's cells, bottom first, forward before backward, such as
        `["my_net/~/lstm", "my_net/~/lstm_1"]`; other modules are left alone. None for those that Haiku gives, in the
        order of creation (`lstm`, `lstm_1`, `gru`), and for no other modules in `params`.

    Raises:
      ValueError: for a cell that Haiku lacks (layer normalization, peepholes, projection or clips, reset after the
        product, or a vanilla RNN with tanh); for modules or arrays missing, unexpected or of the wrong shape; for
        layers that do not fit on each other.
    """
    check_mapping(params, "params", "pass the parameters of hk.transform(...).init")
    for module, arrays in params.items():
        check_mapping(arrays, f"params[{module!r}]", "pass the parameters of hk.transform(...).init")
    found = places(cell)
    modules = _modules(cell, names)
    flat = {f"{module}/{name}": array for module, arrays in params.items() for name, array in arrays.items()}
    own = [_own(place.cell, module, flat) for place, module in zip(found, modules, strict=True)]
    strange = flat.keys() - {f"{module}/{name}" for module, arrays in zip(modules, own, strict=True) for name in arrays}
    if names is None and strange:
        advice = "pass names=[...] of the modules to read"
        raise ValueError(f"{cell} needs the modules {', '.join(modules)}, but there are {listed(params)}: {advice}")
    return assemble(cell, [_read(place.cell, arrays) for place, arrays in zip(found, own, strict=True)])


def to_haiku(
    cell: Cell | Layer, params: Params, names: Sequence[str] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Inverts `from_haiku`, exactly but for the rounding of the forget bias; of two biases, the second is zero.

    Raises:
      ValueError: for a cell that Haiku lacks, as in `from_haiku`, or parameters of another one.
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    parts = zip(places(cell), take_apart(cell, params), _modules(cell, names), strict=True)
    for place, part, module in parts:
        for path, array in _write(place.cell, part).items():
            *inner, name = path.split("/")
            modules.setdefault("/".join((module, *inner)), {})[name] = array
    return modules


def _modules(net: Cell | Layer, names: Sequence[str] | None) -> list[str]:
    """Returns the name of the module of each cell of a network."""
    cells: list[Any] = [place.cell for place in places(net)]
    for cell in cells:
        check_cell(cell, "Haiku", _NAMES, lacks=("peepholes", "projection_size", "cell_clip"), reset_after=False)
        if isinstance(cell, VanillaRNN) and cell.activation != "relu":
            raise ValueError(f"Haiku's VanillaRNN has the activation relu, not {cell.activation}, which {cell} needs")
    if names is None:
        kinds = [_NAMES[type(cell)] for cell in cells]
        counts = [Counter(kinds[:k])[kind] for k, kind in enumerate(kinds)]
        return [f"{kind}_{count}" if count else kind for kind, count in zip(kinds, counts, strict=True)]
    if isinstance(names, str) or len(names) != len(cells):
        raise ValueError(f"names must be a list of {len(cells)}, one for each cell of {net}, not {names!r}")
    return list(names)


def _own(cell: Any, module: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    """Selects the arrays of one cell, by their names in its module."""
    own = {name.removeprefix(f"{module}/"): array for name, array in flat.items() if name.startswith(f"{module}/")}
    if not own:
        inner = ", ".join(dict.fromkeys(name.rpartition("/")[0] for name in flat))
        raise ValueError(f"{cell} needs the module {module}, but there are {inner}: pass names=[...] of those to read")
    return own


def _shapes(cell: Any) -> dict[str, Shape]:
    """Returns the names and shapes of a cell's arrays."""
    H = cell.hidden_size
    match cell:
        case VanillaRNN():
            return {"linear/w": ("D", H), "linear/b": (H,), "linear_1/w": (H, H), "linear_1/b": (H,)}
        case GRU():
            return {"w_i": ("D", 3 * H), "w_h": (H, 3 * H), "b": (3 * H,)}
        case _:
            return {"linear/w": (f"D+{H}", 4 * H), "linear/b": (4 * H,)}


def _read(cell: Any, arrays: Mapping[str, Any]) -> Params:
    """Reads the parameters of one cell."""
    shapes = _shapes(cell)
    if "linear_1/b" not in arrays:
        shapes.pop("linear_1/b", None)
    v = take(arrays, shapes, cell)
    H = cell.hidden_size
    match cell:
        case VanillaRNN():
            return cell_params(cell, v["linear/w"], v["linear_1/w"], v["linear/b"] + v.get("linear_1/b", 0))
        case GRU():
            return cell_params(cell, *(_negate_z(reorder(array, _ZRN)) for array in v.values()))
        case _:
            w, b = (reorder(array, _IGFO) for array in v.values())
            if len(w) <= H:
                raise ValueError(f"linear/w has {len(w)} rows, but needs more than the {H} of the state")
            b[H : 2 * H] += 1
            return cell_params(cell, w[:-H], w[-H:], b)


def _write(cell: Any, params: Any) -> dict[str, np.ndarray]:
    """Writes the arrays of one cell, by their names in its module."""
    H = cell.hidden_size
    match cell:
        case VanillaRNN():
            values = [params.w_x, params.b, params.w_h, np.zeros_like(params.b)]
        case GRU():
            values = [reorder(_negate_z(array), _ZRN) for array in (params.w_x, params.w_h, params.b)]
        case _:
            b = params.b.copy()
            b[H : 2 * H] -= 1
            values = [reorder(np.concatenate([params.w_x, params.w_h]), _IGFO), reorder(b, _IGFO)]
    return dict(zip(_shapes(cell), values, strict=True))


def _negate_z(array: np.ndarray) -> np.ndarray:
    """Negates the columns of z among r, z, n: s(-z) = 1 - s(z)."""
    r, z, n = np.split(array, 3, axis=-1)
    return np.concatenate([r, -z, n], axis=-1)
