"""Tensor parallelism: hidden units shared by devices, for networks that are too large for one.

    cell = rnn.tensor_parallel(rnn.LSTM(8192))
    classifier, mesh = Classifier(rnn.stack(cell, cell), 10), make_mesh(jax.devices(), model_devices=4)
    init = functools.partial(init_state, classifier, optimizer, key, input_size)
    state = jax.jit(init, out_shardings=shardings(jax.eval_shape(init), mesh))()
    fit(classifier, optimizer, state, ..., devices=jax.devices(), model_devices=4)

The mesh of devices has two axes: those along "batch" share the examples, those along "model" the hidden units of every
cell, and the rows of every matrix, which belong to the units (row parallelism: Shoeybi et al., 2019, arXiv:1909.08053).
The code only annotates; XLA derives the communication. In each step in time, devices send each other their rows' part
of the sums in the gates, and on the way back the cotangents of the gates; matrices are never sent.

Under a mesh with explicit axes (`jax.set_mesh(jax.make_mesh(...))`) the same functions work: outputs are then divided
along the batch as the inputs are, and replicated along "model".
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.base import Array, Cell, Params, State, check_cell, draw_noise
from rnn_jax.cells.equations import Dense, DenseCall, EquationsCell, apply_equations, offers_equations
from rnn_jax.wrappers import CellWrapper

BATCH, MODEL = "batch", "model"  # the axes of the mesh


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class TensorParallel(CellWrapper, EquationsCell):
    """A cell whose hidden units are shared by devices. See `tensor_parallel`."""

    honours_axis = True

    def __post_init__(self) -> None:
        if not offers_equations(self.cell):
            raise ValueError(f"tensor_parallel needs a cell that offers its equations, which {self.cell} does not")
        check_cell("tensor_parallel", self.cell)

    def noise(self, key: Array, xs: Array) -> Any:
        """Draws the cell's noise; None if it has none. Consumes `key`."""
        return draw_noise(self.cell, key, xs)

    def equations(self, params: Params, state: State, x: Array, dense: Dense, noise: Any = None) -> tuple[State, Array]:
        """Evaluates the cell's equations gate by gate: of one matrix, a device would hold other units' gates."""
        num_devices = jax.sharding.get_abstract_mesh().shape.get(MODEL, 1)
        if num_devices == 1:
            return apply_equations(self.cell, params, state, x, dense, noise)

        def divide(v: Array) -> Array:
            if v.shape[dense.axis] % num_devices:
                raise ValueError(f"{v.shape[dense.axis]} units cannot be shared equally by {num_devices} devices")
            others = (P.UNCONSTRAINED,) * (v.ndim - 1)
            return lax.with_sharding_constraint(v, P(MODEL, *others) if dense.axis == 0 else P(*others, MODEL))

        def product(call: DenseCall) -> tuple[Array, ...]:
            start, stop, _ = call.columns.indices(call.terms[0][1].shape[1])
            size = (stop - start) // call.parts
            return tuple(divide(gate(call, slice(n, n + size))) for n in range(start, stop, size))

        def gate(call: DenseCall, columns: slice) -> Array:
            # Term by term: vectors that lie on different devices would have to be sent to be joined.
            first, *others = call.terms
            (z,) = dense(first, bias=call.bias, columns=columns)
            return sum((dense(term, columns=columns)[0] for term in others), start=z)

        state, y = apply_equations(self.cell, params, state, x, Dense(product, dense.axis), noise)
        return jax.tree.map(divide, state), divide(y)


def tensor_parallel(cell: Cell) -> TensorParallel:
    """Shares the hidden units of a cell among the devices along the axis "model" of the mesh in use.

    Its parameters, state and outputs are those of the cell; only where they lie differs. Without such a mesh, or with
    one device along the axis, it is the cell itself.

    >>> import jax, rnn_jax as rnn
    >>> cell, mesh = rnn.tensor_parallel(rnn.GRU(8)), make_mesh(jax.devices()[:1])
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> params = jax.device_put(params, shardings(params, mesh))
    >>> with jax.set_mesh(mesh):
    ...     state, ys = jax.jit(rnn.unroll, static_argnums=0)(cell, params, jax.numpy.ones((5, 3, 4)))
    >>> ys.shape
    (5, 3, 8)

    Args:
      cell: one that offers its equations, as all built-in cells and regularizers do.

    Raises:
      ValueError: for a cell without equations; when it is used, for a number of units that the devices cannot share
        equally.
    """
    return TensorParallel(cell)


def make_mesh(devices: Sequence[Any], model_devices: int = 1) -> Mesh:
    """Arranges devices in groups that share each matrix, with the axes "batch" and "model".

    Args:
      devices: all of them.
      model_devices: how many are in a group.

    Raises:
      ValueError: if they cannot be put in such groups.
    """
    if len(devices) % model_devices:
        raise ValueError(f"{len(devices)} devices cannot be put in groups of {model_devices}")
    return Mesh(np.array(devices).reshape(-1, model_devices), (BATCH, MODEL))


def shardings(tree: Any, mesh: Mesh) -> Any:
    """Computes the shardings of parameters, or of a whole `TrainState`, on a mesh.

    Matrices are divided by rows among the devices along "model", if these divide the rows; everything else, which is
    small, is replicated.

    Args:
      tree: a pytree of arrays, or of their shapes.
      mesh: of `make_mesh`.

    Returns:
      A pytree of `NamedSharding`, for `jax.device_put` and `jax.jit`.
    """

    def sharding(leaf: Any) -> NamedSharding:
        divided = len(leaf.shape) == 2 and leaf.shape[0] % mesh.shape[MODEL] == 0
        return NamedSharding(mesh, P(MODEL) if divided and mesh.shape[MODEL] > 1 else P())

    return jax.tree.map(sharding, tree)
