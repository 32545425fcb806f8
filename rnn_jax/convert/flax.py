"""Converts parameters to and from the cells of `flax.linen` and `flax.nnx`.

| ours | api | kernels of w_x | kernels of w_h | biases of b | bias of b_h |
|---|---|---|---|---|---|
| `VanillaRNN` | linen's SimpleCell | i | h | i | |
| | nnx's SimpleCell | dense_i | dense_h | dense_i | |
| `LSTM` | linen's LSTMCell, OptimizedLSTMCell | ii, if, ig, io | hi, hf, hg, ho | hi, hf, hg, ho | |
| | nnx's LSTMCell | ii, if_, ig, io | hi, hf, hg, ho | hi, hf, hg, ho | |
| | nnx's OptimizedLSTMCell | dense_i | dense_h | dense_h | |
| `GRU` | linen's GRUCell | ir, iz, in | hr, hz, hn | ir, iz, in | hn |
| | nnx's GRUCell | dense_i | dense_h | dense_i | none: zero |

Several kernels or biases are concatenated along the columns, in that order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from rnn_jax.base import Cell, Layer, Params, check_choice
from rnn_jax.cells import GRU, LSTM, VanillaRNN
from rnn_jax.convert.networks import (
    GATES,
    Place,
    Shape,
    assemble,
    cell_params,
    check_cell,
    listed,
    places,
    take,
    take_apart,
)

Api: TypeAlias = Literal["linen", "nnx", "nnx_lstm_cell"]


class _Layout(NamedTuple):
    """A row of the module's table: the names of the modules that hold each parameter."""

    w_x: Sequence[str]
    w_h: Sequence[str]
    b: Sequence[str]
    b_h: Sequence[str] = ()


_DENSE = ["dense_i"], ["dense_h"]
_LAYOUTS: dict[type, dict[Api, _Layout]] = {
    VanillaRNN: {
        "linen": _Layout(["i"], ["h"], b=["i"]),
        "nnx": _Layout(*_DENSE, b=["dense_i"]),
    },
    LSTM: {
        "linen": _Layout(["ii", "if", "ig", "io"], ["hi", "hf", "hg", "ho"], b=["hi", "hf", "hg", "ho"]),
        "nnx": _Layout(*_DENSE, b=["dense_h"]),
        "nnx_lstm_cell": _Layout(["ii", "if_", "ig", "io"], ["hi", "hf", "hg", "ho"], b=["hi", "hf", "hg", "ho"]),
    },
    GRU: {
        "linen": _Layout(["ir", "iz", "in"], ["hr", "hz", "hn"], b=["ir", "iz", "in"], b_h=["hn"]),
        "nnx": _Layout(*_DENSE, b=["dense_i"]),
    },
}


def from_flax(cell: Cell | Layer, params: Any) -> Params:
    """Converts the parameters of a Flax module; their names distinguish linen's from nnx's.

    Args:
      cell: a cell or a layer.
      params: nested dicts, module -> `kernel` or `bias` -> array: linen's `variables` or its "params", or
        `nnx.state(module, nnx.Param)`, also as a pure dict. The dict of `RNN` stands for that of its cell, and the
        dict of `Bidirectional` for `bidirectional`. For `stack`, a list (or a dict with the keys 0, 1, ...) with a
        dict for each layer, bottom first.

    Raises:
      ValueError: for a cell that Flax lacks (with peepholes, projection or clips, reset before the product, or layer
        normalization); for names missing, unexpected or of the wrong shape; for layers of sizes that do not match.
    """
    if isinstance(params, Mapping) and "params" in params:
        params = params["params"]
    if not isinstance(params, Mapping | Sequence):
        advice = "pass nnx.state(module, nnx.Param), or the variables of a linen module"
        raise ValueError(f"params is {type(params).__name__}, but needs nested dicts: {advice}")
    found = places(cell)
    depth = max(place.layer or 0 for place in found) + 1
    if found[0].layer is not None and len(params) != depth:
        raise ValueError(f"{cell} has {depth} layers, but params has {len(params)}")
    return assemble(cell, [_read(place.cell, _at(params, place)) for place in found])


def to_flax(cell: Cell | Layer, params: Params, api: Api = "linen") -> Any:
    """Inverts `from_flax`.

    Args:
      cell: a cell or a layer.
      params: its parameters.
      api: "linen"; "nnx", with OptimizedLSTMCell for LSTMs; or "nnx_lstm_cell", with nnx's LSTMCell.

    Returns:
      Nested dicts: the cell's for a cell; `forward_rnn` and `backward_rnn`, each with its `cell`, for
      `bidirectional`; a list with a dict for each layer for `stack`.

    Raises:
      ValueError: for a cell that Flax lacks, as in `from_flax`, or a b_h other than zero for nnx's GRUCell; for
        parameters of another cell.
    """
    check_choice("api", api, get_args(Api))
    found = places(cell)
    layers: dict[int | None, Any] = {}
    for place, part in zip(found, take_apart(cell, params), strict=True):
        modules = _write(place.cell, part, api)
        if place.direction is None:
            layers[place.layer] = modules
        else:
            layers.setdefault(place.layer, {})[f"{place.direction}_rnn"] = {"cell": modules}
    return layers[None] if None in layers else list(layers.values())


def _at(params: Any, place: Place) -> Any:
    """Returns the dict of one cell of a network."""
    path = [place.layer] if place.layer is not None else []
    path += [f"{place.direction}_rnn"] if place.direction is not None else []
    for k, step in enumerate(path):
        try:
            params = params[step]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"params{path[:k]} has no {step!r}, which {place.cell} needs") from error
    if not isinstance(params, Mapping):
        raise ValueError(f"params{path} is {type(params).__name__}, but {place.cell} needs a dict")
    return params.get("cell", params)


def _names(cell: Any, api: Api) -> dict[str, list[str]]:
    """Maps each field of the parameters to the names of its arrays, such as `hn/bias`."""
    check_cell(cell, "Flax", GATES, lacks=("peepholes", "projection_size", "cell_clip"), reset_after=True)
    layouts = _LAYOUTS[type(cell)]
    modules = layouts.get(api, layouts["nnx"])._asdict()
    kinds = {"w_x": "kernel", "w_h": "kernel", "b": "bias", "b_h": "bias"}
    return {field: [f"{name}/{kinds[field]}" for name in names] for field, names in modules.items() if names}


def _read(cell: Any, modules: Mapping[str, Any]) -> Params:
    """Reads the parameters of one cell."""
    names = _names(cell, "nnx" if "dense_i" in modules else "nnx_lstm_cell" if "if_" in modules else "linen")
    H, rows = cell.hidden_size, {"w_x": ("D",), "w_h": (cell.hidden_size,)}
    columns = GATES[type(cell)] * H // len(names["w_x"])
    shapes: dict[str, Shape] = {name: (*rows.get(f, ()), columns) for f, those in names.items() for name in those}
    inner = [name for name, value in modules.items() if _is_nested(value)]
    if inner:
        raise ValueError(
            f"{cell} needs the dict of its own module, but there are {listed(modules)}: pass the one at {inner[0]!r}"
        )
    arrays = take(_flatten(modules), shapes, cell)
    fields = [np.concatenate([arrays[name] for name in those], axis=-1) for those in names.values()]
    if isinstance(cell, GRU) and "b_h" not in names:
        fields.append(np.zeros(H, fields[-1].dtype))
    return cell_params(cell, *fields)


def _write(cell: Any, params: Any, api: Api) -> dict[str, dict[str, np.ndarray]]:
    """Writes the dict of one cell."""
    names = _names(cell, api)
    if isinstance(cell, GRU) and "b_h" not in names and np.any(params.b_h):
        raise ValueError("nnx's GRUCell has no bias on the recurrent product, but b_h is not zero")
    modules: dict[str, dict[str, np.ndarray]] = {}
    for field, those in names.items():
        for name, array in zip(those, np.split(getattr(params, field), len(those), axis=-1), strict=True):
            module, kind = name.split("/")
            modules.setdefault(module, {})[kind] = array
    return modules


def _is_nested(value: Any) -> bool:
    """True for a dict of dicts, such as that of a module with submodules."""
    return isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values())


def _flatten(modules: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens {"hn": {"bias": array}} to {"hn/bias": array}."""
    flat: dict[str, Any] = {}
    for name, value in modules.items():
        flat |= (
            {f"{name}/{kind}": array for kind, array in value.items()} if isinstance(value, Mapping) else {name: value}
        )
    return flat
