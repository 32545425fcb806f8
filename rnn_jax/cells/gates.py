"""The gates of a cell's step, to look into a trained network."""

import functools
from typing import Any

from rnn_jax.base import Array, Params, State
from rnn_jax.cells.equations import Dense, DenseCall, Precision
from rnn_jax.wrappers import within


def gates(cell: Any, params: Params, state: State, x: Array, *, precision: Precision = None) -> Any:
    """Computes the gates of one step, by the equations that the step itself applies.

    A cell has gates if it has `gated(params, state, x, dense) -> (new state, output, gates)` or, where they see the
    input alone, `gates(params, x) -> gates`; the gates are a NamedTuple.

    >>> import jax, jax.numpy as jnp, rnn_jax as rnn
    >>> cell = rnn.LSTM(16)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> gates(cell, params, cell.initial_state((2,)), jnp.ones((2, 3)))._fields
    ('input', 'forget', 'output')

    Args:
      cell: any cell; a wrapped one has the gates of the cell within.
      params: its parameters.
      state: the state before the step, leading with the batch axes.
      x: the input, [B, D].
      precision: of the products, see `unroll`.

    Returns:
      The NamedTuple of gates [B, H]; None for a cell without gates.
    """
    inner = within(cell)
    if inner is not None:
        return gates(inner, params, state, x, precision=precision)
    if hasattr(cell, "gated"):
        dense = Dense(functools.partial(DenseCall.plain, precision=precision))
        return cell.gated(params, state, x, dense)[2]
    if hasattr(cell, "gates"):
        return cell.gates(params, x)
    return None
