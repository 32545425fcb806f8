"""Which implementation `unroll` uses: all of them, and one table of rules with the measurements behind them.

"scan" and "fused" run on every platform and go through every transform that `unroll` promises. "cudnn" and "pallas" run
on one or two, and are differentiated once: a rule that chooses one of these must state where the speed was found to be
worth that.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array, Cell, State, check_cell, check_choice, check_floating, draw_noise
from rnn_jax.cells.equations import Precision, offers_equations
from rnn_jax.cells.linear import LinearCell
from rnn_jax.implementations.cudnn import unroll_cudnn, why_not_cudnn
from rnn_jax.implementations.fused import unroll_fused, why_not_fused
from rnn_jax.implementations.pallas import unroll_pallas, why_not_pallas
from rnn_jax.implementations.parallel import unroll_parallel, why_not_parallel
from rnn_jax.implementations.platform import default_platform
from rnn_jax.implementations.problem import Implementation, Problem, refusal
from rnn_jax.implementations.scan import unroll_scan, why_not_scan

SCAN = Implementation("scan", why_not_scan, unroll_scan)
FUSED = Implementation("fused", why_not_fused, unroll_fused)
PARALLEL = Implementation("parallel", why_not_parallel, unroll_parallel)
PALLAS = Implementation(
    "pallas", why_not_pallas, unroll_pallas, portable=False, joins_directions=True, lowers_for=("cuda", "tpu")
)
CUDNN = Implementation("cudnn", why_not_cudnn, unroll_cudnn, portable=False)

IMPLEMENTATIONS = {implementation.name: implementation for implementation in (SCAN, FUSED, PARALLEL, PALLAS, CUDNN)}


class Rule(NamedTuple):
    """A row of the table.

    Attributes:
      platform: where the rule applies, a name of `default_platform`; empty for every platform.
      holds: whether the rule applies to a problem.
      use: the implementation to use.
      because: the measurement behind the rule, or a statement that there is none.
    """

    platform: str
    holds: Callable[[Problem], bool]
    use: Implementation
    because: str


def _is_one_step(problem: Problem) -> bool:
    num_steps = problem.xs.shape[0]
    return isinstance(num_steps, int) and num_steps == 1  # a symbolic number of steps counts as many


def _is_long_and_linear(problem: Problem) -> bool:
    num_steps, sizes = problem.xs.shape[0], [leaf.size for leaf in jax.tree.leaves(problem.state)]
    long = isinstance(num_steps, int) and num_steps >= 300  # a symbolic number of steps counts as few
    small = all(isinstance(size, int) and size <= 128 for size in sizes)  # a symbolic size counts as large
    return isinstance(problem.cell, LinearCell) and long and small


def _always(problem: Problem) -> bool:
    return True


# The first rule that matches, and whose implementation supports the problem, wins.
TABLE = (
    Rule(
        "cpu",
        _is_one_step,
        SCAN,
        "a single step, as of a stream, is no slower than by fused, which joins its matrices at each call",
    ),
    Rule(
        "cpu",
        _is_long_and_linear,
        PARALLEL,
        "in 300 steps or more, with states of up to 128 numbers, a training step of a linear cell takes 0.3 to 0.9 "
        "times as long as by scan (benchmarks/RESULTS.md, parallel)",
    ),
    Rule(
        "cpu",
        _always,
        FUSED,
        "a training step takes 0.4 to 1.1 times as long as by scan, in the geometric mean 0.7 "
        "(benchmarks/RESULTS.md, 2026-11-23)",
    ),
    # Published measurements are of other kernels: FlashRNN's take 0.7 to 2.6 times as long as PyTorch's cuDNN, forward
    # and backward, depending on how the units are divided among heads (arXiv:2412.07752; H100, bfloat16 against
    # float16, 16 sequences of 1024 steps, 768 units). Ours are still to be measured on such devices.
    Rule(
        "",
        _always,
        FUSED,
        "no measurement speaks for another on this platform, and it runs everywhere; ask for pallas and cudnn by name "
        "(`python -m benchmarks.gpu` measures all of them)",
    ),
    Rule("", _always, SCAN, "it needs nothing of a cell but its step"),
)


def find(implementation: str | Implementation) -> Implementation:
    """Returns the implementation of a name; one that is given is returned unchanged.

    Raises:
      ValueError: for an unknown name.
    """
    if isinstance(implementation, Implementation):
        return implementation
    check_choice("implementation", implementation, (None, *IMPLEMENTATIONS))
    return IMPLEMENTATIONS[implementation]


def choose(problem: Problem, platform: str, table: Sequence[Rule] = TABLE) -> Rule:
    """Returns the first rule that matches and whose implementation supports the problem on a platform."""
    return next(
        rule
        for rule in table
        if rule.platform in ("", platform) and rule.holds(problem) and not rule.use.why_not(problem, platform)
    )


def select(
    problem: Problem,
    implementation: str | Implementation | None = None,
    *,
    platform: str | None = None,
    table: Sequence[Rule] = TABLE,
) -> Callable[[Problem], tuple[State, Array]]:
    """Returns the function that solves a problem.

    Where the table chooses an implementation that does not run everywhere, the platform that the program is lowered for
    decides between it and a portable one: arrays may lie on another device than the default one, and a program may be
    exported for several platforms at once. An implementation asked for by name may be traced for another platform, see
    `Implementation.lowers_for`.

    Args:
      problem: the problem, or one of the same shapes and dtypes.
      implementation: the implementation to use, or its name; None to follow the table.
      platform: the default platform; None for that of this process.
      table: the rules.

    Raises:
      ValueError: for an unknown name, or an implementation that does not support the problem.
    """
    platform = platform or default_platform()
    if implementation is not None:
        implementation = find(implementation)
        needs = implementation.why_not(problem, platform)
        elsewhere = {other: implementation.why_not(problem, other) for other in implementation.lowers_for if needs}
        if needs and all(elsewhere.values()):
            more = [f"on {other} {reason}" for other, reason in elsewhere.items() if reason != needs]
            raise ValueError(refusal(implementation.name, "; ".join([needs, *more])))
        return implementation.run
    special = choose(problem, platform, table).use
    if special.portable:
        return special.run
    portable = choose(problem, "cpu", table).use

    def run(problem: Problem) -> tuple[State, Array]:
        branches = {platform: lambda: special.run(problem)}
        return lax.platform_dependent(default=lambda: portable.run(problem), **branches)

    return run


def explain(
    cell: Cell,
    shape: tuple[int, ...],
    dtype: Any = jnp.float32,
    *,
    precision: Precision = None,
    platform: str | None = None,
) -> str:
    """Tells which implementation `unroll` uses for a cell, and why; a line for every implementation.

    >>> import rnn_jax as rnn
    >>> print(rnn.explain(rnn.VanillaRNN(128), (28, 32, 28)))  # doctest: +ELLIPSIS
    VanillaRNN(hidden_size=128, ...) on float32 [28, 32, 28], cpu:
      scan: possible
      fused: chosen: a training step takes ...
      pallas: needs a GPU or a TPU, not a CPU
      cudnn: needs CUDA, and JAX's default platform here is cpu

    Args:
      cell: any cell. A key is assumed for a cell that draws noise.
      shape: of the inputs xs, [T, B, D].
      dtype: of the inputs, parameters and states.
      precision: of the products, see `unroll`.
      platform: "cpu", "cuda", "rocm" or "tpu"; None for JAX's default platform.

    Raises:
      ValueError: for anything but a cell: of a layer, ask for each of its cells; for a shape without T and D, a dtype
        that is not floating-point, or an unknown precision or platform.
    """
    check_cell("explain", cell)
    check_choice("precision", precision, (None, "bfloat16"))
    check_choice("platform", platform, (None, "cpu", "cuda", "rocm", "tpu"))
    if not isinstance(shape, tuple | list) or len(shape) < 2:
        raise ValueError(f"shape must be (T, ..., input_size), not {' '.join(repr(shape).split())}")
    check_floating("xs", jnp.dtype(dtype))
    xs = jax.ShapeDtypeStruct(shape, dtype)
    platform, lines = platform or default_platform(), []

    def trace() -> None:
        key, inputs = jax.random.key(0), jnp.zeros(shape, dtype)
        params, state, noise = None, cell.initial_state(shape[1:-1], dtype), None
        if offers_equations(cell):  # of other cells, no rule asks for parameters
            params = jax.tree.map(lambda leaf: leaf.astype(dtype), cell.init(key, shape[-1]))
            noise = draw_noise(cell, key, inputs)
        problem = Problem(cell, params, state, inputs, noise, precision=precision)
        rule = choose(problem, platform)
        for implementation in IMPLEMENTATIONS.values():
            needs = implementation.why_not(problem, platform)
            text = f"needs {needs}" if needs else "possible"
            if implementation is rule.use:
                text = f"chosen: {rule.because}"
            lines.append(f"  {implementation.name}: {text}")

    jax.eval_shape(trace)
    return "\n".join([f"{cell} on {xs.dtype} {list(xs.shape)}, {platform}:", *lines])
