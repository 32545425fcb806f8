"""The plain recurrent network."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, check_choice, check_size
from rnn_jax.cells.equations import Dense, EquationsCell
from rnn_jax.cells.initializers import INITIALIZERS, Initializer, init_kernels


class VanillaRNNParams(NamedTuple):
    """Parameters of `VanillaRNN`: w_x [D, H], w_h [H, H], b [H]."""

    w_x: Array
    w_h: Array
    b: Array


class VanillaRNNState(NamedTuple):
    """State of `VanillaRNN`: h [B, H], the last output."""

    h: Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class VanillaRNN(EquationsCell):
    """The plain recurrent network (Elman, 1990; TensorFlow's BasicRNNCell).

        h' = tanh(x w_x + h w_h + b)

    The output is h'.

    Args:
      hidden_size: H, the number of units.
      activation: "tanh" or "relu" (Le et al., 2015, arXiv:1504.00941).
      initializer: the initializer of the weights, see `init_kernels`.

    Raises:
      ValueError: for a size that is not positive, or an unknown activation or initializer.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    activation: Literal["tanh", "relu"] = "tanh"
    initializer: Initializer = "glorot"

    honours_axis = True

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        check_choice("activation", self.activation, ("tanh", "relu"))
        check_choice("initializer", self.initializer, INITIALIZERS)

    @property
    def output_size(self) -> int:
        """H."""
        return self.hidden_size

    def init(self, key: Array, input_size: int) -> VanillaRNNParams:
        """Draws parameters for inputs of `input_size` features. Consumes `key`."""
        w_x, w_h = init_kernels(self.initializer, key, input_size, self.hidden_size, self.hidden_size)
        return VanillaRNNParams(w_x, w_h, b=jnp.zeros(self.hidden_size))

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> VanillaRNNState:
        """Returns zeros."""
        return VanillaRNNState(h=jnp.zeros((*batch_shape, self.hidden_size), dtype))

    def equations(
        self, params: VanillaRNNParams, state: VanillaRNNState, x: Array, dense: Dense
    ) -> tuple[VanillaRNNState, Array]:
        """Applies the equation: x [B, D] -> (state, h' [B, H])."""
        (z,) = dense((x, params.w_x), (state.h, params.w_h), bias=params.b)
        h = jnp.tanh(z) if self.activation == "tanh" else jax.nn.relu(z)
        return VanillaRNNState(h), h
