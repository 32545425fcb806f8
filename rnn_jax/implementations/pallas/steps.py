"""The step of each kernel, made of the cell's equations, and the products over all steps before and after.

G is the number of gates: matrices have G times H columns, and the kernels read and write arrays [T, B, GH] gate by
gate. Their elementwise operations are in float32, whatever the dtype of the arrays.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Params, State
from rnn_jax.cells.equations import Dense, apply_equations, expand, multiply
from rnn_jax.implementations.plan import Plan, X
from rnn_jax.lengths import hold, restart


class Weights(NamedTuple):
    """The parameters of a cell: w_x [D, GH], b [GH], w_h [H, GH], and the parameters in no product, [H] each."""

    w_x: Array
    b: Array
    w_h: Array
    others: list[Array]


class Masks(NamedTuple):
    """Masks of steps, [T, B, 1] of ones and zeros in the dtype of the inputs; None for none.

    Attributes:
      valid: the valid steps.
      resets: the steps before which the state becomes zero, the initial state of the cells that kernels run.
    """

    valid: Any = None
    resets: Any = None


class Streams(NamedTuple):
    """The arrays [T, B, F] that a kernel reads or writes at every step; None for the others.

    The backward kernel writes cotangents into the fields of their primals.

    Attributes:
      zs_x: x w_x + b, F = GH.
      zs_h: the sums that contain h w_h, F = GH.
      states: the state before the step, and after its reset, F = H in each leaf.
      ys: the outputs, F = H.
      masks: F = 1.
    """

    zs_x: Any = None
    zs_h: Any = None
    states: Any = None
    ys: Any = None
    masks: Masks = Masks()


class Gate(NamedTuple):
    """A part of the result of `Dense`: columns of x w_x + b, of h w_h, or of their sum.

    Attributes:
      number: its index from 0 to G - 1 in the GH columns.
      of_x: True if it contains x w_x + b.
      of_h: True if it contains h w_h.
    """

    number: int
    of_x: bool
    of_h: bool


class Recurrence(NamedTuple):
    """The static arguments of the kernels.

    Attributes:
      plan: the plan of a step of the cell.
      gates: the parts of the results of `Dense` in a step.
      time_loop: the loop over time of `gpu` or `tpu`.
      interpret: see `unroll_pallas`.
    """

    plan: Plan
    gates: list[Gate]
    time_loop: Callable[..., Any]
    interpret: Any

    @property
    def separate(self) -> bool:
        """True if a gate contains only one of x w_x + b and h w_h."""
        return not all(gate.of_x and gate.of_h for gate in self.gates)


def split_params(plan: Plan, params: Params) -> Weights:
    """Sorts the parameters of a cell into `Weights`."""
    leaves = jax.tree.leaves(params)
    matrices = {term.source == X: leaves[term.matrix] for call in plan.calls for term in call.terms}
    bias = next(leaves[call.bias] for call in plan.calls if call.bias is not None)
    return Weights(matrices[True], bias, matrices[False], [leaves[n] for n in plan.others])


def list_gates(plan: Plan, columns: int) -> list[Gate]:
    """Lists the parts of the results of `Dense` in a step, for a cell whose matrices have GH columns."""
    gates = []
    for call in plan.calls:
        of_x, of_h = (any((term.source == X) is wanted for term in call.terms) for wanted in (True, False))
        used = range(columns)[call.columns]
        gates += [Gate(column // plan.cell.hidden_size, of_x, of_h) for column in used[:: plan.cell.hidden_size]]
    return gates


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def run(recurrence: Recurrence, weights: Weights, state: State, xs: Array, masks: Masks) -> tuple[State, Array]:
    """Runs over whole sequences: state [B, H], xs [T, B, D] -> (final state, ys [T, B, H])."""
    return _run(recurrence, weights, state, xs, masks, save=False)[0]


def _once_differentiable(f: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of the first derivative of `run` raise, in one line, when it is differentiated again."""
    f = jax.custom_jvp(f, nondiff_argnums=(0,))

    @f.defjvp
    def refuse(*_: Any) -> Any:
        raise NotImplementedError('no second derivative goes through implementation="pallas": use "fused" or "scan"')

    return f


@_once_differentiable
def _forward(recurrence: Recurrence, weights: Weights, state: State, xs: Array, masks: Masks) -> Any:
    """Runs as `run` does -> ((final state, ys), residuals of the backward pass)."""
    return _run(recurrence, weights, state, xs, masks, save=True)


def _run(
    recurrence: Recurrence, weights: Weights, state: State, xs: Array, masks: Masks, save: bool
) -> tuple[tuple[State, Array], Any]:
    """Computes the product of all inputs, and runs the forward kernel."""
    H, GH = weights.w_h.shape
    zs_x = multiply(xs, weights.w_x, recurrence.plan.precision)
    zs_x = zs_x + expand(weights.b, zs_x)
    w_h = _gate_by_gate(recurrence, weights.w_h)

    def load(t: Any, inputs: Streams) -> Any:
        zs_x = [_read(inputs.zs_x, t, H, gate.number) if gate.of_x else None for gate in recurrence.gates]
        return zs_x, _masks(inputs, t)

    def step(t: Any, state: Any, loaded: Any, outputs: Streams, constants: Any) -> State:
        (zs_x, masks), (w_of, others) = loaded, constants
        state = restart(masks.resets, state, jax.tree.map(jnp.zeros_like, state))
        h = state.h.astype(w_h.dtype)

        def sum_up(gate: Gate, z_x: Any) -> Array:
            if not gate.of_h:
                return z_x
            product = jnp.dot(h, w_of(gate.number), preferred_element_type=jnp.float32)
            return product if z_x is None else z_x + product

        zs = [sum_up(gate, z_x) for gate, z_x in zip(recurrence.gates, zs_x, strict=True)]
        new_state, y = _take_step(
            recurrence, zs, [other(0).astype(jnp.float32) for other in others], state, masks.valid
        )
        _write(outputs.ys, t, H, y)
        if save:
            jax.tree.map(lambda ref, leaf: _write(ref, t, H, leaf), outputs.states, state)
            for gate, z in zip(recurrence.gates, zs, strict=True):
                if gate.of_h:
                    _write(outputs.zs_h, t, H, z, gate.number)
        return new_state

    final, outputs = recurrence.time_loop(
        load,
        step,
        _as_float32(state),
        Streams(zs_x=zs_x, masks=masks),
        (w_h, _as_constants(weights.others)),
        Streams(ys=H, zs_h=GH, states=jax.tree.map(lambda _: H, state)) if save else Streams(ys=H),
        xs.dtype,
        reverse=recurrence.plan.reverse,
        interpret=recurrence.interpret,
    )
    saved = outputs._replace(ys=None, masks=masks, zs_x=zs_x if recurrence.separate else None)
    return (_cast_like(final, state), outputs.ys), (weights, xs, saved)


@_once_differentiable
def _backward(recurrence: Recurrence, residuals: Any, cotangents: Any) -> Any:
    """Runs the backward kernel, and computes the products over all steps after it."""
    weights, xs, saved = residuals
    d_final, d_ys = cotangents
    H, GH = weights.w_h.shape
    precision = recurrence.plan.precision
    w_h_transposed = _gate_by_gate(recurrence, weights.w_h).swapaxes(1, 2)

    def load(t: Any, inputs: Streams) -> Any:
        zs = [_read(inputs.zs_h if gate.of_h else inputs.zs_x, t, H, gate.number) for gate in recurrence.gates]
        state = jax.tree.map(lambda ref: _read(ref, t, H), inputs.states)
        return zs, state, _read(inputs.ys, t, H), _masks(inputs, t)

    def step(t: Any, carry: Any, loaded: Any, outputs: Streams, constants: Any) -> Any:
        (d_state, d_others), (w_of, others) = carry, constants
        zs, state, d_y, masks = loaded
        # A copy for each sequence, so that the cotangents of all are added up after the loop.
        others = [jnp.broadcast_to(other(0).astype(jnp.float32), state.h.shape) for other in others]
        replayed_step = functools.partial(_take_step, recurrence, valid=masks.valid)
        _, vjp = jax.vjp(replayed_step, zs, others, state)
        d_zs, d_others_here, d_state = vjp((d_state, d_y))
        for gate, d_z in zip(recurrence.gates, d_zs, strict=True):
            if gate.of_h:
                d_z_rounded = d_z.astype(w_h_transposed.dtype)
                d_h = jnp.dot(d_z_rounded, w_of(gate.number), preferred_element_type=jnp.float32)
                d_state = d_state._replace(h=d_state.h + d_h)
            if gate.of_x:
                _write(outputs.zs_x, t, H, d_z, gate.number)
            if gate.of_h and recurrence.separate:
                _write(outputs.zs_h, t, H, d_z, gate.number)
        d_state = restart(masks.resets, d_state, jax.tree.map(jnp.zeros_like, d_state))
        return d_state, jax.tree.map(jnp.add, d_others, d_others_here)

    (d_state, d_others), d_streams = recurrence.time_loop(
        load,
        step,
        (_as_float32(d_final), [jnp.zeros(d_final.h.shape, jnp.float32) for _ in weights.others]),
        saved._replace(ys=d_ys),
        (w_h_transposed, _as_constants(weights.others)),
        Streams(zs_x=GH, zs_h=GH if recurrence.separate else None),
        xs.dtype,
        reverse=not recurrence.plan.reverse,
        interpret=recurrence.interpret,
    )
    d_zs_x, d_zs_h = d_streams.zs_x, d_streams.zs_h if recurrence.separate else d_streams.zs_x
    d_weights = Weights(
        w_x=multiply(_rows(xs).T, _rows(d_zs_x), precision),
        b=_rows(d_zs_x).sum(0),
        w_h=multiply(_rows(saved.states.h).T, _rows(d_zs_h), precision),
        others=[d_other.sum(0) for d_other in d_others],
    )
    d_xs = multiply(d_zs_x, weights.w_x.T, precision)
    return *_cast_like((d_weights, d_state, d_xs), (weights, d_final, xs)), None


run.defvjp(_forward, _backward)


def _take_step(
    recurrence: Recurrence, zs: list[Array], others: list[Array], state: State, valid: Array | None
) -> tuple[State, Array]:
    """Takes one step, with `zs` in place of its products."""
    plan, rest = recurrence.plan, iter(zs)
    leaves: list[Any] = [None] * plan.tree.num_leaves  # None for matrices and biases, which only products use.
    for n, other in zip(plan.others, others, strict=True):
        leaves[n] = other
    params: Any = jax.tree.unflatten(plan.tree, leaves)
    dense = Dense(lambda asked: tuple(itertools.islice(rest, asked.parts)))
    x: Any = None
    return hold(valid, state, apply_equations(plan.cell, params, state, x, dense, None))


def store(ref: Any, value: Array) -> None:
    """Overwrites an array of a kernel."""
    ref[...] = value


def _read(ref: Any, t: Any, H: int, gate: int = 0) -> Array:
    """Reads a step, or one gate of a step, of a stream: [B, H]."""
    return ref[t, :, gate * H : (gate + 1) * H].astype(jnp.float32)


def _write(ref: Any, t: Any, H: int, value: Array, gate: int = 0) -> None:
    """Writes a step, or one gate of a step, of a stream; see `_read`."""
    ref[t, :, gate * H : (gate + 1) * H] = value.astype(ref.dtype)


def _masks(inputs: Streams, t: Any) -> Masks:
    """Reads the masks of a step as booleans, [B, 1] each."""
    return jax.tree.map(lambda ref: ref[t] > 0, inputs.masks)


def _gate_by_gate(recurrence: Recurrence, w: Array) -> Array:
    """Splits a matrix into the kernels' constants: [H, GH] -> [G, H, H]."""
    w = w.astype(recurrence.plan.precision or w.dtype)
    return w.reshape(len(w), -1, len(w)).swapaxes(0, 1)


def _as_constants(vectors: list[Array]) -> list[Array]:
    """Turns vectors into the kernels' constants: [H] -> [1, 1, H]."""
    return [vector[None, None] for vector in vectors]


def _rows(a: Array) -> Array:
    """Flattens steps and sequences into rows: [T, B, F] -> [TB, F]."""
    return a.reshape(-1, a.shape[-1])


def _as_float32(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)


def _cast_like(tree: Any, like: Any) -> Any:
    return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, like)
