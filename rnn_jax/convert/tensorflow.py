"""TensorFlow 1's cells: `tf.nn.rnn_cell` and contrib's LayerNormBasicLSTMCell.

| TensorFlow's cell | ours | variables |
|---|---|---|
| BasicRNNCell | `VanillaRNN` | `kernel [D+H, H]`, `bias [H]` |
| BasicLSTMCell | `LSTM` | `kernel [D+H, 4H]`, `bias [4H]` |
| LSTMCell | `LSTM` with its options | `kernel [D+R, 4H]`, `bias [4H]`, `w_i_diag`, `w_f_diag`, `w_o_diag [H]`, |
| | | `projection/kernel [H, R]` |
| GRUCell | `GRU(reset_after=False)` | `gates/kernel [D+H, 2H]`, `gates/bias [2H]`, `candidate/kernel [D+H, H]`, |
| | | `candidate/bias [H]` |
| LayerNormBasicLSTMCell | `LayerNormLSTM` | `kernel [D+H, 4H]`; `gamma`, `beta [H]` under `input`, `transform`, |
| | | `forget`, `output`, `state` |

A kernel holds the rows of w_x above those of w_h. The columns of an LSTM are in the order i, g, f, o (TensorFlow calls
g j), those of a GRU r, z (u). TensorFlow adds its forget_bias at each step; here it is part of b, or of beta.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnn_jax.base import Cell, Layer, Params
from rnn_jax.cells import GRU, LSTM, LayerNormLSTM, Peepholes, VanillaRNN
from rnn_jax.convert.networks import (
    Place,
    Shape,
    assemble,
    below,
    cell_params,
    check_cell,
    check_mapping,
    places,
    reorder,
    take,
    take_apart,
)

_IGFO = (0, 2, 1, 3)  # i, f, g, o <-> i, g, f, o: its own inverse
_NORMS = ("input", "forget", "transform", "output", "state")
_DIRECTIONS = {"forward": "fw", "backward": "bw"}
_INNER_SCOPES = ("gates", "candidate", "projection", *_NORMS)


def from_tf(cell: Cell | Layer, variables: Mapping[str, Any], forget_bias: float = 1.0, prefix: str = "") -> Params:
    """Converts TensorFlow's variables.

    Args:
      cell: a cell or a layer.
      variables: name -> array. The scopes `cell_0`, `cell_1`, ... of a name tell its layer, and `fw`, `bw` its
        direction, as MultiRNNCell, stack_bidirectional_rnn and static_bidirectional_rnn write them. Other scopes
        around the cell and a trailing `:0` are ignored.
      forget_bias: the constant that the TensorFlow cell was made with, for LSTMs.
      prefix: the scope of the recurrent network, such as `rnn`. Variables outside it are left alone.

    Raises:
      ValueError: for a cell that TensorFlow lacks (a GRU with reset_after); for variables missing, not needed, of the
        wrong shape or given twice; for layers that do not fit on each other.
    """
    check_mapping(variables, "variables", "pass {v.name: v.numpy() for v in variables}")
    variables = below(prefix, variables, "/")
    found: dict[tuple[int, str | None], dict[str, Any]] = {_where(place): {} for place in places(cell)}
    for full_name, value in variables.items():
        where, name = _parse(full_name)
        if where not in found:
            raise ValueError(f"{cell} has no place for {full_name}")
        if name in found[where]:
            raise ValueError(f"{full_name} is a second {name} of the same cell: give the variables of one network only")
        found[where][name] = value
    return assemble(cell, [_read(place, found[_where(place)], forget_bias) for place in places(cell)])


def to_tf(cell: Cell | Layer, params: Params, forget_bias: float = 1.0) -> dict[str, np.ndarray]:
    """Inverts `from_tf`, exactly but for the rounding of the forget bias.

    A cell's variables are named as in the module's table. TensorFlow's scopes precede those of a network, such as
    `multi_rnn_cell/cell_0/basic_lstm_cell/`, `bidirectional_rnn/fw/gru_cell/` or
    `stack_bidirectional_rnn/cell_0/bidirectional_rnn/fw/lstm_cell/`.

    Raises:
      ValueError: for a cell that TensorFlow lacks (a GRU with reset_after), or parameters of another cell.
    """
    parts = zip(places(cell), take_apart(cell, params), strict=True)
    return {
        _scope(place) + name: value
        for place, part in parts
        for name, value in _write(place.cell, part, forget_bias).items()
    }


def _parse(full_name: str) -> tuple[tuple[int, str | None], str]:
    """Parses `rnn/multi_rnn_cell/cell_1/gru_cell/gates/kernel:0` to ((layer 1, no direction), "gates/kernel")."""
    *scopes, name = full_name.removesuffix(":0").split("/")
    if scopes and scopes[-1] in _INNER_SCOPES:
        name = f"{scopes.pop()}/{name}"
    layers = [int(scope.removeprefix("cell_")) for scope in scopes if re.fullmatch(r"cell_\d+", scope)]
    directions = [scope for scope in scopes if scope in _DIRECTIONS.values()]
    if directions and layers and scopes.index(directions[0]) < scopes.index(f"cell_{layers[0]}"):
        # Two stacks, one for each direction, meet at the top only: not a stack of bidirectional layers.
        raise ValueError(f"{full_name} is of a bidirectional network of stacks, which is no stack of layers here")
    return (layers[0] if layers else 0, directions[0] if directions else None), name


def _where(place: Place) -> tuple[int, str | None]:
    """Returns the result of `_parse` for the variables of a cell."""
    return place.layer or 0, place.direction and _DIRECTIONS[place.direction]


def _scope(place: Place) -> str:
    """Returns the scopes that precede a cell's own names; none for a single cell."""
    scopes = []
    if place.layer is not None:
        scopes += ["stack_bidirectional_rnn" if place.direction else "multi_rnn_cell", f"cell_{place.layer}"]
    if place.direction:
        scopes += ["bidirectional_rnn", _DIRECTIONS[place.direction]]
    return "".join(f"{scope}/" for scope in (*scopes, _cell_scope(place.cell))) if scopes else ""


def _cell_scope(cell: Any) -> str:
    """Returns the scope that TensorFlow's cell opens."""
    match cell:
        case VanillaRNN():
            return "basic_rnn_cell"
        case GRU():
            return "gru_cell"
        case LayerNormLSTM():
            return "layer_norm_basic_lstm_cell"
        case _:
            return "lstm_cell" if cell.peepholes or cell.projection_size or cell.cell_clip else "basic_lstm_cell"


def _shapes(cell: Any) -> dict[str, Shape]:
    """Returns the names and shapes of a cell's variables."""
    check_cell(cell, "TensorFlow", (VanillaRNN, LSTM, GRU, LayerNormLSTM), reset_after=False)
    H, R = cell.hidden_size, cell.output_size
    rows = f"D+{R}"
    match cell:
        case VanillaRNN():
            return {"kernel": (rows, H), "bias": (H,)}
        case GRU():
            gates: dict[str, Shape] = {"gates/kernel": (rows, 2 * H), "gates/bias": (2 * H,)}
            return gates | {"candidate/kernel": (rows, H), "candidate/bias": (H,)}
        case LayerNormLSTM():
            norms: dict[str, Shape] = {f"{norm}/{name}": (H,) for norm in _NORMS for name in ("gamma", "beta")}
            return {"kernel": (rows, 4 * H)} | norms
        case _:
            shapes: dict[str, Shape] = {"kernel": (rows, 4 * H), "bias": (4 * H,)}
            if cell.peepholes:
                shapes |= {f"w_{gate}_diag": (H,) for gate in "ifo"}
            if cell.projection_size is not None:
                shapes["projection/kernel"] = (H, R)
            return shapes


def _read(place: Place, variables: Mapping[str, Any], forget_bias: float) -> Params:
    """Reads the parameters of one cell."""
    cell: Any = place.cell
    v = take(variables, _shapes(cell), f"{_scope(place)} {cell}".lstrip())
    H, R = cell.hidden_size, cell.output_size
    match cell:
        case VanillaRNN():
            return cell_params(cell, *_split_rows(v["kernel"], R), v["bias"])
        case GRU():
            kernels = zip(_split_rows(v["gates/kernel"], R), _split_rows(v["candidate/kernel"], R), strict=True)
            w_x, w_h = (np.concatenate(pair, axis=1) for pair in kernels)
            return cell_params(cell, w_x, w_h, np.concatenate([v["gates/bias"], v["candidate/bias"]]))
        case LayerNormLSTM():
            w_x, w_h = _split_rows(reorder(v["kernel"], _IGFO), R)
            *gammas, gamma_c = (v[f"{norm}/gamma"] for norm in _NORMS)
            *betas, beta_c = (v[f"{norm}/beta"] for norm in _NORMS)
            beta = np.stack(betas)
            beta[1] += forget_bias
            return cell_params(cell, w_x, w_h, np.stack(gammas), beta, gamma_c, beta_c)
        case _:
            w_x, w_h = _split_rows(reorder(v["kernel"], _IGFO), R)
            b = reorder(v["bias"], _IGFO)
            b[H : 2 * H] += forget_bias
            p = Peepholes._make(v[f"w_{gate}_diag"] for gate in "ifo") if cell.peepholes else None
            return cell_params(cell, w_x, w_h, b, p, v.get("projection/kernel"))


def _write(cell: Any, params: Any, forget_bias: float) -> dict[str, np.ndarray]:
    """Writes the variables of one cell, by their names in it."""
    names = _shapes(cell)
    kernel = np.concatenate([params.w_x, params.w_h])
    H = cell.hidden_size
    match cell:
        case VanillaRNN():
            values = [kernel, params.b]
        case GRU():
            gates, candidate = np.split(kernel, [2 * H], axis=1)
            b_gates, b_candidate = np.split(params.b, [2 * H])
            values = [gates, b_gates, candidate, b_candidate]
        case LayerNormLSTM():
            beta = params.beta.copy()
            beta[1] -= forget_bias
            norms = zip([*params.gamma, params.gamma_c], [*beta, params.beta_c], strict=True)
            values = [reorder(kernel, _IGFO), *(value for norm in norms for value in norm)]
        case _:
            b = params.b.copy()
            b[H : 2 * H] -= forget_bias
            values = [reorder(kernel, _IGFO), reorder(b, _IGFO), *(params.p or ())]
            if params.w_r is not None:
                values.append(params.w_r)
    return dict(zip(names, values, strict=True))


def _split_rows(kernel: np.ndarray, recurrent_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits a kernel for [x, h] into the kernels for x and for h."""
    input_size = len(kernel) - recurrent_size
    if input_size < 1:
        raise ValueError(f"kernel has {len(kernel)} rows, but needs more than the {recurrent_size} of the state")
    return kernel[:input_size], kernel[input_size:]
