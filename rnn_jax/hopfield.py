"""The Hopfield network (1982): a memory whose contents are the states in which it comes to rest.

N units, each +1 or -1, all connected to each other by symmetric weights w [N, N]. Patterns are stored in the weights by
one formula, without training; a damaged pattern, taken as the state, is restored as the units follow their neighbors:

    s_i <- sign(sum_j w_ij s_j),    unchanged where the sum is zero

Where units do so one at a time, the energy E(s) = -1/2 s w s never rises, so that the network comes to rest.

>>> import jax
>>> patterns = jax.numpy.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]])
>>> weights = store_hebbian(patterns)
>>> damaged = patterns[0].at[2].set(-1)
>>> restored = recall(jax.random.key(0), weights, damaged)
>>> restored.state.astype(int).tolist()
[1, 1, 1, 1, -1, -1, -1, -1]
>>> energy(weights, damaged).item(), energy(weights, restored.state).item()
(-12.0, -24.0)

The letters of this module: N units, P patterns, B any number of batch axes, none included.
"""

from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from rnn_jax.base import Array, check_size


class Recall(NamedTuple):
    """The result of `recall`.

    Attributes:
      state: [B, N].
      sweeps: int32 [], the number of sweeps.
      settled: bool [], True if the whole batch is at rest.
    """

    state: Array
    sweeps: Array
    settled: Array


def store_hebbian(patterns: ArrayLike) -> Array:
    """Stores patterns by Hebb's rule: units that agree are connected by a positive weight (Hopfield, 1982).

        w_ij = sum_p x_pi x_pj,    w_ii = 0

    The weights are whole numbers, so that recall is exact. Of random patterns about 0.138 N can be recalled, with few
    wrong units (Amit et al., 1985); of patterns that resemble each other far fewer.

    Args:
      patterns: [P, N], each number +1 or -1.

    Returns:
      w [N, N], symmetric, with a diagonal of zeros.

    Raises:
      ValueError: for another shape or other numbers.
    """
    x = _check_signs("patterns", patterns, "[P, N]", ndim=2)
    w = jnp.matmul(x.T, x, precision="highest")
    return jnp.fill_diagonal(w, 0, inplace=False)


def store_pseudo_inverse(patterns: ArrayLike) -> Array:
    """Stores patterns by projection onto the space they span (Personnaz et al., 1985).

        w = pinv(x) x,    so that    x w = x

    Every pattern is a state of rest, however alike they are, up to N of them that are linearly independent. The nearer
    P comes to N, the less damage is repaired: at P = N, w is the identity, and every state is at rest.

    Args:
      patterns: [P, N], each number +1 or -1.

    Returns:
      w [N, N], symmetric, with eigenvalues 0 and 1.

    Raises:
      ValueError: for another shape or other numbers.
    """
    x = _check_signs("patterns", patterns, "[P, N]", ndim=2)
    # The rows of v that belong to singular values above rounding error are an orthonormal basis of what x spans.
    _, singular_values, v = jnp.linalg.svd(x, full_matrices=False)
    negligible = max(x.shape) * jnp.finfo(x.dtype).eps * singular_values[0]
    basis = jnp.where(singular_values[:, None] > negligible, v, 0)
    return jnp.matmul(basis.T, basis, precision="highest")


def energy(weights: ArrayLike, state: ArrayLike) -> Array:
    """Computes the energy of states, which asynchronous updates never raise (Hopfield, 1982).

        E(s) = -1/2 sum_ij s_i w_ij s_j

    Args:
      weights: w [N, N].
      state: s [B, N], each number +1 or -1.

    Returns:
      E [B].

    Raises:
      ValueError: for other shapes or other numbers.
    """
    w, s = _check(weights, state)
    return -0.5 * jnp.sum(jnp.matmul(s, w, precision="highest") * s, axis=-1)


def update_unit(weights: ArrayLike, state: ArrayLike, unit: ArrayLike) -> Array:
    """Updates one unit: the asynchronous step.

    Args:
      weights: w [N, N].
      state: s [B, N], each number +1 or -1.
      unit: the unit's number, from 0 to N - 1, the same throughout the batch.

    Returns:
      The state after it, [B, N].

    Raises:
      ValueError: for other shapes or other numbers.
    """
    w, s = _check(weights, state)
    unit = jnp.asarray(unit)
    if unit.ndim or not jnp.issubdtype(unit.dtype, jnp.integer):
        raise ValueError(f"unit must be one whole number, not {unit.dtype} of shape {unit.shape}")
    if not isinstance(unit, jax.core.Tracer) and not 0 <= unit < len(w):
        raise ValueError(f"unit must be from 0 to {len(w) - 1}, not {unit}")
    return _update_unit(w, s, unit)


def update_all(weights: ArrayLike, state: ArrayLike) -> Array:
    """Updates all units at once: the synchronous step. Here the energy may rise, and two states may alternate forever.

    Args:
      weights: w [N, N].
      state: s [B, N], each number +1 or -1.

    Returns:
      The state after it, [B, N].

    Raises:
      ValueError: for other shapes or other numbers.
    """
    w, s = _check(weights, state)
    return _follow(jnp.matmul(s, w.T, precision="highest"), s)


def sweep(key: Array, weights: ArrayLike, state: ArrayLike) -> Array:
    """Updates every unit once, one at a time, in random order.

    Args:
      key: draws the order, the same throughout the batch. Consumed.
      weights: w [N, N].
      state: s [B, N], each number +1 or -1.

    Returns:
      The state after it, [B, N].

    Raises:
      ValueError: for other shapes or other numbers.
    """
    return _sweep(key, *_check(weights, state))


def recall(key: Array, weights: ArrayLike, state: ArrayLike, *, max_sweeps: int = 100) -> Recall:
    """Lets a network come to rest: sweeps until one changes nothing.

    Args:
      key: draws the order of each sweep. Consumed.
      weights: w [N, N]. If they are symmetric and no w_ii is negative, there is a rest to come to.
      state: s [B, N], each number +1 or -1: where to begin.
      max_sweeps: the largest number of sweeps.

    Returns:
      The state; the number of sweeps, the last of which changes nothing; and whether the whole batch has settled.

    Raises:
      ValueError: for other shapes or other numbers.
    """
    check_size("max_sweeps", max_sweeps)
    w, s = _check(weights, state)

    def unsettled(now: Recall) -> Array:
        return ~now.settled & (now.sweeps < max_sweeps)

    def once_more(now: Recall) -> Recall:
        s = _sweep(jax.random.fold_in(key, now.sweeps), w, now.state)
        return Recall(s, now.sweeps + 1, jnp.all(s == now.state))

    return lax.while_loop(unsettled, once_more, Recall(s, jnp.int32(0), jnp.bool(False)))


def _sweep(key: Array, w: Array, s: Array) -> Array:
    order = jax.random.permutation(key, len(w))
    return lax.scan(lambda s, unit: (_update_unit(w, s, unit), None), s, order)[0]


def _update_unit(w: Array, s: Array, unit: Array) -> Array:
    field = jnp.matmul(s, w[unit], precision="highest")
    return s.at[..., unit].set(_follow(field, s[..., unit]))


def _follow(field: Array, s: Array) -> Array:
    """Returns the sign of the field, or the state where the field is zero: else a unit could flip forever."""
    return jnp.where(field == 0, s, jnp.sign(field))


def _check(weights: ArrayLike, state: ArrayLike) -> tuple[Array, Array]:
    """Weights and state as arrays of one dtype; raises `ValueError` unless they fit each other."""
    w = jnp.asarray(weights)
    if w.ndim != 2 or w.shape[0] != w.shape[1]:
        raise ValueError(f"weights has shape {w.shape}, but needs [N, N]")
    if not jnp.issubdtype(w.dtype, jnp.floating):
        raise ValueError(f"weights has dtype {w.dtype}, but needs a floating-point one: cast it")
    s = _check_signs("state", state, f"[..., {len(w)}]")
    if s.shape[-1] != len(w):
        raise ValueError(f"state has shape {s.shape}, but weights {w.shape} need [..., {len(w)}]")
    return w, s.astype(w.dtype)


def _check_signs(name: str, value: ArrayLike, needs: str, ndim: int | None = None) -> Array:
    """Makes a floating-point array; raises `ValueError` for a wrong number of axes, or numbers but +1 and -1."""
    known = not isinstance(value, jax.core.Tracer)
    shape = np.shape(value)
    if not shape or (ndim is not None and len(shape) != ndim) or 0 in shape[-2:]:
        raise ValueError(f"{name} has shape {shape}, but needs {needs}")
    if known and not np.all(np.abs(np.asarray(value)) == 1):
        raise ValueError(f"{name} must hold +1 and -1 only: cast images with jnp.where(images > threshold, 1, -1)")
    x = jnp.asarray(value)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
