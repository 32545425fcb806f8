"""The loop over time for GPUs, in Triton: one program for each block of sequences.

Triton's arrays have sizes that are powers of two, and its products need sizes of at least 16. The weights stay in the
shared memory of the program's multiprocessor; each step reads the gates that do not fit there from the second-level
cache.

JAX has deprecated Pallas's Triton backend since 0.11 and warns when a kernel is lowered. Once it is removed, this
module fails to import, and `why_not_pallas` reports it.
"""

import contextlib
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.sharding import AbstractDevice, AbstractMesh, get_abstract_mesh, use_abstract_mesh

from rnn_jax.implementations.pallas.steps import store

BLOCK_ROWS = 16  # sequences in a program; more programs beat larger ones, because each runs its steps in sequence

# KiB of shared memory for a program by compute capability (CUDA C++ Programming Guide, "Compute Capabilities"), and on
# other GPUs.
SHARED_MEMORY = {"8.0": 163, "8.7": 163, "9.0": 227, "10.0": 227, "10.3": 227, "11.0": 227}
LEAST_SHARED_MEMORY = 99

# To lower for a GPU that is not there: the compute capability of those with more shared memory than the least, by a
# word of the name that the mesh in use gives; without a name, an H100.
CAPABILITIES = {"A30": "8.0", "A100": "8.0", "H100": "9.0", "H200": "9.0", "GH200": "9.0", "B200": "10.0"}
CAPABILITIES |= {"GB200": "10.0", "B300": "10.3", "GB300": "10.3"}
OTHERS = "8.6"
H100 = AbstractDevice("NVIDIA H100", 132, "gpu")

# Bytes. A multiprocessor reads at most 64 bytes a cycle from the second-level cache: weights of this size take 5 us,
# about as long as a step of a scan.
LARGEST_WEIGHTS = 512 << 10


def padded_rows(rows: int) -> int:
    """Rounds the number of sequences up to whole blocks."""
    return -(-rows // BLOCK_ROWS) * BLOCK_ROWS


def padded_units(units: int) -> int:
    """Rounds the number of units up to a size that the kernels can run."""
    return max(16, pl.next_power_of_2(units))


def why_not(num_gates: int, units: int, itemsize: int) -> str:
    """Returns the requirement that the GPU or the recurrent weights do not meet; empty if the kernels can run.

    Args:
      num_gates: the number of the cell's gates.
      units: the number of units, from `padded_units`.
      itemsize: bytes of a weight.
    """
    capability = _compute_capability()
    if not capability[0].isdigit() or float(capability) < 8:
        return f"an NVIDIA GPU of compute capability 8.0 at least, not {capability}"
    gate = units * units * itemsize
    if gate > _memory_for_weights(units) or num_gates * gate > LARGEST_WEIGHTS:
        return f"smaller recurrent weights than {num_gates} gates of {gate >> 10} KiB each"
    return ""


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
    """Runs a step over time within one kernel.

    Args:
      load: (t, inputs) -> the inputs of the step; inputs are references, to be read at t.
      step: (t, carry, the inputs of the step, outputs, constants) -> carry; outputs are references, to be written at
        t, and constants are functions that return an array [K, F] for a number.
      carry: arrays [B, H], before the first step.
      inputs: arrays [T, B, F].
      constants: arrays [N, K, F].
      features: F of each output.
      dtype: the dtype of the outputs.
      reverse: True to start from the last step.
      interpret: see `unroll_pallas`.

    Returns:
      (the carry after the last step, the outputs, arrays [T, B, F]).
    """
    num_steps, rows, _ = jax.tree.leaves(inputs)[0].shape
    units = jax.tree.leaves(carry)[0].shape[-1]

    def kernel(carry_refs: Any, inputs: Any, constant_refs: Any, final_refs: Any, outputs: Any) -> None:
        constants = jax.tree.map(functools.partial(_keep, _memory_for_weights(units)), constant_refs)

        def time(n: Any) -> Any:
            return num_steps - 1 - n if reverse else n

        def body(n: Any, carry: Any) -> Any:
            carry, loaded = carry
            loaded_next = load(time(jnp.minimum(n + 1, num_steps - 1)), inputs)  # The load overlaps with the step.
            return step(time(n), carry, loaded, outputs, constants), loaded_next

        first = jax.tree.map(lambda ref: ref[...], carry_refs), load(time(0), inputs)
        final, _ = lax.fori_loop(0, num_steps, body, first)
        jax.tree.map(store, final_refs, final)

    def rows_of(array: Any) -> pl.BlockSpec:
        """Returns the program's share of an array [B, F] or [T, B, F]."""
        *steps, _, features = array.shape
        return pl.BlockSpec((*steps, BLOCK_ROWS, features), lambda n: (*(0 for _ in steps), n, 0))

    outputs = jax.tree.map(lambda F: jax.ShapeDtypeStruct((num_steps, rows, F), dtype), features)
    out_shape = (jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), carry), outputs)
    call = pl.pallas_call(
        kernel,
        grid=(rows // BLOCK_ROWS,),
        in_specs=(
            jax.tree.map(rows_of, carry),
            jax.tree.map(rows_of, inputs),
            jax.tree.map(lambda a: pl.BlockSpec(a.shape, lambda n: (0, 0, 0)), constants),
        ),
        out_shape=out_shape,
        out_specs=jax.tree.map(rows_of, out_shape),
        compiler_params=triton.CompilerParams(num_warps=8 if units >= 64 else 4, num_stages=1),
        interpret=interpret,
        name="time_loop",
    )
    with _gpu_to_lower_for():
        return call(carry, inputs, constants)


def _keep(memory: int, ref: Any) -> Callable[[int], Any]:
    """Loads as many arrays of a constant [N, K, F] as fit into `memory` bytes; returns a getter by number."""
    number, *shape = ref.shape
    size = math.prod(shape) * ref.dtype.itemsize
    if number * size > memory:
        number = memory // size - 1  # Leave room to load the others one at a time.
    kept = [ref[n] for n in range(number)]
    return lambda n: kept[n] if n < number else ref[n]


def _memory_for_weights(units: int) -> int:
    """Returns the bytes of shared memory, less those for the block's h and for an array that changes its layout."""
    shared = SHARED_MEMORY.get(_compute_capability(), LEAST_SHARED_MEMORY) << 10
    return shared - 2 * BLOCK_ROWS * units * 4


def _compute_capability() -> str:
    """Returns the compute capability of the GPU, or of the one to lower for."""
    named = get_abstract_mesh().abstract_device
    if hasattr(jax.devices()[0], "compute_capability"):
        return jax.devices()[0].compute_capability
    name = (named if named is not None and named.platform == "gpu" else H100).device_kind
    return next((CAPABILITIES[word] for word in re.split(r"\W", name) if word in CAPABILITIES), OTHERS)


def _gpu_to_lower_for() -> contextlib.AbstractContextManager[Any]:
    """Names an H100 to JAX, which refuses since 0.12 to lower a kernel for a GPU that is neither there nor named."""
    mesh = get_abstract_mesh()
    if jax.default_backend() == "gpu" or mesh.axis_names or mesh.abstract_device is not None:
        return contextlib.nullcontext()
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=H100))
