"""The program for a platform without kernels: it can be traced, but lowering it is an error.

While JAX traces a function, the platform is not known yet. Only where a program is lowered for a platform without
kernels can the call be refused.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir

from rnn_jax.base import Array, State
from rnn_jax.implementations.problem import Problem

refused = Primitive("refused")


def refuse(problem: Problem, message: str) -> tuple[State, Array]:
    """Returns arrays like a solution's; raises `ValueError` as soon as they are lowered or computed."""
    nothing = refused.bind(message=message)

    def fill(a: Any, shape: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(nothing.astype(a.dtype), shape)

    ys = fill(problem.xs, (*problem.xs.shape[:-1], problem.cell.output_size))
    return jax.tree.map(lambda a: fill(a, a.shape), problem.state), ys


def _refuse(*_: Any, message: str) -> Any:
    raise ValueError(message)


refused.def_impl(_refuse)
refused.def_abstract_eval(lambda *, message: ShapedArray((), np.dtype(np.float32)))
mlir.register_lowering(refused, _refuse)
