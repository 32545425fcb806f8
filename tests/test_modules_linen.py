"""Modules of linen around our cells compute what linen's own compute, and linen's cells run as ours."""

# Flax declares what its modules return as unions, and most of its arrays as Any or dicts.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import serialization
from flax.linen.recurrent import flip_sequences
from helpers import assert_close, draw_params, loss

import rnn_jax as rnn
from rnn_jax.layers import BothWays, as_layer

B, T, D, H = 2, 5, 3, 4
PAIRS = {
    "LSTMCell": (rnn.LSTM(H), nn.LSTMCell(H)),
    "OptimizedLSTMCell": (rnn.LSTM(H), nn.OptimizedLSTMCell(H)),
    "GRUCell": (rnn.GRU(H), nn.GRUCell(H)),
    "SimpleCell": (rnn.VanillaRNN(H), nn.SimpleCell(H)),
}
NETWORK = rnn.stack(rnn.bidirectional(rnn.LSTM(H)), rnn.GRU(H))
READINGS = [{}, {"reverse": True}, {"reverse": True, "keep_order": True}]


@pytest.fixture(params=list(PAIRS.values()), ids=list(PAIRS))
def pair(request):
    return request.param


def draw(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def weights(cell, module):
    """The same weights for our RNN and for Flax's, biases away from zero."""
    params = draw_params(cell)
    return rnn.linen.to_variables(params), {"params": {"cell": rnn.convert.to_flax(cell, params)}}


def carry_of(batch_shape, cell):
    """A carry that is not the initial one: ours and Flax's."""
    h, c = draw(*batch_shape, H, seed=5), draw(*batch_shape, H, seed=6)
    return (rnn.LSTMState(h, c), (c, h)) if isinstance(cell, rnn.LSTM) else (cell.initial_state()._make([h]), h)


def as_theirs(state):
    return (state.c, state.h) if isinstance(state, rnn.LSTMState) else state.h


def up_to(lengths, ys):
    """The outputs [B, T, H] with zeros in the padding."""
    return jnp.where((jnp.arange(T) < lengths[:, None])[..., None], ys, 0)


class TestAgainstFlax:
    """Our RNN and nn.RNN with the same weights."""

    @pytest.mark.parametrize("reading", READINGS)
    def test_it_computes_the_same(self, pair, reading):
        cell, module = pair
        mine, his = carry_of((B,), cell)
        variables, expected = weights(cell, module)
        options = {"return_carry": True, **reading}
        state, ys = rnn.linen.RNN(cell, **options).apply(variables, draw(B, T, D), initial_carry=mine)
        assert_close(
            (as_theirs(state), ys), nn.RNN(module, **options).apply(expected, draw(B, T, D), initial_carry=his)
        )

    @pytest.mark.parametrize("reading", READINGS)
    def test_it_computes_the_same_up_to_each_length(self, pair, reading):
        cell, module = pair
        variables, expected = weights(cell, module)
        options = {"seq_lengths": jnp.array([T, 2, 1]), "return_carry": True, **reading}
        state, ys = rnn.linen.RNN(cell).apply(variables, draw(3, T, D), **options)
        carry, expected_ys = nn.RNN(module).apply(expected, draw(3, T, D), **options)
        assert_close((as_theirs(state), ys), (carry, up_to(options["seq_lengths"], expected_ys)))

    @pytest.mark.parametrize("batch_shape", [(), (2, 3), (0,)])
    def test_any_number_of_batch_axes(self, batch_shape):
        variables, expected = weights(*PAIRS["GRUCell"])
        time_major = batch_shape == (2, 3)
        shape = (T, *batch_shape, D) if time_major else (*batch_shape, T, D)
        options = {"time_major": time_major, "return_carry": True}
        state, ys = rnn.linen.RNN(rnn.GRU(H)).apply(variables, draw(*shape), **options)
        assert_close((state.h, ys), nn.RNN(nn.GRUCell(H)).apply(expected, draw(*shape), **options))

    def test_a_call_overrides_the_attributes(self):
        module = rnn.linen.RNN(rnn.LSTM(H), time_major=True, return_carry=True, reverse=True, keep_order=True)
        variables, _ = weights(*PAIRS["LSTMCell"])
        options = dict.fromkeys(("time_major", "return_carry", "reverse", "keep_order"), False)
        ys = module.apply(variables, draw(B, T, D), **options)
        assert_close(ys, rnn.linen.RNN(rnn.LSTM(H)).apply(variables, draw(B, T, D)))

    def test_low_precision(self):
        dtype = jnp.bfloat16
        variables, expected = weights(*PAIRS["OptimizedLSTMCell"])
        ys = rnn.linen.RNN(rnn.LSTM(H), dtype=dtype).apply(variables, draw(B, T, D))
        assert ys.dtype == dtype
        with jax.numpy_dtype_promotion("standard"):  # Flax's carry has the dtype of the parameters
            expected_ys = nn.RNN(nn.OptimizedLSTMCell(H, dtype=dtype)).apply(expected, draw(B, T, D))
        np.testing.assert_allclose(np.float32(ys), np.float32(expected_ys), atol=0.03)

    def test_inputs_are_promoted_to_the_parameters_as_flax_promotes_them(self):
        variables, expected = weights(*PAIRS["GRUCell"])
        xs = draw(B, T, D).astype(jnp.int32)
        with jax.numpy_dtype_promotion("standard"):
            ys = rnn.linen.RNN(rnn.GRU(H)).apply(variables, xs)
            assert_close(ys, nn.RNN(nn.GRUCell(H)).apply(expected, xs))
        assert ys.dtype == jnp.float32

    def test_gradients(self, pair):
        cell, module = pair
        variables, expected = weights(cell, module)
        xs = draw(B, T, D)
        grads = jax.jit(jax.grad(lambda v: loss(rnn.linen.RNN(cell).apply(v, xs))))(variables)
        expected = jax.jit(jax.grad(lambda v: loss(nn.RNN(module).apply(v, xs))))(expected)
        expected = rnn.convert.from_flax(cell, expected["params"]["cell"])
        assert_close(grads, rnn.linen.to_variables(expected), atol=1e-5)

    def test_the_constructor_takes_all_that_flax_has(self):
        mine, his = ([(f.name, f.default) for f in dataclasses.fields(kind)] for kind in (rnn.linen.RNN, nn.RNN))
        attributes = [field for field in his if field[0] not in ("parent", "name")]
        assert mine[: len(attributes)] == attributes

    def test_the_options_of_its_scan_change_nothing(self):
        variables, _ = weights(*PAIRS["GRUCell"])
        options = {"unroll": 3, "variable_broadcast": ["params"], "split_rngs": {"params": False, "dropout": True}}
        ys = rnn.linen.RNN(rnn.GRU(H), **options).apply(variables, draw(B, T, D), init_key=jax.random.key(1))
        assert_close(ys, rnn.linen.RNN(rnn.GRU(H)).apply(variables, draw(B, T, D)), atol=0, rtol=0)


class TestPadding:
    lengths = jnp.array([T, 2, 0])

    def test_nan_in_the_padding_reaches_nothing(self):
        module = rnn.linen.RNN(rnn.GRU(H), reverse=True)
        variables, _ = weights(*PAIRS["GRUCell"])
        xs = up_to(self.lengths, draw(3, T, D))

        @jax.jit
        @jax.value_and_grad
        def value_and_grad(variables, xs):
            return loss(module.apply(variables, xs, seq_lengths=self.lengths))

        dirty = jnp.where(up_to(self.lengths, jnp.ones_like(xs)), xs, jnp.nan)
        assert_close(value_and_grad(variables, dirty), value_and_grad(variables, xs), atol=0, rtol=0)

    def test_a_sequence_of_length_zero_keeps_its_carry(self):
        variables, _ = weights(*PAIRS["LSTMCell"])
        carry, _ = carry_of((3,), rnn.LSTM(H))
        options = {"initial_carry": carry, "seq_lengths": self.lengths, "return_carry": True}
        state, ys = rnn.linen.RNN(rnn.LSTM(H)).apply(variables, draw(3, T, D), **options)
        assert_close(jax.tree.map(lambda leaf: leaf[2], state), jax.tree.map(lambda leaf: leaf[2], carry))
        assert not ys[2].any()


class TestNetworks:
    """Stacks, both directions and wrappers become a module as a cell does."""

    def test_a_network_runs_as_its_apply_does(self):
        params = draw_params(NETWORK)
        states, ys = NETWORK.apply(params, draw(T, B, D), lengths=jnp.array([3, 4]))
        module = rnn.linen.RNN(NETWORK, time_major=True, return_carry=True)
        variables = rnn.linen.to_variables(params)
        assert_close(module.apply(variables, draw(T, B, D), seq_lengths=jnp.array([3, 4])), (states, ys))

    @pytest.mark.parametrize("lengths", [None, jnp.array([3, 4])])
    def test_reversed_it_reads_each_sequence_from_its_end(self, lengths):
        variables, xs = rnn.linen.to_variables(draw_params(NETWORK)), draw(B, T, D)

        def run(xs, **options):
            return rnn.linen.RNN(NETWORK).apply(variables, xs, seq_lengths=lengths, **options)

        turned = run(flip_sequences(xs, lengths, 1, False))
        assert_close(run(xs, reverse=True), turned)
        assert_close(run(xs, reverse=True, keep_order=True), flip_sequences(turned, lengths, 1, False))

    @pytest.mark.parametrize(
        "cell", [rnn.LSTM(H, peepholes=True), NETWORK, rnn.dropout(rnn.bidirectional(rnn.GRU(H)), 0.5)]
    )
    def test_variables_are_named_as_our_fields_and_drawn_by_the_cell(self, cell):
        module = rnn.linen.RNN(cell, param_dtype=jnp.float16)
        variables = module.init(jax.random.key(0), draw(B, T, D, dtype=np.float16))
        like = jax.eval_shape(lambda: rnn.linen.to_variables(cell.init(jax.random.key(0), D)))
        assert jax.tree.structure(variables) == jax.tree.structure(like)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float16)}
        again, params = rnn.linen.from_linen(module, variables)
        assert again == cell
        assert_close(rnn.linen.to_variables(params), variables, atol=0, rtol=0)

    def test_names(self):
        params = rnn.linen.to_variables(draw_params(rnn.LSTM(H, peepholes=True)))["params"]
        assert list(params) == ["w_x", "w_h", "b", "p"]
        assert list(params["p"]) == ["i", "f", "o"]
        assert list(rnn.linen.to_variables(draw_params(NETWORK))["params"]["0"]) == ["forward", "backward"]

    def test_all_parameters_are_drawn_with_one_key(self):
        class Paired:
            """A cell of the user's whose two parameters must agree."""

            output_size = H

            def init(self, key, input_size):
                w = jax.random.normal(key, (input_size, H))
                return {"w": w, "norm": jnp.linalg.norm(w)}

            def initial_state(self, batch_shape=(), dtype=float):
                return jnp.zeros((*batch_shape, H), dtype)

            def step(self, params, h, x):
                h = jnp.tanh(h + x @ params["w"] / params["norm"])
                return h, h

        params = rnn.linen.RNN(Paired()).init(jax.random.key(0), draw(B, T, D))["params"]
        assert_close(params["norm"], jnp.linalg.norm(params["w"]))

    def test_a_cell_whose_parameters_are_one_array(self):
        class Sum:
            output_size = D

            def init(self, key, input_size):
                return jnp.ones(input_size)

            def initial_state(self, batch_shape=(), dtype=float):
                return jnp.zeros((*batch_shape, D), dtype)

            def step(self, w, h, x):
                return h + w * x, h + w * x

        ys, variables = rnn.linen.RNN(Sum()).init_with_output(jax.random.key(0), draw(B, T, D))
        assert list(variables["params"]) == ["params"]
        assert_close(ys, jnp.cumsum(draw(B, T, D), axis=1))


class Model(nn.Module):
    """A small model of a user's, with our RNN as one of its layers."""

    recurrent: type = rnn.linen.RNN

    @nn.compact
    def __call__(self, xs, lengths=None):
        xs = nn.Dense(H)(xs)
        return nn.Dense(1)(self.recurrent(rnn.GRU(H), name="rnn")(xs, seq_lengths=lengths))


class TestTransforms:
    xs = draw(B, T, D)

    def test_within_a_model(self):
        ys, variables = Model().init_with_output(jax.random.key(0), self.xs)
        assert set(variables["params"]) == {"Dense_0", "rnn", "Dense_1"}
        assert_close(jax.jit(Model().apply)(variables, self.xs), ys)
        assert_close(jax.vmap(Model().apply, in_axes=(None, 0))(variables, self.xs), ys)

    def test_remat(self):
        variables = Model().init(jax.random.key(0), self.xs)

        def grads(recurrent):
            return jax.jit(jax.grad(lambda v: loss(Model(recurrent).apply(v, self.xs))))(variables)

        assert_close(grads(nn.remat(rnn.linen.RNN)), grads(rnn.linen.RNN), atol=1e-5)

    def test_scan_over_layers(self):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, xs, _):
                return rnn.linen.RNN(rnn.GRU(D), name="rnn")(xs), None

        deep = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)()
        (ys, _), variables = deep.init_with_output(jax.random.key(0), self.xs, None)
        layers = variables["params"]["rnn"]
        expected = self.xs
        for k in range(3):
            expected = rnn.linen.RNN(rnn.GRU(D)).apply(
                {"params": jax.tree.map(lambda leaf, k=k: leaf[k], layers)}, expected
            )
        assert_close(ys, expected)
        assert jnp.abs(layers["w_x"][0] - layers["w_x"][1]).max() > 0

    def test_vmap_over_many_modules_at_once(self):
        many = nn.vmap(
            rnn.linen.RNN, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=3
        )(rnn.GRU(H))
        ys, variables = many.init_with_output(jax.random.key(0), self.xs)
        assert ys.shape == (3, B, T, H)
        second = jax.tree.map(lambda leaf: leaf[1], variables)
        assert_close(ys[1], rnn.linen.RNN(rnn.GRU(H)).apply(second, self.xs))

    def test_a_checkpoint_brings_it_back(self):
        ys, variables = Model().init_with_output(jax.random.key(0), self.xs)
        other = Model().init(jax.random.key(1), self.xs)
        restored = serialization.from_bytes(other, serialization.to_bytes(variables))
        assert_close(Model().apply(restored, self.xs), ys, atol=0, rtol=0)


class TestRNNCell:
    """A cell of ours within Flax's own modules."""

    @pytest.mark.parametrize("cell", [rnn.GRU(H), rnn.zoneout(rnn.LayerNormLSTM(H), h=0.2)])
    @pytest.mark.parametrize("reading", READINGS)
    def test_it_runs_within_their_rnn(self, cell, reading):
        variables = rnn.linen.to_variables(draw_params(cell))
        options = {"seq_lengths": jnp.array([T, 2]), "return_carry": True, **reading}
        theirs = nn.RNN(rnn.linen.RNNCell(cell))
        state, ys = theirs.apply({"params": {"cell": variables["params"]}}, draw(B, T, D), **options)
        expected = rnn.linen.RNN(cell).apply(variables, draw(B, T, D), **options)
        assert_close((state, up_to(options["seq_lengths"], ys)), expected)

    @pytest.mark.parametrize(
        "kind", [rnn.linen.RNN, lambda cell: nn.RNN(rnn.linen.RNNCell(cell))], ids=["RNN", "RNNCell"]
    )
    def test_both_run_within_their_bidirectional(self, kind):
        module = nn.Bidirectional(kind(rnn.LSTM(H)), kind(rnn.LSTM(H)), return_carry=True)
        (carries, ys), variables = module.init_with_output(jax.random.key(0), draw(B, T, D))
        directions = [variables["params"][name] for name in ("forward_rnn", "backward_rnn")]
        params = BothWays(*(rnn.LSTM(H).init(jax.random.key(0), D)._replace(**d.get("cell", d)) for d in directions))
        expected = rnn.linen.RNN(rnn.bidirectional(rnn.LSTM(H)), return_carry=True)
        assert_close((BothWays(*carries), ys), expected.apply(rnn.linen.to_variables(params), draw(B, T, D)))

    def test_one_module_may_serve_both_directions(self):
        for shared in (rnn.linen.RNN(rnn.GRU(H)), nn.RNN(rnn.linen.RNNCell(rnn.GRU(H)))):
            ys, variables = nn.Bidirectional(shared, shared).init_with_output(jax.random.key(0), draw(B, T, D))
            assert len(jax.tree.leaves(variables)) == 4
            assert_close(
                ys[..., H:],
                shared.apply(
                    {"params": variables["params"]["forward_rnn"]}, draw(B, T, D), reverse=True, keep_order=True
                ),
            )

    def test_it_is_one_of_their_cells(self):
        module = rnn.linen.RNNCell(rnn.LSTM(H), dtype=jnp.float16)
        assert isinstance(module, nn.RNNCellBase)
        assert module.num_feature_axes == 1
        carry = module.initialize_carry(jax.random.key(0), (7, B, D))
        ((state, y), _) = module.init_with_output(jax.random.key(0), carry, draw(7, B, D))
        assert jax.tree.map(jnp.shape, state) == rnn.LSTMState((7, B, H), (7, B, H))
        assert {leaf.dtype for leaf in jax.tree.leaves((state, y))} == {jnp.dtype(jnp.float16)}


class Custom(nn.Module):
    """A cell as a user writes it, with normalization and dropout."""

    features: int

    @nn.compact
    def __call__(self, carry, inputs):
        h = jnp.tanh(nn.LayerNorm()(nn.Dense(self.features)(jnp.concatenate([inputs, carry], axis=-1))))
        return h, nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(h)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((*input_shape[:-1], self.features))

    @property
    def num_feature_axes(self):
        return 1


class TestFromLinen:
    """A cell of Flax's or of the user's under our unroll."""

    @pytest.mark.parametrize("module", [*(module for _, module in PAIRS.values()), Custom(H)])
    def test_it_unrolls_to_what_their_rnn_computes(self, module):
        theirs = nn.RNN(module, time_major=True, return_carry=True)
        expected, variables = theirs.init_with_output(jax.random.key(0), draw(T, B, D))
        cell, params = rnn.linen.from_linen(module, {"params": variables["params"]["cell"]})
        assert_close(rnn.unroll(cell, params, draw(T, B, D)), expected)
        assert cell.output_size == H

    def test_lengths_stacks_and_both_directions(self):
        cell, _ = rnn.linen.from_linen(Custom(H), {"params": {}})
        net = rnn.stack(rnn.bidirectional(cell), rnn.GRU(H))
        params, lengths = net.init(jax.random.key(0), D), jnp.array([T, 2])
        _, ys = jax.jit(rnn.unroll, static_argnums=0)(cell, params[0].forward, draw(T, B, D), lengths=lengths)
        _, alone = rnn.unroll(cell, params[0].forward, draw(T, B, D)[:2, 1:])
        assert_close(ys[:2, 1:], alone)
        assert not ys[2:, 1].any()
        states, _ = net.apply(params, draw(T, B, D), lengths=lengths)
        _, backwards = rnn.unroll(cell, params[0].backward, draw(T, B, D), lengths=lengths, reverse=True)
        assert_close(states[0].backward, backwards[0])

    def test_features_of_more_than_one_axis(self):
        module = nn.RNN(nn.ConvLSTMCell(H, (3, 3)), return_carry=True)
        xs = draw(B, T, 4, 4, D)
        (carry, ys), variables = module.init_with_output(jax.random.key(0), xs)
        cell, params = rnn.linen.from_linen(module.cell, {"params": variables["params"]["cell"]})
        state, mine = rnn.unroll(cell, params, xs.swapaxes(0, 1))
        assert_close((state, mine.swapaxes(0, 1)), (carry, ys))

    def test_a_key_makes_it_random_at_every_step(self):
        cell, _ = rnn.linen.from_linen(Custom(50), {"params": {}})
        params = cell.init(jax.random.key(0), D)
        _, ys = rnn.unroll(cell, params, draw(T, B, D), key=jax.random.key(0))
        dropped = ys == 0
        assert 0.4 < dropped.mean() < 0.6
        assert (dropped[0] != dropped[1]).any()
        assert not (rnn.unroll(cell, params, draw(T, B, D))[1] == 0).any()

    def test_it_becomes_a_module_again(self):
        cell, _ = rnn.linen.from_linen(nn.GRUCell(H), {"params": {}})
        ys, variables = rnn.linen.RNN(cell).init_with_output(jax.random.key(0), draw(B, T, D))
        assert_close(ys, nn.RNN(nn.GRUCell(H)).apply({"params": {"cell": variables["params"]}}, draw(B, T, D)))


class TestRandomness:
    """Dropout and zoneout draw from the stream `dropout` where there is one."""

    @pytest.mark.parametrize(
        "net",
        [
            rnn.dropout(rnn.LSTM(H), 0.5),
            rnn.stack(rnn.zoneout(rnn.GRU(H), h=0.5), rnn.GRU(H)),
            rnn.LayerNormLSTM(H, recurrent_dropout=0.5),
        ],
    )
    def test_the_stream_makes_it_random(self, net):
        module, xs, params = rnn.linen.RNN(net), draw(B, T, D), draw_params(net)
        variables = rnn.linen.to_variables(params)
        one, two = (module.apply(variables, xs, rngs={"dropout": jax.random.key(seed)}) for seed in (1, 2))
        assert jnp.abs(one - two).max() > 0.01
        assert_close(module.apply(variables, xs, rngs={"dropout": jax.random.key(1)}), one)
        _, expected = as_layer(net).apply(params, xs.swapaxes(0, 1))
        assert_close(module.apply(variables, xs), expected.swapaxes(0, 1))

    @pytest.mark.parametrize("fresh", [True, False])
    def test_within_their_rnn_noise_is_fresh_at_every_step_or_the_same(self, fresh):
        cell = rnn.linen.RNNCell(rnn.variational_dropout(rnn.GRU(50), outputs=0.5))
        module = nn.RNN(cell, split_rngs={"params": False, "dropout": fresh})
        rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        ys, _ = module.init_with_output(rngs, draw(B, T, D))
        dropped = ys == 0
        assert 0.4 < dropped.mean() < 0.6
        assert (dropped[:, 0] == dropped[:, 1]).all() == (not fresh)


def one_line(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


class TestErrors:
    @pytest.mark.parametrize(
        ("inputs", "options", "match"),
        [
            (jnp.ones(D), {}, r"inputs has shape \(3,\), but needs \[..., T, in_features\]"),
            (jnp.ones((B, T, 7)), {}, r"params.w_x has shape \(3, 16\), but .* with 7 features needs \(7, 16\)"),
            (jnp.ones((B, T, D)), {"seq_lengths": jnp.array([1, 9])}, "lengths must be from 0 to 5"),
            (jnp.ones((B, T, D)), {"initial_carry": (jnp.zeros((B, H)),) * 2}, "initial_carry has the structure"),
            (jnp.ones((B, T, D)), {"initial_carry": rnn.LSTM(H).initial_state((3,))}, "initial_carry.h has shape"),
        ],
    )
    def test_of_a_call(self, inputs, options, match):
        variables, _ = weights(*PAIRS["LSTMCell"])
        one_line(lambda: rnn.linen.RNN(rnn.LSTM(H)).apply(variables, inputs, **options), match)

    @pytest.mark.parametrize(
        ("module", "match"),
        [
            (rnn.linen.RNN(nn.LSTMCell(H)), "RNN needs a cell or layer of rnn_jax, not LSTMCell"),
            (rnn.linen.RNN(rnn.GRU(H)), "needs the params w_x, w_h, b, b_h, but the variables have w_x, w_h, b"),
            (rnn.linen.RNN(rnn.LSTM(H), variable_axes={"params": 0}), "variable_axes and variable_carry must be empty"),
            (rnn.linen.RNN(rnn.LSTM(H), variable_carry="state"), "variable_axes and variable_carry must be empty"),
        ],
    )
    def test_of_a_module(self, module, match):
        variables, _ = weights(*PAIRS["LSTMCell"])
        one_line(lambda: module.apply(variables, draw(B, T, D)), match)

    def test_of_a_cell(self):
        variables, carry = rnn.linen.to_variables(draw_params(NETWORK)), NETWORK.initial_state((B,))
        layer = rnn.linen.RNNCell(NETWORK)
        one_line(lambda: layer.apply(variables, carry, draw(B, D)), "needs a cell, which has a step")

    def test_of_from_linen(self):
        one_line(lambda: rnn.linen.from_linen(nn.Dense(H), {"params": {}}), "needs a cell, .* not Dense")
        variables = {"params": {}, "batch_stats": {}}
        one_line(lambda: rnn.linen.from_linen(nn.LSTMCell(H), variables), "params alone, not params, batch_stats")


def test_nothing_we_call_is_deprecated():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        variables = rnn.linen.RNN(rnn.LSTM(H)).init(jax.random.key(0), draw(B, T, D))
        rnn.linen.RNN(rnn.LSTM(H)).apply(variables, draw(B, T, D), seq_lengths=jnp.array([3, 4]), reverse=True)
        nn.RNN(rnn.linen.RNNCell(rnn.LSTM(H))).init(jax.random.key(0), draw(B, T, D))
        cell, _ = rnn.linen.from_linen(Custom(H), {"params": {}})
        rnn.unroll(cell, cell.init(jax.random.key(0), D), draw(T, B, D), key=jax.random.key(0))
