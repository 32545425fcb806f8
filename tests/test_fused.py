"""The fast path against the plain scan: outputs, final states and gradients of everything."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import FUSED_CELLS as CELLS
from helpers import draw_inputs, draw_params, draw_state, loss

import rnn_jax as rnn
from rnn_jax.cells.equations import Dense, apply_equations
from rnn_jax.implementations import fused
from rnn_jax.implementations.plan import CHUNK_SIZE, MOST_CHUNKED_ROWS, choose_axis, choose_chunk_size, make_plan
from rnn_jax.implementations.problem import Problem
from rnn_jax.implementations.table import FUSED
from rnn_jax.wrappers import CellWrapper

T, B = 5, 3

REGULARIZED = {
    "zoneout": rnn.zoneout(rnn.LSTM(4), h=0.2, c=0.3),
    "variational dropout": rnn.variational_dropout(rnn.GRU(4), inputs=0.2, states=0.3, outputs=0.1),
    "recurrent dropout": rnn.LayerNormLSTM(4, recurrent_dropout=0.3),
    "inputs wider than the joined rest": rnn.LSTM(1),
    "both": rnn.variational_dropout(rnn.zoneout(rnn.VanillaRNN(4), h=0.5), inputs=0.5),
}


def fused_in(**layout):
    return FUSED._replace(run=functools.partial(fused.unroll_fused, **layout))


LAYOUTS = {
    "last, joined": fused_in(axis=-1, longest_joined=1000),
    "first, apart, in place": fused_in(axis=0, longest_joined=0, many_results=0),
}


@pytest.fixture(params=list(CELLS.values()), ids=list(CELLS))
def cell(request):
    return request.param


@pytest.fixture(params=list(LAYOUTS.values()), ids=list(LAYOUTS))
def layout(request):
    """The fast path in all that it chooses by sizes, whatever they are."""
    return request.param


# Compiled once for each cell, shape and implementation: both layouts are compared with the same scan.
@functools.partial(jax.jit, static_argnames=("cell", "implementation", "reverse", "precision"))
def run(cell, params, xs, state, *, implementation, lengths=None, key=None, reverse=False, precision=None):
    """Gradients with respect to params, xs and state; outputs and final state."""

    def value(params, xs, state):
        options = {"lengths": lengths, "key": key, "reverse": reverse, "precision": precision}
        outputs = rnn.unroll(cell, params, xs, state, implementation=implementation, **options)
        return loss(outputs), outputs

    return jax.grad(value, argnums=(0, 1, 2), has_aux=True)(params, xs, state)


def unroll_and_differentiate(cell, params, xs, state, implementations: Any = ("fused", "scan"), **options):
    """What `run` returns, by each of the implementations."""
    return tuple(run(cell, params, xs, state, implementation=name, **options) for name in implementations)


def assert_equal_to_rounding(actual, expected, rounding):
    """Compares two pytrees, with errors relative to the largest number of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(a, e, rtol=0, atol=rounding * max(1.0, float(np.abs(e).max(initial=0))))


@pytest.mark.parametrize("cell", [*CELLS.values(), *REGULARIZED.values()], ids=[*CELLS, *REGULARIZED])
def test_it_equals_the_scan_in_double_precision(cell, layout):
    with jax.enable_x64(True):
        args = [
            jax.tree.map(lambda a: a.astype(float), tree)
            for tree in (draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,)))
        ]
        key = jax.random.key(5)
        both = functools.partial(unroll_and_differentiate, cell, *args, (layout, "scan"), key=key)
        assert_equal_to_rounding(*both(), rounding=1e-12)
        assert_equal_to_rounding(*both(lengths=jnp.array([3, 0, 5]), reverse=True), rounding=1e-12)


@pytest.mark.parametrize("name", ["lstm-all-options", "gru"])
@pytest.mark.parametrize(
    ("num_steps", "batch_shape", "reverse"),
    [(0, (4,), True), (1, (1,), False), (6, (2, 3), True), (5, (), False), (2, (0,), True)],
)
def test_it_equals_the_scan_in_single_precision(name, num_steps, batch_shape, reverse):
    cell = CELLS[name]
    args = draw_params(cell), draw_inputs(num_steps, *batch_shape), draw_state(cell, batch_shape)
    assert_equal_to_rounding(*unroll_and_differentiate(cell, *args, reverse=reverse), rounding=1e-6)


def test_it_is_the_default_of_cells_that_offer_their_equations(cell):
    params, xs = draw_params(cell), draw_inputs(T, B)
    scan, default = (
        str(jax.make_jaxpr(functools.partial(rnn.unroll, cell, implementation=implementation))(params, xs))
        for implementation in ("scan", None)
    )
    assert ("custom_vjp" in scan, "custom_vjp" in default) == (False, True)


def test_no_product_with_a_batch_of_gradients_is_left_in_the_backward_loop():
    cell = rnn.LSTM(8)
    params, xs = draw_params(cell), draw_inputs(T, B)

    def products_in_loops(implementation):
        def value(params):
            return loss(rnn.unroll(cell, params, xs, implementation=implementation))

        def loops(jaxpr):
            for equation in jaxpr.eqns:
                if equation.primitive.name == "scan":
                    yield equation
                elif "jaxpr" in equation.params:  # a jitted function
                    yield from loops(equation.params["jaxpr"].jaxpr)

        jaxpr = jax.make_jaxpr(jax.grad(value))(params).jaxpr
        return [str(loop.params["jaxpr"]).count("dot_general") for loop in loops(jaxpr)]

    assert products_in_loops("fused") == [1, 1], "forwards [x h 1] w, backwards dz w_h^T"
    assert sum(products_in_loops("scan")) > 2


@pytest.mark.parametrize("cell", [rnn.LSTM(8), rnn.GRU(8), rnn.LayerNormLSTM(8)], ids=lambda cell: type(cell).__name__)
def test_the_results_of_all_steps_are_written_over_in_place_and_never_copied(cell):
    params, xs = draw_params(cell), draw_inputs(50, B)

    def value(params):
        return loss(rnn.unroll(cell, params, xs, implementation=fused_in(many_results=0)))

    text = str(jax.jit(jax.grad(value)).lower(params).compile().as_text())
    copies = re.findall(r"= f32\[50,3,(?:8|16|32)\]\S* copy\(%(\S+)\)", text)
    assert [source for source in copies if "broadcast" not in source] == [], "only zeros, before the loops"


def test_large_cells_with_few_sequences_keep_the_batch_last_on_the_cpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    axis_of = {}
    for hidden_size, rows in [(128, 32), (512, 1), (512, 32), (512, 1000)]:
        params = jax.eval_shape(lambda H=hidden_size: rnn.LSTM(H).init(jax.random.key(0), 8))
        state = rnn.LSTM(hidden_size).initial_state((rows,))
        plan = make_plan(Problem(rnn.LSTM(hidden_size), params, state, jnp.ones((1, rows, 8))))
        axis_of[hidden_size, rows] = choose_axis(plan, jax.tree.leaves(params), rows)
    assert axis_of == {(128, 32): -1, (512, 1): -1, (512, 32): 0, (512, 1000): -1}


# --- other transforms ---


@pytest.mark.parametrize("name", ["vanilla", "lstm-all-options", "gru", "gru-reset-before", "lstm-layernorm"])
def test_second_derivatives(name):
    cell = CELLS[name]
    params, xs = draw_params(cell), draw_inputs(3, 2)

    def value(x, implementation):
        return loss(rnn.unroll(cell, params, x, implementation=implementation))

    @functools.partial(jax.jit, static_argnums=1)
    def both_ways(x, implementation):
        f = functools.partial(value, implementation=implementation)
        return jax.hessian(f)(x), jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2))(x)

    with jax.enable_x64(True):
        params, xs = jax.tree.map(lambda a: a.astype(float), (params, xs))
        assert_equal_to_rounding(both_ways(xs, fused_in(many_results=0)), both_ways(xs, "scan"), rounding=1e-11)


def test_second_derivatives_with_inputs_much_wider_than_the_state():
    cell = rnn.VanillaRNN(2)
    xs = jax.random.normal(jax.random.key(1), (3, 2, fused.WIDE))

    @functools.partial(jax.jit, static_argnums=1)
    def gradients(params, implementation):
        gradient = jax.grad(lambda params: loss(rnn.unroll(cell, params, xs, implementation=implementation)))
        return gradient(params), jax.grad(lambda params: jnp.sum(gradient(params).w_x ** 2))(params)

    params = cell.init(jax.random.key(0), fused.WIDE)
    assert_equal_to_rounding(gradients(params, "fused"), gradients(params, "scan"), rounding=1e-5)


@functools.partial(jax.jit, static_argnames=("cell", "implementation"))
def gradients_of_several(cell, params, xs, implementation):
    """Gradients with respect to parameters and inputs that lead with one more axis."""

    def value(params, xs):
        return loss(rnn.unroll(cell, params, xs, lengths=jnp.array([5, 2, 0]), implementation=implementation))

    return jax.vmap(jax.grad(value, argnums=(0, 1)))(params, xs)


def test_vmap_over_parameters_and_sequences(cell, layout):
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(draw_params(cell, seed) for seed in range(2)))
    xs = draw_inputs(2, T, B)
    with jax.enable_x64(True):
        params, xs = jax.tree.map(lambda a: a.astype(float), (params, xs))
        actual, expected = (gradients_of_several(cell, params, xs, way) for way in (layout, "scan"))
        assert_equal_to_rounding(actual, expected, rounding=1e-12)


CHUNKED = {
    **{name: CELLS[name] for name in ("lstm-all-options", "gru-reset-before")},
    "both": REGULARIZED["both"],
}


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("cell", CHUNKED.values(), ids=CHUNKED)
def test_inputs_multiplied_in_chunks_change_nothing(cell, axis):
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    resets = jnp.zeros((T, B), bool).at[2, 0].set(True).at[3].set(True)
    ragged = {"lengths": jnp.array([3, 0, 5]), "resets": resets, "key": jax.random.key(5)}

    @functools.partial(jax.jit, static_argnums=0)
    def outputs(implementation, *args):
        options = {"implementation": implementation, **ragged}
        backwards = rnn.unroll(cell, *args, reverse=True, **options)
        one_by_one = {name: value for name, value in options.items() if name not in ("lengths", "resets")}
        alone = jax.vmap(functools.partial(rnn.unroll, cell, args[0], **one_by_one), in_axes=(1, 0))(*args[1:])
        return rnn.unroll(cell, *args, **options), backwards, alone

    with jax.enable_x64(True):
        args = jax.tree.map(lambda a: a.astype(float), (params, xs, state))
        chunked, scan = (outputs(way, *args) for way in (fused_in(axis=axis, chunk_size=2), "scan"))
        assert_equal_to_rounding(chunked, scan, rounding=1e-12)


def test_few_sequences_with_large_matrices_are_read_in_chunks_on_the_cpu(monkeypatch):
    def chosen(hidden_size, input_size, rows, num_steps=CHUNK_SIZE):
        cell = rnn.LSTM(hidden_size)
        params = jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
        xs: Any = jax.ShapeDtypeStruct((num_steps, rows, input_size), float)
        plan = make_plan(Problem(cell, params, cell.initial_state((rows,)), xs))
        return choose_chunk_size(plan, jax.tree.leaves(params), rows, num_steps)

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    few = MOST_CHUNKED_ROWS
    assert [chosen(64, 192, 1), chosen(64, 191, 1), chosen(64, 192, 2)] == [CHUNK_SIZE, 1, 1]
    assert [chosen(128, 256, few), chosen(128, 255, few), chosen(128, 256, few + 1)] == [CHUNK_SIZE, 1, 1]
    assert [chosen(128, 256, rows) for rows in (0, 1, 2)] == [1, CHUNK_SIZE, CHUNK_SIZE]
    assert [chosen(128, 256, rows, CHUNK_SIZE - 1) for rows in (1, few)] == [1, 1]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [chosen(128, 256, rows) for rows in (1, few)] == [1, 1]


def test_chunks_are_taken_where_they_were_chosen():
    cell, few = rnn.LSTM(128), CHUNK_SIZE - 1
    params = cell.init(jax.random.key(0), 28)

    def has_chunks(function, num_steps, rows):
        return f"{CHUNK_SIZE},1,512" in str(jax.make_jaxpr(function)(params, jnp.ones((num_steps, rows, 28))))

    def outputs(params, xs):
        return rnn.unroll(cell, params, xs, implementation="fused")[1]

    assert [has_chunks(outputs, *shape) for shape in [(9, 1), (few, 1), (9, 2)]] == [True, False, False]
    assert not has_chunks(jax.grad(lambda params, xs: outputs(params, xs).sum()), 9, 1)


def test_low_precision_keeps_its_dtype(cell):
    params, xs = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (draw_params(cell), draw_inputs(T, B)))
    actual, expected = unroll_and_differentiate(cell, params, xs, cell.initial_state((B,), jnp.bfloat16))
    assert jax.tree.map(lambda a: a.dtype, actual) == jax.tree.map(lambda a: a.dtype, expected)


# --- precision ---


@jax.custom_vjp
def rounded_product(v, w):
    """A product of which all factors are rounded to bfloat16, as written in the dtype of v, forwards and backwards."""

    def rounded(a):
        return jax.lax.reduce_precision(a, exponent_bits=8, mantissa_bits=7)

    return rounded(v) @ rounded(w)


rounded_product.defvjp(
    lambda v, w: (rounded_product(v, w), (v, w)),
    lambda vw, dz: (rounded_product(dz, vw[1].T), rounded_product(vw[0].T, dz)),
)


@dataclasses.dataclass(frozen=True)
class Rounded(CellWrapper):
    """A cell whose products are rounded one by one, for the plain scan."""

    def step(self, params, state, x):
        def product(call):
            z = sum(rounded_product(v, w[:, call.columns]) for v, w in call.terms)
            return tuple(jnp.split(z if call.bias is None else z + call.bias[call.columns], call.parts, -1))

        return apply_equations(self.cell, params, state, x, Dense(product), None)


@pytest.mark.parametrize("name", ["lstm-all-options", "gru", "gru-reset-before"])
def test_bfloat16_rounds_the_factors_of_products_and_nothing_else(name, layout):
    cell = CELLS[name]
    with jax.enable_x64(True):
        args = [
            jax.tree.map(lambda a: a.astype(float), tree)
            for tree in (draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,)))
        ]
        fused_run, scan_run = unroll_and_differentiate(
            cell, *args, implementations=(layout, "scan"), precision="bfloat16"
        )
        (expected,) = unroll_and_differentiate(Rounded(cell), *args, implementations=["scan"])
        assert_equal_to_rounding(fused_run, expected, rounding=1e-12)
        assert_equal_to_rounding(scan_run[1], expected[1], rounding=1e-12)
        # JAX's own derivative rounds also what the products of the backward pass give.
        assert_equal_to_rounding(scan_run[0], expected[0], rounding=0.02)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_bfloat16_keeps_every_dtype_and_is_near(name):
    cell = CELLS[name]
    args = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    (exact,) = unroll_and_differentiate(cell, *args, implementations=["fused"])
    (rounded,) = unroll_and_differentiate(cell, *args, implementations=["fused"], precision="bfloat16")
    assert_equal_to_rounding(rounded, exact, rounding=0.05)
    assert any(jax.tree.leaves(jax.tree.map(lambda r, e: bool((r != e).any()), rounded, exact)))


# --- rematerialization ---


@pytest.mark.parametrize("implementation", ["scan", "fused"])
@pytest.mark.parametrize(
    ("num_steps", "chunk_size", "reverse"), [(0, True, False), (10, True, True), (10, 3, False), (5, 12, True)]
)
def test_chunks_change_nothing(implementation, num_steps, chunk_size, reverse):
    cell = rnn.zoneout(rnn.LSTM(3), h=0.3)
    params, xs, state = draw_params(cell), draw_inputs(num_steps, 2), draw_state(cell, (2,))
    lengths = jnp.array([num_steps, num_steps // 2])

    @functools.partial(jax.jit, static_argnames="remat")
    def run(params, xs, state, remat):
        def value(*args):
            outputs = rnn.unroll(
                cell,
                *args,
                lengths=lengths,
                reverse=reverse,
                key=jax.random.key(1),
                remat=remat,
                implementation=implementation,
            )
            return loss(outputs), outputs

        return jax.grad(value, argnums=(0, 1, 2), has_aux=True)(params, xs, state)

    assert_equal_to_rounding(run(params, xs, state, chunk_size), run(params, xs, state, False), rounding=1e-6)


def test_chunks_need_a_tenth_of_the_memory():
    cell = rnn.LSTM(32)
    params, xs = jax.eval_shape(lambda: (cell.init(jax.random.key(0), 4), jnp.zeros((2500, 8, 4))))

    def memory(**options):
        def value(params, xs):
            return jnp.sum(rnn.unroll(cell, params, xs, **options)[0].h)

        analysis = jax.jit(jax.grad(value)).lower(params, xs).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert memory(remat=True) < 0.1 * min(memory(), memory(implementation="scan"))


@pytest.mark.parametrize("remat", [0, -1, 1.5, "sqrt"])
def test_a_chunk_size_that_makes_no_sense(remat):
    with pytest.raises(ValueError, match="remat must be a positive whole number"):
        rnn.unroll(rnn.GRU(4), draw_params(rnn.GRU(4)), draw_inputs(T, B), remat=remat)


# --- cells of the user's own ---


@dataclasses.dataclass(frozen=True)
class Highway(rnn.EquationsCell):
    """Uses everything in more than one way: its input, a matrix and a bias outside of products too."""

    output_size: int

    def init(self, key, input_size):
        w = 0.5 * jax.random.normal(key, (self.output_size, self.output_size))
        return {"w": w, "b": w[0], "unused": w[1]}

    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.zeros((*batch_shape, self.output_size), dtype)

    def equations(self, params, state, x, dense):
        (z,) = dense((x, params["w"]), (state, params["w"]), (x * state, params["w"]), bias=params["b"])
        state = jnp.tanh(z) + x * params["b"] + params["w"].sum()
        return state, state * x


@pytest.mark.parametrize("longest", [0, 1000], ids=["apart", "joined"])
def test_a_user_s_cell(longest):
    cell = Highway(3)
    args = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    implementations = fused_in(longest_joined=longest), "scan"
    assert_equal_to_rounding(*unroll_and_differentiate(cell, *args, implementations=implementations), rounding=2e-6)


class Sliced(Highway):
    def equations(self, params, state, x, dense):
        (z,) = dense((x, 2 * params["w"]))
        return z, z


class Wide(Highway):
    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.zeros((*batch_shape, 2, self.output_size), dtype)


class NoEquations:
    output_size = 3

    def initial_state(self, batch_shape=(), dtype=float):
        return rnn.GRUState(jnp.zeros((*batch_shape, 3), dtype))

    def step(self, params, state, x):
        return state, x


PLAIN: Any = NoEquations()


@pytest.mark.parametrize(
    ("cell", "state", "message"),
    [
        (Sliced(3), jnp.zeros((B, 3)), r"gives dense an array of shape \(3, 3\) that is not one of its parameters"),
        (Wide(3), jnp.zeros((B, 2, 3)), "needs states with one axis of features"),
        (PLAIN, jnp.zeros((B, 3)), "needs a cell that offers its equations"),
        (rnn.zoneout(PLAIN, h=0.0), jnp.zeros((B, 3)), "needs a cell that offers its equations"),
    ],
)
def test_what_the_fast_path_refuses(cell, state, message):
    params = draw_params(Highway(3))
    with pytest.raises(ValueError, match=message):
        rnn.unroll(cell, params, draw_inputs(T, B), state, implementation="fused")


def test_what_a_precision_needs():
    xs = draw_inputs(T, B)
    with pytest.raises(ValueError, match=r"precision='bfloat16' needs a cell that offers its equations"):
        rnn.unroll(PLAIN, None, xs, precision="bfloat16")
    with pytest.raises(ValueError, match="precision must be one of None, bfloat16, not 'half'"):
        rnn.unroll(rnn.GRU(4), draw_params(rnn.GRU(4)), xs, precision="half")  # type: ignore


# --- sizes that switch a path change nothing ---


@dataclasses.dataclass(frozen=True)
class Centred(rnn.EquationsCell):
    """Does what needs the features last: a mean over them, a product with a constant, an index."""

    output_size: int

    def init(self, key, input_size):
        k_x, k_h = jax.random.split(key)
        return {
            "w_x": jax.random.normal(k_x, (input_size, self.output_size)) / input_size**0.5,
            "w_h": jax.random.normal(k_h, (self.output_size, self.output_size)) / self.output_size**0.5,
        }

    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.zeros((*batch_shape, self.output_size), dtype)

    def equations(self, params, state, x, dense):
        (z,) = dense((x, params["w_x"]), (state, params["w_h"]))
        z = (z - z.mean(-1, keepdims=True)) * jnp.linspace(0.5, 1.5, self.output_size) + state[..., :1]
        state = jnp.tanh(z)
        return state, state


class OwnLSTM(rnn.LSTM):
    """A subclass of a built-in cell with other equations."""

    def equations(self, params, state, x, dense):
        state, h = super().equations(params, state, x, dense)
        h = h - h.mean(-1, keepdims=True)
        return state._replace(h=h), h


@dataclasses.dataclass(frozen=True)
class Centring(CellWrapper, rnn.EquationsCell):
    """A user's wrapper of a built-in cell, with equations of its own."""

    def equations(self, params, state, x, dense, noise=None):
        state, h = apply_equations(self.cell, params, state, x, dense, noise)
        return state, h - h.mean(-1, keepdims=True)


@pytest.mark.parametrize("rows", [1, 2, 129])
@pytest.mark.parametrize(
    "cell",
    [Centred(5), OwnLSTM(4), Centring(rnn.LSTM(4)), rnn.zoneout(rnn.LayerNormLSTM(4), h=0.2), rnn.GRU(4)],
    ids=lambda cell: type(cell).__name__,
)
def test_the_size_that_switches_the_layout_changes_no_number(cell, rows):
    args = draw_params(cell), draw_inputs(2, rows), draw_state(cell, (rows,))
    small, large, scan = unroll_and_differentiate(
        cell, *args, implementations=("fused", fused_in(large_matrices=1), "scan")
    )
    assert_equal_to_rounding(small, scan, rounding=3e-6)
    assert_equal_to_rounding(large, scan, rounding=3e-6)


@pytest.mark.parametrize("input_size", [1023, 1024])
def test_a_user_s_cell_on_both_sides_of_the_true_size(input_size):
    cell = Centred(1024)
    params, xs = cell.init(jax.random.key(0), input_size), jax.random.normal(jax.random.key(1), (2, 2, input_size))
    fused_run, scan = (
        jax.jit(functools.partial(rnn.unroll, cell, implementation=implementation))(params, xs)
        for implementation in (None, "scan")
    )
    assert_equal_to_rounding(fused_run, scan, rounding=1e-5)
