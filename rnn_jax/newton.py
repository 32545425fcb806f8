"""How well Newton's method finds the states of a sequence: see `parallel`."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.base import Array, Cell, Params, State
from rnn_jax.implementations.parallel import forwards, prepare, solve
from rnn_jax.implementations.problem import Problem
from rnn_jax.implementations.table import PARALLEL
from rnn_jax.unroll import unroll


class NewtonReport(NamedTuple):
    """How the states of all steps were found.

    Attributes:
      rounds: corrections of the first guess.
      residual: the largest that is left, as a fraction of the largest state in time.
      converged: False if it is above the tolerance, and `unroll` answers with a loop over the steps.
    """

    rounds: Array
    residual: Array
    converged: Array


def newton_report(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    key: Array | None = None,
) -> NewtonReport:
    """Reports on `unroll(..., implementation="parallel")` of the same arguments.

    A linear cell takes one round here, and none in `unroll`, which solves it directly.

    Raises:
      ValueError: as `unroll` does.
    """
    return unroll(cell, params, xs, state, lengths=lengths, reverse=reverse, key=key, implementation=_REPORT)[0]


def _report(problem: Problem) -> tuple[NewtonReport, Array]:
    """Returns a report in place of the final state, and no outputs."""
    solution = solve(*prepare(forwards(problem)))
    return NewtonReport(solution.rounds, solution.residual, solution.converged), jnp.zeros(())


_REPORT = PARALLEL._replace(run=_report)
