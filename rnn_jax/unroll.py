"""Unrolling a cell in time: one scan, forwards or backwards, over sequences of equal or unequal lengths."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from rnn_jax.base import Array, Cell, Params, State, check_choice, check_input, draw_noise, take_step
from rnn_jax.equations import EquationsCell, offers_equations
from rnn_jax.fused import unroll_fused
from rnn_jax.lengths import valid_steps, where_valid


def unroll(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    key: Array | None = None,
    implementation: Literal["scan", "fused"] | None = None,
) -> tuple[State, Array]:
    """Runs a cell over whole sequences.

    >>> import jax, rnn_jax as rnn
    >>> cell = rnn.LSTM(16)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> state, ys = rnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
    >>> state.h.shape, ys.shape
    ((2, 16), (5, 2, 16))

    Args:
      cell: any cell, built in or your own.
      params: its parameters.
      xs: the inputs, [T, B, D], floating-point.
      state: the state before the first step taken; None for the cell's initial state.
      lengths: [B], whole numbers from 0 to T: how many steps of each sequence are valid. After them the state is
        held and the outputs are zero; the inputs there, NaN included, reach no output and no gradient. The cell is
        shown zeros in their place, so its step must be differentiable there. None if all steps are valid.
      reverse: whether to start from the last (valid) step and go back to the first. Outputs stay where their inputs
        are.
      key: drives what is random in the cell, if anything; None for nothing random. Consumed.
      implementation: how it is computed. "scan" is `lax.scan` as it stands, which every JAX transform goes through.
        "fused" is the same forwards, with a faster derivative (see `fused`), for cells that offer their equations, as
        all built-in cells and regularizers do: it goes through `grad`, `vmap`, second derivatives by `grad` of `grad`
        and `hessian`, and `checkpoint`; forward-mode derivatives (`jvp`, `jacfwd`) of the unrolled cell itself, JAX
        refuses for functions with a derivative of their own, and need "scan". None is "fused" where it can be.

    Returns:
      (final state, ys [T, B, output_size]). The final state is the one after the last step taken, which is the first
      in time if `reverse`; a sequence of length 0 keeps its initial state.

    Raises:
      ValueError: naming the argument, the shape or dtype it has and the one it needs.
    """
    check_choice("implementation", implementation, (None, "scan", "fused"))
    xs = check_input("xs", xs, min_ndim=2)
    batch_shape = xs.shape[1:-1]
    if state is None:
        state = cell.initial_state(batch_shape, xs.dtype)
    if isinstance(cell, EquationsCell):
        cell.check(params, state, xs.shape[1:], xs.dtype, name="xs")

    # The noise of all steps is drawn at once: random bits cost less in bulk than inside the scan.
    noise = draw_noise(cell, key, xs)
    valid = None
    if lengths is not None:
        valid = valid_steps(lengths, len(xs), batch_shape)
        # Zeros in place of the padding: a NaN that `where` hides going forwards would come back through its gradient.
        xs = where_valid(valid, xs, 0)

    if implementation is None:
        implementation = "scan" if why_not_fused(cell, params, state, len(batch_shape)) else "fused"
    elif implementation == "fused" and (why := why_not_fused(cell, params, state, len(batch_shape))):
        raise ValueError(f'implementation="fused" needs {why}: leave it out, or use "scan"')
    if implementation == "fused":
        return unroll_fused(cell, params, state, xs, noise, valid, reverse)
    return unroll_scan(cell, params, state, xs, noise, valid, reverse)


def unroll_scan(
    cell: Cell, params: Params, state: State, xs: Array, noise: Any, valid: Array | None, reverse: bool
) -> tuple[State, Array]:
    """`unroll` as one `lax.scan` over the cell's steps; takes what `unroll_fused` does."""

    def step(state: State, inputs: tuple[Array, Any, Array | None]) -> tuple[State, Array]:
        x, noise, valid = inputs
        new_state, y = take_step(cell, params, state, x, noise)
        if valid is None:
            return new_state, y
        state = jax.tree.map(lambda new, old: where_valid(valid, new, old), new_state, state)
        return state, where_valid(valid, y, 0)

    return lax.scan(step, state, (xs, noise, valid), reverse=reverse)


def why_not_fused(cell: Cell, params: Params, state: State, batch_ndim: int) -> str:
    """What "fused" needs and does not find; empty if it will do."""
    if not offers_equations(cell):
        return f"a cell that offers its equations, which {cell} does not"
    leaves = jax.tree.leaves((params, state))
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        return "floating-point parameters and states"
    if any(jnp.ndim(leaf) != batch_ndim + 1 for leaf in jax.tree.leaves(state)):
        return "states with one axis of features"
    return ""
