"""All steps at once: exactly for linear cells, and by Newton's method over the whole sequence for all others.

The states of a cell solve h_t = f(h_(t-1), x_t) for all t. From a guess of all of them, Newton's method (DEER: Lim et
al., 2024, arXiv:2309.12252) takes f and its Jacobian J_t along the guess, for all steps at once, and corrects the guess
by d with

    d_t = J_t d_(t-1) + r_t,    r_t = f(h_(t-1), x_t) - h_t

a linear recurrence, until no residual r is above the tolerance. The first guess is f(0, x_t) (ParaRNN: Danieli et al.,
2025, arXiv:2510.21450). A Jacobian of N states has N^2 numbers and a recurrence of such takes N^3 operations a step, so
that of large states only a part is used, which makes the rounds cheaper and more (quasi-DEER: Gonzalez et al., 2024,
arXiv:2407.19115). If the rounds run out, or a number overflows, the answer is that of a loop over the steps.

The derivative is not taken through the rounds: at the solution, the states' tangents solve a linear recurrence, and the
cotangents its transpose, backwards.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array, Params, State, take_step
from rnn_jax.cells.equations import Dense, DenseCall, apply_equations, expand, offers_equations
from rnn_jax.cells.linear import LinearCell, to_h, to_state, widen
from rnn_jax.implementations.problem import Problem
from rnn_jax.implementations.recurrence import linear_recurrence, run, run_backwards, shift
from rnn_jax.implementations.scan import unroll_scan
from rnn_jax.lengths import hold, restart, where_valid
from rnn_jax.wrappers import within

# Of the largest state in time: the largest residual of a solution. Rounding alone leaves about a tenth of it.
TOLERANCE = {jnp.dtype("float32"): 1e-6, jnp.dtype("float64"): 1e-14}
MOST_ROUNDS = 100
LARGEST_BLOCK = 64  # states whose Jacobian is used as a whole


def unroll_parallel(problem: Problem) -> tuple[State, Array]:
    """Solves a problem for all steps at once."""
    if not len(problem.xs):
        return unroll_scan(problem)
    solve_forwards = unroll_linear if isinstance(problem.cell, LinearCell) else unroll_newton
    state, ys = solve_forwards(forwards(problem))
    return state, ys[::-1] if problem.reverse else ys


def forwards(problem: Problem) -> Problem:
    """Turns a problem around in time if it is to be solved in reverse."""
    if not problem.reverse:
        return problem
    inputs = problem.xs, problem.noise, problem.valid, problem.resets
    xs, noise, valid, resets = jax.tree.map(lambda a: a[::-1], inputs)
    return problem._replace(xs=xs, noise=noise, valid=valid, resets=resets, reverse=False)


def why_not_parallel(problem: Problem, platform: str) -> str:
    """Returns the requirement that a problem does not meet; empty if `unroll_parallel` can solve it."""
    if isinstance(problem.cell, LinearCell):
        return ""
    if problem.precision:
        return "products in the dtype of xs"
    leaves = jax.tree.leaves(problem.state)
    if any(jnp.ndim(leaf) != problem.xs.ndim - 1 for leaf in leaves):
        return "states with one axis of features"
    dtypes = {jnp.result_type(leaf) for leaf in leaves}
    if len(dtypes) != 1 or dtypes.pop() not in TOLERANCE:
        return "a state of float32 or float64"
    return ""


def unroll_linear(problem: Problem) -> tuple[State, Array]:
    """Solves a problem of a linear cell, forwards, by one recurrence."""
    cell: Any = problem.cell
    state, valid = problem.state, problem.valid
    a, b = cell.recurrence(problem.params, problem.xs)
    h = to_h(state)
    a, b = (jnp.broadcast_to(expand(widen(v), problem.xs), (len(problem.xs), *h.shape)) for v in (a, b))
    if problem.resets is not None and problem.initial is not None:
        b = where_valid(problem.resets, a * widen(to_h(problem.initial))[None] + b, b)
        a = where_valid(~problem.resets, a, 0)
    if valid is not None:
        a, b = where_valid(valid, a, 1), where_valid(valid, b, 0)
    hs = linear_recurrence(a, b.at[0].add(a[0] * widen(h)))
    ys = cell.output(problem.params, hs.astype(h.dtype), problem.xs)
    return to_state(hs[-1], like=state), ys if valid is None else where_valid(valid, ys, 0)


class Layout(NamedTuple):
    """How the arrays of a state [..., F] are packed into one, [..., G, N]: G groups of N numbers, one Jacobian each.

    Attributes:
      cell: the cell.
      tree: the structure of its state.
      sizes: F of each array. If all are equal, each group has the same units of all arrays.
      groups: G.
      exact: True if the groups do not see each other; False if their Jacobians are but a part of the state's, which is
        too large.
    """

    cell: Any
    tree: Any
    sizes: tuple[int, ...]
    groups: int
    exact: bool

    @property
    def alike(self) -> int:
        """The number of arrays if all have one size, else 1, as if they were one."""
        return len(self.sizes) if len(set(self.sizes)) == 1 else 1

    def pack(self, state: State) -> Array:
        """Returns the one array of a state."""
        joined = jnp.concatenate(jax.tree.leaves(state), axis=-1)
        batch_shape, units = joined.shape[:-1], joined.shape[-1] // self.groups
        joined = joined.reshape(*batch_shape, self.alike, self.groups, units // self.alike)
        return jnp.swapaxes(joined, -3, -2).reshape(*batch_shape, self.groups, units)

    def unpack(self, h: Array) -> State:
        """Returns the state of one array."""
        *batch_shape, groups, units = h.shape
        joined = jnp.swapaxes(h.reshape(*batch_shape, groups, self.alike, units // self.alike), -3, -2)
        joined = joined.reshape(*batch_shape, groups * units)
        ends = [sum(self.sizes[:k]) for k in range(1, len(self.sizes))]
        return jax.tree.unflatten(self.tree, jnp.split(joined, ends, axis=-1))

    def largest(self, hs: Array) -> Array:
        """Returns the largest number in time of each array of the state: [T, B, G, N] -> [1, B, 1, N], repeated."""
        largest = jnp.abs(hs).max((0, -2), keepdims=True)
        apart = largest.reshape(*largest.shape[:-1], self.alike, largest.shape[-1] // self.alike)
        return jnp.broadcast_to(apart.max(-1, keepdims=True), apart.shape).reshape(largest.shape)


class Inputs(NamedTuple):
    """All that a trajectory depends on: of a `Problem`, with the states packed.

    Attributes:
      params: the cell's parameters.
      first: the state before the first step, [B, G, N].
      initial: the state after a reset, the same; None without resets.
      steps: (xs, noise, valid, resets), which lead with T.
    """

    params: Params
    first: Array
    initial: Array | None
    steps: tuple[Array, Any, Array | None, Array | None]


class Solution(NamedTuple):
    """A trajectory, and how it was found.

    Attributes:
      hs: the states of all steps, packed, [T, B, G, N].
      rounds: of corrections.
      residual: the largest of all steps, as a fraction of the largest state in time.
      converged: True if the residual is not above the tolerance; else hs is what a loop over the steps gave.
    """

    hs: Array
    rounds: Array
    residual: Array
    converged: Array


def unroll_newton(problem: Problem) -> tuple[State, Array]:
    """Solves a problem of any cell, forwards."""
    layout, inputs = prepare(problem)
    hs = trajectory(layout, inputs)
    _, ys = advance(layout, inputs, shift(hs, inputs.first))
    return layout.unpack(hs[-1]), ys


def prepare(problem: Problem) -> tuple[Layout, Inputs]:
    """Chooses the layout of a problem's state."""
    leaves, tree = jax.tree.flatten(problem.state)
    sizes = tuple(leaf.shape[-1] for leaf in leaves)
    alike = len(set(sizes)) == 1
    groups = state_blocks(problem.cell) if alike else 1
    exact = sum(sizes) // groups <= LARGEST_BLOCK
    if not exact:
        groups = sizes[0] if alike else sum(sizes)
    layout = Layout(problem.cell, tree, sizes, groups, exact)
    initial = None if problem.resets is None else layout.pack(problem.initial)
    steps = problem.xs, problem.noise, problem.valid, problem.resets
    return layout, Inputs(problem.params, layout.pack(problem.state), initial, steps)


def state_blocks(cell: Any) -> int:
    """Returns the number of groups of units that do not see each other: a cell's own, or its wrapped cell's."""
    inner = within(cell)
    return getattr(cell, "state_blocks", 1 if inner is None else state_blocks(inner))


def take(layout: Layout, inputs: Inputs, h: Array, now: Any, dense: Dense | None = None) -> tuple[Array, Array]:
    """Takes one step with packed states, [B, G, N] -> ([B, G, N], y [B, H]); `now` is its part of `inputs.steps`."""
    x, noise, valid, reset = now
    state = layout.unpack(restart(reset, h, inputs.initial))
    if dense is None:
        stepped = take_step(layout.cell, inputs.params, state, x, noise)
    else:
        stepped = apply_equations(layout.cell, inputs.params, state, x, dense, noise)
    state, y = hold(valid, state, stepped)
    return layout.pack(state), y


def advance(layout: Layout, inputs: Inputs, before: Array, dense: Dense | None = None) -> tuple[Array, Array]:
    """Takes the step after each of the states before it: [T, B, G, N] -> ([T, B, G, N], ys [T, B, H])."""
    return jax.vmap(functools.partial(take, layout, inputs, dense=dense))(before, inputs.steps)


def jacobian(layout: Layout, inputs: Inputs, before: Array) -> Array:
    """Returns the Jacobians of all steps: [T, B, G, N, N], or without the two last axes' second where N is 1.

    One tangent has a 1 at the same place of every group, and so gives a column of every Jacobian, as long as the groups
    do not see each other. Of a state too large, the cell's equations are made so, by leaving no more of every matrix
    than its diagonal; the groups of a cell without equations are taken one by one.
    """
    groups, size = before.shape[-2:]
    dense = None if layout.exact or not offers_equations(layout.cell) else Dense(diagonal_product)

    def column(tangent: Array) -> Array:
        after = functools.partial(advance, layout, inputs, dense=dense)
        return jax.jvp(lambda h: after(h)[0], (before,), (jnp.broadcast_to(expand(tangent, before), before.shape),))[1]

    units = jnp.eye(size, dtype=before.dtype)
    if layout.exact or dense is not None:
        blocks = jax.vmap(column, out_axes=-1)(units)
    else:

        def of_group(group: Array) -> Array:
            mask = jnp.arange(groups)[:, None] == group
            columns = jax.vmap(column, out_axes=-1)(units[:, None] * mask.astype(before.dtype)[None])
            return lax.dynamic_index_in_dim(columns, group, axis=-3, keepdims=False)

        blocks = jnp.moveaxis(lax.map(of_group, jnp.arange(groups)), 0, -3)
    return blocks[..., 0] if size == 1 else blocks


def diagonal_product(call: DenseCall) -> tuple[Array, ...]:
    """Takes a product whose derivative is that of its square matrices' diagonals."""
    parts = [lax.stop_gradient(part) for part in call.plain()]
    for v, w in call.terms:
        blocks = w[None] if w.ndim == 2 else w
        start, stop, _ = call.columns.indices(blocks.shape[0] * blocks.shape[2])
        blocks = blocks[..., start // len(blocks) : stop // len(blocks)]
        if blocks.shape[2] == call.parts * blocks.shape[1]:
            for k, matrices in enumerate(jnp.split(blocks, call.parts, axis=2)):
                diagonal = jnp.diagonal(matrices, axis1=1, axis2=2).reshape(-1)
                parts[k] += (v - lax.stop_gradient(v)) * expand(diagonal, v)
    return tuple(parts)


def solve(layout: Layout, inputs: Inputs) -> Solution:
    """Finds the states of all steps."""

    def residual(hs: Array) -> Array:
        return advance(layout, inputs, shift(hs, inputs.first))[0] - hs

    def correct(hs: Array, residuals: Array) -> Array:
        return run(jacobian(layout, inputs, shift(hs, inputs.first)), residuals)

    def in_a_loop() -> Array:
        def step(h: Array, now: Any) -> tuple[Array, Array]:
            h, _ = take(layout, inputs, h, now)
            return h, h

        return lax.scan(step, inputs.first, inputs.steps)[1]

    nothing = jnp.zeros((len(inputs.steps[0]), *inputs.first.shape), inputs.first.dtype)
    guess, _ = advance(layout, inputs, shift(nothing, inputs.first))
    return refine(layout, residual, correct, in_a_loop, guess)


def refine(
    layout: Layout,
    residual: Callable[[Array], Array],
    correct: Callable[[Array, Array], Array],
    in_a_loop: Callable[[], Array],
    guess: Array,
) -> Solution:
    """Corrects a guess until its residual is not above the tolerance.

    Args:
      layout: of the states.
      residual: hs -> the residual of every number, [T, B, G, N].
      correct: hs and its residuals -> the correction.
      in_a_loop: gives hs, if the rounds run out or a number overflows.
      guess: the first hs.
    """
    tolerance = TOLERANCE[guess.dtype]

    def measured(hs: Array) -> tuple[Array, Array, Array]:
        residuals = residual(hs)
        scale = jnp.maximum(layout.largest(hs), jnp.finfo(hs.dtype).tiny)
        worst = jnp.max(jnp.abs(residuals) / scale, initial=0)  # of no sequences, none
        return hs, residuals, jnp.where(jnp.isfinite(residuals).all(), worst, jnp.nan)  # a maximum may hide NaN

    def more(carry: Any) -> Array:
        _, _, worst, rounds = carry
        return (worst > tolerance) & (rounds < MOST_ROUNDS)

    def round_(carry: Any) -> Any:
        hs, residuals, _, rounds = carry
        return *measured(hs + correct(hs, residuals)), rounds + 1

    hs, _, worst, rounds = lax.while_loop(more, round_, (*measured(guess), jnp.int32(0)))
    converged = worst <= tolerance  # False for NaN
    return Solution(lax.cond(converged, lambda: hs, in_a_loop), rounds, worst, converged)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def trajectory(layout: Layout, inputs: Inputs) -> Array:
    """Returns the states of all steps, [T, B, G, N]."""
    return solve(layout, inputs).hs


@trajectory.defjvp
def _trajectory_jvp(layout: Layout, primals: tuple[Inputs], tangents: tuple[Inputs]) -> tuple[Array, Array]:
    """Solves d_t = J_t d_(t-1) + b_t, where b_t is what the parameters, the input and the first state contribute."""
    (inputs,), (d_inputs,) = primals, tangents
    hs = trajectory(layout, inputs)
    before = shift(hs, inputs.first)
    _, b = jax.jvp(lambda inputs: advance(layout, inputs, shift(hs, inputs.first))[0], (inputs,), (d_inputs,))

    def times_jacobian(d_before: Array) -> Array:
        return jax.jvp(lambda before: advance(layout, inputs, before)[0], (before,), (d_before,))[1]

    def apply(d: Array) -> Array:
        return d - times_jacobian(shift(d))

    def forwards(_: Any, b: Array) -> Array:
        def in_a_loop() -> Array:
            def step(d: Array, now: Any) -> tuple[Array, Array]:
                h, inputs_now, b = now
                d = jax.jvp(lambda h: take(layout, inputs, h, inputs_now)[0], (h,), (d,))[1] + b
                return d, d

            return lax.scan(step, jnp.zeros_like(b[0]), (before, inputs.steps, b))[1]

        return refine(layout, lambda d: b - apply(d), lambda _, r: run(blocks, r), in_a_loop, run(blocks, b)).hs

    def backwards(apply_transposed: Callable[[Array], Array], g: Array) -> Array:
        def in_a_loop() -> Array:
            def step(later: Array, now: Any) -> tuple[Array, Array]:
                h, inputs_now, g = now
                d = later + g
                return jax.vjp(lambda h: take(layout, inputs, h, inputs_now)[0], h)[1](d)[0], d

            return lax.scan(step, jnp.zeros_like(g[0]), (before, inputs.steps, g), reverse=True)[1]

        def correct(_: Array | None, residuals: Array) -> Array:
            return run_backwards(blocks, residuals)

        return refine(layout, lambda d: g - apply_transposed(d), correct, in_a_loop, correct(None, g)).hs

    blocks = jacobian(layout, inputs, before)
    return hs, lax.custom_linear_solve(apply, b, forwards, backwards)
