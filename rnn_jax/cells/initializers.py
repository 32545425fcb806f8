"""Initial values of the cells' weights."""

from typing import Literal, TypeAlias, get_args

import jax

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
