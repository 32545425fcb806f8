"""Runs whole sequences in one kernel on GPUs and TPUs, where each step of a scan costs a launch.

A forward and a backward kernel hold the recurrent weights and loop over time. All products that need no loop are
computed over all steps at once: x w_x + b before, the gradients of the weights and of the inputs after.

- `unroll_pallas` solves a problem, `why_not_pallas` returns the reason if it cannot;
- `steps` has the step of each kernel, made of the cell's own equations, and the derivative;
- `gpu` and `tpu` have the loops over time, each for its compiler;
- `elsewhere` is for programs traced on a machine without a GPU or a TPU.
"""

import functools
import importlib
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array, State
from rnn_jax.cells import GRU, LSTM, VanillaRNN
from rnn_jax.implementations.pallas import steps
from rnn_jax.implementations.plan import VALUE, make_plan
from rnn_jax.implementations.platform import default_platform
from rnn_jax.implementations.problem import Problem, refusal

__all__ = ["unroll_pallas", "why_not_pallas"]

BACKENDS: dict[str, Literal["gpu", "tpu"]] = {"cuda": "gpu", "tpu": "tpu"}  # by platform
LARGEST_ARRAY = 2**31  # numbers: the kernels address with 32 bits


def unroll_pallas(
    problem: Problem, *, backend: Literal["gpu", "tpu"] | None = None, interpret: Any = False
) -> tuple[State, Array]:
    """Solves a problem in one kernel.

    Supports first derivatives only, by `grad`, `vjp` and `checkpoint`. `vmap`, even over parameters, is one kernel
    again. JAX does not partition kernels: to shard a batch over devices, use `shard_map(..., check_vma=False)`.

    Args:
      problem: a problem that `why_not_pallas` accepts.
      backend: the kernels to run; None for those of the default device. If it has none, they are traced for every
        platform that has, and the one that the program is lowered for decides.
      interpret: True to run the kernels as plain JAX on any device, for tests; or `pallas.tpu.InterpretParams`, to
        simulate a TPU's memory as well.
    """
    backend = backend or BACKENDS.get(default_platform())
    if backend is None:
        return _unroll_elsewhere(problem)
    kernels = _backend(backend)
    return _unroll(problem, kernels, kernels.time_loop, interpret)


def _unroll(
    problem: Problem, kernels: ModuleType, time_loop: Callable[..., Any], interpret: Any
) -> tuple[State, Array]:
    """Solves a problem with the kernels of `gpu` or `tpu`, whose loop over time is `time_loop`."""
    cell: Any = problem.cell
    params, state, xs = problem.params, problem.state, problem.xs
    num_steps, *batch_shape, _ = xs.shape
    rows, units = math.prod(batch_shape), cell.hidden_size
    more_rows, more_units = kernels.padded_rows(rows) - rows, kernels.padded_units(units) - units

    plan = make_plan(problem)
    weights = steps.split_params(plan, params)
    gates = steps.list_gates(plan, weights.b.size)
    recurrence = steps.Recurrence(plan, gates, time_loop, interpret)

    def with_more_units(leaf: Array) -> Array:
        """Pads the units of each gate with zeros; these units stay zero and affect no others."""
        gates = leaf.reshape(*leaf.shape[:-1], -1, units)
        gates = jnp.pad(gates, [(0, 0)] * (gates.ndim - 1) + [(0, more_units)])
        return gates.reshape(*leaf.shape[:-1], -1)

    weights = jax.tree.map(with_more_units, weights)
    weights = weights._replace(w_h=jnp.pad(weights.w_h, [(0, more_units), (0, 0)]))
    state = jax.tree.map(lambda a: jnp.pad(a.reshape(rows, units), [(0, more_rows), (0, more_units)]), state)
    xs = jnp.pad(xs.reshape(num_steps, rows, xs.shape[-1]), [(0, 0), (0, more_rows), (0, 0)])
    masks = jax.tree.map(
        lambda a: jnp.pad(a.reshape(num_steps, rows, 1).astype(xs.dtype), [(0, 0), (0, more_rows), (0, 0)]),
        steps.Masks(problem.valid, problem.resets),
    )

    outputs: Any = steps.run(recurrence, weights, state, xs, masks)
    final, ys = outputs
    final = jax.tree.map(lambda a: a[:rows, :units].reshape(*batch_shape, units), final)
    return final, ys[:, :rows, :units].reshape(num_steps, *batch_shape, units)


def _unroll_elsewhere(problem: Problem) -> tuple[State, Array]:
    """Solves a problem on the platform that the program is lowered for, where the default one has no kernels."""
    from rnn_jax.implementations.pallas.elsewhere import only_on, refuse  # on demand, as the kernels

    def branch(platform: str) -> Callable[[], tuple[State, Array]]:
        if needs := why_not_pallas(problem, platform):
            return functools.partial(refuse, problem, refusal("pallas", needs))
        kernels = _backend(BACKENDS[platform])
        return functools.partial(_unroll, problem, kernels, only_on(platform, kernels.time_loop), interpret=False)

    branches = {platform: branch(platform) for platform in ("rocm", *BACKENDS)}
    return lax.platform_dependent(default=branch(default_platform()), **branches)


def why_not_pallas(problem: Problem, platform: str) -> str:
    """Returns the requirement that a problem does not meet; empty if `unroll_pallas` can solve it on the platform."""
    cell: Any = problem.cell
    xs = problem.xs
    if type(cell) not in (LSTM, GRU, VanillaRNN):
        return f"an LSTM, a GRU or a VanillaRNN, not {cell}"
    if problem.noise is not None:
        return "a cell with nothing random in it"
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((problem.params, problem.state, xs))}
    if not dtypes <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)} or len(dtypes) > 1:
        return f"arrays all of float32 or all of bfloat16, not {', '.join(sorted(map(str, dtypes)))}"
    if not all(isinstance(size, int) for size in xs.shape):
        return f"sizes that are known, not {xs.shape}"
    if 0 in xs.shape:
        return "at least one step, one sequence and one feature"
    plan = make_plan(problem)
    if any(term.source == VALUE for call in plan.calls for term in call.terms):
        return f"a step that multiplies its input and h with matrices, and nothing else, which {cell} does not have"
    if platform not in BACKENDS:
        return "an NVIDIA GPU, not an AMD one" if platform == "rocm" else f"a GPU or a TPU, not a {platform.upper()}"
    try:
        kernels = _backend(BACKENDS[platform])
    except ImportError as error:
        return f"kernels that this version of JAX can compile: {error}"
    rows, units = kernels.padded_rows(math.prod(xs.shape[1:-1])), kernels.padded_units(cell.hidden_size)
    num_gates = steps.split_params(plan, problem.params).b.size // cell.hidden_size
    if len(xs) * rows * num_gates * units >= LARGEST_ARRAY:
        return f"fewer than {LARGEST_ARRAY} numbers in the gates of all steps"
    return kernels.why_not(num_gates, units, 2 if problem.precision else xs.dtype.itemsize)


def _backend(backend: str) -> ModuleType:
    """Imports the module with the loop over time, on demand, because JAX adds and removes compilers of kernels."""
    return importlib.import_module(f"rnn_jax.implementations.pallas.{backend}")
