"""The loop over time for GPUs, in Triton: one program for a block of sequences.

Triton's arrays have sizes that are powers of two, and products need at least 16 of everything.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from rnn_jax.pallas.steps import store

BLOCK_ROWS = 16  # sequences in a program; more programs beat larger ones, as each takes its steps one after the other

# Bytes. Weights up to the first stay in the registers of one multiprocessor (256 KiB), beside all else. Larger ones are
# read again at every step from the cache that all multiprocessors share; at twice the second, that takes longer than a
# step of a scan.
RESIDENT_WEIGHTS = 128 << 10
LARGEST_WEIGHTS = 256 << 10


def padded_rows(rows: int) -> int:
    """How many sequences the kernels run for so many."""
    return -(-rows // BLOCK_ROWS) * BLOCK_ROWS


def padded_units(units: int) -> int:
    """How many units the kernels run for so many."""
    return max(16, pl.next_power_of_2(units))


def time_loop(
    step: Callable[..., Any],
    carry: Any,
    inputs: Any,
    constants: Any,
    features: Any,
    dtype: Any,
    *,
    reverse: bool,
    interpret: bool,
) -> tuple[Any, Any]:
    """Runs a step over time within one kernel.

    Args:
      step: (t, carry, inputs, outputs, constants) -> carry, in which inputs and outputs are references to be read and
        written at t, and constants give an array [K, F] for a number.
      carry: arrays [B, H], before the first step.
      inputs: arrays [T, B, F].
      constants: arrays [N, K, F].
      features: F of each output.
      dtype: of the outputs.
      reverse: whether to start from the last step.
      interpret: whether to run the kernel as plain JAX.

    Returns:
      (the carry after the last step, the outputs, arrays [T, B, F]).
    """
    num_steps, rows, _ = jax.tree.leaves(inputs)[0].shape
    size = sum(a.nbytes for a in jax.tree.leaves(constants))

    def kernel(carry_refs: Any, inputs: Any, constant_refs: Any, final_refs: Any, outputs: Any) -> None:
        constants = constant_refs
        if size <= RESIDENT_WEIGHTS:
            constants = jax.tree.map(lambda ref: [ref[n] for n in range(len(ref))], constant_refs)

        def body(n: Any, carry: Any) -> Any:
            return step(num_steps - 1 - n if reverse else n, carry, inputs, outputs, constants)

        final = lax.fori_loop(0, num_steps, body, jax.tree.map(lambda ref: ref[...], carry_refs))
        jax.tree.map(store, final_refs, final)

    def rows_of(array: Any) -> pl.BlockSpec:
        """The program's share of an array [B, F] or [T, B, F]."""
        *steps, _, features = array.shape
        return pl.BlockSpec((*steps, BLOCK_ROWS, features), lambda n: (*(0 for _ in steps), n, 0))

    outputs = jax.tree.map(lambda F: jax.ShapeDtypeStruct((num_steps, rows, F), dtype), features)
    out_shape = (jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), carry), outputs)
    return pl.pallas_call(
        kernel,
        grid=(rows // BLOCK_ROWS,),
        in_specs=(
            jax.tree.map(rows_of, carry),
            jax.tree.map(rows_of, inputs),
            jax.tree.map(lambda a: pl.BlockSpec(a.shape, lambda n: (0, 0, 0)), constants),
        ),
        out_shape=out_shape,
        out_specs=jax.tree.map(rows_of, out_shape),
        compiler_params=triton.CompilerParams(num_warps=8 if size > 32 << 10 else 4, num_stages=1),
        interpret=interpret,
        name="time_loop",
    )(carry, inputs, constants)
