"""What users hand over by mistake is refused in one line, and what is only unusual is taken."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import INPUT_SIZE, assert_close, draw_inputs, draw_params, draw_state, is_fused, loss

import rnn_jax
from rnn_jax.implementations.fused import unroll_fused
from rnn_jax.implementations.pallas import unroll_pallas, why_not_pallas
from rnn_jax.implementations.table import FUSED, PALLAS

rnn: Any = rnn_jax  # mistakes that a type checker would find, too
T, B = 5, 3
LENGTHS = jnp.array([5, 0, 2])
CELL = rnn.GRU(4)
LAYER = rnn.Recurrent(CELL)
STACK = rnn.stack(CELL, CELL)
BOTH = rnn.bidirectional(CELL)


def apply(net, params, state=None):
    return net.apply(params, draw_inputs(T, B), state)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            lambda: rnn.stack([CELL, CELL]),
            r"stack needs a cell or a layer, not a list of them: write stack\(\*layers\)",
        ),
        (lambda: rnn.stack((CELL, CELL)), "stack needs a cell or a layer, not a tuple of them"),
        (lambda: rnn.stack(CELL, None), "stack needs a cell, which has a step, or a layer, .*, not None"),
        (lambda: rnn.stack(rnn.LSTM), "stack needs a cell or a layer, not the class LSTM: call it with its size"),
        (lambda: rnn.residual(rnn.LSTM), "residual needs a cell or a layer, not the class LSTM"),
        (lambda: rnn.dropout([CELL], 0.5), "dropout needs a cell or a layer, not a list of them"),
        (lambda: rnn.bidirectional(rnn.LSTM), "bidirectional needs a cell, not the class LSTM"),
        (lambda: rnn.bidirectional(CELL, STACK), "bidirectional needs a cell, which has a step, not Stack"),
        (lambda: rnn.Recurrent(STACK), "Recurrent needs a cell, which has a step, not Stack"),
        (lambda: rnn.Recurrent(rnn.LSTM), "Recurrent needs a cell, not the class LSTM"),
        (lambda: rnn.zoneout(LAYER, h=0.1), "zoneout needs a cell, which has a step, not Recurrent"),
        (lambda: rnn.zoneout(rnn.LSTM, h=0.1), "zoneout needs a cell, not the class LSTM"),
        (
            lambda: rnn.variational_dropout(BOTH),
            "variational_dropout needs a cell, which has a step, not Bidirectional",
        ),
        (lambda: rnn.with_states(rnn.LSTM), "with_states needs a cell, not the class LSTM"),
        (lambda: rnn.with_states(STACK), "with_states needs a cell, which has a step, not Stack"),
        (lambda: rnn.tensor_parallel(rnn.LSTM), "tensor_parallel needs a cell, not the class LSTM"),
        (lambda: rnn.tensor_parallel(STACK), "tensor_parallel needs a cell that offers its equations"),
        (lambda: rnn.unroll(LAYER, None, draw_inputs(T)), "unroll needs a cell, .*, not Recurrent.*: call its apply"),
        (lambda: rnn.unroll(rnn.LSTM, None, draw_inputs(T)), "unroll needs a cell, not the class LSTM"),
        (lambda: rnn.explain(LAYER, (T, B, 3)), "explain needs a cell, which has a step, not Recurrent"),
        (lambda: rnn.explain(rnn.LSTM, (T, B, 3)), "explain needs a cell, not the class LSTM"),
        (
            lambda: apply(BOTH, tuple(draw_params(BOTH))),
            r"params must be a tuple of 2 parts, BothWays\(forward, backward\), for Bidirectional.*, not PyTreeDef",
        ),
        (
            lambda: apply(BOTH, draw_params(BOTH), rnn.LSTM(4).initial_state((B,))),
            r"state must be a tuple of 2 parts, BothWays\(forward, backward\)",
        ),
        (
            lambda: apply(STACK, draw_params(STACK), rnn.LSTM(4).initial_state((B,))),
            "state must be a tuple of 2 parts for Stack",
        ),
        (lambda: apply(STACK, list(draw_params(STACK))), "params must be a tuple of 2 parts for Stack"),
        (lambda: rnn.nnx.RNN(rnn.LSTM, in_features=3), "RNN needs a cell or a layer, not the class LSTM"),
        (lambda: rnn.nnx.RNNCell(rnn.LSTM, 3), "RNNCell needs a cell or a layer, not the class LSTM"),
        (lambda: rnn.linen.RNN(rnn.LSTM).init(jax.random.key(0), draw_inputs(T)), "RNN needs .* not the class LSTM"),
        (lambda: rnn.save("nowhere", rnn.LSTM, None), "save needs a cell or a layer, not the class LSTM"),
        (lambda: rnn.explain(CELL, (T, B, 3), jnp.int32), "xs has dtype int32, but needs a floating-point one"),
        (lambda: rnn.explain(CELL, (T,)), r"shape must be \(T, ..., input_size\), not \(5,\)"),
        (lambda: rnn.explain(CELL, (T, B, 3), platform="gpu"), "platform must be one of None, cpu, .*, not 'gpu'"),
        (lambda: rnn.explain(CELL, (T, B, 3), precision="half"), "precision must be one of None, bfloat16, not 'half'"),
        (lambda: rnn.LSTM(4, forget_bias="1"), "forget_bias must be a number, not '1'"),
        (lambda: rnn.MinLSTM(4, forget_bias=None), "forget_bias must be a number, not None"),
        (lambda: rnn.LayerNormLSTM(4, forget_bias=float("nan")), "forget_bias must be a number, not nan"),
        (lambda: rnn.LSTM(4, peepholes="no"), "peepholes must be True or False, not 'no'"),
        (lambda: rnn.GRU(4, reset_after=None), "reset_after must be True or False, not None"),
        (lambda: rnn.LRU(4, r_min=None), "r_min must be a number, not None"),
        (lambda: rnn.LRU(4, r_min=0.5, r_max=0.5), "r_min and r_max must be 0 <= r_min < r_max <= 1"),
        (lambda: rnn.LRU(4, max_phase=-1), "max_phase must be positive, not -1"),
        (lambda: rnn.GRU(4, initializer=["glorot"]), "initializer must be one of"),
        (lambda: rnn.LSTM(4, cell_clip="3"), "cell_clip must be positive, not '3'"),
        (lambda: rnn.LSTM(4, cell_clip=float("nan")), "cell_clip must be positive, not nan"),
        (lambda: rnn.dropout(CELL, None), "rate must be at least 0 and below 1, not None"),
        (lambda: rnn.dropout(CELL, jnp.ones(2)), "rate must be at least 0 and below 1, not Array"),
        (lambda: rnn.unroll(CELL, draw_params(CELL), draw_inputs(1, B), remat=0), "remat must be a positive whole"),
        (
            lambda: rnn.unroll(CELL, draw_params(CELL), draw_inputs(T, B), lengths=jnp.int32(3)),
            r"lengths has shape \(\), but needs \(3,\)",
        ),
    ],
)
def test_a_mistake_is_one_line(mistake, message):
    with pytest.raises(ValueError, match=message) as caught:
        mistake()
    assert "\n" not in str(caught.value)


def test_numbers_of_jax_and_numpy_are_numbers():
    assert rnn.dropout(CELL, jnp.float32(0.5)) == rnn.dropout(CELL, 0.5)
    assert rnn.LSTM(4, cell_clip=jnp.float32(3)) == rnn.LSTM(4, cell_clip=3.0)
    assert rnn.LSTM(4, forget_bias=jnp.float32(2), peepholes=np.True_) == rnn.LSTM(4, forget_bias=2, peepholes=True)
    assert hash(rnn.LRU(4, r_min=np.float64(0.5))) == hash(rnn.LRU(4, r_min=0.5))
    assert rnn.LayerNormLSTM(4, recurrent_dropout=jnp.float32(0.5)) == rnn.LayerNormLSTM(4, recurrent_dropout=0.5)
    params, xs = draw_params(CELL), draw_inputs(T, B)
    assert_close(rnn.unroll(CELL, params, xs, remat=np.True_), rnn.unroll(CELL, params, xs))


# --- cells written to the protocol ---


class Noisy:
    """Its step has no default for the noise."""

    output_size = 3

    def init(self, key, input_size):
        return None

    def noise(self, key, xs):
        return jax.random.normal(key, xs.shape)

    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.zeros((*batch_shape, 3), dtype)

    def step(self, params, state, x, noise):
        state = state + x + (0 if noise is None else noise)
        return state, state


@dataclasses.dataclass(frozen=True)
class NoisyEquations(Noisy, rnn.EquationsCell):
    step = rnn.EquationsCell.step

    def init(self, key, input_size):
        return {"w": jnp.eye(3)}

    def equations(self, params, state, x, dense, noise):
        (z,) = dense((x, params["w"]))
        state = state + z + (0 if noise is None else noise)
        return state, state


@pytest.mark.parametrize("cell", [Noisy(), NoisyEquations()])
def test_a_cell_with_noise_is_given_none_without_a_key(cell):
    xs, params = draw_inputs(T, B), cell.init(jax.random.key(0), 3)
    assert_close(rnn.unroll(cell, params, xs)[1], jnp.cumsum(xs, 0), atol=1e-5)
    noise = cell.noise(jax.random.key(1), xs)
    assert_close(rnn.unroll(cell, params, xs, key=jax.random.key(1))[1], jnp.cumsum(xs + noise, 0), atol=1e-5)
    rnn.tensor_parallel(NoisyEquations()).step({"w": jnp.eye(3)}, jnp.zeros((B, 3)), xs[0])


@pytest.mark.parametrize("options", [{}, {"lengths": LENGTHS}, {"remat": 2}])
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda state, x: (state, x[..., :2]), r"an output of shape \(3, 3\), not \(3, 2\)"),
        (lambda state, x: (state, (x, x)), r"an output of shape \(3, 3\), not \(\(3, 3\), \(3, 3\)\)"),
        (lambda state, x: (state[..., :2], x), r"a state like its own, float32 \(3, 3\), not float32 \(3, 2\)"),
        (lambda state, x: ((state, x), x), r"a state of the structure PyTreeDef\(\*\), not PyTreeDef\(\(\*, \*\)\)"),
        (lambda state, x: (state, x, x), r"\(state, output\), not 3 values"),
        (lambda state, x: None, r"\(state, output\), not a NoneType"),
    ],
)
def test_a_step_that_breaks_the_protocol_is_named(returned, message, options):
    class Broken(Noisy):
        def step(self, params, state, x, noise):
            return returned(state, x)

    with pytest.raises(ValueError, match=f"the step of .*Broken.* must return {message}") as caught:
        rnn.unroll(Broken(), None, draw_inputs(T, B), **options)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_user_s_step_is_not_replaced():
    class Faulty(Noisy):
        def step(self, params, state, x, noise):
            raise TypeError("a mistake of the user's")

    with pytest.raises(TypeError, match="a mistake of the user's"):
        rnn.unroll(Faulty(), None, draw_inputs(T, B))


@pytest.mark.parametrize("noise", [lambda xs: jnp.float32(1), lambda xs: xs[0], lambda xs: (xs, xs[:, 0, 0])])
def test_noise_that_does_not_lead_with_time_and_batch_is_named(noise):
    class Odd(Noisy):
        def noise(self, key, xs):
            return noise(xs)

    with pytest.raises(ValueError, match=r"noise.* has shape .*, but needs to lead with the steps and the batch shape"):
        rnn.unroll(Odd(), None, draw_inputs(T, B), key=jax.random.key(0))


def test_a_state_that_does_not_lead_with_the_batch_is_named():
    with pytest.raises(ValueError, match=r"state has shape \(3,\), but needs to lead with the batch .*, \(4,\)"):
        rnn.unroll(Noisy(), None, draw_inputs(T, 4), jnp.zeros(3))


def test_a_cell_that_can_change_is_read_anew_at_every_call():
    class Scaled(Noisy):
        scale = 1.0

        def step(self, params, state, x, noise):
            return state, self.scale * x

    cell, xs = Scaled(), draw_inputs(T, B)
    assert_close(rnn.unroll(cell, None, xs)[1], xs)
    cell.scale = 2.0
    assert_close(rnn.unroll(cell, None, xs)[1], 2 * xs)


# --- what is unusual ---


@pytest.mark.parametrize("implementation", ["scan", "fused"])
def test_lengths_of_sequences_of_grids(implementation):
    params, xs = draw_params(CELL), draw_inputs(T, B, 2, 2)
    run = functools.partial(rnn.unroll, CELL, params, xs, reverse=True, implementation=implementation)
    assert_close(run(lengths=LENGTHS), run(lengths=jnp.broadcast_to(LENGTHS[:, None, None], (B, 2, 2))))
    ys = run(lengths=LENGTHS)[1]
    assert_close(rnn.last_output(ys, LENGTHS)[2], ys[1, 2])


@pytest.mark.parametrize("remat", [True, 2])
@pytest.mark.parametrize("batch_shape", [(0,), (2, 0)])
def test_an_empty_batch_in_chunks(batch_shape, remat):
    def value(params, xs):
        return loss(rnn.unroll(CELL, params, xs, remat=remat)[1])

    gradients = jax.grad(value)(draw_params(CELL), draw_inputs(T, *batch_shape))
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_an_empty_batch_of_every_cell(cell):
    state, ys = jax.eval_shape(functools.partial(rnn.unroll, cell), draw_params(cell), draw_inputs(T, 0))
    assert ys.shape == (T, 0, cell.output_size)
    assert all(leaf.shape[0] == 0 for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("cell", [rnn.GRU(4), rnn.RGLRU(4, blocks=2)], ids=["newton", "linear"])
def test_an_empty_batch_in_parallel(cell):
    assert rnn.unroll(cell, draw_params(cell), draw_inputs(T, 0), implementation="parallel")[1].shape == (T, 0, 4)


def test_all_parameters_can_be_donated(cell):
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    assert len({leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)}) == len(jax.tree.leaves(params))


def test_every_state_can_be_donated(cell):
    state = cell.initial_state((B,))
    step = jax.jit(cell.step, donate_argnums=1)
    assert step(draw_params(cell), state, draw_inputs(B))[1].shape == (B, cell.output_size)
    assert len({leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(cell.initial_state((B,)))}) == len(state)


KERNELS = PALLAS._replace(
    why_not=lambda problem, platform: why_not_pallas(problem, "cuda"),
    run=functools.partial(unroll_pallas, backend="gpu", interpret=True),
)
FIRST = FUSED._replace(run=functools.partial(unroll_fused, axis=0, longest_joined=0))


def test_no_cell_or_layer_relies_on_implicit_broadcasting(cell):
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
    kernels = [KERNELS] * (type(cell) in (rnn.LSTM, rnn.GRU, rnn.VanillaRNN) and cell.output_size == 4)
    if isinstance(cell, rnn.GRU) and not cell.reset_after:
        kernels = []
    with jax.numpy_rank_promotion("raise"):
        cell.step(params, state, xs[0])
        for implementation in ("scan", *(("fused", FIRST) if is_fused(cell) else ("parallel",)), *kernels):
            options = {"implementation": implementation, "lengths": LENGTHS}
            value = lambda params, options=options: loss(rnn.unroll(cell, params, xs, **options))  # noqa: E731
            assert jax.tree.structure(jax.eval_shape(jax.grad(value), params)) == jax.tree.structure(params)
        net = rnn.stack(
            rnn.residual(rnn.dropout(rnn.bidirectional(rnn.LSTM(INPUT_SIZE), merge="sum"), 0.1)),
            rnn.tensor_parallel(cell) if is_fused(cell) else cell,
            rnn.zoneout(rnn.variational_dropout(rnn.LSTM(4), states=0.1), h=0.1),
        )
        outputs = jax.eval_shape(
            lambda: net.apply(draw_params(net), xs[..., None, :], lengths=LENGTHS, key=jax.random.key(0))
        )
        assert outputs[1].shape == (T, B, 1, 4)
        jax.eval_shape(lambda: rnn.last_output(jnp.ones((T, B, 2)), LENGTHS))


@pytest.fixture
def compilations():
    """A list that grows by one with every program that JAX compiles."""
    compiled = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield compiled
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("options", [{}, {"implementation": "scan", "remat": 2, "reverse": True}])
def test_equal_calls_outside_of_jit_compile_once(compilations, options):
    counts = []
    for _ in range(3):
        cell = rnn.LSTM(4, forget_bias=0.25)  # another object every time, but the same value
        params, xs = draw_params(cell), draw_inputs(T, B)
        before = len(compilations)
        rnn.unroll(cell, params, xs, lengths=LENGTHS, **options)
        counts.append(len(compilations) - before)
    assert counts[0] > 0
    assert counts[1:] == [0, 0]
