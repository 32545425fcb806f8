"""All steps at once against one after the other: outputs, gradients, and how Newton's method found them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CELLS, INPUT_SIZE, draw_inputs, draw_params, draw_state, loss

import rnn_jax as rnn
from rnn_jax.implementations import parallel
from rnn_jax.implementations.recurrence import by_halves, in_a_loop, linear_recurrence, run_backwards

B = 3


@dataclasses.dataclass(frozen=True)
class MGU:
    """A user's cell: the minimal gated unit, with nothing but a step."""

    output_size: int

    def init(self, key, input_size):
        scale = 0.5 / (input_size + self.output_size) ** 0.5
        return scale * jax.random.normal(key, (2, input_size + self.output_size, self.output_size))

    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.zeros((*batch_shape, self.output_size), dtype)

    def step(self, params, state, x):
        f = jax.nn.sigmoid(jnp.concatenate([x, state], -1) @ params[0])
        n = jnp.tanh(jnp.concatenate([x, f * state], -1) @ params[1])
        h = (1 - f) * state + f * n
        return h, h


class Logistic:
    """A chaotic cell: where it is after many steps, no guess can tell."""

    output_size = INPUT_SIZE

    def init(self, key, input_size):
        return jnp.float32(3.9)

    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.full((*batch_shape, INPUT_SIZE), 0.3, dtype)

    def step(self, params, state, x):
        state = params * state * (1 - state) + 0.001 * jnp.tanh(x)
        return state, state


EVERY = {
    **CELLS,
    "gru-blocks": rnn.GRU(4, blocks=2),
    "slstm-heads": rnn.SLSTM(4, heads=2),
    "user's": MGU(4),
    "zoneout": rnn.zoneout(rnn.MinGRU(4), h=0.3),
    "variational": rnn.variational_dropout(rnn.LSTM(4), inputs=0.2, states=0.3),
    "recurrent dropout": rnn.LayerNormLSTM(4, recurrent_dropout=0.3),
}


@functools.partial(jax.jit, static_argnames=("cell", "reverse", "implementation", "remat"))
def run(cell, params, xs, state, lengths=None, key=None, resets=None, *, implementation, reverse=False, remat=0):
    """Gradients with respect to all that is real, and the outputs."""

    def of(params, xs, state):
        options = {"reverse": reverse, "remat": remat or False, "implementation": implementation}
        outputs = rnn.unroll(cell, params, xs, state, lengths=lengths, resets=resets, key=key, **options)
        return loss(outputs), outputs

    return jax.grad(of, argnums=(0, 1, 2), has_aux=True)(params, xs, state)


def assert_near(actual, expected, tolerance):
    """Compares pytrees, each array as a whole: to the tolerance if it is small, else relative to its largest number."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1, np.abs(e).max(initial=0)))


def assert_parallel_is_scan(cell, num_steps, tolerance, params=None, **arguments):
    params = draw_params(cell) if params is None else params
    xs, state = draw_inputs(num_steps, B), draw_state(cell, (B,))
    of_parallel, of_scan = (
        run(cell, params, xs, state, implementation=name, **arguments) for name in ("parallel", "scan")
    )
    assert_near(of_parallel, of_scan, tolerance)
    return of_parallel


@pytest.mark.parametrize("name", list(EVERY))
def test_parallel_is_scan_in_float32(name):
    resets = jnp.zeros((21, B), bool).at[5, 0].set(True).at[7, 2].set(True)
    arguments = {"lengths": jnp.array([21, 0, 8]), "resets": resets, "reverse": True, "key": jax.random.key(0)}
    assert_parallel_is_scan(EVERY[name], 21, 1e-5, **arguments)


@pytest.mark.parametrize("name", ["lstm", "slstm", "lru", "user's"])
def test_parallel_is_scan_in_float64(name):
    with jax.enable_x64(True):
        (_, _, _), (_, ys) = assert_parallel_is_scan(EVERY[name], 300, 1e-10)
        assert ys.dtype == jnp.float64


@pytest.mark.parametrize("cell", [rnn.VanillaRNN(4), rnn.LRU(4)], ids=["newton", "linear"])
def test_one_step(cell):
    assert_parallel_is_scan(cell, 1, 1e-5)


def test_no_steps_at_all():
    cell = rnn.GRU(4)
    state, ys = rnn.unroll(cell, draw_params(cell), draw_inputs(0, B), implementation="parallel")
    assert not state.h.any()
    assert ys.shape == (0, B, 4)


@pytest.mark.parametrize(
    "cell",
    [rnn.LSTM(40), rnn.LSTM(48, projection_size=24), MGU(70)],
    ids=["two arrays", "arrays of two sizes", "no equations"],
)
def test_of_large_states_a_part_of_the_jacobian_will_do(cell):
    with jax.enable_x64(True):
        params = cell.init(jax.random.key(0), INPUT_SIZE)
        assert_parallel_is_scan(cell, 12, 1e-10, params=params)
        report = rnn.newton_report(cell, params, draw_inputs(12, B))
        assert report.converged


@pytest.mark.parametrize("name", ["lstm", "mingru"])
def test_remat_changes_nothing(name):
    cell = EVERY[name]
    arguments = draw_params(cell), draw_inputs(11, B), draw_state(cell, (B,))
    whole, in_chunks = (run(cell, *arguments, implementation="parallel", remat=remat) for remat in (0, 4))
    assert_near(in_chunks, whole, 1e-5)


def test_layers_run_in_parallel():
    cell = rnn.GRU(4)
    layers = [rnn.bidirectional(cell, implementation=implementation) for implementation in ("parallel", "scan")]
    params, xs = draw_params(layers[0]), draw_inputs(9, B)
    of_parallel, of_scan = (jax.jit(layer.apply)(params, xs, lengths=jnp.array([9, 0, 4])) for layer in layers)
    assert_near(of_parallel, of_scan, 1e-5)


# --- where Newton's method fails ---


def test_a_chaotic_cell_gets_the_scan_s_answer():
    cell, params, xs = Logistic(), jnp.float32(3.9), draw_inputs(200, B)
    report = rnn.newton_report(cell, params, xs)
    assert not report.converged
    of_parallel, of_scan = (
        jax.jit(functools.partial(rnn.unroll, cell, implementation=name))(params, xs) for name in ("parallel", "scan")
    )
    assert_near(of_parallel[1][:20], of_scan[1][:20], 1e-3)  # chaos tells two compilations apart
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(of_parallel))


def test_where_the_rounds_run_out_it_is_a_scan(monkeypatch):
    monkeypatch.setattr(parallel, "MOST_ROUNDS", 1)
    cell = rnn.LSTM(5)  # not one that another test has compiled
    assert not rnn.newton_report(cell, draw_params(cell), draw_inputs(30, B)).converged
    assert_parallel_is_scan(cell, 30, 1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_the_input_spoils_stays_spoilt_in_its_own_sequence(value):
    cell = rnn.GRU(4)
    xs = draw_inputs(9, B).at[4, 1].set(value)
    of_parallel, of_scan = (
        rnn.unroll(cell, draw_params(cell), xs, implementation=name)[1] for name in ("parallel", "scan")
    )
    np.testing.assert_allclose(of_parallel, of_scan, atol=1e-5)


# --- what can be had of it ---


def test_a_new_cell_takes_a_few_rounds():
    cell = rnn.LSTM(16)
    params, xs = cell.init(jax.random.key(0), INPUT_SIZE), draw_inputs(100, B)
    report = rnn.newton_report(cell, params, xs, lengths=jnp.array([100, 0, 30]), reverse=True)
    assert report.converged
    assert 1 <= report.rounds <= 6
    assert report.residual <= 1e-6


def test_a_linear_cell_takes_one_round():
    cell = rnn.MinGRU(4)
    assert rnn.newton_report(cell, draw_params(cell), draw_inputs(50, B)).rounds == 1


# --- transforms ---


@pytest.mark.parametrize("cell", [rnn.VanillaRNN(3), rnn.LRU(3)], ids=["newton", "linear"])
def test_forward_mode_and_second_derivatives(cell):
    with jax.enable_x64(True):
        params, xs = draw_params(cell), draw_inputs(6, B)

        def value(params, implementation):
            return loss(rnn.unroll(cell, params, xs, implementation=implementation))

        tangents = draw_params(cell, seed=5)

        @functools.partial(jax.jit, static_argnums=0)
        def derivatives(implementation):
            of = functools.partial(value, implementation=implementation)
            tangent_of_grad = jax.jvp(jax.grad(of), (params,), (tangents,))[1]
            grad_of_grad = jax.grad(lambda params: loss(jax.grad(of)(params)))(params)
            return jax.jvp(of, (params,), (tangents,))[1], tangent_of_grad, grad_of_grad

        assert_near(derivatives("parallel"), derivatives("scan"), 1e-10)


@pytest.mark.parametrize("cell", [rnn.VanillaRNN(3), rnn.MinLSTM(3)], ids=["newton", "linear"])
def test_vmap_is_one_at_a_time(cell):
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(draw_params(cell, seed) for seed in range(2)))
    xs = draw_inputs(10, B)
    grad = jax.grad(lambda params: loss(rnn.unroll(cell, params, xs, implementation="parallel")))
    together = jax.jit(jax.vmap(grad))(several)
    for seed in range(2):
        assert_near(jax.tree.map(lambda leaf, i=seed: leaf[i], together), jax.jit(grad)(draw_params(cell, seed)), 1e-5)


# --- linear recurrences ---


@pytest.mark.parametrize("kind", ["real", "complex", "matrices"])
def test_recurrences_by_halves_are_loops(kind):
    a, b = (np.random.default_rng(seed).normal(size=(7, 2, 3)) for seed in (0, 1))
    if kind == "complex":
        a = a + 1j * b[::-1]
    if kind == "matrices":
        a = np.random.default_rng(2).normal(size=(7, 2, 3, 3))
    with jax.enable_x64(True):
        a, b = jnp.array(a), jnp.array(b).astype(a.dtype)

        @jax.jit
        def run_each(a, b):
            """Each way to solve it with the loop's result: forwards, transposed, and the gradients of a and b."""
            expected = in_a_loop(a, b)
            forwards = [(solve(a, b), expected) for solve in (by_halves, linear_recurrence)]
            _, transpose = jax.vjp(functools.partial(in_a_loop, a), b)
            backwards = run_backwards(a, expected), transpose(expected)[0]

            def of(solve, a, b):
                return loss(jnp.abs(solve(a, b)))

            gradients = tuple(
                jax.grad(functools.partial(of, solve), argnums=(0, 1))(a, b) for solve in (linear_recurrence, in_a_loop)
            )
            return [*forwards, backwards, gradients]

        for actual, expected in run_each(a, b):
            assert_near(actual, expected, 1e-10)


# --- the door, and the choice ---


def test_what_it_cannot_do_is_refused():
    cell = rnn.GRU(4)
    params, xs = draw_params(cell), draw_inputs(5, B)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, xs))
    with pytest.raises(ValueError, match='implementation="parallel" needs a state of float32 or float64'):
        rnn.unroll(cell, *half, implementation="parallel")
    with pytest.raises(ValueError, match='implementation="parallel" needs products in the dtype of xs'):
        rnn.unroll(cell, params, xs, precision="bfloat16", implementation="parallel")


def test_long_sequences_of_linear_cells_are_run_in_parallel_by_themselves():
    text = rnn.explain(rnn.MinGRU(4), (300, B, INPUT_SIZE))
    assert "  parallel: chosen: " in text
    assert "benchmarks/RESULTS.md" in text
    for cell, shape in (
        (rnn.MinGRU(4), (299, B, INPUT_SIZE)),
        (rnn.MinGRU(129), (300, 1, INPUT_SIZE)),
        (rnn.GRU(4), (300, B, INPUT_SIZE)),
        (MGU(4), (300, B, INPUT_SIZE)),
    ):
        assert "  parallel: possible" in rnn.explain(cell, shape)


def test_half_precision_of_a_linear_cell_is_summed_in_float32():
    cell = rnn.MinGRU(4)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (draw_params(cell), draw_inputs(300, B)))
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    (state, ys), (_, expected) = (rnn.unroll(cell, *each, implementation="parallel") for each in (half, wide))
    assert (state.h.dtype, ys.dtype) == (jnp.bfloat16, jnp.bfloat16)
    np.testing.assert_allclose(ys.astype(jnp.float32), expected, atol=0.05)
