"""Whole sequences in one kernel, for GPUs and TPUs: `unroll` on an accelerator, where each step of a scan is a launch.

Two kernels, one forwards and one backwards, hold the recurrent weights and loop over time. What needs no loop is done
outside of it, as one product over all steps: x w_x + b before, the gradients of the weights and of the inputs after.

- `unroll_pallas` runs a cell, `why_not_pallas` says whether it would;
- `steps` has what a step does in each kernel, made of the cell's own equations, and the derivative;
- `gpu` and `tpu` have the loops over time, each for its compiler.
"""

import importlib
import math
from types import ModuleType
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Params, State
from rnn_jax.cells import GRU, LSTM, VanillaRNN
from rnn_jax.cells.equations import Precision
from rnn_jax.implementations.fused import VALUE, make_plan
from rnn_jax.implementations.pallas import steps

__all__ = ["unroll_pallas", "why_not_pallas"]

LARGEST_ARRAY = 2**31  # numbers: the kernels address with 32 bits


def unroll_pallas(
    cell: Any,
    params: Params,
    state: State,
    xs: Array,
    noise: Any,
    valid: Array | None,
    reverse: bool,
    precision: Precision = None,
    *,
    backend: Literal["gpu", "tpu"] | None = None,
    interpret: Any = False,
) -> tuple[State, Array]:
    """`unroll` in one kernel, for arguments that `why_not_pallas` has nothing against; takes what `unroll_fused` does.

    First derivatives only, by `grad`, `vjp` and `checkpoint`. `vmap` of it, over parameters too, is one kernel again.
    JAX does not divide kernels among devices: where they share a batch, put it in `shard_map(..., check_vma=False)`.

    Args:
      cell: an LSTM, a GRU or a VanillaRNN.
      params: its parameters.
      state: the state before the first step, [B, H].
      xs: the inputs, [T, B, D], float32 or bfloat16; finite where not valid.
      noise: None.
      valid: bool [T, B], or None if all steps are valid.
      reverse: whether to start from the last step.
      precision: of the products, see `multiply`.
      backend: which kernels; None for those of the default device.
      interpret: True to run the kernels as plain JAX on any device, for tests; or `pallas.tpu.InterpretParams`, to
        simulate a TPU's memory as well.

    Returns:
      (final state, ys [T, B, H]).
    """
    kernels = _backend(backend)
    num_steps, *batch_shape, _ = xs.shape
    rows, units = math.prod(batch_shape), cell.hidden_size
    more_rows, more_units = kernels.padded_rows(rows) - rows, kernels.padded_units(units) - units

    plan = make_plan(cell, params, state, xs, noise, reverse)._replace(precision=precision)
    weights = steps.split_params(plan, params)
    gates = steps.list_gates(plan, weights.b.size)
    recurrence = steps.Recurrence(plan, gates, kernels.time_loop, interpret)

    def with_more_units(leaf: Array) -> Array:
        """Zeros after the units of each gate: units that stay zero, and that no other looks at."""
        gates = leaf.reshape(*leaf.shape[:-1], -1, units)
        gates = jnp.pad(gates, [(0, 0)] * (gates.ndim - 1) + [(0, more_units)])
        return gates.reshape(*leaf.shape[:-1], -1)

    weights = jax.tree.map(with_more_units, weights)
    weights = weights._replace(w_h=jnp.pad(weights.w_h, [(0, more_units), (0, 0)]))
    state = jax.tree.map(lambda a: jnp.pad(a.reshape(rows, units), [(0, more_rows), (0, more_units)]), state)
    xs = jnp.pad(xs.reshape(num_steps, rows, xs.shape[-1]), [(0, 0), (0, more_rows), (0, 0)])
    if valid is not None:
        valid = jnp.pad(valid.reshape(num_steps, rows, 1).astype(xs.dtype), [(0, 0), (0, more_rows), (0, 0)])

    outputs: Any = steps.run(recurrence, weights, state, xs, valid)
    final, ys = outputs
    final = jax.tree.map(lambda a: a[:rows, :units].reshape(*batch_shape, units), final)
    return final, ys[:, :rows, :units].reshape(num_steps, *batch_shape, units)


def why_not_pallas(
    cell: Any,
    params: Params,
    state: State,
    xs: Array,
    noise: Any = None,
    precision: Precision = None,
    *,
    backend: Literal["gpu", "tpu"] | None = None,
) -> str:
    """What the kernels need and do not find; empty if they will do. Takes what `unroll_pallas` does."""
    if (backend or jax.default_backend()) not in ("gpu", "tpu"):
        return f"a GPU or a TPU, not a {jax.default_backend().upper()}"
    if type(cell) not in (LSTM, GRU, VanillaRNN):
        return f"an LSTM, a GRU or a VanillaRNN, not {cell}"
    if noise is not None:
        return "a cell with nothing random in it"
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((params, state, xs))}
    if not dtypes <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)} or len(dtypes) > 1:
        return f"arrays all of float32 or all of bfloat16, not {', '.join(sorted(map(str, dtypes)))}"
    if xs.size == 0 or len(xs) == 0:
        return "at least one step, one sequence and one feature"
    plan = make_plan(cell, params, state, xs, noise, reverse=False)
    if any(term.source == VALUE for call in plan.calls for term in call.terms):
        return f"a step that multiplies its input and h with matrices, and nothing else, which {cell} does not have"
    try:
        kernels = _backend(backend)
    except ImportError as error:
        return f"kernels that this version of JAX can compile: {error}"
    rows, units = kernels.padded_rows(math.prod(xs.shape[1:-1])), kernels.padded_units(cell.hidden_size)
    num_gates = steps.split_params(plan, params).b.size // cell.hidden_size
    if len(xs) * rows * num_gates * units >= LARGEST_ARRAY:
        return f"fewer than {LARGEST_ARRAY} numbers in the gates of all steps"
    return kernels.why_not(num_gates, units, 2 if precision else xs.dtype.itemsize)


def _backend(backend: str | None) -> ModuleType:
    """The module with the loop over time; imported when it is needed, as JAX's compilers of kernels come and go."""
    return importlib.import_module(f"rnn_jax.implementations.pallas.{backend or jax.default_backend()}")
