"""What all converters share: where the cells of a network are, what fits a cell, and how gates are reordered."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Cell, Layer, Params, check_like
from rnn_jax.cells import CELLS, GRU
from rnn_jax.layers import Bidirectional, BothWays, Stack
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
    """The cells of a network, bottom first, forward before backward.

    Wrappers, which have no parameters of their own, are skipped, and a stack within a stack is flattened.
    """
    match net:
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
    """The parameters of a cell, copied from NumPy arrays in the order of their fields."""
    return jax.tree.map(jnp.array, _PARAMS[type(cell)](*fields))


def assemble(net: Cell | Layer, parts: Iterable[Params]) -> Params:
    """Makes a network's parameters of its cells' parameters, which come in the order of `places`.

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
    """The parameters of a network's cells as NumPy arrays, in the order of `places`.

    Raises:
      ValueError: if they are not parameters of this network.
    """
    _check_params(net, params)
    kinds = tuple(_PARAMS.values())
    return jax.tree.leaves(jax.tree.map(np.array, params), is_leaf=lambda part: isinstance(part, kinds))


def _check_params(net: Cell | Layer, params: Params) -> None:
    """Compares structure and shapes with those that the network itself would make."""
    # The first array of a network is its first cell's w_x [D, ·].
    input_size = next((len(array) for array in jax.tree.leaves(params) if np.ndim(array)), 1)
    like = jax.eval_shape(lambda key: net.init(key, input_size), jax.eval_shape(lambda: jax.random.key(0)))
    check_like("params", params, like, str(net))


def check_cell(
    cell: Cell, framework: str, kinds: Iterable[type], lacks: Iterable[str] = (), reset_after: bool | None = None
) -> None:
    """Checks that a framework has the like of a cell.

    Args:
      cell: the cell.
      framework: its name, for the messages.
      kinds: the cells it has the like of.
      lacks: the options it lacks of those cells.
      reset_after: which GRU it has; None for both.

    Raises:
      ValueError: saying what the framework lacks.
    """
    if type(cell) not in kinds:
        raise ValueError(f"{framework} has no cell like {cell}")
    for option in lacks:
        if getattr(cell, option, None):
            raise ValueError(f"{framework} has no {option}, which {cell} needs")
    if isinstance(cell, GRU) and reset_after not in (None, cell.reset_after):
        when = "after" if reset_after else "before"
        raise ValueError(f"{framework} resets {when} the recurrent product: {cell} needs reset_after={reset_after}")


def take(source: Mapping[str, Any], shapes: Mapping[str, Shape], owner: object) -> dict[str, np.ndarray]:
    """Takes from a dict the arrays of one cell, which must be all that it holds.

    Args:
      source: name -> array.
      shapes: name -> the shape needed; a text stands for any size.
      owner: what the arrays are for, for the messages.

    Raises:
      ValueError: naming what is missing, unexpected or of the wrong shape or dtype.
    """
    faults = [f"{name} is missing" for name in shapes if name not in source]
    faults += [f"{name} is unexpected" for name in source if name not in shapes]
    if faults:
        raise ValueError(f"{owner} needs {', '.join(shapes)}, but {', '.join(faults)}")
    arrays = {name: np.asarray(source[name]) for name in shapes}
    for name, array in arrays.items():
        needed = shapes[name]
        if len(needed) != array.ndim or any(
            isinstance(n, int) and n != size for n, size in zip(needed, array.shape, strict=True)
        ):
            raise ValueError(f"{name} has shape {array.shape}, but {owner} needs [{', '.join(map(str, needed))}]")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {array.dtype}, but {owner} needs a floating-point one")
    return arrays


def reorder(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Splits the last axis into gates and puts gate `order[k]` in place k."""
    gates = np.split(array, len(order), axis=-1)
    return np.concatenate([gates[gate] for gate in order], axis=-1)


def merge_gru_biases(b_x: np.ndarray, b_h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Biases [3H] of the input and of the recurrent product -> GRUParams' b [3H], b_h [H].

    In r and z the two are added anyway; in n they stay apart.
    """
    sums, n_h = np.split(b_h, [len(b_h) // 3 * 2])
    return b_x + np.concatenate([sums, np.zeros_like(n_h)]), n_h


def split_gru_biases(b: np.ndarray, b_h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `merge_gru_biases`, leaving to the recurrent product only what n needs."""
    return b, np.concatenate([np.zeros(2 * len(b_h), b_h.dtype), b_h])
