"""Programs for several platforms, traced on a machine without a GPU or a TPU: what is lowered depends on the platform.

While JAX traces a function, the platform is not known yet. Two primitives have a rule for each platform: `kernel` is
lowered for one platform only, and `refused` for none.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from rnn_jax.base import Array, State
from rnn_jax.implementations.problem import Problem

kernel = Primitive("kernel")
kernel.multiple_results = True
refused = Primitive("refused")


def only_on(platform: str, time_loop: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a loop over time that is lowered for one platform; for any other, its results are zeros.

    In a program for several platforms, JAX lowers each branch of `platform_dependent` for all of them, and a kernel
    cannot be lowered for a platform that is not its own.
    """

    def run(
        load: Any, step: Any, carry: Any, inputs: Any, constants: Any, features: Any, dtype: Any, **options: Any
    ) -> Any:
        leaves, tree = jax.tree.flatten((carry, inputs, constants))

        def flat(*leaves: Array) -> list[Array]:
            outputs = time_loop(load, step, *jax.tree.unflatten(tree, leaves), features, dtype, **options)
            return jax.tree.leaves(outputs)

        streams = jax.tree.map(lambda F: jnp.zeros((*jax.tree.leaves(inputs)[0].shape[:2], F), dtype), features)
        return jax.tree.unflatten(jax.tree.structure((carry, streams)), kernel.bind(*leaves, run=flat, on=platform))

    return run


def refuse(problem: Problem, message: str) -> tuple[State, Array]:
    """Returns arrays like a solution's; raises `ValueError` as soon as they, or their gradients, are lowered."""
    leaves = jax.tree.leaves((problem.params, problem.state, problem.xs))
    # Every result depends on every array by way of the primitive, so that no gradient does without it.
    total = refused.bind(message=message) * sum(leaf.astype(jnp.float32).sum() for leaf in leaves)

    def fill(dtype: Any, shape: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(total.astype(dtype), shape)

    ys = fill(problem.xs.dtype, (*problem.xs.shape[:-1], problem.cell.output_size))
    return jax.tree.map(lambda leaf: fill(leaf.dtype, leaf.shape), problem.state), ys


def _shapes(*leaves: Any, run: Callable[..., Any], on: str) -> list[ShapedArray]:
    return [ShapedArray(a.shape, a.dtype) for a in jax.eval_shape(run, *leaves)]


def _lower(ctx: mlir.LoweringRuleContext, *leaves: Any, run: Callable[..., Any], on: str) -> Any:
    def zeros(*_: Array) -> list[Array]:
        return [jnp.zeros(a.shape, a.dtype) for a in ctx.avals_out]

    [platform] = ctx.platforms or ctx.module_context.platforms
    return mlir.lower_fun(run if platform == on else zeros, multiple_results=True)(ctx, *leaves)


def _batch(leaves: Any, axes: Any, *, run: Callable[..., Any], on: str) -> Any:
    outputs = kernel.bind(*leaves, run=jax.vmap(run, axes), on=on)
    return outputs, [0] * len(outputs)


def _refuse(*_: Any, message: str) -> Any:
    raise ValueError(message)


kernel.def_abstract_eval(_shapes)
batching.primitive_batchers[kernel] = _batch
for name in ("cpu", "cuda", "rocm", "tpu"):
    mlir.register_lowering(kernel, _lower, platform=name)
refused.def_impl(_refuse)
refused.def_abstract_eval(lambda *, message: ShapedArray((), np.dtype(np.float32)))
mlir.register_lowering(refused, _refuse)
