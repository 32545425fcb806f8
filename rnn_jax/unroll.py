"""Unrolling a cell in time, forwards or backwards, over sequences of equal or unequal lengths."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from rnn_jax.base import (
    Array,
    Cell,
    Params,
    State,
    check_cell,
    check_choice,
    check_input,
    check_leading,
    check_size,
    draw_noise,
    take_step,
)
from rnn_jax.cells.checked import CheckedCell
from rnn_jax.cells.equations import Precision, offers_equations
from rnn_jax.implementations.loops import scan_chunks
from rnn_jax.implementations.problem import Implementation, Problem
from rnn_jax.implementations.table import select
from rnn_jax.lengths import reset_steps, valid_steps, where_valid
from rnn_jax.meshes import has_explicit_axes, in_auto_axes, spec_of, vary_alike
from rnn_jax.wrappers import within


def unroll(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    key: Array | None = None,
    remat: bool | int = False,
    precision: Precision = None,
    implementation: str | Implementation | None = None,
) -> tuple[State, Array]:
    """Runs a cell over whole sequences.

    Call it in a function under `jax.jit`, as everything in JAX that runs more than once. Outside of one, each operation
    is dispatched by itself; the loop is compiled once for every cell (if it is a frozen dataclass), set of shapes and
    options, but its gradient at every call.

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
      lengths: [B], the number of valid steps of each sequence, from 0 to T. After them the state is held and the
        outputs are zero; the inputs there, NaN included, reach no output and no gradient. The cell reads zeros in their
        place, so its step must be differentiable there. Trailing batch axes may be left out. None if all are valid.
      resets: [T, B], bool: before each of these steps, in the order of reading, the state becomes the cell's initial
        one, as for several sequences or episodes in a row. None for no resets.
      reverse: True to read from the last valid step to the first. Outputs keep the places of their inputs.
      key: drives the cell's noise, such as dropout; None for no noise. Consumed.
      remat: saves memory in long sequences (rematerialization, Chen et al., 2016, arXiv:1604.06174): the sequence runs
        in chunks, the gradient keeps only the states between them, and each chunk runs once more on the way back. A
        number is the steps of a chunk; True is the square root of T, which needs the least memory. With a symbolic T,
        all steps are one chunk.
      precision: "bfloat16" rounds the factors of products with matrices to bfloat16, forwards and backwards; sums,
        parameters, states, gates and gradients stay in the dtype of xs (mixed precision, Micikevicius et al., 2018,
        arXiv:1710.03740; bfloat16 needs no scaling of the loss). Needs a cell that offers its equations. None for
        products in the dtype of xs.
      implementation: "scan" is a plain `lax.scan`, which every transform of JAX goes through. "fused" computes the same
        forwards, with a faster derivative (see `fused`), for cells that offer their equations, as all built-in cells
        and regularizers do. It goes through `grad`, `vmap`, second derivatives by `grad` of `grad` and `hessian`, and
        `checkpoint`; forward-mode derivatives (`jvp`, `jacfwd`) need "scan", as JAX refuses them for functions with a
        derivative of their own. "parallel" computes all steps at once, and goes through all of these, see `parallel`.
        "pallas" is one kernel for all steps on a GPU or a TPU, see `pallas`; it can be lowered where there is neither.
        "cudnn" is NVIDIA's own LSTM, see `cudnn`. Both are differentiated once. None follows the table of rules for the
        platform, the cell and the sizes, see `explain`. An `Implementation` of your own is used as it is given.

    Returns:
      (final state, ys [T, B, output_size]). The final state is the state after the last step taken, which is the first
      in time if `reverse`; a sequence of length 0 keeps its initial state.

    Raises:
      ValueError: naming the argument, its shape or dtype and the one needed; for noise or a step of your own cell that
        returns something else than `Cell` describes.
    """
    check_cell("unroll", cell)
    check_choice("precision", precision, (None, "bfloat16"))
    if precision and not offers_equations(cell):
        raise ValueError(f"precision={precision!r} needs a cell that offers its equations, which {cell} does not")
    chunk_size = bool(remat) if isinstance(remat, bool | np.bool_) else remat
    if not isinstance(chunk_size, bool):
        check_size("remat", chunk_size)
    if has_explicit_axes():
        options = dict(reverse=reverse, remat=remat, precision=precision, implementation=implementation)
        return _unroll_in_auto_axes(cell, params, xs, state, lengths, resets, key, options)
    xs = check_input("xs", xs, min_ndim=2)
    batch_shape = xs.shape[1:-1]
    initial = None if resets is None else cell.initial_state(batch_shape, xs.dtype)
    if state is None:
        state = cell.initial_state(batch_shape, xs.dtype)
    if isinstance(cell, CheckedCell):
        cell.check(params, state, xs.shape[1:], xs.dtype, name="xs")
    check_leading("state", state, batch_shape)

    # The noise of all steps is drawn at once: random bits cost less in bulk than inside the scan.
    noise = draw_noise(cell, key, xs)
    check_leading("noise", noise, xs.shape[:-1], "the steps and the batch shape of xs")
    valid = None
    if lengths is not None:
        valid = valid_steps(lengths, xs.shape[0], batch_shape)
        # Zeros in place of the padding: a NaN that `where` hides going forwards would come back through its gradient.
        xs = where_valid(valid, xs, 0)
    if resets is not None:
        resets = reset_steps(resets, xs.shape[0], batch_shape)
        resets = resets if valid is None else resets & valid

    arrays = dict(params=params, state=state, xs=xs, noise=noise, valid=valid, resets=resets, initial=initial)
    arrays = vary_alike(arrays)
    fixed = ("cell", cell), ("reverse", bool(reverse)), ("precision", precision)
    problem = Problem(**dict(fixed), **arrays)
    run = select(problem, implementation)
    solve = _solve_compiled if _can_be_compiled(problem) else _solve
    try:
        state, ys = solve(run, chunk_size, fixed, arrays)
    except (AttributeError, TypeError, ValueError):
        check_step(problem)  # A cell of the user's is checked only once something has failed, as its step takes time.
        raise
    if getattr(ys, "shape", None) != (*xs.shape[:-1], cell.output_size):
        check_step(problem)
    return state, ys


def _solve(
    run: Callable[[Problem], tuple[State, Array]],
    chunk_size: bool | int,
    fixed: tuple[tuple[str, Any], ...],
    arrays: dict[str, Any],
) -> tuple[State, Array]:
    """Solves a problem, in chunks of time if there is a size for them or True to choose one.

    Args:
      run: `Implementation.run`.
      chunk_size: steps in a chunk; True for the square root of T, False for no chunks.
      fixed: the fields of the problem that are no arrays, by name.
      arrays: all other fields.
    """

    def run_all(arrays: dict[str, Any]) -> tuple[State, Array]:
        return run(Problem(**dict(fixed), **arrays))

    problem = Problem(**dict(fixed), **arrays)
    num_steps = problem.xs.shape[0]
    if not isinstance(num_steps, int):  # a symbolic number of steps cannot be divided: it is one chunk
        return (jax.checkpoint(run_all) if chunk_size else run_all)(arrays)
    if chunk_size is False or num_steps < 2:
        return run_all(arrays)
    return in_chunks(run, problem, math.isqrt(num_steps - 1) + 1 if chunk_size is True else chunk_size)


# Outside of a jitted function, JAX would compile the loop again at every call. Inside of one, `inline` leaves no trace.
_solve_compiled = jax.jit(_solve, static_argnums=(0, 1, 2), inline=True)


def _can_be_compiled(problem: Problem) -> bool:
    """Returns True if a compiled loop can serve the next call: the cell is a value, and everything else arrays."""
    cell: Any = problem.cell
    try:
        hash(cell)
    except TypeError:
        return False
    while cell is not None:
        parameters = getattr(type(cell), "__dataclass_params__", None)
        if parameters is None or not parameters.frozen:
            return False
        cell = within(cell)
    leaves = jax.tree.leaves((problem.params, problem.state, problem.noise))
    return all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)


def _unroll_in_auto_axes(
    cell: Cell, params: Params, xs: ArrayLike, state: Any, lengths: Any, resets: Any, key: Any, options: Any
) -> tuple[State, Array]:
    """Unrolls with the compiler's own sharding inside; the outputs are divided as xs is, the final state as the first.

    A state that is not given is divided as the batch of xs is.
    """
    xs = check_input("xs", xs, min_ndim=2)
    spec = spec_of(xs)
    state_specs = P(*spec[1:-1]) if state is None else jax.tree.map(spec_of, state)

    def run(params: Params, xs: Array, state: Any, lengths: Any, resets: Any, key: Any) -> tuple[State, Array]:
        return unroll(cell, params, xs, state, lengths=lengths, resets=resets, key=key, **options)

    return in_auto_axes(run, (state_specs, P(*spec[:-1])), params, xs, state, lengths, resets, key)


def check_step(problem: Problem) -> None:
    """Raises `ValueError` unless a cell's step returns a state like the one it is given, and an output [B, H]."""
    cell, batch_shape = problem.cell, problem.xs.shape[1:-1]

    def step(x: Array, noise: Any) -> Any:
        return take_step(cell, problem.params, problem.state, x, noise)

    steps = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (problem.xs, problem.noise))
    returned = jax.eval_shape(step, *steps)
    if not isinstance(returned, tuple) or len(returned) != 2:
        found = f"{len(returned)} values" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
        raise ValueError(f"the step of {cell} must return (state, output), not {found}")
    state, y = returned
    before, after = jax.tree.structure(problem.state), jax.tree.structure(state)
    if before != after:
        raise ValueError(f"the step of {cell} must return a state of the structure {before}, not {after}")
    for (path, old), new in zip(jax.tree.leaves_with_path(problem.state), jax.tree.leaves(state), strict=True):
        needed, found = (f"{jnp.result_type(a)} {jnp.shape(a)}" for a in (old, new))
        if needed != found:
            where = jax.tree_util.keystr(path)
            raise ValueError(f"the step of {cell} must return a state{where} like its own, {needed}, not {found}")
    needed = (*batch_shape, cell.output_size)
    if jax.tree.structure(y) != jax.tree.structure(0) or y.shape != needed:
        found = jax.tree.map(jnp.shape, y)
        raise ValueError(f"the step of {cell} must return an output of shape {needed}, not {found}")


def in_chunks(run: Callable[[Problem], tuple[State, Array]], problem: Problem, chunk_size: int) -> tuple[State, Array]:
    """Solves a problem in chunks of time, of which only the states between them are kept for the gradient.

    Args:
      run: `Implementation.run`.
      problem: the problem.
      chunk_size: steps in a chunk; where they do not divide T, the last chunk is shorter.
    """
    state, reverse = problem.state, problem.reverse
    inputs = dict(xs=problem.xs, noise=problem.noise, valid=problem.valid, resets=problem.resets)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def chunk(state: State, inputs: dict[str, Any]) -> tuple[State, Array]:
        return run(problem._replace(state=state, **inputs))

    return scan_chunks(chunk, state, inputs, chunk_size, reverse)
