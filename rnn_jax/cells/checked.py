"""The check of parameters, state and input that the library's own cells make at their door."""

import functools
from typing import Any

import jax

from rnn_jax.base import Cell, Params, State, check_like


class CheckedCell:
    """A cell that checks its arguments against those that it makes itself: the base of every cell of the library."""

    def check(self: Any, params: Params, state: State, shape: tuple[int, ...], dtype: Any, name: str) -> None:
        """Checks the arguments of one step against the parameters and the state that the cell itself makes.

        Args:
          params: the cell's parameters.
          state: its state, leading with the batch axes of the input.
          shape: of the input of one step, [B, D].
          dtype: of the input.
          name: the input's name, for the messages.

        Raises:
          ValueError: naming the argument, the shape or dtype it has and the one it needs.
        """
        needs = f"{name} with {shape[-1]} features and batch shape {shape[:-1]}"
        params_like = _shapes_of_params(self, shape[-1])
        state_like = jax.eval_shape(lambda: self.initial_state(shape[:-1], dtype))
        check_like("params", params, params_like, needs, dtype)
        check_like("state", state, state_like, needs, dtype)


@functools.lru_cache(maxsize=1024)
def _shapes_of_params(cell: Cell, input_size: int) -> Params:
    """Returns the shapes of a cell's parameters; cached, as tracing `init` costs more than a step."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key: cell.init(key, input_size), key)
