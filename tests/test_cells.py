"""What every cell promises as a value, how its parameters begin, and that JAX's transforms go through it."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import INPUT_SIZE, assert_close, draw_inputs, draw_params, draw_state, loss, unroll
from jax.test_util import check_grads

import rnn_jax as rnn

T, B = 4, 2


def test_a_cell_is_a_value(cell):
    twin = pickle.loads(pickle.dumps(cell))
    assert twin == cell
    assert hash(twin) == hash(cell)
    assert eval(repr(cell), dict(vars(rnn))) == cell
    with pytest.raises(AttributeError):
        cell.hidden_size = 5


def test_a_cell_says_what_it_is():
    assert rnn.LSTM(128) != rnn.LSTM(128, forget_bias=0.0)
    assert str(rnn.GRU(128)) == "GRU(hidden_size=128, reset_after=True, initializer='glorot')"


def test_shapes(cell):
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    state, y = cell.step(params, cell.initial_state((B,)), draw_inputs(B))
    assert y.shape == (B, cell.output_size)
    assert jax.tree.structure(state) == jax.tree.structure(cell.initial_state((B,)))
    if hasattr(state, "h"):
        np.testing.assert_array_equal(y, state.h)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rnn.LSTM(0), "hidden_size must be a positive whole number, not 0"),
        (lambda: rnn.GRU(-1), "hidden_size must be"),
        (lambda: rnn.VanillaRNN(2.5), "hidden_size must be"),  # type: ignore
        (lambda: rnn.LSTM(4, projection_size=0), "projection_size must be"),
        (lambda: rnn.LSTM(4, projection_clip=1.0), "projection_clip needs a projection_size"),
        (lambda: rnn.LSTM(4, cell_clip=-1.0), "cell_clip must be positive"),
        (lambda: rnn.LSTM(4, initializer="he"), "initializer must be one of glorot, orthogonal"),  # type: ignore
        (lambda: rnn.VanillaRNN(4, activation="gelu"), "activation must be one of tanh, relu"),  # type: ignore
        (lambda: rnn.LayerNormLSTM(4, recurrent_dropout=1.0), "recurrent_dropout must be at least 0 and below 1"),
        (lambda: rnn.GRU(4).init(jax.random.key(0), 0), "input_size must be a positive whole number"),
        (lambda: rnn.GRU(4, blocks=3), "blocks must divide hidden_size, which 3 does not: it is 4"),
        (lambda: rnn.RGLRU(4, blocks=0), "blocks must be a positive whole number"),
        (lambda: rnn.SLSTM(4, heads=8), "heads must divide hidden_size"),
        (lambda: rnn.LRU(4, r_min=0.5, r_max=0.4), "r_min and r_max must be 0 <= r_min < r_max <= 1, not 0.5 and 0.4"),
        (lambda: rnn.MinGRU(0), "hidden_size must be"),
        (lambda: rnn.MinLSTM(4).init(jax.random.key(0), 0), "input_size must be"),
    ],
)
def test_configurations_without_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_numpy_numbers_will_do():
    cell = rnn.LSTM(np.int64(4), cell_clip=np.float32(0.5))  # type: ignore
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), cell.init(jax.random.key(0), np.int64(3)))  # type: ignore
    state, _ = unroll(cell, params, jnp.ones((T, B, 3), jnp.bfloat16))
    assert state.c.dtype == jnp.bfloat16


# --- how parameters begin ---


def test_forget_bias_is_the_first_value_of_a_parameter():
    params = rnn.LSTM(4, forget_bias=2.0).init(jax.random.key(0), INPUT_SIZE)
    np.testing.assert_array_equal(params.b.reshape(4, 4), np.repeat([[0.0], [2], [0], [0]], 4, axis=1))
    params = rnn.LayerNormLSTM(4, forget_bias=2.0).init(jax.random.key(0), INPUT_SIZE)
    np.testing.assert_array_equal(params.beta, np.repeat([[0.0], [2], [0], [0]], 4, axis=1))


def test_gates_of_the_reset_before_gru_begin_open():
    params = rnn.GRU(4, reset_after=False).init(jax.random.key(0), INPUT_SIZE)
    np.testing.assert_array_equal(params.b, [1.0] * 8 + [0.0] * 4)
    assert params.b_h is None


@pytest.mark.parametrize("make", [rnn.VanillaRNN, rnn.LSTM, rnn.LayerNormLSTM])
def test_glorot_covers_the_fused_kernel(make):
    H, D = 64, 32
    params = make(H).init(jax.random.key(0), D)
    kernel = np.concatenate([params.w_x, params.w_h])
    bound = np.sqrt(6 / sum(kernel.shape))
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert abs(kernel.std() - bound / np.sqrt(3)) < 0.02 * bound


def test_orthogonal_recurrent_kernels():
    w_h = rnn.LSTM(16, initializer="orthogonal").init(jax.random.key(0), INPUT_SIZE).w_h
    np.testing.assert_allclose(w_h @ w_h.T, np.eye(16), atol=1e-5)


def test_keys_decide(cell):
    first, again, other = (cell.init(jax.random.key(seed), INPUT_SIZE) for seed in (0, 0, 1))
    assert_close(again, first, atol=0, rtol=0)
    assert not np.array_equal(*(jax.tree.leaves(params)[0] for params in (first, other)))


def test_a_new_lru_is_a_ring_of_unit_variance():
    cell = rnn.LRU(256, r_min=0.4, r_max=0.8, max_phase=0.5)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    a, _ = cell.recurrence(params, jnp.ones(INPUT_SIZE))
    assert 0.4 <= np.abs(a).min() < 0.45
    assert 0.75 < np.abs(a).max() <= 0.8
    assert 0 < np.angle(a).min() < np.angle(a).max() <= 0.5
    np.testing.assert_allclose(np.exp(params.gamma) ** 2, 1 - np.abs(a) ** 2, rtol=1e-4)


def test_a_new_rg_lru_forgets_slowly():
    cell = rnn.RGLRU(256)
    a = jnp.exp(-jax.nn.softplus(cell.init(jax.random.key(0), INPUT_SIZE).lam))
    assert 0.9 <= a.min() < 0.91
    assert 0.99 < a.max() <= 0.999


def test_forget_gates_of_the_slstm_are_open_by_degrees():
    params = rnn.SLSTM(6, heads=2).init(jax.random.key(0), INPUT_SIZE)
    np.testing.assert_allclose(params.b.reshape(4, 6)[1], [3, 4.5, 6] * 2)
    assert rnn.MinLSTM(2, forget_bias=2.0).init(jax.random.key(0), 3).b.tolist() == [0, 0, 2, 2, 0, 0]


# --- block-diagonal matrices ---


@pytest.mark.parametrize("reset_after", [True, False])
def test_blocks_are_those_of_a_matrix_s_diagonal(reset_after):
    H, blocks = 6, 3
    cell, whole = rnn.GRU(H, blocks=blocks, reset_after=reset_after), rnn.GRU(H, reset_after=reset_after)
    params, xs = draw_params(cell), draw_inputs(T, B)
    gates = params.w_h.reshape(blocks, H // blocks, 3, H // blocks)
    w_h = jnp.zeros((blocks, H // blocks, 3, blocks, H // blocks))
    for n in range(blocks):
        w_h = w_h.at[n, :, :, n].set(gates[n])
    expected = unroll(whole, params._replace(w_h=w_h.reshape(H, 3 * H)), xs)
    assert_close(unroll(cell, params, xs), expected)
    rounded = rnn.unroll(cell, params, xs, precision="bfloat16")
    assert_close(rounded, expected, atol=0.05)
    assert not np.array_equal(rounded[1], expected[1])


# --- recurrent dropout ---


def test_recurrent_dropout_needs_a_key_and_keeps_the_mean():
    cell = rnn.LayerNormLSTM(4, recurrent_dropout=0.5)
    params, xs = draw_params(cell), draw_inputs(T, B)
    plain = rnn.LayerNormLSTM(4)
    assert_close(unroll(cell, params, xs), unroll(plain, params, xs), atol=0, rtol=0)
    assert_close(unroll(plain, params, xs, key=jax.random.key(0)), unroll(plain, params, xs), atol=0, rtol=0)
    first, again, other = (unroll(cell, params, xs, key=jax.random.key(seed))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)

    m = cell.noise(jax.random.key(0), jnp.ones((1000, 10, 1)))
    assert m is not None
    assert set(np.unique(m)) == {0.0, 2.0}
    assert abs(m.mean() - 1) < 0.02
    assert not np.array_equal(m[0], m[1]), "the mask is fresh at every step"


def test_blank_steps_at_the_start_leave_gradients_finite(cell):
    """The first rows of a digit's image are blank, and all units of a new cell are then in the same state."""
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = draw_inputs(12, B).at[:8].set(0)

    def of_xs(params):
        return loss(rnn.unroll(cell, params, xs))

    gradients = jax.tree.leaves(jax.jit(jax.grad(of_xs))(params))
    assert all(jnp.isfinite(leaf).all() and jnp.abs(leaf).max() < 1e3 for leaf in gradients)


# --- transforms and precisions ---


def run(cell, params, xs, state):
    return loss(rnn.unroll(cell, params, xs, state))


def test_gradients_are_those_of_finite_differences(cell):
    with jax.enable_x64(True):
        arguments = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))
        outputs = unroll(cell, *arguments)
        assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(outputs))
        # jit: the check evaluates the function many times.
        check_grads(jax.jit(lambda *a: run(cell, *a)), arguments, order=1, modes=("rev",), atol=1e-6, rtol=1e-6)
        scan = jax.jit(lambda *a: loss(rnn.unroll(cell, *a, implementation="scan")))
        check_grads(scan, arguments, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


def test_vmap_over_parameters_is_one_at_a_time(cell):
    xs = draw_inputs(T, B)
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(draw_params(cell, seed) for seed in range(3)))
    together = jax.jit(jax.vmap(lambda params: rnn.unroll(cell, params, xs)))(several)
    for seed in range(3):
        assert_close(jax.tree.map(lambda leaf, i=seed: leaf[i], together), unroll(cell, draw_params(cell, seed), xs))


def test_hessian_and_checkpoint(cell):
    params, xs, state = draw_params(cell), draw_inputs(T, B), draw_state(cell, (B,))

    def of_state(run):
        return jax.jit(jax.hessian(lambda state: run(cell, params, xs, state)))(state)

    hessian = of_state(run)
    assert_close(of_state(jax.checkpoint(run, static_argnums=0)), hessian, atol=1e-5)
    of_h = jax.tree.leaves(hessian)[0].reshape(*[jax.tree.leaves(state)[0].size] * 2)
    assert_close(of_h, of_h.T, atol=1e-5)
    assert of_h.any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_stays_and_is_near(cell, dtype):
    params, xs = draw_params(cell), draw_inputs(T, B).at[0].set(0)
    half = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, xs))
    outputs = unroll(cell, *half)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(outputs))
    near = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), outputs)
    assert_close(near, unroll(cell, params, xs), atol=0.1)
