"""Meshes of devices in JAX's types: explicit axes (`jax.set_mesh`) and manual axes (`jax.shard_map`)."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P


def has_explicit_axes() -> bool:
    """Returns True under a mesh with explicit axes, where the types of arrays contain their shardings."""
    return AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types


def spec_of(array: Any) -> P:
    """Returns the sharding in the type of an array."""
    return jax.typeof(array).sharding.spec


def in_auto_axes(f: Callable[..., Any], out: Any, *args: Any) -> Any:
    """Calls a function with all explicit axes made automatic: the compiler divides its intermediate values.

    Args:
      f: the function.
      out: the specs of its results, a prefix of their pytree.
      *args: its arguments, pytrees of arrays.
    """
    return jax.sharding.auto_axes(f, out_sharding=out)(*args)


def vary_alike(tree: Any) -> Any:
    """Makes all arrays vary over the manual axes that any of them varies over, as the carry of a scan has to.

    The transpose of the cast is the sum over the devices, so that gradients of replicated parameters are summed.
    """
    leaves = jax.tree.leaves(tree)
    axes = set().union(*map(_varying, leaves))

    def cast(leaf: Any) -> Any:
        missing = tuple(sorted(axes - _varying(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


def _varying(array: Any) -> frozenset[str]:
    """Returns the manual axes that an array varies over; JAX has moved the attribute between versions."""
    kind = jax.typeof(array)
    return getattr(kind, "vma", None) or getattr(getattr(kind, "mat", None), "varying", frozenset())
