"""Initial values of the cells' weights."""

from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, check_size

Initializer: TypeAlias = Literal["glorot", "orthogonal"]
INITIALIZERS = get_args(Initializer)

glorot = jax.nn.initializers.glorot_uniform()


def init_kernels(
    initializer: Initializer, key: Array, input_size: int, recurrent_size: int, columns: int
) -> tuple[Array, Array]:
    """Draws the two kernels of a cell, all gates side by side.

    "glorot" is TensorFlow's: uniform within +-sqrt(6 / (rows + columns)) of the fused kernel, which has the rows of
    w_x above those of w_h. "orthogonal" is Keras's: w_x glorot-uniform by itself, w_h orthogonal.

    Args:
      initializer: "glorot" or "orthogonal".
      key: consumed.
      input_size: D.
      recurrent_size: R.
      columns: the gates' units together.

    Returns:
      (w_x [D, columns], w_h [R, columns]).

    Raises:
      ValueError: for an `input_size` that is not positive.
    """
    check_size("input_size", input_size)
    if initializer == "glorot":
        kernel = glorot(key, (input_size + recurrent_size, columns))
        return kernel[:input_size], kernel[input_size:]
    k_x, k_h = jax.random.split(key)
    orthogonal = jax.nn.initializers.orthogonal()
    return glorot(k_x, (input_size, columns)), orthogonal(k_h, (recurrent_size, columns))


def init_block_kernels(
    initializer: Initializer, key: Array, input_size: int, recurrent_size: int, columns: int, blocks: int
) -> tuple[Array, Array]:
    """Draws the two kernels of a cell with a block-diagonal recurrence: w_x glorot-uniform, each block by itself.

    Args:
      initializer: of the blocks.
      key: consumed.
      input_size: D.
      recurrent_size: R.
      columns: the gates' units together.
      blocks: the number of blocks, N.

    Returns:
      (w_x [D, columns], w_h [N, R / N, columns / N]).

    Raises:
      ValueError: for an `input_size` that is not positive.
    """
    check_size("input_size", input_size)
    k_x, k_h = jax.random.split(key)
    draw = glorot if initializer == "glorot" else jax.nn.initializers.orthogonal()
    w_h = [draw(k, (recurrent_size // blocks, columns // blocks)) for k in jax.random.split(k_h, blocks)]
    return glorot(k_x, (input_size, columns)), jnp.stack(w_h)


def check_blocks(name: str, value: Any, hidden_size: int) -> None:
    """Raises `ValueError` unless `value` is a positive whole number that divides the hidden size."""
    check_size(name, value)
    if hidden_size % value:
        raise ValueError(f"{name} must divide hidden_size, which {value} does not: it is {hidden_size}")
