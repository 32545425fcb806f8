"""Tokens as inputs: a table of vectors below a layer."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Cell, Layer, Params, State, check_size, given
from rnn_jax.layers import as_layer
from rnn_jax.wrappers import LayerWrapper


class EmbedParams(NamedTuple):
    """Parameters of an embedded layer: the vectors of all tokens [V, E], and the layer's."""

    embedding: Array
    layer: Params


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Embed(LayerWrapper):
    """A layer that reads tokens. See `embed`."""

    num_tokens: int
    size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("num_tokens", self.num_tokens)
        check_size("size", self.size)

    def init(self, key: Array, input_size: int) -> EmbedParams:
        """Draws vectors from the standard normal distribution, and the layer's parameters. Consumes `key`.

        Args:
          key: the key.
          input_size: V, the number of tokens.

        Raises:
          ValueError: for another number of tokens than the layer's.
        """
        if input_size != self.num_tokens:
            raise ValueError(f"input_size of an embedding must be its number of tokens, {self.num_tokens}")
        k_embedding, k_layer = jax.random.split(key)
        embedding = jax.random.normal(k_embedding, (self.num_tokens, self.size))
        return EmbedParams(embedding, self.layer.init(k_layer, self.size))

    def apply(
        self,
        params: EmbedParams,
        xs: Array,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, Array]:
        """Runs the layer over the vectors of tokens: xs int [T, B] -> (final state, ys [T, B, output_size]).

        Raises:
          ValueError: for inputs that are no whole numbers, or without an axis of time.
        """
        xs = jnp.asarray(xs)
        if not jnp.issubdtype(xs.dtype, jnp.integer) or not xs.ndim:
            raise ValueError(f"xs needs whole numbers [T, ...], one for each token, not {xs.dtype} {list(xs.shape)}")
        vectors = params.embedding[xs.astype(jnp.int32)]
        return self.layer.apply(params.layer, vectors, state, lengths=lengths, key=key, **given(resets=resets))


def embed(layer: Cell | Layer, num_tokens: int, size: int | None = None) -> Embed:
    """Puts an embedding below a layer: each token, a number from 0 to V - 1, becomes a learned vector.

        x = embedding[token]

    >>> import jax, jax.numpy as jnp, rnn_jax as rnn
    >>> layer = rnn.embed(rnn.stack(rnn.LSTM(16), rnn.LSTM(16)), num_tokens=65)
    >>> model = rnn.Classifier(layer, 65, readout="every_step")  # of the next token
    >>> params = model.init(jax.random.key(0), input_size=65)
    >>> model.apply(params, jnp.zeros((5, 2), int)).shape
    (5, 2, 65)

    Args:
      layer: any layer; a cell stands for the layer that runs it forwards.
      num_tokens: V.
      size: E, the size of a vector; None for the layer's output size.

    Returns:
      A layer of inputs int [T, B], without an axis of features. Its `input_size` is V.

    Raises:
      ValueError: for sizes that are not positive.
    """
    layer = as_layer(layer, "embed")
    return Embed(layer, num_tokens, layer.output_size if size is None else size)
