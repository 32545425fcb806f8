"""cuDNN's LSTM: NVIDIA's own loop over all steps, through `jax.experimental.rnn`.

It serves the plain LSTM in float32 on CUDA, and is differentiated once: JAX has no rule for `vmap` over it, for second
derivatives, or for derivatives in forward mode. Its products are taken in TensorFloat-32, as those of JAX are on such
devices, unless `jax_default_matmul_precision` is "highest". It reads the lengths on the host, and so waits for all that
was started before.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, State
from rnn_jax.cells import LSTM, LSTMParams, LSTMState
from rnn_jax.implementations.problem import Problem
from rnn_jax.lengths import flip_valid, where_valid


def unroll_cudnn(problem: Problem) -> tuple[State, Array]:
    """Solves a problem that `why_not_cudnn` accepts."""
    from jax.experimental import rnn  # on demand: experimental modules come and go

    cell: Any = problem.cell
    state, xs, valid, reverse = problem.state, problem.xs, problem.valid, problem.reverse
    num_steps, *batch_shape, input_size = xs.shape
    rows, H = math.prod(batch_shape), cell.hidden_size
    h, c = state.h.reshape(rows, H), state.c.reshape(rows, H)
    xs = xs.reshape(num_steps, rows, input_size)
    lengths = None if valid is None else valid.reshape(num_steps, rows).sum(axis=0, dtype=jnp.int32)

    outputs: Any = rnn.lstm(
        (flip_valid(xs, lengths) if reverse else xs).swapaxes(0, 1),
        h[None],
        c[None],
        pack_weights(problem.params),
        # At least one step of each sequence is taken; where none is valid, it is undone below.
        jnp.full(rows, num_steps, jnp.int32) if lengths is None else jnp.maximum(lengths, 1),
        input_size=input_size,
        hidden_size=H,
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    ys, final = outputs[0].swapaxes(0, 1), LSTMState(*(last[0] for last in outputs[1:]))
    if lengths is not None:
        final = jax.tree.map(lambda new, old: where_valid(lengths > 0, new, old), final, LSTMState(h, c))
        ys = where_valid(jnp.arange(num_steps, dtype=jnp.int32)[:, None] < lengths, ys, 0)
    ys = flip_valid(ys, lengths) if reverse else ys
    final = jax.tree.map(lambda a: a.reshape(*batch_shape, H), final)
    return final, ys.reshape(num_steps, *batch_shape, H)


def why_not_cudnn(problem: Problem, platform: str) -> str:
    """Returns the requirement that a problem does not meet; empty if `unroll_cudnn` can solve it."""
    cell: Any = problem.cell
    xs = problem.xs
    if platform != "cuda":
        return f"CUDA, and JAX's default platform here is {platform}"
    if type(cell) is not LSTM or cell.peepholes or cell.projection_size is not None or cell.cell_clip is not None:
        return "a plain LSTM, without peepholes, projection or clipping"
    dtypes = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves((problem.params, problem.state, xs))}
    if dtypes != {"float32"}:
        return f"inputs, parameters and states in float32, not {' and '.join(sorted(dtypes - {'float32'}))}"
    if problem.resets is not None:
        return "sequences without resets"
    if problem.precision is not None:
        return f"products in float32, not {problem.precision}"
    if not all(isinstance(size, int) and size > 0 for size in xs.shape):
        return f"at least one step, sequence and feature, in numbers that are known, not {xs.shape}"
    return ""


def pack_weights(params: LSTMParams) -> Array:
    """Flattens the parameters of a plain LSTM into cuDNN's weights [4 H (D + H + 2)].

    The order is w_x^T, w_h^T, the bias of the input, and that of the state, which is zero here. The gates' order,
    i f g o, is the same.
    """
    flat = [params.w_x.T.ravel(), params.w_h.T.ravel(), params.b, jnp.zeros_like(params.b)]
    return jnp.concatenate(flat)


def unpack_weights(weights: Array, input_size: int, hidden_size: int) -> LSTMParams:
    """Inverts `pack_weights`; of weights with two biases, b is the sum.

    Raises:
      ValueError: for a number of weights that does not fit the sizes.
    """
    columns = 4 * hidden_size
    sizes = [columns * input_size, columns * hidden_size, columns, columns]
    if weights.shape != (sum(sizes),):
        raise ValueError(
            f"weights have shape {weights.shape}, but input_size {input_size} and hidden_size {hidden_size} need "
            f"({sum(sizes)},)"
        )
    w_x, w_h, b_x, b_h = jnp.split(weights, [sum(sizes[:n]) for n in (1, 2, 3)])
    return LSTMParams(w_x.reshape(columns, -1).T, w_h.reshape(columns, -1).T, b_x + b_h)
