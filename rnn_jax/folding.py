"""Folds an embedding into the cell above it: products of a finite number of vectors are computed once."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Params, State
from rnn_jax.cells.equations import Dense, DenseCall, apply_equations, offers_equations
from rnn_jax.embedding import Embed
from rnn_jax.layers import Recurrent, Stack
from rnn_jax.readout import Classifier
from rnn_jax.regularization import Dropout
from rnn_jax.wrappers import CellWrapper


def fold_embedding(net: Any, params: Params) -> tuple[Any, Params]:
    """Replaces the vectors x of tokens by rows [x, x w_x + b], for fast steps.

    The bottom cell then reads its products with x from a row instead of its matrix w_x. Outputs are equal up to
    rounding.

    Args:
      net: any network.
      params: its parameters.

    Returns:
      (a network with the state and the outputs of `net`, its parameters). Both are returned unchanged unless the
      network is a `Classifier` over an embedding, and its bottom cell reads forwards and offers its equations.
    """
    if not isinstance(net, Classifier) or not isinstance(net.encoder, Embed):
        return net, params
    layer, (embedding, layer_params) = net.encoder.layer, params.encoder
    bottom, bottom_params = _bottom(layer, layer_params)
    if not isinstance(bottom, Recurrent) or bottom.reverse or bottom.precision or not offers_equations(bottom.cell):
        return net, params
    rows = fold_inputs(bottom.cell, bottom_params, embedding)
    layer = _replace_bottom(layer, Recurrent(Folded(bottom.cell, embedding.shape[1])))
    encoder = Embed(layer, net.encoder.num_tokens, rows.shape[1])
    params = params._replace(encoder=params.encoder._replace(embedding=rows), w=net.head_matrix(params))
    return dataclasses.replace(net, encoder=encoder, tied=False), params


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Folded(CellWrapper):
    """A cell that reads rows [x, x w_x + b], with the product of every use of `Dense` with x. See `fold_embedding`."""

    size: int  # of x

    def step(self, params: Params, state: State, x: Array) -> tuple[State, Array]:
        """Takes one step: rows x [B, ·] -> (state, output)."""
        row, x, start = x, x[..., : self.size], self.size

        def product(call: DenseCall) -> tuple[Array, ...]:
            nonlocal start
            ours, others = _divide(call, x)
            if not ours.terms:
                return others.plain()
            stop = start + _num_columns(call)
            zs = jnp.split(row[..., start:stop], call.parts, axis=-1)
            start = stop
            return tuple(map(jnp.add, zs, others.plain())) if others.terms else tuple(zs)

        return apply_equations(self.cell, params, state, x, Dense(product), None)


def fold_inputs(cell: Any, params: Params, x: Array) -> Array:
    """Computes the rows that `Folded` reads, for inputs x [V, E] -> [V, E + ·]."""
    rows = [x]

    def product(call: DenseCall) -> tuple[Array, ...]:
        ours, _ = _divide(call, x)
        if ours.terms:
            rows.extend(ours.plain())
        return call.plain()

    apply_equations(cell, params, cell.initial_state(x.shape[:1], x.dtype), x, Dense(product), None)
    return jnp.concatenate(rows, axis=-1)


def _divide(call: DenseCall, x: Array) -> tuple[DenseCall, DenseCall]:
    """Divides the terms of a sum of products into those with x, which take the bias along, and the others."""
    ours = tuple(term for term in call.terms if term[0] is x)
    others = tuple(term for term in call.terms if term[0] is not x)
    return call._replace(terms=ours), call._replace(terms=others, bias=None if ours else call.bias)


def _num_columns(call: DenseCall) -> int:
    """Returns the number of columns of a sum of products."""
    w = call.terms[0][1]
    return len(range(w.shape[-1] * (1 if w.ndim == 2 else len(w)))[call.columns])


def _bottom(layer: Any, params: Any) -> tuple[Any, Params]:
    """Returns the layer that reads the inputs, and its parameters."""
    match layer:
        case Stack():
            return _bottom(layer.layers[0], params[0])
        case Dropout():
            return _bottom(layer.layer, params)
        case _:
            return layer, params


def _replace_bottom(layer: Any, bottom: Recurrent) -> Any:
    """Replaces the layer that reads the inputs."""
    match layer:
        case Stack():
            return Stack((_replace_bottom(layer.layers[0], bottom), *layer.layers[1:]))
        case Dropout():
            return dataclasses.replace(layer, layer=_replace_bottom(layer.layer, bottom))
        case _:
            return bottom
