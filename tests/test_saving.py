"""Networks in files: what comes back is what was saved, and whatever does not fit is refused with a reason."""

import contextlib
import dataclasses
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import rnn_jax as rnn
from rnn_jax import saving

D = 3
NET = rnn.stack(rnn.bidirectional(rnn.LSTM(4)), rnn.dropout(rnn.GRU(2), 0.25))


def draw(net, input_size=D, dtype: Any = np.float32):
    """Parameters of normal numbers, without compiling anything."""
    rng = np.random.default_rng(0)
    like = jax.eval_shape(lambda: net.init(jax.random.key(0), input_size))
    return jax.tree.map(lambda array: jnp.asarray(rng.normal(size=array.shape).astype(dtype)), like)


def assert_equal(actual, expected):
    assert jax.tree.map(lambda array: array.dtype, actual) == jax.tree.map(lambda array: array.dtype, expected)
    assert_close(actual, expected, atol=0, rtol=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def saved(path):
    rnn.save(path, NET, draw(NET))
    return path


sizes = st.integers(1, 5)
rates = st.floats(0, 0.9)
clips = st.none() | st.floats(0.1, 9)
initializers = st.sampled_from(["glorot", "orthogonal"])
cells = st.one_of(
    st.builds(
        rnn.LSTM, sizes, forget_bias=rates, peepholes=st.booleans(), projection_size=st.none() | sizes, cell_clip=clips
    ),
    st.builds(rnn.LSTM, sizes, projection_size=sizes, projection_clip=clips, initializer=initializers),
    st.builds(rnn.GRU, sizes, reset_after=st.booleans(), initializer=initializers),
    st.builds(rnn.VanillaRNN, sizes, activation=st.sampled_from(["tanh", "relu"])),
    st.builds(rnn.LayerNormLSTM, sizes, forget_bias=rates, recurrent_dropout=rates),
)
wrapped = st.recursive(
    cells,
    lambda inner: st.one_of(
        st.builds(rnn.zoneout, inner, h=rates),
        st.builds(rnn.variational_dropout, inner, inputs=rates, states=rates),
        st.builds(rnn.tensor_parallel, inner),
    ),
    max_leaves=2,
)
options = {"remat": st.booleans() | sizes, "precision": st.sampled_from([None, "bfloat16"])}
layers = st.one_of(
    wrapped,
    st.builds(rnn.Recurrent, wrapped, reverse=st.booleans(), **options),
    st.builds(rnn.bidirectional, wrapped, st.none() | wrapped, **options),
)
networks = st.recursive(
    layers,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda layers: rnn.stack(*layers)),
        st.builds(rnn.dropout, inner, rates),
    ),
    max_leaves=3,
)


@given(net=networks, input_size=sizes)
def test_any_network_comes_back(net, input_size, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    params = draw(net, input_size)
    rnn.save(path, net, params)
    again, read = rnn.load(path)
    assert again == net
    assert hash(again) == hash(net)
    assert_equal(read, params)


def test_every_built_in_class_is_found_by_its_name(path, cell):
    assert saving._classes()[type(cell).__name__] is type(cell)
    for net in (cell, rnn.stack(cell, rnn.residual(rnn.GRU(cell.output_size)))):
        rnn.save(path, net, draw(net))
        assert rnn.load(path)[0] == net


def test_what_comes_back_computes_the_same(saved):
    xs = jnp.ones((5, 2, D))
    net, params = rnn.load(saved)
    assert_close(net.apply(params, xs), NET.apply(draw(NET), xs), atol=0, rtol=0)


def test_other_programs_read_the_arrays_by_name(saved):
    arrays = load_file(saved)
    assert sorted(name for name in arrays if name.startswith("0.forward")) == [
        "0.forward.b",
        "0.forward.w_h",
        "0.forward.w_x",
    ]
    np.testing.assert_array_equal(arrays["1.b_h"], draw(NET)[1].b_h)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16])
def test_the_dtype_is_kept(path, dtype):
    rnn.save(path, NET, draw(NET, dtype=dtype))
    assert_equal(rnn.load(path)[1], draw(NET, dtype=dtype))


def test_float64_is_kept_where_jax_has_it(path):
    with jax.enable_x64(True):
        rnn.save(path, rnn.GRU(4), draw(rnn.GRU(4), dtype=np.float64))
        assert rnn.load(path)[1].w_x.dtype == np.float64
    assert rnn.load(path)[1].w_x.dtype == np.float32


def test_numbers_of_numpy_and_jax_in_a_configuration_are_plain_in_the_file(path):
    cell = rnn.LSTM(np.int64(4), cell_clip=np.float32(0.1))  # type: ignore
    rnn.save(path, cell, draw(cell))
    assert rnn.load(path)[0] == cell


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Scaled(rnn.LSTM):
    """A cell of the user's with the parameters of an LSTM and one more field."""

    scale: float = 2.0


@dataclasses.dataclass(frozen=True)
class Counter:
    """A cell of the user's whose parameters are one array, and that fails for all sizes but its own."""

    output_size: int = 1

    def init(self, key, input_size):
        if input_size != 2:
            raise RuntimeError("two inputs only")
        return jnp.zeros((2, self.output_size))

    def initial_state(self, batch_shape=(), dtype=float):
        return jnp.zeros((*batch_shape, self.output_size), dtype)

    def step(self, params, state, x):
        return state + x @ params, state


class TestClassesOfTheUser:
    def test_are_loaded_into_a_network_that_is_given(self, path):
        net = rnn.stack(Scaled(4), rnn.GRU(2))
        rnn.save(path, net, draw(net))
        again, params = rnn.load(path, net)
        assert again is net
        assert_equal(params, draw(net))

    def test_are_refused_by_name_without_one(self, path):
        net = rnn.stack(Scaled(4), rnn.GRU(2))
        rnn.save(path, net, draw(net))
        with pytest.raises(
            ValueError, match=r"has a class of your own, Scaled: pass the network, load\(path, like=net"
        ):
            rnn.load(path)

    def test_may_have_any_pytree_of_parameters(self, path):
        rnn.save(path, Counter(), jnp.ones((2, 1)))
        assert_equal(rnn.load(path, like=Counter())[1], jnp.ones((2, 1)))

    def test_may_have_no_parameters(self, path):
        class Empty(Counter):
            def init(self, key, input_size):
                return ()

        rnn.save(path, Empty(), ())
        assert rnn.load(path, like=Empty())[1] == ()

    def test_are_given_where_the_file_has_a_built_in_one(self, path):
        rnn.save(path, rnn.LSTM(4), draw(rnn.LSTM(4)))
        net, params = rnn.load(path, like=Scaled(4, scale=3.0))
        assert net.scale == 3
        assert_equal(params, draw(rnn.LSTM(4)))

    def test_two_arrays_of_one_name_are_refused(self, path):
        class Twins(Counter):
            def init(self, key, input_size):
                return {"a.b": jnp.zeros(input_size), "a": {"b": jnp.zeros(input_size)}}

        with pytest.raises(ValueError, match=r"two arrays at a\.b"):
            rnn.save(path, Twins(), draw(Twins()))


def rewrite(path, change=lambda config: None, **arrays):
    """Writes a file again with a changed configuration, and arrays changed, added, or, for None, left out."""
    config = json.loads(saving.read_safetensors(path)[0]["rnn_jax"])
    change(config)
    arrays = {name: array for name, array in (load_file(path) | arrays).items() if array is not None}
    save_file(arrays, path, {"rnn_jax": json.dumps(config)})


class TestDamagedFiles:
    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"1.b_h": None}, r"1\.b_h is missing"),
            ({"1.b_n": np.ones(2)}, r"1\.b_n is unexpected"),
            ({"1.b_h": np.ones(3, np.float32)}, r"1\.b_h has shape \(3,\), but needs \(2,\)"),
            ({"1.b_h": np.ones(2, np.int32)}, r"1\.b_h has dtype int32, but needs float32"),
        ],
    )
    def test_arrays_that_do_not_fit_are_named(self, saved, arrays, message):
        rewrite(saved, **arrays)
        for like in (None, NET):
            with pytest.raises(ValueError, match=message):
                rnn.load(saved, like)

    def test_another_network_than_the_file_s_is_refused(self, saved):
        with pytest.raises(ValueError, match=r"does not fit GRU.*: w_x is missing"):
            rnn.load(saved, like=rnn.GRU(2))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("input_size", 0),
            ("input_size", "3"),
            ("network", None),
            ("network", {}),
            ("network", {"class": "Config"}),
            ("network", {"class": "LSTM"}),
            ("network", {"class": "LSTM", "hidden_size": -1}),
            ("network", {"class": "LSTM", "hidden_size": 4, "of_the_future": 1}),
            ("network", {"class": "Stack", "layers": [3]}),
            ("network", {"class": "Recurrent", "cell": {"class": "Stack", "layers": []}}),
            ("network", {"class": ["LSTM"], "hidden_size": 4}),
        ],
    )
    def test_a_configuration_that_is_damaged_is_one_line(self, saved, key, value):
        rewrite(saved, lambda config: config.update({key: value}))
        with pytest.raises(ValueError, match="has a configuration that is damaged") as refusal:
            rnn.load(saved)
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize("config", ["", "[", "3", "[]", "{}", "[" * 100_000])
    def test_a_configuration_that_is_no_json_of_ours_is_one_line(self, saved, config):
        save_file(load_file(saved), saved, {"rnn_jax": config})
        with pytest.raises(ValueError, match="has a configuration that is damaged"):
            rnn.load(saved)

    def test_files_of_others_are_refused(self, path):
        save_file({"w_x": np.ones(3)}, path)
        with pytest.raises(ValueError, match=r"is a safetensors file, but not one of rnn_jax\.save"):
            rnn.load(path)
        np.savez(path.with_suffix(".npz"), np.ones(3))
        with pytest.raises(ValueError, match="damaged or not a safetensors file"):
            rnn.load(path.with_suffix(".npz"))
        with pytest.raises(FileNotFoundError):
            rnn.load(path.with_name("missing"))
        with pytest.raises(OSError, match="directory"):
            rnn.load(path.parent)

    def test_a_file_cut_at_any_byte_is_refused(self, path):
        net = rnn.GRU(2)
        rnn.save(path, net, draw(net))
        data = path.read_bytes()
        for size in range(len(data)):
            path.write_bytes(data[:size])
            with pytest.raises(ValueError, match="damaged or not a safetensors file"):
                rnn.load(path)

    @given(data=st.data())
    def test_a_file_with_any_byte_changed_is_refused_or_loads(self, data, tmp_path_factory):
        path = tmp_path_factory.getbasetemp() / "changed.safetensors"
        rnn.save(path, rnn.GRU(2), draw(rnn.GRU(2)))
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            net, _ = rnn.load(path)
            assert isinstance(net, rnn.GRU)


class TestWriting:
    @pytest.mark.parametrize(
        ("net", "params", "message"),
        [
            (rnn.LSTM(4), draw(rnn.GRU(4)), "params has the structure"),
            (rnn.LSTM(4), draw(rnn.LSTM(5)), r"params\.\w+ has shape"),
            (rnn.GRU(4), draw(rnn.GRU(4))._replace(b=np.ones(12, np.complex128)), "params cannot be written"),
        ],
    )
    def test_parameters_of_another_network_are_refused(self, path, net, params, message):
        with pytest.raises(ValueError, match=message):
            rnn.save(path, net, params)
        assert not list(path.parent.iterdir())

    def test_a_link_stays_and_a_device_is_not_replaced(self, saved, path, tmp_path):
        net, params = rnn.load(saved)
        (tmp_path / "link").symlink_to(path)
        rnn.save(tmp_path / "link", net, params)
        assert (tmp_path / "link").is_symlink()
        assert rnn.load(path)[0] == net
        os.mkfifo(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        rnn.save(tmp_path / "pipe", net, params)
        assert os.read(reader, 1 << 16) == path.read_bytes()
        os.close(reader)
        assert (tmp_path / "pipe").is_fifo()
        with pytest.raises(FileNotFoundError) as caught:
            rnn.save(tmp_path / "nowhere" / "file", net, params)
        assert caught.value.filename == str(tmp_path / "nowhere" / "file")

    def test_a_write_that_fails_leaves_the_old_file_and_no_other(self, saved, monkeypatch):
        before = saved.read_bytes()

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            rnn.save(saved, rnn.GRU(4), draw(rnn.GRU(4)))
        assert saved.read_bytes() == before
        assert list(saved.parent.iterdir()) == [saved]

    def test_equal_networks_make_equal_files(self, saved):
        before = saved.read_bytes()
        rnn.save(saved, NET, draw(NET))
        assert saved.read_bytes() == before
