"""Which implementation `unroll` uses, and what it says about it."""

import functools

import jax
import jax.numpy as jnp
import pytest
from helpers import assert_close, draw_inputs, draw_params, draw_state, loss

import rnn_jax as rnn
from rnn_jax.cells.equations import offers_equations
from rnn_jax.implementations.pallas import unroll_pallas, why_not_pallas
from rnn_jax.implementations.platform import default_platform
from rnn_jax.implementations.problem import Implementation, Problem
from rnn_jax.implementations.scan import unroll_scan
from rnn_jax.implementations.table import IMPLEMENTATIONS, PALLAS, TABLE, Rule, choose, select
from rnn_jax.lengths import valid_steps
from rnn_jax.unroll import in_chunks

T, B = 5, 3


def implementation_of(cell, batch_size):
    """What `unroll` does by default, told by whether it has a derivative of its own."""
    params, xs = cell.init(jax.random.key(0), 4), jnp.ones((T, batch_size, 4))
    return "fused" if "custom_vjp" in str(jax.make_jaxpr(functools.partial(rnn.unroll, cell))(params, xs)) else "scan"


@pytest.mark.parametrize(
    ("cell", "batch_size", "chosen"),
    [
        (rnn.LSTM(1), 64, "fused"),
        (rnn.GRU(1), 64, "fused"),
        (rnn.GRU(2), 64, "fused"),
        (rnn.VanillaRNN(1), 64, "fused"),
        (rnn.GRU(1, reset_after=False), 64, "fused"),
        (rnn.zoneout(rnn.GRU(1), h=0.1), 64, "fused"),
    ],
)
def test_the_table_is_followed_and_explained(cell, batch_size, chosen):
    assert implementation_of(cell, batch_size) == chosen
    text = rnn.explain(cell, (T, batch_size, 4))
    assert text.splitlines()[0] == f"{cell} on float32 [5, {batch_size}, 4], cpu:"
    [line] = [line for line in text.splitlines() if "chosen" in line]
    assert line.startswith(f"  {chosen}: chosen: ")
    assert "benchmarks/RESULTS.md" in line
    assert "  cudnn: needs CUDA" in text


def test_a_single_step_is_not_worth_joining_matrices():
    step, two = rnn.explain(rnn.LSTM(1), (1, 4, 4)), rnn.explain(rnn.LSTM(1), (2, 4, 4))
    assert "\n  scan: chosen: a single step" in step
    assert "\n  fused: chosen: " in two


def test_a_cell_without_equations_is_scanned():
    class Counter:
        """Cannot even be traced."""

        output_size = 1

        def init(self, key, input_size):
            raise NotImplementedError

        def initial_state(self, batch_shape=(), dtype=float):
            return jnp.zeros((*batch_shape, 1), dtype)

        def step(self, params, state, x):
            return state + 1, state

    text = rnn.explain(Counter(), (T, B, 3), jnp.bfloat16)
    assert (
        "on bfloat16 [5, 3, 3], cpu:\n  scan: chosen: it needs nothing of a cell but its step\n  fused: needs a" in text
    )
    assert rnn.unroll(Counter(), None, draw_inputs(T, B))[0][0, 0] == T


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_where_nothing_was_measured_it_keeps_to_what_runs_everywhere(platform):
    text = rnn.explain(rnn.LSTM(128), (28, 128, 28), precision="bfloat16", platform=platform)
    assert f"{platform}:" in text.splitlines()[0]
    assert "fused: chosen: no measurement speaks for another" in text


def test_every_platform_and_cell_finds_a_rule(cell):
    for platform in ("cpu", "cuda", "rocm", "tpu", "metal"):
        params, xs = draw_params(cell), draw_inputs(T, B)
        rule = choose(Problem(cell, params, cell.initial_state((B,)), xs), platform)
        matrices = all(leaf.ndim <= 2 for leaf in jax.tree.leaves(params))
        assert rule.use.name == ("fused" if offers_equations(cell) and matrices else "scan")
    assert all(rule.use in IMPLEMENTATIONS.values() for rule in TABLE)


def test_the_platform_is_told():
    assert default_platform() == jax.default_backend() == "cpu"


def test_what_runs_on_one_platform_only_leaves_the_others_what_they_had():
    """A host whose table prefers something special: arrays may lie on its CPU, and exports may be for anything."""

    def cube_roots(problem):
        return jax.tree.map(jnp.cbrt, unroll_scan(problem))

    special = Implementation("cube roots", lambda *_: "", cube_roots, portable=False)
    table = (Rule("cuda", lambda _: True, special, "for the sake of this test"), *TABLE)
    cell = rnn.LSTM(4)
    params, xs = draw_params(cell), draw_inputs(T, B)

    def unroll_there(params, xs, valid=None, in_the_end=lambda run, problem: run(problem)):
        problem = Problem(cell, params, cell.initial_state((B,)), xs, valid=valid)
        return in_the_end(select(problem, platform="cuda", table=table), problem)

    def value_there(params, xs):
        valid = valid_steps(jnp.array([5, 0, 2]), T, (B,))
        return loss(unroll_there(params, xs, valid, functools.partial(in_chunks, chunk_size=2)))

    def value(params, xs):
        return loss(rnn.unroll(cell, params, xs, lengths=jnp.array([5, 0, 2]), implementation="fused"))

    there, expected = (jax.jit(jax.grad(f, argnums=(0, 1)))(params, xs) for f in (value_there, value))
    assert_close(there, expected)
    run = jax.jit(unroll_there)
    on_cpu, on_cuda = (
        run.trace(params, xs).lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda")
    )
    assert ("cbrt" in on_cpu, "cbrt" in on_cuda) == (False, True)
    exported = jax.export.export(run, platforms=("cpu", "cuda"))(params, xs)
    assert_close(exported.call(params, xs), rnn.unroll(cell, params, xs, implementation="fused"))


def test_layers_take_an_implementation():
    cell = rnn.LSTM(4)
    for layer in (rnn.Recurrent(cell, implementation="scan"), rnn.bidirectional(cell, implementation="scan")):
        params, xs = draw_params(layer), draw_inputs(T, B)
        assert "custom_vjp" not in str(jax.make_jaxpr(layer.apply)(params, xs))
    with pytest.raises(ValueError, match='implementation="cudnn" needs CUDA'):
        rnn.Recurrent(cell, implementation="cudnn").apply(draw_params(cell), draw_inputs(T, B))


# The kernels for GPUs, on the CPU.
KERNELS = PALLAS._replace(
    why_not=lambda problem, platform: why_not_pallas(problem, "cuda"),
    run=functools.partial(unroll_pallas, backend="gpu", interpret=True),
)


@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_both_directions_are_one_kernel(lengths):
    cell = rnn.LSTM(4)
    params, xs = draw_params(rnn.bidirectional(cell)), draw_inputs(4, B)
    state = draw_state(rnn.bidirectional(cell), (B,))

    @functools.partial(jax.jit, static_argnames="implementation")
    def run(params, xs, state, implementation):
        layer = rnn.bidirectional(cell, implementation=implementation)
        return layer.apply(params, xs, state, lengths=lengths)

    assert str(jax.make_jaxpr(run, static_argnums=3)(params, xs, state, KERNELS)).count("pallas_call") == 1
    kernels, scan = (run(params, xs, state, implementation) for implementation in (KERNELS, "scan"))
    assert_close(kernels, scan, atol=1e-5, rtol=1e-5)


def test_padding_reaches_no_gradient_of_both_directions():
    layer, lengths = rnn.bidirectional(rnn.GRU(4), implementation=KERNELS), jnp.array([4, 0, 2])
    params, xs = draw_params(layer), draw_inputs(4, B)
    padding = jnp.arange(4)[:, None, None] >= lengths[:, None]

    @jax.jit
    def grad(xs):
        return jax.grad(lambda *arguments: loss(layer.apply(*arguments, lengths=lengths)), argnums=(0, 1))(params, xs)

    assert_close(grad(jnp.where(padding, jnp.nan, xs)), grad(xs), atol=0, rtol=0)


def test_kernels_by_name():
    cell = rnn.GRU(4)
    params, xs = draw_params(cell), draw_inputs(T, B)
    ours, scan = (
        rnn.unroll(cell, params, xs, reverse=True, implementation=implementation)
        for implementation in (KERNELS, "scan")
    )
    assert_close(ours, scan, atol=1e-5, rtol=1e-5)
    half = jax.tree.map(lambda a: a.astype(jnp.float16), (params, xs))
    with pytest.raises(
        ValueError, match=r'implementation="pallas" needs .*float32.*, not .*float16: leave it out, or use'
    ):
        rnn.unroll(cell, *half, implementation=KERNELS)


def test_an_implementation_of_the_users_own_is_used_by_every_layer():
    asked = []

    def counted(problem):
        asked.append(problem.cell)
        return unroll_scan(problem)

    bottom, top, own = rnn.GRU(3), rnn.LSTM(2), Implementation("counted", lambda problem, platform: "", counted)
    net = rnn.stack(rnn.Recurrent(bottom, implementation=own), rnn.bidirectional(top, implementation=own))
    params, xs = draw_params(net), draw_inputs(T, B)
    assert_close(net.apply(params, xs), rnn.stack(bottom, rnn.bidirectional(top)).apply(params, xs), atol=1e-6)
    assert asked == [bottom, top, top]
