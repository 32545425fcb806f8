"""The fused implementation: a custom backward pass, which computes all weight gradients after the loop.

JAX's derivative of a scan adds v^T dz to the gradient of every matrix inside the backward loop: T small products, and T
passes over the gradients. Here, for cells that offer their `equations`, where every product is taken by `Dense`:

- the forward loop saves the state before each step, and z, the result of each product;
- the backward loop differentiates the equations with the saved z in place of the products, so that only their
  elementwise part is computed again. It outputs the cotangents dz, and passes dz w^T on to the operands of v;
- after it, the gradient of each matrix is one product over all steps, dw = v^T dz, and so is that of the inputs.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array, State
from rnn_jax.cells.equations import (
    Dense,
    DenseCall,
    Product,
    apply_equations,
    multiply,
    offers_equations,
)
from rnn_jax.implementations.loops import scan_chunks, scan_in_place, scan_out_of_place
from rnn_jax.implementations.plan import (
    LARGE_MATRICES,
    LONGEST_JOINED,
    MANY_RESULTS,
    VALUE,
    Call,
    Plan,
    X,
    choose_axis,
    choose_chunk_size,
    has_many_results,
    make_plan,
)
from rnn_jax.implementations.problem import Problem
from rnn_jax.lengths import hold, restart

WIDE = 256  # columns of a factor, see `_outer`


def unroll_fused(
    problem: Problem,
    *,
    axis: int | None = None,
    large_matrices: int = LARGE_MATRICES,
    longest_joined: float = LONGEST_JOINED,
    many_results: int = MANY_RESULTS,
    chunk_size: int | None = None,
) -> tuple[State, Array]:
    """Solves a problem for a cell with `equations`.

    Args:
      problem: as `why_not_fused` accepts it; states and noise have one axis of features.
      axis: where to keep the features inside the loops, see `Dense`; None to choose by the sizes.
      large_matrices: see `LARGE_MATRICES`.
      longest_joined: see `LONGEST_JOINED`.
      many_results: see `MANY_RESULTS`.
      chunk_size: steps whose inputs are multiplied at once where no gradient is taken; None to choose by the sizes.

    Raises:
      ValueError: if the equations give `Dense` a matrix or a bias that is not an unmodified parameter.
    """
    params, xs, noise = problem.params, problem.xs, problem.noise
    num_steps, *batch_shape, _ = xs.shape
    rows = math.prod(batch_shape)
    state, initial = jax.tree.map(lambda a: a.reshape(rows, a.shape[-1]), (problem.state, problem.initial))
    noise = jax.tree.map(lambda a: a.reshape(num_steps, rows, a.shape[-1]), noise)
    xs = xs.reshape(num_steps, rows, xs.shape[-1])
    valid, resets = jax.tree.map(lambda a: a.reshape(num_steps, rows, 1), (problem.valid, problem.resets))

    plan = make_plan(problem._replace(state=state, xs=xs, noise=noise), longest_joined)
    leaves = jax.tree.leaves(params)
    axis = choose_axis(plan, leaves, rows, large_matrices) if axis is None else axis
    chunk_size = choose_chunk_size(plan, leaves, rows, num_steps) if chunk_size is None else chunk_size
    in_place = has_many_results(plan, num_steps * rows, many_results)
    plan = plan._replace(axis=axis, chunk_size=chunk_size, in_place=in_place)
    if plan.axis == 0:
        plan = plan.apart()  # Joined, the large matrices would be copied at each call.
        state, initial, xs, noise, valid, resets = _swap_batch_and_features((state, initial, xs, noise, valid, resets))
        leaves = [leaf[..., None] if n in plan.others else leaf for n, leaf in enumerate(leaves)]
    outputs: Any = _scan(plan, leaves, (state, initial), xs, (noise, valid, resets))
    state, ys = _swap_batch_and_features(outputs) if plan.axis == 0 else outputs
    state = jax.tree.map(lambda a: a.reshape(*batch_shape, a.shape[-1]), state)
    return state, ys.reshape(num_steps, *batch_shape, ys.shape[-1])


def why_not_fused(problem: Problem, platform: str) -> str:
    """Returns the requirement that a problem does not meet; empty if `unroll_fused` can solve it."""
    state, xs, noise = problem.state, problem.xs, problem.noise
    if not offers_equations(problem.cell):
        return f"a cell that offers its equations, which {problem.cell} does not"
    leaves = jax.tree.leaves((problem.params, state))
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        return "floating-point parameters and states"
    if any(jnp.ndim(leaf) > 2 for leaf in jax.tree.leaves(problem.params)):
        return "parameters of one or two axes"
    if any(jnp.ndim(leaf) != xs.ndim - 1 for leaf in jax.tree.leaves(state)):
        return "states with one axis of features"
    if any(leaf.ndim != xs.ndim for leaf in jax.tree.leaves(noise)):
        return "noise with one axis of features"
    return ""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(plan: Plan, leaves: list[Array], states: Any, xs: Array, extras: Any) -> tuple[State, Array]:
    """Runs the forward loop.

    Args:
      plan: see `Plan`.
      leaves: the parameters.
      states: (the first state, the state after a reset or None).
      xs: the inputs.
      extras: the noise, the valid steps and the resets of all steps.
    """
    if plan.chunk_size > 1:
        plan = plan.apart()
        if plan.axis == 0:  # Chunks are faster with the features last, see `CHUNK_SIZE`.
            leaves = [leaf[..., 0] if n in plan.others else leaf for n, leaf in enumerate(leaves)]
            outputs = _scan(plan._replace(axis=-1), leaves, *_swap_batch_and_features((states, xs, extras)))
            return _swap_batch_and_features(outputs)
    return _forward(plan, leaves, states, xs, extras, save=False)[0]


def _forward(plan: Plan, leaves: list[Array], states: Any, xs: Array, extras: Any, save: bool = True) -> Any:
    """Runs the forward loop -> ((final state, ys), the residuals of the backward loop)."""
    state, initial = states
    matrices = [[_oriented(plan, w) for w in _matrices(plan, call, leaves)] for call in plan.calls]

    def forward_step(state: State, inputs: Any) -> Any:
        x, (noise, valid, reset), given = inputs
        state = restart(reset, state, initial)
        zs, values = [], []

        def product(asked: DenseCall) -> tuple[Array, ...]:
            call, ws, products = plan.calls[len(zs)], matrices[len(zs)], given[len(zs)]
            vs = _vectors(plan, call, asked)
            saved = vs if call.joins_gradients else [v for v, _ in asked.terms]
            values.extend(v for v, source in zip(saved, call.gradient_sources, strict=True) if source == VALUE)
            terms = zip(call.sources, vs, ws, strict=True)
            others = [_multiply(plan, v, w) for source, v, w in terms if not (products and source == X)]
            z = functools.reduce(jnp.add, [*products, *others])
            if asked.bias is not None and not _joins_bias(plan, call):
                bias = asked.bias[call.columns]
                z = z + lax.expand_dims(bias, (0 if plan.axis == -1 else 1,))
            zs.append(z)
            return tuple(jnp.split(z, asked.parts, plan.axis))

        new_state, y = _step(plan, product, leaves, state, x, (noise, valid))
        return new_state, (y, (state, zs, values) if save else None)

    def forward_chunk(state: State, inputs: Any) -> Any:
        xs, extras = inputs
        given = [
            [_multiply(plan, xs, w) for source, w in zip(call.sources, ws, strict=True) if source == X]
            for call, ws in zip(plan.calls, matrices, strict=True)
        ]
        # Unrolled, as XLA does not vectorize elementwise work that reads from a place known only at run time.
        return lax.scan(forward_step, state, (xs, extras, given), reverse=plan.reverse, unroll=True)

    if plan.chunk_size > 1 and not save:
        final, (ys, saved) = scan_chunks(forward_chunk, state, (xs, extras), plan.chunk_size, plan.reverse)
    else:
        none_given = [[] for _ in plan.calls]
        final, (ys, saved) = lax.scan(forward_step, state, (xs, extras, none_given), reverse=plan.reverse)
    return (final, ys), (leaves, xs, extras, initial, saved)


def _backward(plan: Plan, residuals: Any, cotangents: tuple[State, Array]) -> Any:
    """Runs the backward loop, and computes the gradients of the matrices after it."""
    leaves, xs, extras, initial, (states, zs, values) = residuals
    d_final, d_ys = cotangents
    transposed = [
        [_oriented(plan, leaves[term.matrix][:, call.columns].T) for term in call.terms if term.source != X]
        for call in plan.calls
    ]
    zeros = jax.tree.map(jnp.zeros_like, ([leaves[n] for n in plan.others], initial))
    buffers = [jnp.zeros_like(z, shape=z.shape[1:]) for z in zs]
    step, inputs = functools.partial(_backward_step, plan), (d_ys, states, xs, extras)
    scan = scan_in_place if plan.in_place else scan_out_of_place
    (d_state, d_others, d_initial, _), (d_zs, d_xs) = scan(
        step, not plan.reverse, (leaves, transposed), (d_final, *zeros, buffers), zs, inputs
    )

    d_leaves = [jnp.zeros_like(leaf) for leaf in leaves]
    for n, d_other in zip(plan.others, d_others, strict=True):
        d_leaves[n] = d_other
    d_xs = jnp.zeros_like(xs) if d_xs is None else d_xs
    state_leaves, values = jax.tree.leaves(states), iter(values)
    for call, d_z in zip(plan.calls, d_zs, strict=True):
        d_z = _rows(plan, d_z)
        vs = [xs if n == X else next(values) if n == VALUE else state_leaves[n] for n in call.gradient_sources]
        d_w = jnp.concatenate([_outer(plan, _rows(plan, v), d_z) for v in vs])
        row = 0
        for term in call.terms:
            w = leaves[term.matrix]
            d_leaves[term.matrix] += _columns_of(w, call.columns, d_w[row : row + len(w)])
            row += len(w)
            if term.source == X:
                d_xs += _unrows(plan, multiply(d_z, w[:, call.columns].T, plan.precision), xs)
        if call.bias is not None:
            d_b = d_w[-1] if call.joins_gradients and _joins_bias(plan, call) else d_z.sum(0)
            d_leaves[call.bias] += _columns_of(leaves[call.bias], call.columns, d_b)
    return d_leaves, (d_state, d_initial), d_xs, None


def _backward_step(plan: Plan, constants: Any, carry: Any, inputs: Any) -> Any:
    """Takes a step of the backward loop; constants are the parameters, and the transposed matrices of each call."""
    leaves, transposed = constants
    d_state, d_others, d_initial, buffers = carry
    zs, (d_y, state, x, (noise, valid, reset)) = inputs

    def replayed_step(state: State, zs: list[Array], x: Array, others: list[Array]) -> tuple[State, Array]:
        calls = zip(plan.calls, zs, transposed, buffers, strict=True)

        def product(asked: DenseCall) -> tuple[Array, ...]:
            call, z, ws, buffer = next(calls)
            vs = [v for (v, _), term in zip(asked.terms, call.terms, strict=True) if term.source != X]
            return _replay(plan, asked.parts, vs, z, ws, buffer)

        step_leaves = list(leaves)
        for n, other in zip(plan.others, others, strict=True):
            step_leaves[n] = other
        return _step(plan, product, step_leaves, state, x, (noise, valid))

    _, vjp = jax.vjp(replayed_step, state, zs, x, [leaves[n] for n in plan.others])
    d_state, d_zs, d_x, d_more = vjp((d_state, d_y))
    d_others = jax.tree.map(jnp.add, d_others, d_more)
    if reset is not None:  # The saved state is the one after the reset.
        zeros = jax.tree.map(jnp.zeros_like, d_state)
        d_initial = jax.tree.map(jnp.add, d_initial, restart(reset, zeros, d_state))
        d_state = restart(reset, d_state, zeros)
    return (d_state, d_others, d_initial, d_zs), (d_zs, d_x if plan.uses_x else None)


_scan.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _replay(plan: Plan, parts: int, vs: list[Array], z: Array, transposed: list[Array], buffer: Array) -> Any:
    """Takes a saved z for the product that gave it; the cotangents of the v in it are dz w^T."""
    return tuple(jnp.split(z, parts, plan.axis))


def _replay_forward(
    plan: Plan, parts: int, vs: list[Array], z: Array, transposed: list[Array], buffer: Array
) -> tuple[Any, Any]:
    return tuple(jnp.split(z, parts, plan.axis)), (transposed, buffer)


def _replay_backward(plan: Plan, parts: int, residuals: Any, cotangents: tuple[Array, ...]) -> Any:
    transposed, d_z = residuals
    if parts == 1:
        (d_z,) = cotangents
    else:  # Written over the last step's: XLA would not vectorize a concatenation that it fuses.
        for n, part in enumerate(cotangents):
            d_z = lax.dynamic_update_slice_in_dim(d_z, part, n * part.shape[plan.axis], plan.axis)
    return [_multiply(plan, d_z, w) for w in transposed], d_z, None, None


_replay.defvjp(_replay_forward, _replay_backward)


def _step(plan: Plan, product: Product, leaves: list[Array], state: State, x: Array, extras: Any) -> Any:
    """Takes one step, with its products taken by `product`."""
    noise, valid = extras
    params = jax.tree.unflatten(plan.tree, leaves)
    return hold(valid, state, apply_equations(plan.cell, params, state, x, Dense(product, plan.axis), noise))


def _joins_bias(plan: Plan, call: Call) -> bool:
    """Returns True if a bias becomes a row of the matrix; with a precision it would be rounded like the matrix."""
    return call.joined and plan.precision is None


def _vectors(plan: Plan, call: Call, asked: DenseCall) -> list[Array]:
    """Returns the vectors of a call's products: [v_1 v_2 ... 1], or each v."""
    vs = [v for v, _ in asked.terms]
    if not call.joined:
        return vs
    if call.bias is not None and _joins_bias(plan, call):
        vs.append(jnp.ones_like(lax.slice_in_dim(vs[0], 0, 1, axis=plan.axis)))
    return [jnp.concatenate(vs, plan.axis)]


def _matrices(plan: Plan, call: Call, leaves: list[Array]) -> list[Array]:
    """Returns the matrices of a call's products: [w_1; w_2; ...; b], or each w."""
    ws = [leaves[term.matrix][:, call.columns] for term in call.terms]
    if not call.joined:
        return ws
    if call.bias is not None and _joins_bias(plan, call):
        ws.append(leaves[call.bias][None, call.columns])
    return [jnp.concatenate(ws)]


def _oriented(plan: Plan, w: Array) -> Array:
    """Prepares a matrix [K, N] for `_multiply`, rounded once for all steps."""
    w = w if plan.precision is None else w.astype(plan.precision)
    return w if plan.axis == -1 else w.T


def _multiply(plan: Plan, v: Array, oriented_w: Array) -> Array:
    """Computes v w: v [B, K] -> [B, N], or v [K, B] -> [N, B]."""
    return multiply(v, oriented_w, plan.precision) if plan.axis == -1 else multiply(oriented_w, v, plan.precision)


def _outer(plan: Plan, v: Array, d_z: Array) -> Array:
    """Computes v^T dz: v [TB, K], dz [TB, N] -> [K, N].

    On the CPU, XLA's product of many rows with a narrow factor on its right takes up to 1.6 times as long as with a
    wide one. The barrier keeps XLA from turning it around.
    """
    if v.shape[1] >= max(WIDE, 2 * d_z.shape[1]):
        return lax.optimization_barrier(multiply(d_z.T, v, plan.precision)).T
    return multiply(v.T, d_z, plan.precision)


def _rows(plan: Plan, vs: Array) -> Array:
    """Puts all steps and sequences of [T, B, F] or [T, F, B] one below the other: [TB, F]."""
    vs = vs if plan.axis == -1 else _swap_batch_and_features(vs)
    return vs.reshape(-1, vs.shape[-1])


def _unrows(plan: Plan, rows: Array, like: Array) -> Array:
    """Inverts `_rows`: [TB, F] in the shape of `like`."""
    if plan.axis == -1:
        return rows.reshape(like.shape)
    num_steps, features, batch = like.shape
    return _swap_batch_and_features(rows.reshape(num_steps, batch, features))


def _columns_of(leaf: Array, columns: slice, values: Array) -> Array:
    """Returns zeros like `leaf`, with `values` in some of the columns."""
    if values.shape == leaf.shape:
        return values
    return lax.dynamic_update_slice_in_dim(jnp.zeros_like(leaf), values, columns.indices(leaf.shape[-1])[0], axis=-1)


def _swap_batch_and_features(tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.swapaxes(a, -1, -2), tree)
