"""PyTorch's `nn.RNN`, `nn.LSTM` and `nn.GRU`, and their cells.

| name | shape | here |
|---|---|---|
| `weight_ih_l0` | (G H, D) | w_x, transposed |
| `weight_hh_l0` | (G H, R) | w_h, transposed |
| `bias_ih_l0`, `bias_hh_l0` | (G H) | b, their sum; but in a GRU's n `bias_hh` is b_h |
| `weight_hr_l0` | (R, H) | w_r, transposed; only with `proj_size` |

G is 1, 4 (i, f, g, o) or 3 (r, z, n), the order of the columns here. Layers above are `l1`, `l2`, ..., and a layer's
backward direction is `l0_reverse`.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnn_jax.base import Cell, Layer, Params
from rnn_jax.cells import GRU, LSTM
from rnn_jax.convert.networks import (
    GATES,
    Place,
    Shape,
    assemble,
    below,
    cell_params,
    check_cell,
    check_mapping,
    listed,
    merge_gru_biases,
    places,
    split_gru_biases,
    take,
    take_apart,
)
from rnn_jax.layers import Bidirectional, Residual, Stack
from rnn_jax.saving import read_safetensors
from rnn_jax.wrappers import within


def from_torch(cell: Cell | Layer, state_dict: Any, suffix: str = "l0", prefix: str = "") -> Params:
    """Converts a PyTorch state dict.

    Args:
      cell: a cell, for one direction of one layer of the module; or a layer, for the whole module.
      state_dict: name -> tensor, or anything that `np.asarray` takes; or the module itself. A module made with
        `bias=False` has no biases; they become zeros.
      suffix: for a cell, the layer and direction to read: `l1`, `l0_reverse`, ...; "" for the names of `nn.LSTMCell`
        and its siblings. Names with another suffix are left alone.
      prefix: the name of the recurrent module within a larger one, such as `encoder.rnn`. Names without it are left
        alone.

    Raises:
      ValueError: for a cell that PyTorch lacks (with peepholes or clips, reset before the product, or layer
        normalization) or a network of unequal or residual layers; for names missing, unexpected or of the wrong
        shape; for layers that do not fit on each other.
    """
    if hasattr(state_dict, "state_dict"):
        state_dict = state_dict.state_dict()
    check_mapping(state_dict, "state_dict", "pass module.state_dict()")
    found = places(cell)
    suffixes = _suffixes(cell, suffix)
    names = below(prefix, state_dict, ".")
    _check_names(names, suffixes, prefix)
    strange = [name for name in names if _suffix(name) not in suffixes]
    if strange and not _alone(found):
        raise ValueError(f"{cell} has no place for {listed(strange)}")
    return assemble(cell, [_read(place.cell, names, s) for place, s in zip(found, suffixes, strict=True)])


def from_torch_file(cell: Cell | Layer, path: str | os.PathLike[str], suffix: str = "l0", prefix: str = "") -> Params:
    """Converts a PyTorch state dict in a `.safetensors` file, without PyTorch; see `from_torch`.

    Save one by `safetensors.torch.save_file(module.state_dict(), path)`. Pickled files (`.pt`, `.pth`) are never
    read, because unpickling runs code.

    Raises:
      OSError: for a file that cannot be opened.
      ValueError: for a file of another format, and as `from_torch`.
    """
    return from_torch(cell, read_safetensors(path)[1], suffix, prefix)


def to_torch(cell: Cell | Layer, params: Params, suffix: str = "l0", prefix: str = "") -> dict[str, np.ndarray]:
    """Inverts `from_torch`; of two biases that are added, `bias_hh` is zero.

    Raises:
      ValueError: for a network that PyTorch lacks, as in `from_torch`, or parameters of another one.
    """
    found = places(cell)
    parts = zip(found, take_apart(cell, params), _suffixes(cell, suffix), strict=True)
    prefix = prefix and prefix.removesuffix(".") + "."
    return {prefix + name: value for place, part, s in parts for name, value in _write(place.cell, part, s).items()}


def _check_names(names: Mapping[str, Any], suffixes: list[str], prefix: str) -> None:
    """Raises `ValueError` if no name is of the cells to be read, saying which names there are and what to pass."""
    seen = {suffix for name in names if (suffix := _suffix(name)) is not None}
    if seen & {*suffixes}:
        return
    inner = {name.rpartition(".")[0]: None for name in names if _suffix(name.rpartition(".")[2]) is not None}
    if seen:
        advice = f"pass suffix={' or '.join(map(repr, sorted(seen)))}"
    elif inner:
        advice = f"pass prefix={' or '.join(repr('.'.join(filter(None, (prefix, name)))) for name in inner)}"
    else:
        advice = "none is of a recurrent module"
    raise ValueError(f"weight_ih_{suffixes[0]}".removesuffix("_") + f" is missing: of {listed(names)}, {advice}")


def _alone(found: list[Place]) -> bool:
    """Returns whether a network is a single cell."""
    return all(place.layer is None and place.direction is None for place in found)


def _suffixes(net: Cell | Layer, suffix: str) -> list[str]:
    """Returns the suffix of each place of a network; the given one for a single cell."""
    found = places(net)
    kinds = {
        (type(p.cell), tuple(_shapes(p.cell, "").values()), getattr(p.cell, "activation", None), p.direction is None)
        for p in found
    }
    if _alone(found):
        return [suffix]
    if len(kinds) > 1:
        raise ValueError(f"a module of PyTorch has layers of one kind and size, not {net}")
    if any(part.merge != "concat" for part in _parts(net, Bidirectional)):
        raise ValueError(f"a module of PyTorch puts both directions side by side: {net} needs merge='concat'")
    if found[0].layer is not None and _parts(net, Residual):
        raise ValueError(f"a module of PyTorch has no residual connections between its layers, which {net} needs")
    return [f"l{place.layer or 0}" + "_reverse" * (place.direction == "backward") for place in found]


def _parts(net: Any, kind: type) -> list[Any]:
    """Collects the parts of a network that are instances of a class of layer."""
    match net:
        case Stack():
            inner = [part for layer in net.layers for part in _parts(layer, kind)]
        case _ if (wrapped := within(net)) is not None:
            inner = _parts(wrapped, kind)
        case _:
            inner = []
    return [net, *inner] if isinstance(net, kind) else inner


def _suffix(name: str) -> str | None:
    """Parses `weight_ih_l0_reverse` to `l0_reverse`, `weight_ih` to "", anything else to None."""
    match = re.fullmatch(r"(?:weight|bias)_(?:ih|hh|hr)(?:_(.+))?", name)
    return match and (match[1] or "")


def _shapes(cell: Any, suffix: str) -> dict[str, Shape]:
    """Returns the names and shapes of a cell's arrays."""
    lacks = ("peepholes", "cell_clip", "projection_clip")
    check_cell(cell, "PyTorch", GATES, lacks, reset_after=True)
    R, columns = cell.output_size, GATES[type(cell)] * cell.hidden_size
    shapes: dict[str, Shape] = {
        "weight_ih": (columns, "D"),
        "weight_hh": (columns, R),
        "bias_ih": (columns,),
        "bias_hh": (columns,),
    }
    if isinstance(cell, LSTM) and cell.projection_size is not None:
        shapes["weight_hr"] = (R, cell.hidden_size)
    return {f"{name}_{suffix}".removesuffix("_"): shape for name, shape in shapes.items()}


def _read(cell: Any, state_dict: Mapping[str, Any], suffix: str) -> Params:
    """Reads the parameters of one cell."""
    own = {name: value for name, value in state_dict.items() if _suffix(name) == suffix}
    biased = any(name.startswith("bias") for name in own)
    shapes = {name: shape for name, shape in _shapes(cell, suffix).items() if biased or name.startswith("weight")}
    arrays = take(own, shapes, cell)
    w_x, w_h, *others = (array.T for array in arrays.values())
    b_x, b_h = others[:2] if biased else np.zeros((2, w_h.shape[1]), w_h.dtype)
    if isinstance(cell, GRU):
        return cell_params(cell, w_x, w_h, *merge_gru_biases(b_x, b_h))
    if isinstance(cell, LSTM) and cell.projection_size is not None:
        return cell_params(cell, w_x, w_h, b_x + b_h, None, others[-1])
    return cell_params(cell, w_x, w_h, b_x + b_h)


def _write(cell: Any, params: Any, suffix: str) -> dict[str, np.ndarray]:
    """Writes the arrays of one cell, by name."""
    names = _shapes(cell, suffix)
    biases = split_gru_biases(params.b, params.b_h) if isinstance(cell, GRU) else (params.b, np.zeros_like(params.b))
    values = [params.w_x.T, params.w_h.T, *biases]
    if isinstance(cell, LSTM) and params.w_r is not None:
        values.append(params.w_r.T)
    return dict(zip(names, values, strict=True))
