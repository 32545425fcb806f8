"""The protocols of cells and layers, and the checks of their arguments.

The letters that every docstring of the library uses for the axes of arrays:

| letter | axis |
|---|---|
| T | time: the steps of a sequence, always the leading axis |
| B | batch: any number of axes, none included |
| D | input: the features of one step |
| H | hidden: the units of a cell |
| R | recurrent: the output that a cell feeds back to itself; R = H unless the LSTM projects |
| C | classes |

So `xs [T, B, D]` may be an array of shape (28, 128, 28), of shape (28, 28) for one sequence alone, or of
shape (28, 8, 16, 28) for a batch of two axes.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Array: TypeAlias = jax.Array
Params: TypeAlias = Any  # a pytree of arrays that training changes
State: TypeAlias = Any  # a pytree of arrays that is carried from step to step


class Cell(Protocol):
    """One step of recurrence: a value with configuration, and pure functions of parameters and state.

    Any object with these four members unrolls, stacks and runs both ways. The built-in cells are frozen
    dataclasses registered as static, so that a cell can be an argument of a jitted function.

    A cell with a random step has a fifth member, `noise(key, xs)`, which draws the random numbers of all steps of
    xs [T, B, D] at once: a pytree of arrays that lead with T and B. `step` then takes one step's share as its last
    argument, or None in a call without a key.

    A cell that offers its `equations` beside its `step` unrolls faster; `EquationsCell` derives the step from them.
    """

    @property
    def output_size(self) -> int:
        """Size of the last axis of the outputs of `step`."""
        ...

    def init(self, key: Array, input_size: int) -> Params:
        """Draws parameters for inputs of `input_size` features. Consumes `key`."""
        ...

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> State:
        """Returns the state before the first step; every array in it leads with `batch_shape`."""
        ...

    def step(self, params: Params, state: State, x: Array) -> tuple[State, Array]:
        """Takes one step: x [B, D] -> (the next state, output [B, output_size])."""
        ...


class Layer(Protocol):
    """Sequences in, sequences out: the protocol of `Recurrent`, `bidirectional`, `stack` and the wrappers."""

    @property
    def output_size(self) -> int:
        """Size of the last axis of the outputs of `apply`."""
        ...

    def init(self, key: Array, input_size: int) -> Params:
        """Draws parameters for inputs of `input_size` features. Consumes `key`."""
        ...

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> State:
        """Returns the state before the first step; every array in it leads with `batch_shape`."""
        ...

    def apply(
        self,
        params: Params,
        xs: Array,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, Array]:
        """Runs over whole sequences: xs [T, B, D] -> (final state, ys [T, B, output_size]).

        Args:
          params: the parameters.
          xs: the inputs.
          state: the state before the first step; None for the initial state.
          lengths: [B], the number of valid steps of each sequence; None if all are valid.
          resets: [T, B], bool: the first steps of sequences or episodes in a row. The state passes none of these
            borders, in whichever direction the layer reads. None if each row is one sequence.
          key: drives what is random in the layer; None for nothing random.
        """
        ...

    def final_output(self, ys: Array, lengths: Array | None = None) -> Array:
        """Picks the output after the last step taken, in each direction: ys [T, B, ·] -> [B, ·]."""
        ...


def draw_noise(cell: Cell, key: Array | None, xs: Array) -> Any:
    """Draws the noise of all steps of xs [T, B, D]; None without a key, and for cells without `noise`."""
    noise = getattr(cell, "noise", None)
    return None if key is None or noise is None else noise(key, xs)


def take_step(cell: Cell, params: Params, state: State, x: Array, noise: Any) -> tuple[State, Array]:
    """Takes one step, with the step's share of the noise; None where nothing is random."""
    return cell.step(params, state, x, noise) if hasattr(cell, "noise") else cell.step(params, state, x)  # type: ignore


def dropout_mask(key: Array, rate: float, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draws factors ~ Bernoulli(1 - rate) / (1 - rate), which keep expected values. Consumes `key`."""
    return jax.random.bernoulli(key, 1 - rate, shape).astype(dtype) / (1 - rate)


def given(**options: Any) -> dict[str, Any]:
    """Drops the options that are None, so that a layer of the user's own need not know all of them."""
    return {name: value for name, value in options.items() if value is not None}


def check_size(name: str, value: Any) -> None:
    """Raises `ValueError` unless `value` is a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a positive whole number, not {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[str | None]) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    if not isinstance(value, str | None) or value not in choices:  # the first, as a list has no hash and an array no ==
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")


def check_rate(name: str, value: Any) -> None:
    """Raises `ValueError` unless `value` is a probability below 1."""
    if not 0 <= _number(value) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")


def as_bool(name: str, value: Any) -> bool:
    """Returns a bool of Python's; raises `ValueError` unless `value` is True or False, of Python or NumPy."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def as_number(name: str, value: Any) -> float:
    """Returns a number as a float of Python's; raises `ValueError` unless it is finite."""
    number = _number(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return number


def as_positive(name: str, value: Any) -> float:
    """Returns a number as a float of Python's; raises `ValueError` unless it is positive."""
    number = _number(value)
    if not number > 0:
        raise ValueError(f"{name} must be positive, not {value!r}")
    return number


def _number(value: Any) -> float:
    """Returns a number, NumPy's and JAX's scalars included, as a float; NaN for anything else."""
    try:
        return math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):  # a traced value is a TypeError of JAX's
        return math.nan


def check_instance(name: str, net: Any, needs: str = "a cell or a layer") -> None:
    """Raises `ValueError` in one line if `net` is a class; `name` is the function that needs an instance."""
    if isinstance(net, type):
        raise ValueError(f"{name} needs {needs}, not the class {net.__name__}: call it with its size")


def check_cell(name: str, cell: Any) -> None:
    """Raises `ValueError` in one line unless `cell` is a cell; `name` is the function that needs one."""
    check_instance(name, cell, "a cell")
    if not hasattr(cell, "step"):
        hint = ": call its apply" if hasattr(cell, "apply") else ""
        raise ValueError(f"{name} needs a cell, which has a step, not {cell!r}{hint}")


def check_layer(name: str, layer: Any) -> None:
    """Raises `ValueError` in one line unless `layer` is a layer; `name` is the function that needs one."""
    check_instance(name, layer)
    if isinstance(layer, list | tuple):
        raise ValueError(f"{name} needs a cell or a layer, not a {type(layer).__name__} of them: write {name}(*layers)")
    if not hasattr(layer, "apply"):
        raise ValueError(f"{name} needs a cell, which has a step, or a layer, which has an apply, not {layer!r}")


def check_leading(name: str, tree: Any, axes: tuple[int, ...], needs: str = "the batch shape of xs") -> None:
    """Raises `ValueError` unless every array of a pytree leads with axes of these sizes; `needs` describes them."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        shape = jnp.shape(leaf)
        if shape[: len(axes)] != axes:
            where = name + jax.tree_util.keystr(path)
            raise ValueError(f"{where} has shape {shape}, but needs to lead with {needs}, {axes}")


def check_floating(name: str, dtype: Any) -> None:
    """Raises `ValueError` unless a dtype is floating-point."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} has dtype {dtype}, but needs a floating-point one: cast it")


def check_input(name: str, x: ArrayLike, min_ndim: int = 1) -> Array:
    """Makes an array of an input, of one step [..., D] or of a sequence [T, ..., D].

    Raises:
      ValueError: if it is not floating-point, or has fewer than `min_ndim` axes.
    """
    x = jnp.asarray(x)
    check_floating(name, x.dtype)
    if x.ndim < min_ndim:
        axes = "[T, ..., input_size]: time leads, features come last" if min_ndim == 2 else "[..., input_size]"
        raise ValueError(f"{name} has shape {x.shape}, but needs {axes}")
    return x


def check_like(name: str, value: Any, like: Any, needs: str, dtype: Any = None) -> None:
    """Compares a pytree of arrays with one of the right structure and shapes, array by array.

    Args:
      name: the argument's name, for the messages.
      value: the pytree to check.
      like: the pytree to compare it with; `jax.ShapeDtypeStruct`s will do.
      needs: the reason for the shapes, for the messages.
      dtype: of every array that is floating-point in `like`; None for any.

    Raises:
      ValueError: naming the array, its shape or dtype and the one needed.
    """
    if jax.tree.structure(value) != jax.tree.structure(like):
        raise ValueError(
            f"{name} has the structure {jax.tree.structure(value)}, but {needs} needs {jax.tree.structure(like)}"
        )
    arrays = jax.tree.leaves(value)
    for (path, needed), array in zip(jax.tree.leaves_with_path(like), arrays, strict=True):
        where = name + jax.tree_util.keystr(path)
        if jnp.shape(array) != needed.shape:
            raise ValueError(f"{where} has shape {jnp.shape(array)}, but {needs} needs {needed.shape}")
        if dtype and jnp.issubdtype(needed.dtype, jnp.floating) and jnp.result_type(array) != dtype:
            raise ValueError(f"{where} has dtype {jnp.result_type(array)}, but {needs} is {dtype}: cast one")
