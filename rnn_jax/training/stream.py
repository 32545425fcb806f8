"""Truncated backpropagation through time, on streams without end."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rnn_jax.base import Array, Params, State, check_like, check_size


def train_on_stream(
    loss: Callable[[Params, State, Any], tuple[Array, State]],
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: Any,
    state: State,
    stream: Any,
    *,
    window: int,
) -> tuple[Params, Any, State, Array]:
    """Trains by truncated backpropagation through time: one update after every `window` steps of a stream.

    The state goes on from window to window, the gradient does not (Williams and Peng, 1990). Call it again with the
    returned values and the next part of the stream.

    >>> import jax, jax.numpy as jnp, optax, rnn_jax as rnn
    >>> cell, optimizer = rnn.GRU(8), optax.sgd(0.1)
    >>> def loss(params, state, window):  # of predicting the next value
    ...     xs, targets = window
    ...     state, ys = rnn.unroll(cell, params, xs, state)
    ...     return jnp.mean((ys[..., :1] - targets) ** 2), state
    >>> params = cell.init(jax.random.key(0), input_size=1)
    >>> wave = jnp.sin(jnp.arange(101.0))[:, None, None]  # [T, B, D]
    >>> params, opt_state, state, losses = train_on_stream(
    ...     loss, optimizer, params, optimizer.init(params), cell.initial_state((1,)), (wave[:-1], wave[1:]), window=20
    ... )
    >>> losses.shape
    (5,)

    Args:
      loss: (params, state, piece) -> (loss [], state after the piece). A piece is `window` steps of `stream`.
      optimizer: computes updates from gradients.
      params: the parameters.
      opt_state: the optimizer's state.
      state: the recurrent state before the stream.
      stream: a pytree of arrays that lead with T, for example inputs and targets.
      window: steps between updates, over which the gradient goes back; it divides T.

    Returns:
      (params, opt_state, the recurrent state after the stream, the loss in each window [T / window]).

    Raises:
      ValueError: for a stream without steps, arrays of unequal T, a window that does not divide T, or a state unlike
        the one that the loss returns.
    """
    check_size("window", window)
    stream = jax.tree.map(jnp.asarray, stream)
    num_steps = _num_steps(stream)
    if num_steps % window:
        raise ValueError(f"a stream of {num_steps} steps cannot be cut into windows of {window}")

    piece = jax.tree.map(lambda a: jax.ShapeDtypeStruct((window, *a.shape[1:]), a.dtype), stream)
    _, next_state = jax.eval_shape(loss, params, state, piece)
    check_like("state", state, next_state, "the state that the loss returns")

    def update(carry: tuple[Params, Any, State], piece: Any) -> tuple[tuple[Params, Any, State], Array]:
        params, opt_state, state = carry
        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params, state, piece)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), value

    windows = jax.tree.map(lambda a: a.reshape(num_steps // window, window, *a.shape[1:]), stream)
    (params, opt_state, state), losses = lax.scan(update, (params, opt_state, state), windows)
    return params, opt_state, state, losses


def _num_steps(stream: Any) -> int:
    """Returns T, which all arrays of a stream must share."""
    shapes = {jax.tree_util.keystr(path) or "stream": leaf.shape for path, leaf in jax.tree.leaves_with_path(stream)}
    if not shapes or any(not shape or shape[0] == 0 for shape in shapes.values()):
        raise ValueError(f"stream needs arrays that lead with at least one step in time, not {shapes or 'no arrays'}")
    steps = {name: shape[0] for name, shape in shapes.items()}
    if len(set(steps.values())) > 1:
        raise ValueError(f"the arrays of a stream need the same number of steps, not {steps}")
    return next(iter(steps.values()))
