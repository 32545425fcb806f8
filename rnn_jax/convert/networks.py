"""Shared by all converters: finds the cells of a network, checks and reads their arrays, and reorders gates."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Cell, Layer, Params, check_like
from rnn_jax.cells import CELLS, GRU
from rnn_jax.layers import Bidirectional, BothWays, Stack
from rnn_jax.states import LearnedInitialState
from rnn_jax.wrappers import within

Shape: TypeAlias = tuple[int | str, ...]

GATES: dict[type, int] = {row.cell: row.gates for row in CELLS.values() if row.gates is not None}

_PARAMS: dict[type, Any] = {row.cell: row.params for row in CELLS.values()}


class Place(NamedTuple):
    """A cell of a network: its layer, from 0 at the bottom, None without a stack; its direction, None if only one."""

    cell: Cell
    layer: int | None
    direction: Literal["forward", "backward"] | None


def places(net: Cell | Layer) -> list[Place]:
    """Lists the cells of a network, bottom first, forward before backward.

    Wrappers, which have no parameters of their own, are skipped, and a stack within a stack is flattened.
    """
    match net:
        case LearnedInitialState():
            raise ValueError(
                "other frameworks learn no initial state: convert the layer within, whose parameters are params.layer"
            )
        case Bidirectional():
            (forward,), (backward,) = places(net.forward), places(net.backward)
            return [forward._replace(direction="forward"), backward._replace(direction="backward")]
        case Stack():
            levels = [level for layer in net.layers for level in _levels(places(layer))]
            return [place._replace(layer=k) for k, level in enumerate(levels) for place in level]
        case _ if (inner := within(net)) is not None:
            return places(inner)
        case _:
            return [Place(net, None, None)]  # type: ignore


def _levels(found: list[Place]) -> list[list[Place]]:
    """Groups the places of a network by layer."""
    return [[place for place in found if place.layer == layer] for layer in dict.fromkeys(p.layer for p in found)]


def cell_params(cell: Cell, *fields: Any) -> Params:
    """Makes a cell's parameters of copies of NumPy arrays, in the order of their fields."""
    return jax.tree.map(jnp.array, _PARAMS[type(cell)](*fields))


def assemble(net: Cell | Layer, parts: Iterable[Params]) -> Params:
    """Builds a network's parameters from those of its cells, which come in the order of `places`.

    Raises:
      ValueError: if a layer's parameters do not fit on those of the layer below.
    """
    parts = iter(parts)

    def build(net: Any) -> Params:
        match net:
            case Bidirectional():
                return BothWays(build(net.forward), build(net.backward))
            case Stack():
                return tuple(build(layer) for layer in net.layers)
            case _ if (inner := within(net)) is not None:
                return build(inner)
            case _:
                return next(parts)

    params = build(net)
    _check_params(net, params)
    return params


def take_apart(net: Cell | Layer, params: Params) -> list[Any]:
    """Returns the parameters of a network's cells as NumPy arrays, in the order of `places`.

    Raises:
      ValueError: if they are not parameters of this network.
    """
    _check_params(net, params)

    def split(net: Any, params: Any) -> list[Any]:
        match net:
            case Bidirectional():
                return split(net.forward, params.forward) + split(net.backward, params.backward)
            case Stack():
                return [part for layer, p in zip(net.layers, params, strict=True) for part in split(layer, p)]
            case _ if (inner := within(net)) is not None:
                return split(inner, params)
            case _:
                return [jax.tree.map(np.array, params)]

    return split(net, params)


def _check_params(net: Cell | Layer, params: Params) -> None:
    """Compares structure and shapes with those of the network's own `init`."""
    # The first array of a network is its first cell's w_x [D, ·].
    input_size = next((len(array) for array in jax.tree.leaves(params) if np.ndim(array)), 1)
    like = jax.eval_shape(lambda key: net.init(key, input_size), jax.eval_shape(lambda: jax.random.key(0)))
    check_like("params", params, like, str(net))


def check_cell(
    cell: Cell, framework: str, kinds: Iterable[type], lacks: Iterable[str] = (), reset_after: bool | None = None
) -> None:
    """Checks that a framework has an equivalent of a cell.

    Args:
      cell: the cell.
      framework: its name, for the messages.
      kinds: the types of cell with an equivalent.
      lacks: the options of those cells without one.
      reset_after: the form of its GRU; None if it has both.

    Raises:
      ValueError: naming the missing cell or option.
    """
    if type(cell) not in kinds:
        raise ValueError(f"{framework} has no cell like {cell}")
    if getattr(cell, "blocks", 1) > 1:
        raise ValueError(f"{framework} has no block-diagonal matrices, which {cell} needs")
    for option in lacks:
        if getattr(cell, option, None):
            raise ValueError(f"{framework} has no {option}, which {cell} needs")
    if isinstance(cell, GRU) and reset_after not in (None, cell.reset_after):
        when = "after" if reset_after else "before"
        raise ValueError(f"{framework} resets {when} the recurrent product: {cell} needs reset_after={reset_after}")


def take(source: Mapping[str, Any], shapes: Mapping[str, Shape], owner: object) -> dict[str, np.ndarray]:
    """Reads the arrays of one cell from a dict that holds them and nothing else.

    Args:
      source: name -> array.
      shapes: name -> the shape needed; a text stands for any size.
      owner: the cell, for the messages.

    Raises:
      ValueError: naming every array that is missing or unexpected, or the first with a wrong shape or dtype.
    """
    faults = [f"{name} is missing" for name in shapes if name not in source]
    faults += [f"{name} is unexpected" for name in source if name not in shapes]
    if faults:
        raise ValueError(f"{owner} needs {', '.join(shapes)}, but {', '.join(faults)}")
    arrays = {name: as_numpy(source[name], name) for name in shapes}
    for name, array in arrays.items():
        needed = shapes[name]
        if len(needed) != array.ndim or any(
            isinstance(n, int) and n != size for n, size in zip(needed, array.shape, strict=True)
        ):
            raise ValueError(f"{name} has shape {array.shape}, but {owner} needs [{', '.join(map(str, needed))}]")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {array.dtype}, but {owner} needs a floating-point one")
    return arrays


def as_numpy(value: Any, name: str) -> np.ndarray:
    """Copies an array of any framework to NumPy, a PyTorch tensor on any device and with any gradient included.

    Raises:
      ValueError: for a value that NumPy cannot hold, such as a tensor without data.
    """
    try:
        if not hasattr(value, "detach"):
            return np.asarray(value)
        tensor = value.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # PyTorch converts it to no NumPy dtype; float32 holds every value.
            return np.asarray(tensor.float()).astype(jnp.bfloat16)
        return np.asarray(tensor)
    except (TypeError, ValueError, RuntimeError) as error:  # NotImplementedError is a RuntimeError.
        raise ValueError(f"{name} cannot be read as a NumPy array: {error}") from error


def check_mapping(value: Any, name: str, instead: str) -> None:
    """Raises `ValueError` unless `value` is a dict of arrays; `instead` says how to get one."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {type(value).__name__}, but needs a dict, name -> array: {instead}")


def below(prefix: str, arrays: Mapping[str, Any], separator: str) -> dict[str, Any]:
    """Returns the part of a dict under a prefix, without the prefix, which may come without its last separator.

    Raises:
      ValueError: if no name begins with the prefix, listing the names.
    """
    if not prefix:
        return dict(arrays)
    prefix = prefix.removesuffix(separator) + separator
    found = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    if not found:
        raise ValueError(f"no name begins with {prefix!r}: there are {listed(arrays)}")
    return found


def listed(names: Iterable[Any], most: int = 6) -> str:
    """Joins names for a message, and counts those after the first few."""
    names = [str(name) for name in names]
    rest = len(names) - most
    return (", ".join(names[:most]) or "no names") + (f" and {rest} more" if rest > 0 else "")


def reorder(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Splits the last axis into gates and moves gate `order[k]` to place k."""
    gates = np.split(array, len(order), axis=-1)
    return np.concatenate([gates[gate] for gate in order], axis=-1)


def merge_gru_biases(b_x: np.ndarray, b_h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merges biases [3H] of the input and of the recurrent product into `GRUParams`' b [3H] and b_h [H].

    The step adds the two in r and z; in n they stay apart.
    """
    sums, n_h = np.split(b_h, [len(b_h) // 3 * 2])
    return b_x + np.concatenate([sums, np.zeros_like(n_h)]), n_h


def split_gru_biases(b: np.ndarray, b_h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverts `merge_gru_biases`; the recurrent product's biases of r and z are zero."""
    return b, np.concatenate([np.zeros(2 * len(b_h), b_h.dtype), b_h])
