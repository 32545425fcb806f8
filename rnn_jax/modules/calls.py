"""How the modules of linen and of nnx run a layer and take a step: Flax's conventions around ours."""

import dataclasses
import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax.linen.dtypes import canonicalize_dtype

from rnn_jax.base import Array, Cell, Layer, Params, State, check_like, draw_noise, take_step
from rnn_jax.layers import Recurrent, as_layer
from rnn_jax.lengths import flip_valid


class Options(Protocol):
    """The attributes of Flax's RNN that a call may override, and those of its cells that apply to a whole layer.

    Attributes:
      cell: the cell or layer to run.
      time_major: True if time leads in inputs and outputs; else it comes after the batch axes.
      return_carry: True if a call returns the final state beside the outputs.
      reverse: True if each sequence is read from its last valid step to its first.
      keep_order: True if the outputs of a reversed reading lie where their inputs do; else they come in the order of
        reading. The padding stays at the end in both cases.
      dtype: of the computation; None for the dtype that inputs and parameters promote to.
    """

    cell: Any
    time_major: bool
    return_carry: bool
    reverse: bool
    keep_order: bool
    dtype: Any


def run(
    module: Options,
    params: Params,
    inputs: Any,
    *,
    initial_carry: State | None,
    seq_lengths: Any,
    key: Array | None,
    **overrides: bool | None,
) -> Any:
    """Runs a module's cell or layer over sequences.

    Args:
      module: the options of the call.
      params: the parameters of its cell or layer.
      inputs: [B, T, D], or [T, B, D] if `time_major`.
      initial_carry: the state before the first step taken; None for the initial state.
      seq_lengths: [B], how many steps of each sequence are valid; None for all.
      key: drives what is random in the layer; None for nothing random.
      **overrides: `time_major`, `return_carry`, `reverse` and `keep_order` of this call; None for the module's.

    Returns:
      The outputs [B, T, output_size], or [T, B, output_size] if `time_major`; with `return_carry`, a pair of the final
      state and the outputs.

    Raises:
      ValueError: naming the argument, the shape it has and the one it needs.
    """
    time_major, return_carry, reverse, keep_order = (
        getattr(module, name) if overrides[name] is None else overrides[name]
        for name in ("time_major", "return_carry", "reverse", "keep_order")
    )
    layer, xs = as_layer(module.cell), jnp.asarray(inputs)
    if xs.ndim < 2:
        axes = "[T, ..., in_features]" if time_major else "[..., T, in_features]"
        raise ValueError(f"inputs has shape {xs.shape}, but needs {axes}")
    if not time_major:
        xs = jnp.moveaxis(xs, -2, 0)
    xs, params, carry = _promote(module, xs, params, initial_carry, "initial_carry", xs.shape[1:-1])

    flip = functools.partial(flip_valid, lengths=seq_lengths)
    flips_inputs = reverse and not isinstance(
        layer, Recurrent
    )  # `Recurrent` reads backwards by itself, without a gather
    if flips_inputs:
        xs = flip(xs)
    elif reverse:
        layer = dataclasses.replace(layer, reverse=not layer.reverse)  # type: ignore
    carry, ys = layer.apply(params, xs, carry, lengths=seq_lengths, key=key)
    if reverse and keep_order == flips_inputs:
        ys = jax.tree.map(flip, ys)
    if not time_major:
        ys = jax.tree.map(lambda y: jnp.moveaxis(y, 0, -2), ys)
    return (carry, ys) if return_carry else ys


def step(module: Any, params: Params, carry: State, inputs: Any, key: Array | None) -> tuple[State, Array]:
    """Takes one step of a module's cell.

    Args:
      module: its `cell` and the `dtype` of its computation.
      params: the parameters of the cell.
      carry: the state before the step.
      inputs: [B, D].
      key: drives what is random in the cell; None for nothing random.

    Returns:
      (the next state in the dtypes of `carry`, output [B, H]).

    Raises:
      ValueError: naming the argument, the shape it has and the one it needs.
    """
    if not hasattr(module.cell, "step"):
        raise ValueError(f"RNNCell needs a cell, which has a step, not {module.cell}")
    x = jnp.asarray(inputs)
    x, params, state = _promote(module, x, params, carry, "carry", x.shape[:-1])
    noise = jax.tree.map(lambda leaf: leaf[0], draw_noise(module.cell, key, x[None]))
    state, y = take_step(module.cell, params, state, x, noise)
    return jax.tree.map(lambda new, old: new.astype(jnp.result_type(old)), state, carry), y


def _promote(
    module: Any, xs: Array, params: Params, carry: State, name: str, batch_shape: tuple[int, ...]
) -> tuple[Array, Params, State]:
    """Checks the carry, and casts inputs, parameters and carry to the dtype of the computation."""
    if carry is not None:
        like = jax.eval_shape(lambda: module.cell.initial_state(batch_shape))
        check_like(name, carry, like, f"{module.cell} with batch shape {batch_shape}")
    dtype = canonicalize_dtype(xs, *filter(_is_floating, jax.tree.leaves(params)), dtype=module.dtype)
    return xs.astype(dtype), cast(params, dtype), cast(carry, dtype)


def cast(tree: Any, dtype: Any) -> Any:
    """Casts the floating-point arrays of a pytree and leaves the others."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if _is_floating(leaf) else leaf, tree)


def _is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def is_random(cell: Cell | Layer, params: Params, in_features: int) -> bool:
    """True if a key can change the outputs of a cell or layer."""
    xs = jnp.zeros((1, 1, in_features))

    def outputs(key: Array) -> Any:
        return as_layer(cell).apply(cast(params, xs.dtype), xs, key=key)

    # The outputs depend on the key if a chain of equations of the traced program leads from it to them.
    program = jax.make_jaxpr(outputs)(jax.random.key(0)).jaxpr
    reached = {id(program.invars[0])}
    for equation in program.eqns:
        if any(id(variable) in reached for variable in equation.invars):
            reached.update(map(id, equation.outvars))
    return any(id(variable) in reached for variable in program.outvars)
