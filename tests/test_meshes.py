"""On a mesh of 8 devices: explicit axes, JAX's default, and `shard_map` with its checks give what one device gives."""

import jax
import jax.numpy as jnp
import pytest
from helpers import assert_close, draw_inputs, draw_params, draw_state, loss
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import rnn_jax as rnn

T, B = 3, 8
LENGTHS = jnp.array([3, 0, 2, 1, 3, 3, 2, 0])
KEY = jax.random.key(4)
NETS = {
    "scan": rnn.Recurrent(rnn.GRU(4), implementation="scan"),
    "all layers": rnn.stack(
        rnn.dropout(rnn.bidirectional(rnn.LSTM(2), remat=2), 0.2),
        rnn.residual(rnn.Recurrent(rnn.LayerNormLSTM(4, recurrent_dropout=0.2), reverse=True)),
        rnn.zoneout(rnn.variational_dropout(rnn.GRU(4), inputs=0.1, states=0.1), h=0.3),
    ),
    "tensor parallel": rnn.stack(rnn.tensor_parallel(rnn.LSTM(4)), rnn.tensor_parallel(rnn.GRU(4))),
}


@pytest.fixture(params=list(NETS.values()), ids=list(NETS))
def net(request):
    return request.param


def run(net, params, xs, lengths, state, key):
    """Loss, outputs, and the gradients of all but lengths."""

    def value(params, xs, state):
        states, ys = net.apply(params, xs, state, lengths=lengths, key=key)
        final = net.final_output(ys, lengths)
        return loss((states, ys, final)), (states, ys, final)

    argnums = (0, 1) if state is None else (0, 1, 2)
    return jax.value_and_grad(value, argnums, has_aux=True)(params, xs, state)


run_jitted = jax.jit(run, static_argnames="net")


@pytest.mark.parametrize("given", [False, True], ids=["initial state", "given state"])
def test_explicit_axes_change_nothing(net, given):
    params, xs = draw_params(net), draw_inputs(T, B)
    state = draw_state(net, (B,)) if given else None
    expected = run_jitted(net, params, xs, LENGTHS, state, KEY)
    with jax.set_mesh(jax.make_mesh((4, 2), ("batch", "model"))):
        xs, lengths, state = jax.device_put((xs, LENGTHS, state), (P(None, "batch"), P("batch"), P("batch")))
        actual = run_jitted(net, params, xs, lengths, state, KEY)
        states, ys, final = actual[0][1]
        assert jax.typeof(ys).sharding.spec[1] == jax.typeof(final).sharding.spec[0] == "batch"
        assert all(jax.typeof(leaf).sharding.spec[0] == "batch" for leaf in jax.tree.leaves(states))
    assert_close(jax.device_get(actual), jax.device_get(expected), atol=1e-5)


def test_explicit_axes_of_hidden_units():
    net, mesh = NETS["tensor parallel"], jax.make_mesh((4, 2), ("batch", "model"))
    params, xs = draw_params(net), draw_inputs(T, B)
    expected = run_jitted(net, params, xs, LENGTHS, None, None)
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, rnn.shardings(params, mesh))
        assert placed[0].w_h.addressable_shards[0].data.shape == (2, 16)
        actual = run_jitted(net, placed, jax.device_put(xs, P(None, "batch")), LENGTHS, None, None)
        gradients = actual[1][0]
        assert gradients[0].w_h.sharding.spec == P("model", None)
    assert_close(jax.device_get(actual), jax.device_get(expected), atol=1e-5)


@pytest.mark.parametrize("cell", [rnn.LSTM(4, peepholes=True), rnn.GRU(4), rnn.LayerNormLSTM(4)])
def test_a_step_takes_explicit_axes(cell):
    params, x, state = draw_params(cell), draw_inputs(B), draw_state(cell, (B,))
    expected = cell.step(params, state, x)
    with jax.set_mesh(jax.make_mesh((8,), ("batch",))):
        x, state = jax.device_put((x, state), P("batch"))
        actual = jax.jit(cell.step)(params, state, x)
        assert jax.typeof(actual[1]).sharding.spec[0] == "batch"
        assert_close(jax.jit(cell.step)(params, cell.initial_state((B,)), x)[1].shape, expected[1].shape)
    assert_close(jax.device_get(actual), jax.device_get(expected), atol=1e-5)


def test_shard_map_with_its_checks_changes_nothing(net):
    params, xs = draw_params(net), draw_inputs(T, B)
    state = draw_state(net, (B,)) if net is NETS["scan"] else None
    expected = run_jitted(net, params, xs, LENGTHS, state, None)
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(AxisType.Auto,))
    batch = P("devices")

    def share(params, xs, lengths, state):
        (value, outputs), gradients = run(net, params, xs, lengths, state, None)
        return (jax.lax.psum(value, "devices"), outputs), gradients

    state_specs = () if state is None else (batch,)
    outputs_specs = (batch, P(None, "devices"), batch)
    share = jax.shard_map(
        share,
        mesh=mesh,
        in_specs=(P(), P(None, "devices"), batch, batch),
        out_specs=((P(), outputs_specs), (P(), P(None, "devices"), *state_specs)),
    )
    assert_close(jax.jit(share)(params, xs, LENGTHS, state), expected, atol=2e-5, rtol=1e-5)
