"""Modules of nnx around our cells compute what nnx's own compute, and nnx's cells run as ours."""

# Flax declares what its modules return as unions, and most of its arrays as Any or dicts.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

import inspect
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from helpers import assert_close, draw_params, loss

import rnn_jax as rnn
from rnn_jax.layers import Recurrent

B, T, D, H = 2, 5, 3, 4
PAIRS = {
    "LSTMCell": (rnn.LSTM(H), nnx.LSTMCell),
    "OptimizedLSTMCell": (rnn.LSTM(H), nnx.OptimizedLSTMCell),
    "GRUCell": (rnn.GRU(H), nnx.GRUCell),
    "SimpleCell": (rnn.VanillaRNN(H), nnx.SimpleCell),
}
NETWORK = rnn.stack(rnn.bidirectional(rnn.LSTM(H)), rnn.GRU(H))
READINGS = [{}, {"reverse": True}, {"reverse": True, "keep_order": True}]


@pytest.fixture(params=list(PAIRS.values()), ids=list(PAIRS))
def pair(request):
    return request.param


def draw(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def theirs(kind, seed=0, **options):
    """A cell of Flax's, with biases away from zero."""
    module = kind(D, H, rngs=nnx.Rngs(seed), **options)
    state = nnx.state(module, nnx.Param)
    nnx.update(module, jax.tree.map(lambda leaf: leaf + 0.3 * draw(*leaf.shape, dtype=leaf.dtype), state))
    return module


def ours(cell, module, **options):
    """Our RNN with the weights of a cell of Flax's."""
    params = rnn.convert.from_flax(cell, nnx.state(module, nnx.Param))
    return rnn.nnx.RNN(cell, in_features=D, params=params, **options)


def carry_of(batch_shape, cell):
    """A carry that is not the initial one: ours and Flax's."""
    h, c = draw(*batch_shape, H, seed=5), draw(*batch_shape, H, seed=6)
    return (rnn.LSTMState(h, c), (c, h)) if isinstance(cell, rnn.LSTM) else (cell.initial_state()._make([h]), h)


def up_to(lengths, ys):
    """The outputs [B, T, H] with zeros in the padding."""
    return jnp.where((jnp.arange(T) < lengths[:, None])[..., None], ys, 0)


def as_theirs(state):
    return (state.c, state.h) if isinstance(state, rnn.LSTMState) else state.h


class TestAgainstFlax:
    """Our RNN with the converted weights of a Flax cell, beside nnx.RNN."""

    @pytest.mark.parametrize("reading", READINGS)
    def test_it_computes_the_same(self, pair, reading):
        cell, kind = pair
        module = theirs(kind)
        mine, his = carry_of((B,), cell) if reading else (None, None)
        options = {"return_carry": True, **reading}
        state, ys = ours(cell, module)(draw(B, T, D), initial_carry=mine, **options)
        expected = nnx.RNN(module)(draw(B, T, D), initial_carry=his, **options)
        assert_close((as_theirs(state), ys), expected)

    @pytest.mark.parametrize("reading", READINGS)
    def test_it_computes_the_same_up_to_each_length(self, pair, reading):
        cell, kind = pair
        module, lengths = theirs(kind), jnp.array([T, 2, 1])
        mine, his = carry_of((3,), cell)
        options = {"return_carry": True, "seq_lengths": lengths, **reading}
        state, ys = ours(cell, module)(draw(3, T, D), initial_carry=mine, **options)
        carry, expected = nnx.RNN(module)(draw(3, T, D), initial_carry=his, **options)
        assert_close((as_theirs(state), ys), (carry, up_to(lengths, expected)))

    @pytest.mark.parametrize("batch_shape", [(), (2, 3), (0,)])
    def test_any_number_of_batch_axes(self, batch_shape):
        module = theirs(nnx.GRUCell)
        state, ys = ours(rnn.GRU(H), module, return_carry=True)(draw(*batch_shape, T, D))
        assert_close((state.h, ys), nnx.RNN(module, return_carry=True)(draw(*batch_shape, T, D)))

    @pytest.mark.parametrize("reading", READINGS)
    def test_time_may_lead(self, reading):
        module = theirs(nnx.LSTMCell)
        state, ys = ours(rnn.LSTM(H), module, time_major=True, return_carry=True, **reading)(draw(T, B, D))
        expected = nnx.RNN(module, time_major=True, return_carry=True, **reading)(draw(T, B, D))
        assert_close((as_theirs(state), ys), expected)

    def test_a_call_overrides_the_constructor(self):
        module = ours(
            rnn.LSTM(H), theirs(nnx.LSTMCell), time_major=True, return_carry=True, reverse=True, keep_order=True
        )
        plain = ours(rnn.LSTM(H), theirs(nnx.LSTMCell))
        ys = module(draw(B, T, D), time_major=False, return_carry=False, reverse=False, keep_order=False)
        assert_close(ys, plain(draw(B, T, D)))

    @pytest.mark.parametrize(("dtype", "param_dtype"), [(jnp.bfloat16, jnp.float32), (jnp.float16, jnp.float16)])
    def test_low_precision(self, dtype, param_dtype):
        options = {"dtype": dtype, "param_dtype": param_dtype}
        module = theirs(nnx.LSTMCell, **options)
        mine = ours(rnn.LSTM(H), module, dtype=dtype)
        assert {leaf.dtype for leaf in jax.tree.leaves(mine.params)} == {jnp.dtype(param_dtype)}
        ys = mine(draw(B, T, D, dtype=dtype))
        assert ys.dtype == dtype
        with jax.numpy_dtype_promotion("standard"):  # Flax's carry has the dtype of the parameters
            expected = nnx.RNN(module)(draw(B, T, D, dtype=dtype))
        np.testing.assert_allclose(np.float32(ys), np.float32(expected), atol=0.03)

    @pytest.mark.parametrize("dtype", [jnp.int32, jnp.bfloat16])
    def test_inputs_are_promoted_to_the_parameters_as_flax_promotes_them(self, dtype):
        module, xs = theirs(nnx.GRUCell), draw(B, T, D).astype(dtype)
        with jax.numpy_dtype_promotion("standard"):
            ys, expected = ours(rnn.GRU(H), module)(xs), nnx.RNN(module)(xs)
        assert_close(ys, expected)
        assert ys.dtype == expected.dtype

    def test_gradients(self, pair):
        cell, kind = pair
        module, xs = theirs(kind), draw(B, T, D)
        grads = nnx.jit(nnx.grad(lambda module: loss(module(xs))))(ours(cell, module))
        expected = nnx.jit(nnx.grad(lambda module: loss(nnx.RNN(module)(xs))))(module)
        expected = rnn.convert.from_flax(cell, expected)
        if isinstance(cell, rnn.GRU):  # nnx's has no b_h, which converts to zeros
            grads["params"]["b_h"] = expected.b_h
        for name, grad in nnx.to_pure_dict(grads)["params"].items():
            np.testing.assert_allclose(grad, getattr(expected, name), atol=1e-5)

    def test_the_constructor_and_the_call_take_all_that_flax_has(self):
        for name in ("__init__", "__call__"):
            mine, his = (dict(inspect.signature(getattr(kind, name)).parameters) for kind in (rnn.nnx.RNN, nnx.RNN))
            for parameter in his.values():
                assert mine[parameter.name].kind == parameter.kind
                if parameter.name != "rngs":  # Flax's True is a stream with a fixed seed, for the carry
                    assert mine[parameter.name].default == parameter.default

    def test_the_number_of_steps_in_an_iteration_changes_nothing(self):
        module = theirs(nnx.GRUCell)
        xs = draw(B, T, D)
        assert_close(ours(rnn.GRU(H), module, unroll=3)(xs), ours(rnn.GRU(H), module)(xs), atol=0, rtol=0)


class TestPadding:
    lengths = jnp.array([T, 2, 0])

    @pytest.mark.parametrize("reading", READINGS)
    def test_nan_in_the_padding_reaches_nothing(self, reading):
        module = rnn.nnx.RNN(NETWORK, in_features=D, rngs=nnx.Rngs(0), **reading)
        xs = up_to(self.lengths, draw(3, T, D))

        @nnx.jit
        @nnx.value_and_grad
        def value_and_grad(module, xs):
            return loss(module(xs, seq_lengths=self.lengths))

        clean = value_and_grad(module, xs)
        dirty = value_and_grad(module, jnp.where(up_to(self.lengths, jnp.ones_like(xs)), xs, jnp.nan))
        assert_close(dirty, clean, atol=0, rtol=0)
        ys = module(xs, seq_lengths=self.lengths)
        assert_close(ys, up_to(self.lengths, ys), atol=0, rtol=0)

    def test_a_sequence_of_length_zero_keeps_its_carry(self):
        module = rnn.nnx.RNN(rnn.LSTM(H), in_features=D, rngs=nnx.Rngs(0))
        carry, _ = carry_of((3,), rnn.LSTM(H))
        state, _ = module(draw(3, T, D), initial_carry=carry, seq_lengths=self.lengths, return_carry=True)
        assert_close(jax.tree.map(lambda leaf: leaf[2], state), jax.tree.map(lambda leaf: leaf[2], carry))


class TestNetworks:
    """Stacks, both directions and wrappers become a module as a cell does."""

    def test_a_network_runs_as_its_apply_does(self):
        module = rnn.nnx.RNN(NETWORK, in_features=D, rngs=nnx.Rngs(0), return_carry=True)
        _, params = rnn.nnx.from_nnx(module)
        states, ys = NETWORK.apply(params, draw(B, T, D).swapaxes(0, 1), lengths=jnp.array([3, 4]))
        assert_close(module(draw(B, T, D), seq_lengths=jnp.array([3, 4])), (states, ys.swapaxes(0, 1)))

    @pytest.mark.parametrize("lengths", [None, jnp.array([3, 4])])
    def test_reversed_it_reads_each_sequence_from_its_end(self, lengths):
        module = rnn.nnx.RNN(NETWORK, in_features=D, rngs=nnx.Rngs(0))
        xs = draw(B, T, D)
        flip = nnx.nn.recurrent.flip_sequences
        turned = module(flip(xs, lengths, 1, False), seq_lengths=lengths)
        assert_close(module(xs, seq_lengths=lengths, reverse=True), turned)
        kept = module(xs, seq_lengths=lengths, reverse=True, keep_order=True)
        assert_close(kept, flip(turned, lengths, 1, False))

    def test_a_layer_that_reads_backwards_reads_forwards_when_reversed(self):
        forward = rnn.nnx.RNN(rnn.GRU(H), in_features=D, rngs=nnx.Rngs(0))
        backward = rnn.nnx.RNN(Recurrent(rnn.GRU(H), reverse=True), in_features=D, rngs=nnx.Rngs(0), reverse=True)
        assert_close(backward(draw(B, T, D), keep_order=True), forward(draw(B, T, D)))

    def test_outputs_of_both_directions_stay_apart(self):
        both = rnn.bidirectional(rnn.GRU(H), merge="both")
        ys = rnn.nnx.RNN(both, in_features=D, rngs=nnx.Rngs(0), reverse=True)(draw(B, T, D))
        assert [y.shape for y in ys] == [(B, T, H)] * 2

    def test_parameters_are_named_as_our_fields(self):
        module = rnn.nnx.RNN(rnn.LSTM(H, peepholes=True), in_features=D, rngs=nnx.Rngs(0))
        state = nnx.state(module, nnx.Param)
        names = {"b", "w_h", "w_x", "p/i", "p/f", "p/o"}
        assert {"/".join(path[1:]) for path, _ in nnx.to_flat_state(state)} == names
        assert isinstance(module.params.w_x, nnx.Param)
        network = nnx.state(rnn.nnx.RNN(NETWORK, in_features=D, rngs=nnx.Rngs(0)), nnx.Param)
        assert network["params"][0]["backward"]["w_x"].shape == (D, 4 * H)

    def test_they_are_what_the_cell_draws(self):
        module = rnn.nnx.RNN(NETWORK, in_features=D, rngs=nnx.Rngs(7), param_dtype=jnp.float16)
        expected = NETWORK.init(nnx.Rngs(7).params(), D)
        cell, params = rnn.nnx.from_nnx(module)
        assert cell == NETWORK
        assert_close(params, jax.tree.map(lambda leaf: leaf.astype(jnp.float16), expected), atol=0, rtol=0)


class TestTransforms:
    xs = draw(B, T, D)

    def make(self, rngs=None):
        return rnn.nnx.RNN(NETWORK, in_features=D, rngs=rngs or nnx.Rngs(0))

    def test_jit_of_nnx_and_of_jax(self):
        module, xs = self.make(), self.xs
        expected = module(xs)
        assert_close(nnx.jit(lambda module, xs: module(xs))(module, xs), expected)
        graphdef, state = nnx.split(module)
        assert_close(jax.jit(lambda state, xs: nnx.merge(graphdef, state)(xs))(state, xs), expected)
        assert_close(jax.jit(module)(xs), expected)

    def test_vmap_over_many_modules_at_once(self):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def make(rngs):
            return self.make(rngs)

        modules = make(nnx.Rngs(0))
        ys = nnx.vmap(lambda module, xs: module(xs), in_axes=(0, None))(modules, self.xs)
        assert ys.shape == (3, B, T, H)
        graphdef, state = nnx.split(modules)
        second = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf[1], state))
        assert_close(ys[1], second(self.xs))

    def test_scan_over_layers(self):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def make(rngs):
            return rnn.nnx.RNN(rnn.GRU(D), in_features=D, rngs=rngs)

        layers = make(nnx.Rngs(0))
        ys = nnx.scan(lambda xs, layer: layer(xs), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(self.xs, layers)
        graphdef, state = nnx.split(layers)
        expected = self.xs
        for k in range(3):
            expected = nnx.merge(graphdef, jax.tree.map(lambda leaf, k=k: leaf[k], state))(expected)
        assert_close(ys, expected)

    def test_remat(self):
        module, xs = self.make(), self.xs
        remat = nnx.remat(lambda module, xs: module(xs))
        grads = nnx.jit(nnx.grad(lambda module: loss(remat(module, xs))))(module)
        assert_close(grads, nnx.jit(nnx.grad(lambda module: loss(module(xs))))(module))

    def test_an_optimizer_trains_it(self):
        module, xs = self.make(), self.xs
        optimizer = nnx.Optimizer(module, optax.sgd(0.5, momentum=0.9), wrt=nnx.Param)

        @nnx.jit
        def update(module, optimizer):
            value, grads = nnx.value_and_grad(lambda module: jnp.mean((module(xs) - 0.3) ** 2))(module)
            optimizer.update(module, grads)
            return value

        first, *_, last = [update(module, optimizer) for _ in range(30)]
        assert last < 0.3 * first

    def test_a_checkpoint_brings_it_back(self, tmp_path):
        module, other = self.make(), self.make(nnx.Rngs(1))
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "module", nnx.to_pure_dict(nnx.state(module)))
        with ocp.StandardCheckpointer() as checkpointer:
            restored = checkpointer.restore(tmp_path / "module", nnx.to_pure_dict(nnx.state(other)))
        nnx.update(other, restored)
        assert_close(other(self.xs), module(self.xs), atol=0, rtol=0)


class TestRNNCell:
    """A cell of ours within Flax's own modules."""

    @pytest.mark.parametrize("cell", [rnn.LSTM(H), rnn.zoneout(rnn.LayerNormLSTM(H), h=0.2)])
    @pytest.mark.parametrize("reading", READINGS)
    def test_it_runs_within_their_rnn(self, cell, reading):
        module = rnn.nnx.RNNCell(cell, D, params=draw_params(cell))
        mine = rnn.nnx.RNN(cell, in_features=D, params=draw_params(cell))
        module.eval()
        mine.eval()
        lengths = jnp.array([T, 2])
        options = {"seq_lengths": lengths, "return_carry": True, **reading}
        state, ys = nnx.RNN(module)(draw(B, T, D), **options)
        assert_close((state, up_to(lengths, ys)), mine(draw(B, T, D), **options))

    def test_it_runs_within_their_bidirectional(self):
        cells = [rnn.nnx.RNNCell(rnn.LSTM(H), D, rngs=nnx.Rngs(seed)) for seed in (0, 1)]
        both = nnx.Bidirectional(*map(nnx.RNN, cells), return_carry=True)
        params = rnn.layers.BothWays(*(rnn.nnx.from_nnx(cell)[1] for cell in cells))
        expected = rnn.nnx.RNN(rnn.bidirectional(rnn.LSTM(H)), in_features=D, params=params, return_carry=True)
        (forward, backward), ys = both(draw(B, T, D))
        assert_close((rnn.layers.BothWays(forward, backward), ys), expected(draw(B, T, D)))

    def test_our_rnn_runs_within_their_bidirectional(self):
        modules = [rnn.nnx.RNN(rnn.LSTM(H), in_features=D, rngs=nnx.Rngs(seed)) for seed in (0, 1)]
        params = rnn.layers.BothWays(*(rnn.nnx.from_nnx(module)[1] for module in modules))
        expected = rnn.nnx.RNN(rnn.bidirectional(rnn.LSTM(H)), in_features=D, params=params)
        lengths = jnp.array([3, 4])
        ys = nnx.Bidirectional(*modules)(draw(B, T, D), seq_lengths=lengths)
        assert_close(ys, expected(draw(B, T, D), seq_lengths=lengths))

    def test_one_cell_may_serve_both_directions(self):
        cell = rnn.nnx.RNNCell(rnn.GRU(H), D, rngs=nnx.Rngs(0))
        ys = nnx.Bidirectional(nnx.RNN(cell), nnx.RNN(cell))(draw(B, T, D))
        assert_close(ys[..., H:], nnx.RNN(cell)(draw(B, T, D), reverse=True, keep_order=True))

    def test_it_is_one_of_their_cells(self):
        module = rnn.nnx.RNNCell(rnn.LSTM(H), D, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
        assert isinstance(module, nnx.RNNCellBase)
        assert module.num_feature_axes == 1
        carry = module.initialize_carry((7, B, D), nnx.Rngs(0))
        assert jax.tree.map(jnp.shape, carry) == rnn.LSTMState((7, B, H), (7, B, H))
        carry, y = module(carry, draw(7, B, D, dtype=jnp.bfloat16))
        assert {leaf.dtype for leaf in jax.tree.leaves((carry, y))} == {jnp.dtype(jnp.bfloat16)}

    def test_the_carry_keeps_its_dtype_whatever_the_computation_has(self):
        module = rnn.nnx.RNNCell(rnn.LSTM(H), D, rngs=nnx.Rngs(0), dtype=jnp.float16)
        carry, y = module(rnn.LSTM(H).initial_state((B,), jnp.float32), draw(B, D))
        assert carry.h.dtype == jnp.float32
        assert y.dtype == jnp.float16

    @pytest.mark.parametrize("rngs", [nnx.Rngs(3), nnx.RngStream(0, tag="carry")], ids=["rngs", "stream"])
    def test_the_carry_may_be_drawn(self, rngs):
        module = rnn.nnx.RNNCell(rnn.LSTM(H), D, rngs=nnx.Rngs(0))
        carry = module.initialize_carry((B, D), rngs, carry_init=nnx.initializers.normal())
        assert jnp.abs(carry.h - carry.c).min() > 0


class Custom(nnx.Module):
    """A cell as a user writes it: no base class, a list of layers, normalization and dropout."""

    def __init__(self, in_features: int, hidden_features: int, *, rngs: nnx.Rngs):
        self.in_features, self.hidden_features = in_features, hidden_features
        self.dense = nnx.Linear(in_features + hidden_features, hidden_features, rngs=rngs)
        self.more = nnx.List([nnx.Linear(hidden_features, hidden_features, rngs=rngs)])
        self.norm = nnx.LayerNorm(hidden_features, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, carry, inputs):
        h = jnp.tanh(self.more[0](self.norm(self.dense(jnp.concatenate([inputs, carry], axis=-1)))))
        return h, self.dropout(h)

    def initialize_carry(self, input_shape, rngs):
        return jnp.zeros((*input_shape[:-1], self.hidden_features))

    @property
    def num_feature_axes(self):
        return 1


class TestFromNnx:
    """A cell of Flax's or of the user's under our unroll."""

    @pytest.mark.parametrize("kind", [*(kind for _, kind in PAIRS.values()), Custom])
    def test_it_unrolls_to_what_their_rnn_computes(self, kind):
        module = kind(D, H, rngs=nnx.Rngs(0))
        cell, params = rnn.nnx.from_nnx(module)
        state, ys = rnn.unroll(cell, params, draw(T, B, D))
        module.eval()
        assert_close((state, ys), nnx.RNN(module, time_major=True, return_carry=True)(draw(T, B, D)))
        assert cell.output_size == H

    def test_lengths_stacks_and_both_directions(self):
        cell, params = rnn.nnx.from_nnx(Custom(D, H, rngs=nnx.Rngs(0)))
        lengths = jnp.array([T, 2])
        _, ys = rnn.unroll(cell, params, draw(T, B, D), lengths=lengths, reverse=True)
        _, alone = rnn.unroll(cell, params, draw(T, B, D)[:2, 1:], reverse=True)
        assert_close(ys[:2, 1:], alone)
        assert not ys[2:, 1].any()
        net = rnn.stack(rnn.bidirectional(cell), rnn.GRU(H))
        (both, _), _ = net.apply(net.init(jax.random.key(0), D), draw(T, B, D), lengths=lengths)
        assert_close(both.backward, rnn.unroll(cell, params, draw(T, B, D), lengths=lengths, reverse=True)[0])

    def test_it_is_jitted_and_trained(self):
        cell, params = rnn.nnx.from_nnx(Custom(D, H, rngs=nnx.Rngs(0)))
        xs = draw(T, B, D)
        value = jax.jit(lambda params: loss(rnn.unroll(cell, params, xs)[1]))
        grads = jax.grad(value)(params)
        assert jax.tree.structure(grads) == jax.tree.structure(params)
        assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
        assert_close(jax.jit(rnn.unroll, static_argnums=0)(cell, params, xs), rnn.unroll(cell, params, xs))

    def test_a_key_makes_it_random_at_every_step(self):
        cell, params = rnn.nnx.from_nnx(Custom(D, 50, rngs=nnx.Rngs(0)))
        _, ys = rnn.unroll(cell, params, draw(T, B, D), key=jax.random.key(0))
        dropped = ys == 0
        assert 0.4 < dropped.mean() < 0.6
        assert (dropped[0] != dropped[1]).any()
        assert_close(rnn.unroll(cell, params, draw(T, B, D), key=jax.random.key(0))[1], ys)
        assert not (rnn.unroll(cell, params, draw(T, B, D))[1] == 0).any()

    def test_a_key_does_nothing_to_a_cell_without_randomness(self):
        cell, params = rnn.nnx.from_nnx(nnx.GRUCell(D, H, rngs=nnx.Rngs(0)))
        with_key = rnn.unroll(cell, params, draw(T, B, D), key=jax.random.key(0))
        assert_close(with_key, rnn.unroll(cell, params, draw(T, B, D)))

    def test_training_the_module_further_changes_nothing(self):
        module = Custom(D, H, rngs=nnx.Rngs(0))
        cell, params = rnn.nnx.from_nnx(module)
        before = jax.tree.map(np.array, params)
        nnx.update(module, jax.tree.map(lambda leaf: leaf + 1, nnx.state(module, nnx.Param)))
        assert_close(params, before, atol=0, rtol=0)
        assert_close(cell.init(jax.random.key(0), D), before, atol=0, rtol=0)

    def test_its_parameters_convert_to_a_faster_cell_of_ours(self):
        cell, params = rnn.nnx.from_nnx(nnx.OptimizedLSTMCell(D, H, rngs=nnx.Rngs(0)))
        _, ys = rnn.unroll(cell, params, draw(T, B, D))
        _, faster = rnn.unroll(rnn.LSTM(H), rnn.convert.from_flax(rnn.LSTM(H), params), draw(T, B, D))
        assert_close(faster, ys)

    def test_it_becomes_a_module_again(self):
        cell, params = rnn.nnx.from_nnx(nnx.GRUCell(D, H, rngs=nnx.Rngs(0)))
        module = rnn.nnx.RNN(cell, in_features=D, rngs=nnx.Rngs(0))
        assert isinstance(module.params["dense_i"]["kernel"], nnx.Param)
        assert_close(module(draw(T, B, D), time_major=True), rnn.unroll(cell, params, draw(T, B, D))[1])


class TestRandomness:
    """Dropout and zoneout draw from the module's stream, until eval()."""

    xs = draw(B, T, D)

    def make(self, net, **options):
        return rnn.nnx.RNN(net, in_features=D, rngs=nnx.Rngs(0), **options)

    @pytest.mark.parametrize(
        "net",
        [
            rnn.dropout(rnn.LSTM(H), 0.5),
            rnn.stack(rnn.zoneout(rnn.GRU(H), h=0.5), rnn.GRU(H)),
            rnn.LayerNormLSTM(H, recurrent_dropout=0.5),
        ],
    )
    def test_every_call_draws_anew_until_eval(self, net):
        module = self.make(net)
        first, second = module(self.xs), module(self.xs)
        assert jnp.abs(first - second).max() > 0.01
        assert_close(self.make(net)(self.xs), first)
        module.eval()
        _, params = rnn.nnx.from_nnx(module)
        _, expected = rnn.layers.as_layer(net).apply(params, self.xs.swapaxes(0, 1))
        assert_close(module(self.xs), expected.swapaxes(0, 1))
        assert_close(nnx.view(self.make(net), deterministic=True)(self.xs), module(self.xs))
        module.train()
        assert jnp.abs(module(self.xs) - module(self.xs)).max() > 0.01

    @pytest.mark.parametrize(
        "net", [NETWORK, rnn.LayerNormLSTM(H), rnn.bidirectional(rnn.LayerNormLSTM(H), rnn.GRU(H))]
    )
    def test_where_nothing_is_random_there_is_no_state_of_random_numbers(self, net):
        assert not jax.tree.leaves(nnx.state(self.make(net), nnx.RngState))

    def test_jit_advances_the_stream(self):
        module = self.make(rnn.dropout(rnn.LSTM(H), 0.5))
        call = nnx.jit(lambda module, xs: module(xs))
        assert jnp.abs(call(module, self.xs) - call(module, self.xs)).max() > 0.01
        assert module.rngs.count[...] == 2

    def test_a_call_may_bring_its_own_rngs(self):
        net = rnn.dropout(rnn.LSTM(H), 0.5)
        module = rnn.nnx.RNN(net, in_features=D, rngs=nnx.Rngs(params=0))
        with pytest.raises(ValueError, match="is random and has no rngs with a stream dropout"):
            module(self.xs)
        first = module(self.xs, rngs=nnx.Rngs(dropout=1))
        assert_close(module(self.xs, rngs=nnx.RngStream(1, tag="dropout")), first)
        assert jnp.abs(module(self.xs, rngs=nnx.Rngs(dropout=2)) - first).max() > 0.01

    def test_within_their_bidirectional_each_direction_has_its_own(self):
        modules = [rnn.nnx.RNN(rnn.dropout(rnn.GRU(50), 0.5), in_features=D, rngs=nnx.Rngs(seed)) for seed in (0, 1)]
        ys = nnx.Bidirectional(*modules)(self.xs)
        assert modules[0].rngs.count[...] == modules[1].rngs.count[...] == 1
        assert ((ys[..., :50] == 0) != (ys[..., 50:] == 0)).any()

    @pytest.mark.parametrize("broadcast", [None, "dropout"])
    def test_within_their_rnn_noise_is_fresh_at_every_step_or_the_same(self, broadcast):
        cell = rnn.nnx.RNNCell(rnn.variational_dropout(rnn.GRU(50), outputs=0.5), D, rngs=nnx.Rngs(0, dropout=1))
        ys = nnx.RNN(cell, broadcast_rngs=broadcast)(self.xs)
        dropped = ys == 0
        assert 0.4 < dropped.mean() < 0.6
        assert (dropped[:, 0] == dropped[:, 1]).all() == (broadcast == "dropout")


def one_line(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"cell": nnx.LSTMCell(D, H, rngs=nnx.Rngs(0))}, "needs a cell or layer of rnn_jax, not LSTMCell"),
            ({"in_features": None}, "RNN needs in_features"),
            ({"rngs": None}, "RNN needs rngs, an nnx.Rngs that draws its parameters, or params, not None"),
            ({"state_axes": {...: None}}, "state_axes must be None"),
            ({"broadcast_rngs": "dropout"}, "broadcast_rngs must be None"),
            ({"params": draw_params(rnn.GRU(H))}, "params has the structure"),
        ],
    )
    def test_of_the_constructor(self, options, match):
        options = {"cell": rnn.LSTM(H), "in_features": D, "rngs": nnx.Rngs(0)} | options
        one_line(lambda: rnn.nnx.RNN(**options), match)

    @pytest.mark.parametrize(
        ("inputs", "options", "match"),
        [
            (jnp.ones(D), {}, r"inputs has shape \(3,\), but needs \[..., T, in_features\]"),
            (jnp.ones(D), {"time_major": True}, r"inputs has shape \(3,\), but needs \[T, ..., in_features\]"),
            (jnp.ones((B, T, 7)), {}, r"params.w_x has shape \(3, 16\), but xs with 7 features"),
            (jnp.ones((B, T, D)), {"seq_lengths": jnp.ones(B)}, "lengths has dtype float32"),
            (jnp.ones((B, T, D)), {"seq_lengths": jnp.array([1, 9])}, "lengths must be from 0 to 5"),
            (jnp.ones((B, T, D)), {"initial_carry": (jnp.zeros((B, H)),) * 2}, "initial_carry has the structure"),
            (jnp.ones((B, T, D)), {"initial_carry": rnn.LSTM(H).initial_state((3,))}, "initial_carry.h has shape"),
        ],
    )
    def test_of_a_call(self, inputs, options, match):
        module = rnn.nnx.RNN(rnn.LSTM(H), in_features=D, rngs=nnx.Rngs(0))
        one_line(lambda: module(inputs, **options), match)

    def test_of_a_cell(self):
        layer = rnn.nnx.RNNCell(NETWORK, D, rngs=nnx.Rngs(0))
        one_line(lambda: layer(NETWORK.initial_state((B,)), draw(B, D)), "needs a cell, which has a step")
        cell = rnn.nnx.RNNCell(rnn.LSTM(H), D, rngs=nnx.Rngs(0))
        one_line(lambda: cell(rnn.LSTM(H).initial_state((3,)), draw(B, D)), "carry.h has shape")
        one_line(lambda: cell.initialize_carry((B, D), carry_init=nnx.initializers.ones), "carry_init needs rngs")

    def test_of_from_nnx(self):
        class Counts(nnx.RNNCellBase):
            def __init__(self):
                self.seen = nnx.BatchStat(jnp.zeros(()))

            def initialize_carry(self, input_shape, rngs=None, carry_init=None):
                return jnp.zeros(())

        one_line(lambda: rnn.nnx.from_nnx(nnx.Linear(D, H, rngs=nnx.Rngs(0))), "needs a cell, .* not Linear")
        one_line(lambda: rnn.nnx.from_nnx(Counts()), "Counts has no attribute of that name")
        one_line(lambda: rnn.nnx.from_nnx(Counts(), in_features=D), "in Counts seen is a BatchStat")
        cell, _ = rnn.nnx.from_nnx(Custom(D, H, rngs=nnx.Rngs(0)))
        one_line(lambda: cell.init(jax.random.key(0), 7), "Custom was built for inputs of 3 features, not 7")


def test_nothing_we_call_is_deprecated():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = rnn.nnx.RNN(rnn.dropout(rnn.LSTM(H), 0.5), in_features=D, rngs=nnx.Rngs(0))
        nnx.grad(lambda module: loss(module(draw(B, T, D), seq_lengths=jnp.array([3, 4]), reverse=True)))(module)
        nnx.RNN(rnn.nnx.RNNCell(rnn.LSTM(H), D, rngs=nnx.Rngs(0)))(draw(B, T, D))
        cell, params = rnn.nnx.from_nnx(Custom(D, H, rngs=nnx.Rngs(0)))
        rnn.unroll(cell, params, draw(T, B, D), key=jax.random.key(0))


def test_flax_is_imported_when_a_module_is_asked_for():
    code = "import sys, rnn_jax; assert 'flax' not in sys.modules; rnn_jax.nnx.RNN, rnn_jax.linen.RNN"
    subprocess.run([sys.executable, "-c", code], check=True)
