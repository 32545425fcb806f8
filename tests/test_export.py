"""A trained model as a file for other programs, beside the model's own predictions."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, run_train

import rnn_jax as rnn
from rnn_jax.__main__ import main
from rnn_jax.app.build import build_task
from rnn_jax.app.config import Config
from rnn_jax.app.export import export_model, export_onnx, export_step, write_export
from rnn_jax.app.series import load_own
from rnn_jax.data import DataInfo

IMAGES = DataInfo("digits", "here", (8, 8), 16, 10)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def standard_promotion():
    """optax's cosine schedule divides whole numbers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Files of sequences: of unequal length with a class, with a number for each step, and a series of sales."""
    folder = tmp_path_factory.mktemp("tables")
    rows = {"class": ["id,a,b,kind"], "number": ["id,a,level"], "long": ["id,a,b,kind"], "sales": ["month,sold"]}
    for i in range(20):
        for t in range(80 + i % 3):
            a, b = RNG.normal(50, 9), RNG.normal(2, 1)
            rows["long"].append(f"{i},{a:.3f},{b:.3f},{'up' if i % 2 else 'down'}")
            if t < 4 + i % 3:
                rows["class"].append(rows["long"][-1])
                rows["number"].append(f"{i},{a:.3f},{3 * a + t:.3f}")
    rows["sales"] += [f"{1950 + m // 12}-{m % 12 + 1:02},{100 + 2 * m + 10 * ((5 * m) % 12)}" for m in range(96)]
    for name, lines in rows.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


FLAGS = {
    "class": {"target": "kind", "sequence_column": "id"},
    "number": {"target": "level", "sequence_column": "id"},
    "long": {"target": "kind", "sequence_column": "id"},
    "sales": {"horizon": 3, "window": 12},
}


@pytest.fixture(scope="module")
def make_model(tables):
    """Returns a function from a kind of data and flags to a model that has not been trained."""

    @functools.cache
    def make(kind, **flags):
        flags = {"hidden_size": 4, "layers": 2, "bidirectional": False, "cell": "gru"} | flags
        if kind == "images":
            config, info = Config(**flags), IMAGES
        else:
            config = Config(data=tables / f"{kind}.csv", **FLAGS[kind], **flags)
            info = load_own(config, quiet=True).info
        task = build_task(config, info)
        params = task.init(jax.random.key(0))
        params = params._replace(
            w=jax.random.normal(jax.random.key(1), params.w.shape)
        )  # A forecaster's begins as zero.
        return rnn.Model(config, info, 0, 0, task, params)

    return make


def draw_examples(model):
    """Draws the arguments of an exported model, and computes what the model itself predicts for them."""
    if model.data is IMAGES:
        images = RNG.integers(0, 17, (3, 8, 8)).astype(np.uint8)
        return {"images": images}, model.predict(images)
    T, D = model.data.steps, len(model.data.form.channels)
    inputs = RNG.normal(50, 9, (3, T, D)).astype(np.float32)
    if not model.data.ragged:
        return {"inputs": inputs}, model.predict(inputs)
    lengths = np.array([T, 1, T - 2], np.int32)
    inputs[np.arange(T) >= lengths[:, None]] = 0
    rows = [row[:length] for row, length in zip(inputs, lengths, strict=True)]
    return {"inputs": inputs, "lengths": lengths}, model.predict(rows)


MODELS = [
    ("images", {"cell": "lstm", "bidirectional": True}),
    ("images", {"cell": "lstm-layernorm", "recipe": "tutorial"}),
    ("images", {"cell": "mingru", "layers": 1, "order": "permuted"}),
    ("class", {"bidirectional": True}),
    ("number", {"cell": "lstm-peephole"}),
    ("long", {}),  # three steps are read at once
    ("sales", {"bidirectional": True}),
]
each_model = pytest.mark.parametrize(("kind", "flags"), MODELS, ids=[kind for kind, _ in MODELS])


@each_model
def test_onnxruntime_computes_the_predictions_of_the_model(make_model, kind, flags):
    pytest.importorskip("onnx", reason="onnx is an extra")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra")
    model = make_model(kind, **flags)
    session = onnxruntime.InferenceSession(export_onnx(model))
    arguments, expected = draw_examples(model)
    (found,) = session.run(None, arguments)
    assert_close(found, expected, atol=1e-5, rtol=1e-5)
    (alone,) = session.run(None, {name: array[:1] for name, array in arguments.items()})
    assert_close(alone, expected[:1], atol=1e-5, rtol=1e-5)


@each_model
def test_stablehlo_computes_the_predictions_of_the_model(make_model, kind, flags):
    model = make_model(kind, **flags)
    arguments, expected = draw_examples(model)
    assert_close(jax.export.deserialize(export_model(model)).call(*arguments.values()), expected, atol=1e-5, rtol=1e-5)


@each_model
def test_the_network_in_a_file_is_the_network_of_the_model(make_model, kind, flags, tmp_path):
    model = make_model(kind, **flags)
    write_export(model, tmp_path / "net.safetensors", "safetensors")
    net, params = rnn.load(tmp_path / "net.safetensors")
    assert net == model.task.network
    jax.tree.map(np.testing.assert_array_equal, params, model.params)


@pytest.mark.parametrize(("kind", "flags"), [("images", {"cell": "lstm"}), ("class", {}), ("number", {})])
def test_steps_in_a_row_compute_the_predictions_for_the_whole_sequence(make_model, kind, flags):
    model = make_model(kind, **flags)
    exported = jax.export.deserialize(export_step(model))
    call = jax.jit(exported.call)
    (state_like, _), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    arguments, expected = draw_examples(model)
    steps = next(iter(arguments.values()))
    state = jax.tree.map(lambda a: jnp.zeros((3, *a.shape[1:]), a.dtype), state_like)
    outputs = []
    for t in range(steps.shape[1]):
        state, y = call(state, steps[:, t])
        outputs.append(np.asarray(y))
    lengths = arguments.get("lengths", np.full(3, steps.shape[1]))
    for i, length in enumerate(lengths):
        if kind == "number":
            found = np.stack(outputs)[:length, i]
            assert_close(found, expected[i][:length], atol=1e-4, rtol=1e-5)
        else:
            assert_close(outputs[length - 1][i], expected[i], atol=1e-5, rtol=1e-5)


def test_a_readout_steps_through_encoders_that_read_forwards_only():
    xs = jax.random.normal(jax.random.key(0), (5, 2, 3))
    for readout in ("final", "last_step", "mean", "every_step"):
        net = rnn.Classifier(rnn.stack(rnn.dropout(rnn.GRU(4), 0.5), rnn.LSTM(3)), 2, readout=readout)
        params = net.init(jax.random.key(0), 3)
        _, logits = jax.lax.scan(functools.partial(net.step, params), net.initial_state((2,)), xs)
        expected = net.apply(params, xs)
        assert_close(logits if readout == "every_step" else logits[-1], expected)
    for encoder in (rnn.bidirectional(rnn.GRU(4)), rnn.stack(rnn.residual(rnn.Recurrent(rnn.GRU(3), reverse=True)))):
        net = rnn.Classifier(encoder, 2)
        with pytest.raises(ValueError, match="step needs an encoder that reads forwards only"):
            net.step(net.init(jax.random.key(0), 3), net.initial_state((2,)), xs[0])


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("images", {"bidirectional": True}, "--step needs a network that reads forwards only"),
        ("sales", {}, "--step needs a model of single steps: a forecast reads a whole window"),
        ("long", {}, "--step needs a model of single steps: this one reads 3 at once"),
    ],
)
def test_a_model_that_needs_the_whole_sequence_has_no_step(make_model, kind, flags, message):
    with pytest.raises(ValueError, match=message):
        export_step(make_model(kind, **flags))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    argv = ["--dataset=digits", "--cell=gru", "--hidden-size=4", "--steps=2", "--no-pictures", "--output-dir", folder]
    assert run_train(None, *argv)[0] == 0
    return folder


def call(capsys, *argv):
    capsys.readouterr()
    status = main([str(argument) for argument in argv])
    return status, *capsys.readouterr()


def test_the_command_writes_each_format_and_says_how_to_run_it(run, capsys):
    status, out, _ = call(capsys, "export", run, "--step")
    assert status == 0
    assert "step.stablehlo: state, uint8 [N, 8] -> state, probabilities [N, 10], for cpu, cuda, tpu\n" in out
    assert "State, zeros at first: network.encoder.0.h [N, 4]\n" in out
    status, out, _ = call(capsys, "export", run, "--format", "safetensors")
    assert status == 0
    assert f"rnn_jax.load('{run / 'classifier.safetensors'}')" in out
    images = RNG.integers(0, 17, (3, 8, 8))
    net, params = rnn.load(run / "classifier.safetensors")
    logits = net.apply(params, jnp.asarray(images / 16, "float32").swapaxes(0, 1))
    assert_close(jax.nn.softmax(logits), rnn.load_run(run).predict(images), atol=1e-5)


def test_the_command_writes_onnx(run, capsys):
    pytest.importorskip("onnx", reason="onnx is an extra")
    status, out, _ = call(capsys, "export", run, "--format", "onnx", "--output", run / "net.onnx")
    assert status == 0
    assert "uint8 [N, 8, 8] -> probabilities [N, 10], for onnxruntime and others\n" in out
    assert (run / "net.onnx").stat().st_size > 1000


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--format", "onnx"], "error: --format onnx needs the package onnx: pip install 'rnn_jax[onnx]'"),
        (["--format", "onnx", "--step"], "error: --step is written as StableHLO only, not as onnx"),
    ],
)
def test_a_mistake_is_one_line(run, argv, message, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    status, out, err = call(capsys, "export", run, *argv)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
