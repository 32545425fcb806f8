"""`Problem`, the input of every implementation of `unroll`, and `Implementation`, one way to solve it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from rnn_jax.base import Array, Cell, Params, State
from rnn_jax.cells.equations import Precision


class Problem(NamedTuple):
    """One call of `unroll`, with its arguments checked.

    Attributes:
      cell: the cell.
      params: its parameters.
      state: the state before the first step, arrays [B, ...].
      xs: the inputs, [T, B, D]; finite where not valid.
      noise: arrays [T, B, ...], see `Cell`; None for none.
      valid: bool [T, B]; None if all steps are valid.
      reverse: True to start from the last step.
      precision: of the products, see `multiply`.
      resets: bool [T, B], the valid steps before which the state becomes `initial`; None for none.
      initial: the state after a reset; None without resets.
    """

    cell: Cell
    params: Params
    state: State
    xs: Array
    noise: Any = None
    valid: Array | None = None
    reverse: bool = False
    precision: Precision = None
    resets: Array | None = None
    initial: State | None = None


class Implementation(NamedTuple):
    """One way to solve a `Problem`. All of them compute the same function.

    Attributes:
      name: the name that `unroll` takes and `explain` prints.
      why_not: (problem, platform) -> a noun phrase for the missing requirement; empty if it can solve the problem on
        the platform. It may look at shapes and dtypes only.
      run: problem -> (final state, ys [T, B, H]).
      portable: True if it runs on every platform.
      joins_directions: True if `vmap` over the two directions of a bidirectional layer is faster than two calls.
      lowers_for: the platforms that `run` can be traced for on a machine whose own `why_not` refuses. The program then
        solves the problem on each of them that `why_not` accepts, and raises `refusal` when lowered for another.
    """

    name: str
    why_not: Callable[[Problem, str], str]
    run: Callable[[Problem], tuple[State, Array]]
    portable: bool = True
    joins_directions: bool = False
    lowers_for: tuple[str, ...] = ()


def refusal(name: str, needs: str) -> str:
    """Returns the message of the error for an implementation, asked for by name, that needs something else."""
    return f'implementation="{name}" needs {needs}: leave it out, or use "scan"'
