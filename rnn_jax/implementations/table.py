"""Which implementation `unroll` uses: what each of them needs, and one table of which is the fastest where.

"scan" and "fused" run on every platform and go through every transform that `unroll` promises. "cudnn" and "pallas" run
on one or two, and are differentiated once: a rule that chooses them must say where that was found worth its price.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Cell, Params, State, draw_noise
from rnn_jax.cells import GRU
from rnn_jax.cells.equations import Precision, offers_equations
from rnn_jax.implementations.cudnn import why_not_cudnn
from rnn_jax.implementations.fused import why_not_fused
from rnn_jax.implementations.pallas import why_not_pallas
from rnn_jax.implementations.platform import default_platform

Implementation: TypeAlias = Literal["scan", "fused", "pallas", "cudnn"]
IMPLEMENTATIONS: tuple[Implementation, ...] = get_args(Implementation)
PORTABLE = ("scan", "fused")


class Rule(NamedTuple):
    """A row of the table.

    Attributes:
      platform: where it holds, as `devices.default_platform` has it; empty for everywhere.
      holds: whether it does for a cell and inputs of the shape and dtype of xs [T, B, D].
      use: what to use then.
      because: what that rests on, or where it is not measured, that.
    """

    platform: str
    holds: Callable[[Cell, Any], bool]
    use: Implementation
    because: str


def _is_gru_with_wide_inputs(cell: Cell, xs: Any) -> bool:
    wide = xs.shape[-1] >= 4 * cell.output_size and math.prod(xs.shape[1:-1]) >= 64
    return wide and isinstance(cell, GRU) and cell.reset_after


def _always(cell: Cell, xs: Any) -> bool:
    return True


# Followed is the first rule that holds, and whose implementation finds what it needs.
TABLE = (
    Rule(
        "cpu",
        _is_gru_with_wide_inputs,
        "scan",
        "with inputs four times as wide as the state, in batches of 64 or more, a training step of this cell takes 0.7 "
        "of the memory of fused, and no more time (benchmarks/RESULTS.md, 2026-11-23)",
    ),
    Rule(
        "cpu",
        _always,
        "fused",
        "a training step takes 0.4 to 1.1 times as long as by scan, in the geometric mean 0.7 "
        "(benchmarks/RESULTS.md, 2026-11-23)",
    ),
    # What is published is of other kernels: those of FlashRNN take 0.7 to 2.6 times as long as PyTorch's cuDNN, forward
    # and backward, depending on how the units are divided among heads (arXiv:2412.07752; H100, bfloat16 against
    # float16, 16 sequences of 1024 steps, 768 units). So which is faster where remains to be measured.
    Rule(
        "",
        _always,
        "fused",
        "no measurement speaks for another on this platform, and it runs everywhere; ask for pallas and cudnn by name "
        "(`python -m benchmarks.gpu` measures all of them)",
    ),
    Rule("", _always, "scan", "it needs nothing of a cell but its step"),
)


WHY_NOT: dict[Implementation, Callable[..., str]] = {
    "scan": lambda *_, **__: "",
    "fused": why_not_fused,
    "pallas": why_not_pallas,
    "cudnn": why_not_cudnn,
}


def why_not(
    implementation: Implementation,
    cell: Cell,
    params: Params,
    state: State,
    xs: Array,
    noise: Any,
    precision: Precision = None,
) -> str:
    """What an implementation needs and does not find; empty if it will do. Takes what `unroll_fused` does."""
    return WHY_NOT[implementation](cell, params, state, xs, noise, precision=precision)


def choose(
    platform: str, cell: Cell, params: Params, state: State, xs: Array, noise: Any, precision: Precision = None
) -> Rule:
    """The rule of `TABLE` that is to be followed on a platform."""
    return next(
        rule
        for rule in TABLE
        if rule.platform in ("", platform)
        and rule.holds(cell, xs)
        and not why_not(rule.use, cell, params, state, xs, noise, precision)
    )


def explain(cell: Cell, shape: tuple[int, ...], dtype: Any = jnp.float32, *, precision: Precision = None) -> str:
    """Tells what `unroll` uses for a cell on the default platform, and why; a line for every implementation.

    >>> import rnn_jax as rnn
    >>> print(rnn.explain(rnn.VanillaRNN(128), (28, 32, 28)))  # doctest: +ELLIPSIS
    VanillaRNN(hidden_size=128, ...) on float32 [28, 32, 28], cpu:
      scan: possible
      fused: chosen: a training step takes ...
      pallas: needs a GPU or a TPU, not a CPU
      cudnn: needs CUDA, and JAX's default platform here is cpu

    Args:
      cell: any cell. One with something random in its step is taken to be given a key.
      shape: of the inputs xs, [T, B, D].
      dtype: of the inputs, parameters and states.
      precision: of the products, see `unroll`.
    """
    xs = jax.ShapeDtypeStruct(shape, dtype)
    platform, lines = default_platform(), []

    def trace() -> None:
        key, inputs = jax.random.key(0), jnp.zeros(shape, dtype)
        params = state = noise = None
        if offers_equations(cell):  # of other cells, only the scan will ask for parameters
            params = jax.tree.map(lambda leaf: leaf.astype(dtype), cell.init(key, shape[-1]))
            state, noise = cell.initial_state(shape[1:-1], dtype), draw_noise(cell, key, inputs)
        arguments = cell, params, state, inputs, noise, precision
        rule = choose(platform, *arguments)
        for implementation in IMPLEMENTATIONS:
            needs = why_not(implementation, *arguments)
            text = f"needs {needs}" if needs else "possible"
            lines.append(f"  {implementation}: {f'chosen: {rule.because}' if implementation == rule.use else text}")

    jax.eval_shape(trace)
    return "\n".join([f"{cell} on {xs.dtype} {list(xs.shape)}, {platform}:", *lines])
