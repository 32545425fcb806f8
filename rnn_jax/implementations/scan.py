"""The reference implementation: one `lax.scan` over the cell's steps, for any cell and every transform of JAX."""

import functools
from typing import Any

from jax import lax

from rnn_jax.base import Array, State, take_step
from rnn_jax.cells.equations import Dense, DenseCall, apply_equations
from rnn_jax.implementations.problem import Problem
from rnn_jax.lengths import hold, restart


def unroll_scan(problem: Problem) -> tuple[State, Array]:
    """Solves a problem with one `lax.scan`."""
    cell, params, precision = problem.cell, problem.params, problem.precision
    dense = Dense(functools.partial(DenseCall.plain, precision=precision))

    def step(state: State, inputs: tuple[Array, Any, Array | None, Array | None]) -> tuple[State, Array]:
        x, noise, valid, reset = inputs
        state = restart(reset, state, problem.initial)
        if precision is None:
            stepped = take_step(cell, params, state, x, noise)
        else:
            stepped = apply_equations(cell, params, state, x, dense, noise)
        return hold(valid, state, stepped)

    inputs = problem.xs, problem.noise, problem.valid, problem.resets
    return lax.scan(step, problem.state, inputs, reverse=problem.reverse)


def why_not_scan(problem: Problem, platform: str) -> str:
    """Returns an empty string: any cell has a step."""
    return ""
