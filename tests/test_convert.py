"""Conversions there and back, their names and layouts, and what they refuse.

That converted weights compute what the framework computes is the subject of test_golden_vectors.py.
"""

import functools

import jax
import numpy as np
import pytest

import rnn_jax as rnn
from rnn_jax.convert import (
    from_equinox,
    from_flax,
    from_haiku,
    from_keras,
    from_tf,
    from_torch,
    from_torch_file,
    to_equinox,
    to_flax,
    to_haiku,
    to_keras,
    to_tf,
    to_torch,
)

D, H = 3, 4
BEFORE = rnn.GRU(H, reset_after=False)
FULL = rnn.LSTM(H, peepholes=True, projection_size=2, cell_clip=3.0, projection_clip=1.0)


@functools.cache
def draw(net, input_size=D, dtype=np.float32):
    """Parameters of normal numbers, biases included."""
    rng = np.random.default_rng(0)
    like = jax.eval_shape(lambda: net.init(jax.random.key(0), input_size))
    return jax.tree.map(lambda array: jax.numpy.asarray(rng.normal(size=array.shape).astype(dtype)), like)


def layers_of(cell):
    """A cell alone, and the networks that can be made of it."""
    both = rnn.bidirectional(cell)
    wrapped = rnn.bidirectional(rnn.tensor_parallel(rnn.zoneout(rnn.variational_dropout(cell, inputs=0.1), h=0.1)))
    return [cell, both, wrapped, rnn.stack(cell, cell), rnn.stack(both, rnn.dropout(wrapped, 0.5)), rnn.stack(both)]


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


COMMON = [rnn.LSTM(H), rnn.GRU(H), rnn.VanillaRNN(H), rnn.VanillaRNN(H, activation="relu")]
ROUND_TRIPS = [
    *[(to_torch, from_torch, cell) for cell in (*COMMON, rnn.LSTM(H, projection_size=2))],
    *[(to_keras, from_keras, cell) for cell in (*COMMON, BEFORE)],
    *[(to_flax, from_flax, cell) for cell in COMMON],
    *[(to_equinox, from_equinox, cell) for cell in (rnn.LSTM(H), rnn.GRU(H))],
    *[(to_haiku, from_haiku, cell) for cell in (BEFORE, rnn.VanillaRNN(H, activation="relu"))],
    *[(to_tf, from_tf, c) for c in (rnn.LSTM(H), BEFORE, rnn.VanillaRNN(H), FULL, rnn.LayerNormLSTM(H))],
]


@pytest.mark.parametrize(("there", "back", "cell"), ROUND_TRIPS)
def test_parameters_survive_the_way_there_and_back(there, back, cell):
    for net in layers_of(cell):
        options = {"forget_bias": 0} if there is to_tf else {}  # the rounding of another is the next test's
        params = draw(net)
        weights = there(net, params, **options)
        assert_equal(back(net, weights, **options), params)
        # What came out is also what goes in: the weights themselves survive.
        assert_equal(there(net, back(net, weights, **options), **options), weights)


@pytest.mark.parametrize("forget_bias", [1.0, -2.5])
@pytest.mark.parametrize("cell", [rnn.LSTM(H), FULL, rnn.LayerNormLSTM(H)])
def test_the_forget_bias_moves_into_the_parameters_and_out_again(cell, forget_bias):
    params = draw(cell)
    variables = to_tf(cell, params, forget_bias)
    without = from_tf(cell, variables, forget_bias=0)
    if isinstance(cell, rnn.LayerNormLSTM):
        np.testing.assert_allclose(without.beta, params.beta - np.array([0, forget_bias, 0, 0])[:, None], rtol=1e-6)
    else:
        shift = np.repeat([0, forget_bias, 0, 0], H)
        np.testing.assert_allclose(without.b, params.b - shift, rtol=1e-6)
    ulp = np.spacing(np.float32(4))  # of the largest number on the way
    back = from_tf(cell, variables, forget_bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=ulp), back, params)


def test_haiku_s_forget_bias_of_one_is_part_of_ours():
    params = draw(rnn.LSTM(H))
    modules = to_haiku(rnn.LSTM(H), params)
    i, g, f, _ = np.split(modules["lstm/linear"]["b"], 4)
    np.testing.assert_allclose(f + 1, params.b[H : 2 * H], rtol=1e-6)
    np.testing.assert_array_equal([i, g], [params.b[:H], params.b[2 * H : 3 * H]])
    ulp = np.spacing(np.float32(4))  # of the largest number on the way
    back = from_haiku(rnn.LSTM(H), modules)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=ulp), back, params)


@pytest.mark.parametrize("api", ["linen", "nnx", "nnx_lstm_cell"])
def test_flax_takes_every_api_back_without_being_told_which(api):
    for net in (rnn.LSTM(H), rnn.VanillaRNN(H), rnn.stack(rnn.bidirectional(rnn.LSTM(H)), rnn.VanillaRNN(H))):
        params = draw(net)
        assert_equal(from_flax(net, to_flax(net, params, api=api)), params)
    gru = draw(rnn.GRU(H))
    gru = gru._replace(b_h=gru.b_h * 0)
    assert_equal(from_flax(rnn.GRU(H), to_flax(rnn.GRU(H), gru, api=api)), gru)


def test_flax_sees_through_what_wraps_a_cell():
    net = rnn.stack(rnn.GRU(H), rnn.LSTM(H))
    params = draw(net)
    below, above = to_flax(net, params)
    assert_equal(from_flax(net, {"params": {0: {"cell": below}, 1: above}}), params)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("there", "back", "cell"),
    [(to_torch, from_torch, rnn.LSTM(H)), (to_tf, from_tf, rnn.LSTM(H)), (to_keras, from_keras, rnn.GRU(H))],
)
def test_the_dtype_of_the_weights_is_kept(there, back, cell, dtype):
    params = draw(cell, dtype=dtype)
    weights = there(cell, params)
    assert {array.dtype for array in jax.tree.leaves(weights)} == {np.dtype(dtype)}
    assert {array.dtype for array in jax.tree.leaves(back(cell, weights))} == {np.dtype(dtype)}


def test_float64_is_kept_where_jax_has_it():
    with jax.enable_x64(True):
        cell, weights = rnn.GRU(H), [np.ones((D, 3 * H)), np.ones((H, 3 * H)), np.ones((2, 3 * H))]
        assert from_keras(cell, weights).w_x.dtype == np.float64
    assert from_keras(cell, weights).w_x.dtype == np.float32


@pytest.mark.parametrize(("there", "back", "cell"), ROUND_TRIPS)
def test_nothing_shares_memory(there, back, cell):
    params = draw(cell)
    expected = jax.tree.map(np.array, params)
    weights = there(cell, params)
    again = back(cell, weights)
    for array in jax.tree.leaves(weights):
        array[...] = 7  # as an optimizer of the framework's would, in place
    assert_equal(jax.tree.map(np.array, params), expected)
    assert not any((array == 7).any() for array in jax.tree.leaves(again))


class TestLayouts:
    """One number in one place of each framework's weights: the gate, the row and the bias that it stands for."""

    def test_tensorflow_has_g_before_f(self):
        variables = {"kernel": np.zeros((D + H, 4 * H)), "bias": np.repeat(np.array([1, 2, 3, 4], np.float32), H)}
        variables["kernel"][D] = 5
        params = from_tf(rnn.LSTM(H), variables)
        np.testing.assert_array_equal(params.b.reshape(4, H)[:, 0], [1, 3 + 1, 2, 4])
        np.testing.assert_array_equal(params.w_h[0], 5)
        np.testing.assert_array_equal(params.w_x, 0)

    def test_tensorflow_s_gru_keeps_its_candidate_apart(self):
        variables = to_tf(BEFORE, draw(BEFORE))
        params = from_tf(BEFORE, variables)
        np.testing.assert_array_equal(params.w_x[:, 2 * H :], variables["candidate/kernel"][:D])
        np.testing.assert_array_equal(params.b[: 2 * H], variables["gates/bias"])

    def test_keras_s_gru_has_z_before_r(self):
        bias = np.repeat(np.array([[1, 2, 3], [10, 20, 30]], np.float32), H, axis=1)
        params = from_keras(rnn.GRU(H), [np.zeros((D, 3 * H)), np.zeros((H, 3 * H)), bias])
        np.testing.assert_array_equal(params.b.reshape(3, H)[:, 0], [22, 11, 3])
        np.testing.assert_array_equal(params.b_h, 30)

    def test_pytorch_s_two_biases_are_added_but_for_the_gru_s_n(self):
        state_dict = to_torch(rnn.GRU(H), draw(rnn.GRU(H)))
        state_dict["bias_ih_l0"], state_dict["bias_hh_l0"] = np.repeat(
            np.array([[1, 2, 3], [10, 20, 30]], np.float32), H, axis=1
        )
        params = from_torch(rnn.GRU(H), state_dict)
        np.testing.assert_array_equal(params.b.reshape(3, H)[:, 0], [11, 22, 3])
        np.testing.assert_array_equal(params.b_h, 30)
        again = to_torch(rnn.GRU(H), params)
        np.testing.assert_array_equal(again["bias_hh_l0"].reshape(3, H)[:, 0], [0, 0, 30])

    def test_layers_made_without_biases_have_zeros(self):
        state_dict = to_torch(rnn.LSTM(H), draw(rnn.LSTM(H)))
        params = from_torch(rnn.LSTM(H), {name: w for name, w in state_dict.items() if name.startswith("weight")})
        np.testing.assert_array_equal(params.b, 0)
        np.testing.assert_array_equal(params.w_x, state_dict["weight_ih_l0"].T)
        net = rnn.stack(rnn.GRU(H), BEFORE)
        kernels = [w for w in to_keras(net, draw(net)) if w.shape not in ((2, 3 * H), (3 * H,))]
        below, above = from_keras(net, kernels)
        assert not below.b.any()
        assert not below.b_h.any()
        assert not above.b.any()


class TestNames:
    def test_a_suffix_picks_one_layer_and_direction_of_a_pytorch_module(self):
        cell = rnn.LSTM(H, projection_size=2)
        net = rnn.stack(rnn.bidirectional(cell), rnn.bidirectional(cell))
        params = draw(net)
        state_dict = to_torch(net, params)
        assert_equal(from_torch(cell, state_dict, suffix="l1_reverse"), params[1].backward)
        assert_equal(from_torch(cell, state_dict), params[0].forward)

    def test_no_suffix_is_a_pytorch_cell(self):
        state_dict = to_torch(rnn.GRU(H), draw(rnn.GRU(H)), suffix="")
        assert set(state_dict) == {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
        assert_equal(from_torch(rnn.GRU(H), state_dict, suffix=""), draw(rnn.GRU(H)))

    def test_a_prefix_picks_a_module_of_a_larger_one(self):
        params = draw(rnn.LSTM(H))
        state_dict = to_torch(rnn.LSTM(H), params, prefix="model.rnn") | {"model.fc.weight": np.ones((2, H))}
        assert "model.rnn.weight_ih_l0" in state_dict
        for prefix in ("model.rnn", "model.rnn."):
            assert_equal(from_torch(rnn.LSTM(H), state_dict, prefix=prefix), params)
        variables = {f"rnn/{name}": value for name, value in LSTM_TF.items()} | {"dense/kernel": np.ones((H, 2))}
        assert_equal(from_tf(rnn.LSTM(H), variables, prefix="rnn"), from_tf(rnn.LSTM(H), LSTM_TF))

    def test_names_pick_modules_of_a_larger_haiku_network(self):
        net = rnn.bidirectional(BEFORE)
        names = ["net/~/gru", "net/~/gru_1"]
        params = to_haiku(net, draw(net), names) | {"net/linear": {"w": np.ones((H, 2))}}
        assert_equal(from_haiku(net, params, names), draw(net))
        nested = rnn.stack(BEFORE, rnn.stack(rnn.LSTM(H), rnn.dropout(BEFORE, 0.5)))
        assert list(to_haiku(nested, draw(nested))) == ["gru", "lstm/linear", "gru_1"]

    @pytest.mark.parametrize(
        ("net", "scope"),
        [
            (FULL, ""),
            (rnn.stack(rnn.LSTM(H), FULL), "multi_rnn_cell/cell_1/lstm_cell/"),
            (rnn.bidirectional(BEFORE), "bidirectional_rnn/bw/gru_cell/"),
            (rnn.bidirectional(rnn.VanillaRNN(H)), "bidirectional_rnn/fw/basic_rnn_cell/"),
            (rnn.bidirectional(rnn.LayerNormLSTM(H)), "bidirectional_rnn/fw/layer_norm_basic_lstm_cell/"),
            (
                rnn.stack(BEFORE, rnn.bidirectional(rnn.LSTM(H))),
                "stack_bidirectional_rnn/cell_1/bidirectional_rnn/fw/basic_lstm_cell/",
            ),
        ],
    )
    def test_tensorflow_s_scopes_are_written_and_understood(self, net, scope):
        variables = to_tf(net, draw(net), forget_bias=0)
        assert any(name.startswith(scope) for name in variables)
        as_saved = {f"model/rnn/{name}:0": value for name, value in variables.items()}
        assert_equal(from_tf(net, as_saved, forget_bias=0), draw(net))

    def test_a_stack_within_a_stack_counts_on(self):
        cell = rnn.VanillaRNN(H)
        nested, flat = rnn.stack(rnn.stack(cell, cell), cell), rnn.stack(cell, cell, cell)
        for there, back in ((to_torch, from_torch), (to_keras, from_keras), (to_flax, from_flax), (to_tf, from_tf)):
            assert_equal(there(nested, draw(nested)), there(flat, draw(flat)))
            assert_equal(back(nested, there(flat, draw(flat))), draw(nested))  # type: ignore


def less(weights, name):
    return {key: value for key, value in weights.items() if key != name}


LSTM_TF = to_tf(rnn.LSTM(H), draw(rnn.LSTM(H)))
LSTM_TORCH = to_torch(rnn.LSTM(H), draw(rnn.LSTM(H)))
LSTM_KERAS = to_keras(rnn.LSTM(H), draw(rnn.LSTM(H)))
LSTM_LINEN = to_flax(rnn.LSTM(H), draw(rnn.LSTM(H)))
GRU_EQUINOX = to_equinox(rnn.GRU(H), draw(rnn.GRU(H)))
GRU_HAIKU = to_haiku(BEFORE, draw(BEFORE))
ONE_WAY = rnn.stack(rnn.LSTM(H), rnn.LSTM(H))
STACK = rnn.stack(rnn.bidirectional(rnn.LSTM(H)), rnn.bidirectional(rnn.LSTM(H)))

MISTAKES = {
    # What the other side lacks.
    "peepholes": (lambda: to_torch(rnn.LSTM(H, peepholes=True), draw(rnn.LSTM(H, peepholes=True))), "no peepholes"),
    "peepholes in keras": (lambda: to_keras(FULL, draw(FULL)), "Keras has no peepholes"),
    "peepholes in flax": (lambda: to_flax(FULL, draw(FULL)), "Flax has no peepholes"),
    "cell clip": (lambda: from_torch(rnn.LSTM(H, cell_clip=1), LSTM_TORCH), "PyTorch has no cell_clip"),
    "cell clip in keras": (lambda: from_keras(rnn.LSTM(H, cell_clip=1), LSTM_KERAS), "Keras has no cell_clip"),
    "cell clip in flax": (lambda: from_flax(rnn.LSTM(H, cell_clip=1), LSTM_LINEN), "Flax has no cell_clip"),
    "projection clip": (
        lambda: from_torch(rnn.LSTM(H, projection_size=2, projection_clip=1), LSTM_TORCH),
        "PyTorch has no projection_clip",
    ),
    "projection in keras": (lambda: from_keras(rnn.LSTM(H, projection_size=2), LSTM_KERAS), "Keras has no projection"),
    "projection in flax": (lambda: from_flax(rnn.LSTM(H, projection_size=2), LSTM_LINEN), "Flax has no projection"),
    "layer norm": (lambda: from_torch(rnn.LayerNormLSTM(H), {}), "PyTorch has no cell like LayerNormLSTM"),
    "layer norm in keras": (lambda: from_keras(rnn.LayerNormLSTM(H), LSTM_KERAS), "Keras has no cell like"),
    "layer norm in flax": (lambda: from_flax(rnn.LayerNormLSTM(H), {}), "Flax has no cell like"),
    "reset before in torch": (lambda: to_torch(BEFORE, draw(BEFORE)), "PyTorch resets after"),
    "reset before in flax": (lambda: to_flax(BEFORE, draw(BEFORE)), "Flax resets after"),
    "reset after in tf": (lambda: to_tf(rnn.GRU(H), draw(rnn.GRU(H))), "TensorFlow resets before"),
    "the other gru of keras": (
        lambda: from_keras(BEFORE, to_keras(rnn.GRU(H), draw(rnn.GRU(H)))),
        r"bias has shape \(2, 12\), but .* needs \[12\]",
    ),
    "b_h in nnx": (lambda: to_flax(rnn.GRU(H), draw(rnn.GRU(H)), api="nnx"), "b_h is not zero"),
    "unequal layers in torch": (
        lambda: to_torch(rnn.stack(rnn.LSTM(H), rnn.LSTM(5)), draw(rnn.stack(rnn.LSTM(H), rnn.LSTM(5)))),
        "layers of one kind and size",
    ),
    "a direction missing in torch": (
        lambda: from_torch(rnn.stack(rnn.LSTM(H), rnn.bidirectional(rnn.LSTM(H))), LSTM_TORCH),
        "layers of one kind and size",
    ),
    "residual layers in torch": (
        lambda: to_torch(rnn.stack(rnn.LSTM(H), rnn.residual(rnn.LSTM(H))), draw(rnn.stack(rnn.LSTM(H), rnn.LSTM(H)))),
        "PyTorch has no residual connections",
    ),
    "summed directions in torch": (
        lambda: to_torch(rnn.bidirectional(rnn.LSTM(H), merge="sum"), draw(rnn.bidirectional(rnn.LSTM(H)))),
        "needs merge='concat'",
    ),
    "peepholes in equinox": (lambda: to_equinox(FULL, draw(FULL)), "Equinox has no peepholes"),
    "a plain cell in equinox": (lambda: from_equinox(rnn.VanillaRNN(H), {}), "Equinox has no cell like VanillaRNN"),
    "reset before in equinox": (lambda: to_equinox(BEFORE, draw(BEFORE)), "Equinox resets after"),
    "projection in haiku": (
        lambda: from_haiku(rnn.LSTM(H, projection_size=2), GRU_HAIKU),
        "Haiku has no projection_size",
    ),
    "reset after in haiku": (lambda: from_haiku(rnn.GRU(H), GRU_HAIKU), "Haiku resets before"),
    "tanh in haiku": (
        lambda: to_haiku(rnn.VanillaRNN(H), draw(rnn.VanillaRNN(H))),
        "Haiku's VanillaRNN has the activation relu, not tanh",
    ),
    # Names.
    "within a larger module in torch": (
        lambda: from_torch(rnn.LSTM(H), {f"model.rnn.{name}": w for name, w in LSTM_TORCH.items()}),
        r"weight_ih_l0 is missing: of model.rnn.weight_ih_l0, .*, pass prefix='model.rnn'$",
    ),
    "within a larger module in torch, a network": (
        lambda: from_torch(STACK, {f"rnn.{name}": w for name, w in to_torch(STACK, draw(STACK)).items()}),
        r"and 10 more, pass prefix='rnn'$",
    ),
    "too short a prefix in torch": (
        lambda: from_torch(rnn.LSTM(H), {f"model.rnn.{name}": w for name, w in LSTM_TORCH.items()}, prefix="model"),
        r"of rnn.weight_ih_l0, .*, pass prefix='model.rnn'$",
    ),
    "another prefix in torch": (
        lambda: from_torch(rnn.LSTM(H), LSTM_TORCH, prefix="rnn"),
        "no name begins with 'rnn.': there are weight_ih_l0",
    ),
    "another prefix in tf": (
        lambda: from_tf(rnn.LSTM(H), LSTM_TF, prefix="rnn"),
        "no name begins with 'rnn/': there are kernel, bias",
    ),
    "a cell of torch as a module": (
        lambda: from_torch(rnn.LSTM(H), to_torch(rnn.LSTM(H), draw(rnn.LSTM(H)), suffix="")),
        "weight_ih_l0 is missing: of weight_ih, .*, pass suffix=''$",
    ),
    "no recurrent names in torch": (
        lambda: from_torch(rnn.LSTM(H), {"fc.weight": np.ones((2, H))}),
        "of fc.weight, none is of a recurrent module",
    ),
    "an empty state dict": (lambda: from_torch(rnn.LSTM(H), {}), "of no names, none is of a recurrent module"),
    "within a larger module in flax": (
        lambda: from_flax(rnn.LSTM(H), {"params": {"RNN_0": {"cell": LSTM_LINEN}, "Dense_0": {"kernel": 0}}}),
        "there are RNN_0, Dense_0: pass the one at 'RNN_0'",
    ),
    "within a larger module in haiku": (
        lambda: from_haiku(BEFORE, {"my_net/gru": GRU_HAIKU["gru"]}),
        r"needs the module gru, but there are my_net/gru: pass names=\[...\]",
    ),
    "another module in haiku": (
        lambda: from_haiku(BEFORE, {**GRU_HAIKU, "linear": {"w": np.ones((H, 2))}}),
        r"needs the modules gru, but there are gru, linear: pass names=\[...\]",
    ),
    "too few names in haiku": (
        lambda: from_haiku(rnn.bidirectional(BEFORE), GRU_HAIKU, names=["gru"]),
        "names must be a list of 2",
    ),
    "missing in haiku": (lambda: from_haiku(BEFORE, {"gru": less(GRU_HAIKU["gru"], "w_h")}), "w_h is missing"),
    "missing in equinox": (lambda: from_equinox(rnn.GRU(H), less(GRU_EQUINOX, "bias_n")), "bias_n is missing"),
    "a cell too few in equinox": (lambda: from_equinox(STACK, [GRU_EQUINOX]), "needs 4 modules, .* not 1"),
    # A module, or anything else, in place of its weights.
    "a list in torch": (lambda: from_torch(rnn.LSTM(H), [LSTM_TORCH]), r"state_dict is list, .* module.state_dict\(\)"),
    "a dict in keras": (lambda: from_keras(rnn.LSTM(H), {"kernel": 0}), r"weights is dict, .* layer.get_weights\(\)"),
    "a list in tf": (lambda: from_tf(rnn.LSTM(H), [0]), r"variables is list, .* v.numpy\(\)"),  # type: ignore
    "a module in flax": (lambda: from_flax(rnn.LSTM(H), object()), r"params is object, .* nnx.state\(module"),
    "a module in haiku": (lambda: from_haiku(BEFORE, [0]), "params is list, .* of hk.transform"),  # type: ignore
    "an array in haiku": (lambda: from_haiku(BEFORE, {"gru": np.ones(3)}), r"params\['gru'\] is ndarray"),  # type: ignore
    "a model with a head in keras": (
        lambda: from_keras(rnn.LSTM(H), [*LSTM_KERAS, np.ones((H, 2)), np.ones(2)]),
        "not 5: pass those of the recurrent layers only",
    ),
    "a module in equinox": (lambda: from_equinox(rnn.LSTM(H), object()), "weight_ih is missing"),
    "missing in tf": (lambda: from_tf(rnn.LSTM(H), less(LSTM_TF, "bias")), "bias is missing"),
    "missing in torch": (lambda: from_torch(rnn.LSTM(H), less(LSTM_TORCH, "bias_hh_l0")), "bias_hh_l0 is missing"),
    "missing in flax": (lambda: from_flax(rnn.LSTM(H), less(LSTM_LINEN, "hf")), "hf/kernel is missing, hf/bias is"),
    "missing in keras": (lambda: from_keras(STACK, LSTM_KERAS), r"needs 12 weights \(8 without bias\), not 3"),
    "unexpected in tf": (
        lambda: from_tf(rnn.LSTM(H), {**LSTM_TF, "rnn/lstm_cell/w_f_diag:0": np.ones(H)}),
        "w_f_diag is unexpected",
    ),
    "unexpected in torch": (
        lambda: from_torch(rnn.LSTM(H), {**LSTM_TORCH, "weight_hr_l0": np.ones((2, H))}),
        "weight_hr_l0 is unexpected",
    ),
    "unexpected in flax": (
        lambda: from_flax(rnn.VanillaRNN(H), {**to_flax(rnn.VanillaRNN(H), draw(rnn.VanillaRNN(H))), "rngs": 0}),
        "rngs is unexpected",
    ),
    "wrong suffix": (lambda: from_torch(rnn.LSTM(H), LSTM_TORCH, suffix="l1"), "weight_ih_l1 is missing"),
    "a direction missing in tf": (
        lambda: from_tf(rnn.bidirectional(rnn.LSTM(H)), {f"fw/{name}": value for name, value in LSTM_TF.items()}),
        "bidirectional_rnn/bw/basic_lstm_cell/ LSTM.* kernel is missing",
    ),
    "a layer too many in tf": (
        lambda: from_tf(rnn.bidirectional(rnn.LSTM(H)), to_tf(STACK, draw(STACK))),
        "no place for .*cell_1",
    ),
    "a layer too many in torch": (
        lambda: from_torch(rnn.bidirectional(rnn.LSTM(H)), to_torch(STACK, draw(STACK))),
        "no place for weight_ih_l1",
    ),
    "a layer too many in flax": (
        lambda: from_flax(STACK, to_flax(STACK, draw(STACK)) * 2),
        "2 layers, but params has 4",
    ),
    "a direction missing in flax": (lambda: from_flax(STACK, [LSTM_LINEN] * 2), "has no 'forward_rnn'"),
    "a list in the place of a dict": (lambda: from_flax(rnn.LSTM(H), [LSTM_LINEN]), r"params\[\] is list"),
    "two networks in tf": (
        lambda: from_tf(rnn.LSTM(H), {**LSTM_TF, "dense/kernel": np.ones((H, 2))}),
        "dense/kernel is a second kernel",
    ),
    # Shapes and dtypes.
    "another size in tf": (
        lambda: from_tf(rnn.LSTM(5), LSTM_TF),
        r"kernel has shape \(7, 16\), but .* needs \[D\+5, 20\]",
    ),
    "no rows for inputs in tf": (
        lambda: from_tf(rnn.VanillaRNN(H), {"kernel": np.ones((H, H)), "bias": np.ones(H)}),
        "kernel has 4 rows, but needs more than the 4 of the state",
    ),
    "another size in torch": (
        lambda: from_torch(rnn.LSTM(5), LSTM_TORCH),
        r"weight_ih_l0 has shape \(16, 3\), but .* needs \[20, D\]",
    ),
    "another size in keras": (lambda: from_keras(rnn.LSTM(5), LSTM_KERAS), r"kernel has shape \(3, 16\)"),
    "another size in flax": (lambda: from_flax(rnn.LSTM(5), LSTM_LINEN), r"ii/kernel has shape \(3, 4\)"),
    "another rank": (lambda: from_keras(rnn.LSTM(H), [w[0] for w in LSTM_KERAS]), r"kernel has shape \(16,\)"),
    "whole numbers": (lambda: from_keras(rnn.LSTM(H), [w.astype(int) for w in LSTM_KERAS]), "kernel has dtype int64"),
    "layers that do not fit": (
        lambda: from_keras(rnn.stack(rnn.LSTM(H), rnn.LSTM(H)), LSTM_KERAS * 2),
        r"params\[1\].w_x has shape \(3, 16\), but .* needs \(4, 16\)",
    ),
    # TensorFlow's two stacks side by side, joined at the top only, are another network than a stack of both ways.
    "a stack in each direction in tf": (
        lambda: from_tf(
            STACK,
            {
                f"bidirectional_rnn/{direction}/{name}": value
                for direction in ("fw", "bw")
                for name, value in to_tf(ONE_WAY, draw(ONE_WAY)).items()
            },
        ),
        "is of a bidirectional network of stacks",
    ),
    "another cell's parameters": (lambda: to_torch(rnn.LSTM(H), draw(rnn.GRU(H))), "params has the structure"),
    "another size's parameters": (lambda: to_tf(rnn.LSTM(H), draw(rnn.LSTM(5))), r"params.w_x has shape \(3, 20\)"),
    "another api": (lambda: to_flax(rnn.LSTM(H), draw(rnn.LSTM(H)), api="haiku"), "api must be one of linen, nnx"),  # type: ignore
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_what_does_not_fit_is_refused_by_name(mistake):
    convert, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        convert()


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is an extra")


class TestTensors:
    def test_a_module_stands_for_its_state_dict(self, torch):
        module = torch.nn.LSTM(D, H)
        params = from_torch(rnn.LSTM(H), module)
        np.testing.assert_array_equal(params.w_x.T, module.weight_ih_l0.detach().numpy())
        assert_equal(from_torch(rnn.LSTM(H), dict(module.named_parameters())), params)

    def test_bfloat16_stays_bfloat16(self, torch):
        module = torch.nn.GRU(D, H).bfloat16()
        params = from_torch(rnn.GRU(H), module.state_dict())
        assert {array.dtype for array in params} == {np.dtype("bfloat16")}
        np.testing.assert_array_equal(params.w_x.T.astype(np.float32), module.weight_ih_l0.detach().float().numpy())

    @pytest.mark.parametrize("options", [{"device": "meta"}, {"dtype": "float8_e4m3fn"}])
    def test_what_numpy_cannot_hold_is_refused_by_name(self, torch, options):
        options = {name: getattr(torch, value, value) for name, value in options.items()}
        tensors = {name: tensor.to(**options) for name, tensor in torch.nn.LSTM(D, H).state_dict().items()}
        with pytest.raises(ValueError, match="weight_ih_l0 cannot be read as a NumPy array"):
            from_torch(rnn.LSTM(H), tensors)

    def test_a_file_is_read_without_pytorch(self, torch, tmp_path):
        from safetensors.torch import save_file

        path = tmp_path / "model.safetensors"
        for dtype in (torch.float32, torch.bfloat16):
            module = torch.nn.Sequential(torch.nn.LSTM(D, H), torch.nn.Linear(H, 2)).to(dtype)
            save_file(module.state_dict(), path)
            assert_equal(from_torch_file(rnn.LSTM(H), path, prefix="0"), from_torch(rnn.LSTM(H), module[0]))

    def test_a_pickled_file_is_refused_unread(self, torch, tmp_path):
        path = tmp_path / "model.pt"
        torch.save(torch.nn.LSTM(D, H).state_dict(), path)
        with pytest.raises(ValueError, match="not a safetensors file"):
            from_torch_file(rnn.LSTM(H), path)


def test_a_file_of_numpy_arrays_is_a_state_dict_too(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    save_file({name: np.ascontiguousarray(w) for name, w in to_torch(STACK, draw(STACK)).items()}, path)
    assert_equal(from_torch_file(STACK, path), draw(STACK))


def test_a_keras_layer_stands_for_its_weights():
    class Layer:
        def get_weights(self):
            return LSTM_KERAS

    assert_equal(from_keras(rnn.LSTM(H), Layer()), draw(rnn.LSTM(H)))


def test_an_equinox_module_stands_for_its_arrays():
    class Module:
        weight_ih, weight_hh, bias, bias_n = GRU_EQUINOX.values()
        use_bias = True

    assert_equal(from_equinox(rnn.GRU(H), Module()), draw(rnn.GRU(H)))
    without = {name: w if name.startswith("weight") else None for name, w in GRU_EQUINOX.items()}
    params = from_equinox(rnn.GRU(H), without)
    assert not params.b.any()
    assert not params.b_h.any()


def test_a_cell_of_the_user_s_own_is_refused():
    class Doubled(rnn.LSTM):
        """Computes something else with the same parameters."""

    with pytest.raises(ValueError, match="PyTorch has no cell like"):
        from_torch(Doubled(H), LSTM_TORCH)


@pytest.mark.parametrize(
    ("cell", "message"),
    [(cell, "has no cell like") for cell in (rnn.MinGRU(4), rnn.MinLSTM(4), rnn.LRU(4), rnn.RGLRU(4), rnn.SLSTM(4))]
    + [(rnn.GRU(4, blocks=2), "has no block-diagonal matrices, which GRU")],
    ids=str,
)
def test_cells_that_no_framework_has_are_refused(cell, message):
    params = cell.init(jax.random.key(0), 4)
    for to in (rnn.convert.to_torch, rnn.convert.to_keras, rnn.convert.to_flax, rnn.convert.to_tf):
        with pytest.raises(ValueError, match=message):
            to(cell, params)
