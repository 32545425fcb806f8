"""The loop over time for TPUs, in Mosaic: a sequential axis of the grid over blocks of steps, for a block of sequences.

Arrays in a TPU's memory have tiles of 128 units by 8 sequences of 4 bytes each.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu

from rnn_jax.implementations.pallas.steps import store

LANES = 128
SUBLANES = 16  # 8 for values of 4 bytes, 16 for 2
MOST_ROWS = 128  # sequences in a block: the rows that the matrix unit takes at once

# Bytes. A kernel has 16 MiB. The weights take their size once, and a block of steps twice, because the next block is
# read during the current one; the rest is for the intermediate values of a step.
MEMORY = 12 << 20
LARGEST_WEIGHTS = 8 << 20


def padded_rows(rows: int) -> int:
    """Rounds the number of sequences up to whole blocks."""
    block = SUBLANES if rows <= MOST_ROWS else MOST_ROWS
    return -(-rows // block) * block


def padded_units(units: int) -> int:
    """Rounds the number of units up to a size that the kernels can run."""
    return -(-units // LANES) * LANES


def why_not(num_gates: int, units: int, itemsize: int) -> str:
    """Returns the requirement that the recurrent weights do not meet; empty if they fit. See `gpu.why_not`."""
    size = num_gates * units * units * itemsize
    return f"recurrent weights of at most {LARGEST_WEIGHTS} bytes, not {size}" if size > LARGEST_WEIGHTS else ""


def time_loop(
    load: Callable[..., Any],
    step: Callable[..., Any],
    carry: Any,
    inputs: Any,
    constants: Any,
    features: Any,
    dtype: Any,
    *,
    reverse: bool,
    interpret: Any,
) -> tuple[Any, Any]:
    """Runs a step over time within one kernel; see `gpu.time_loop`."""
    num_steps, rows, _ = jax.tree.leaves(inputs)[0].shape
    outputs = jax.tree.map(lambda F: jax.ShapeDtypeStruct((num_steps, rows, F), dtype), features)
    bytes_of_row = sum(max(a.shape[-1], LANES) * a.dtype.itemsize for a in jax.tree.leaves((inputs, outputs)))
    memory = (MEMORY - sum(a.nbytes for a in jax.tree.leaves(constants))) // 2
    most_rows = max(SUBLANES, min(MOST_ROWS, memory // bytes_of_row))
    block_rows = max(n for n in range(SUBLANES, most_rows + 1, SUBLANES) if rows % n == 0)
    block_steps = max(1, min(num_steps, memory // (block_rows * bytes_of_row)))
    num_blocks = pl.cdiv(num_steps, block_steps)

    def kernel(initial_refs: Any, inputs: Any, constant_refs: Any, carry_refs: Any, outputs: Any) -> None:
        number = pl.program_id(1)

        @pl.when(number == 0)
        def _() -> None:
            jax.tree.map(lambda ref, initial: store(ref, initial[...]), carry_refs, initial_refs)

        block = num_blocks - 1 - number if reverse else number
        steps = jnp.minimum(block_steps, num_steps - block * block_steps)  # The last block may be shorter.
        constants = jax.tree.map(lambda ref: ref.__getitem__, constant_refs)

        def body(n: Any, carry: Any) -> Any:
            t = steps - 1 - n if reverse else n
            return step(t, carry, load(t, inputs), outputs, constants)

        final = lax.fori_loop(0, steps, body, jax.tree.map(lambda ref: ref[...], carry_refs))
        jax.tree.map(store, carry_refs, final)

    def block_of(array: Any) -> pl.BlockSpec:
        """Returns the program's share of an array [B, F] or [T, B, F]."""
        features = array.shape[-1]
        if array.ndim == 2:
            return pl.BlockSpec((block_rows, features), lambda n, _: (n, 0))
        return pl.BlockSpec(
            (block_steps, block_rows, features), lambda n, t: (num_blocks - 1 - t if reverse else t, n, 0)
        )

    out_shape = (jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), carry), outputs)
    once = pl.Buffered(1)
    return pl.pallas_call(
        kernel,
        grid=(rows // block_rows, num_blocks),
        in_specs=(
            jax.tree.map(block_of, carry),
            jax.tree.map(block_of, inputs),
            jax.tree.map(lambda a: pl.BlockSpec(a.shape, lambda n, t: (0, 0, 0), pipeline_mode=once), constants),
        ),
        out_shape=out_shape,
        out_specs=jax.tree.map(block_of, out_shape),
        compiler_params=tpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="time_loop",
    )(carry, inputs, constants)
