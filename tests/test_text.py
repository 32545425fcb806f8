"""Text: reading it, streams of windows, the state carried over them, and runs of the command."""

import functools
import json
import math
import os
import signal
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close, final_params, run_train

import rnn_jax as rnn
from rnn_jax.__main__ import main
from rnn_jax.app import run as trainer
from rnn_jax.data import DataError, load_dataset
from rnn_jax.data.text import (
    TextInfo,
    decode,
    encode,
    find_text_task,
    load_labelled,
    load_text,
    make_windows,
    read_text,
)
from rnn_jax.tasks import language
from rnn_jax.tasks.language import LanguageModel
from rnn_jax.tasks.task import initial_carry
from rnn_jax.training.fit import fit
from rnn_jax.training.order import StreamOrder
from rnn_jax.training.step import evaluate, init_state, init_states

V, B, W = 6, 4, 5
TEXT = "".join("abcde \n"[i * i % 7] for i in range(1000))
INFO = TextInfo("text", "a test", "", "language", "characters", "abcde", W, counts=(1,) * V, compressed=2.5)
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, V, 3 * B * W + 7).astype(np.uint8)
OPTIMIZER = optax.adamw(0.05)


@pytest.fixture(autouse=True)
def standard_promotion():
    """Promotes dtypes as the command does; AdamW needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def model(dropout=0.0, cell=None):
    layer = rnn.stack(rnn.dropout(cell or rnn.LSTM(5), dropout))
    return LanguageModel(rnn.Classifier(rnn.embed(layer, V, 3), V, readout="every_step"), INFO)


def first_state(task, seed=0):
    return init_state(task.init, OPTIMIZER, jax.random.key(seed), task.carry(B))


def train(task, state, **options: Any):
    options = dict[str, Any](steps=7, batch_size=B, steps_per_call=1) | options
    return list(fit(task.loss, OPTIMIZER, state, make_windows(TOKENS, B, W), **options))


@pytest.fixture(scope="module")
def dropped():
    """A run with dropout, handed out after every step."""
    with jax.numpy_dtype_promotion("standard"):
        task = model(dropout=0.3)
        return task, train(task, first_state(task))


@pytest.fixture(scope="module")
def whole():
    """The end of a run in one call."""
    with jax.numpy_dtype_promotion("standard"):
        return train(model(), first_state(model()), steps_per_call=7)[-1][0]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "verses.txt"
    path.write_text(TEXT)
    return path


# --- windows and streams ---


@pytest.mark.parametrize(("length", "streams", "window"), [(10, 2, 2), (101, 4, 5), (101, 100, 1), (7, 1, 6)])
def test_windows_in_their_order_are_the_text(length, streams, window):
    tokens = np.arange(length)
    examples = make_windows(tokens, streams, window)
    each = len(examples.targets) // streams
    assert each == (length - 1) // (streams * window)
    rows = StreamOrder(len(examples.targets), streams).read(range(each))
    for b in range(streams):
        first = b * each * window
        np.testing.assert_array_equal(np.ravel(examples.targets[rows[:, b]]), first + 1 + np.arange(each * window))
        np.testing.assert_array_equal(np.ravel(examples.inputs[rows[:, b], :-1]), first + np.arange(each * window))
        np.testing.assert_array_equal(np.asarray(examples.starts)[rows[:, b]], np.arange(each) == 0)


def test_streams_begin_again_and_are_a_function_of_the_step():
    order = StreamOrder(12, 4)
    order.prepare(range(9))
    np.testing.assert_array_equal(order.read(range(4, 9)), order.read(range(9))[4:])
    np.testing.assert_array_equal(order.read(range(3, 6)), order.read(range(3)))
    with pytest.raises(ValueError, match="13 windows are not those of 4 streams"):
        StreamOrder(13, 4)


# --- the carried state ---


@pytest.mark.parametrize("cell", [rnn.LSTM(5), rnn.SLSTM(5), rnn.LRU(5)], ids=["lstm", "slstm", "lru"])
def test_windows_with_the_state_carried_over_equal_one_long_unroll(cell):
    task = model(cell=cell)
    state, windows = first_state(task), make_windows(TOKENS, B, W)
    carry, losses, read = task.carry(B), [], jax.jit(task.loss)
    for rows in StreamOrder(len(windows.targets), B).read(range(4)):
        batch = jax.tree.map(lambda a, rows=rows: jnp.asarray(a[rows]), windows)
        loss, (_, carry) = read(state.params, batch, None, carry)
        losses.append(float(loss))
    streams = np.stack([TOKENS[b * 3 * W : (b + 1) * 3 * W + 1] for b in range(B)])
    whole = np.asarray(jax.jit(task.predict)(state.params, jnp.asarray(streams)))
    expected = [whole[:, i * W : (i + 1) * W].mean() for i in (0, 1, 2, 0)]  # the last begins an epoch
    assert_close(losses, [float(value) for value in expected], atol=1e-5)


def test_training_carries_the_state_of_each_row(dropped):
    task, ((state, _), *_) = dropped
    first = np.stack([TOKENS[b * 3 * W : b * 3 * W + W] for b in range(B)])
    key = jax.random.fold_in(jax.random.fold_in(first_state(task).key, 1), 0)
    expected, _ = task.network.read(first_state(task).params, jnp.asarray(first.T), task.carry(B), key=key)
    assert_close(state.carry, expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"steps_per_call": 3}, {"data_on": "host"}], ids=str)
def test_calls_of_any_length_train_alike_and_so_does_a_resumed_run(dropped, options):
    task, one_by_one = dropped
    expected, _ = one_by_one[-1]
    resumed, _ = train(task, one_by_one[3][0], **options)[-1]
    assert_close((resumed.params, resumed.carry), (expected.params, expected.carry), atol=1e-6)


def test_devices_share_the_streams(whole):
    shared, _ = train(model(), first_state(model()), steps_per_call=7, devices=jax.devices()[:2])[-1]
    assert_close((shared.params, shared.carry), (whole.params, whole.carry), atol=1e-4)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(shared.carry))


def test_seeds_train_as_if_each_were_alone(whole):
    task = model()
    states = init_states(task.init, OPTIMIZER, jnp.uint32(0), 2, task.carry(B))
    many, _ = train(task, states, steps_per_call=7, devices=jax.devices()[:2])[-1]
    first = jax.tree.map(lambda leaf: leaf[0], (many.params, many.carry))
    assert_close(first, (whole.params, whole.carry), atol=1e-4)
    assert not np.allclose(many.params.w[0], many.params.w[1])


def test_a_task_without_a_carry_has_none():
    assert initial_carry(object(), 3) is None  # type: ignore
    assert init_state(lambda key: jnp.zeros(2), OPTIMIZER, jax.random.key(0)).carry is None


# --- the loss ---


def test_a_text_in_parts_equals_the_whole(monkeypatch):
    task = model()
    params, tokens = task.init(jax.random.key(0)), jnp.asarray(TOKENS)
    whole = jax.jit(task.predict)(params, tokens)
    monkeypatch.setattr(language, "CHUNK", 8)
    assert_close(jax.jit(lambda *args: task.predict(*args))(params, tokens), whole, atol=1e-5)
    examples = make_windows(TOKENS, 1, len(TOKENS) - 1)
    metrics = jax.jit(functools.partial(evaluate, task.loss))(params, examples)
    assert_close(metrics.loss, whole.mean(), atol=1e-5)


def test_the_loss_of_pytorch():
    torch = pytest.importorskip("torch")
    task = model(cell=rnn.LSTM(5))
    embedding, lstm, linear = torch.nn.Embedding(V, 3), torch.nn.LSTM(3, 5), torch.nn.Linear(5, V)
    params = task.init(jax.random.key(0))
    encoder = params.encoder._replace(
        embedding=jnp.asarray(embedding.weight.detach().numpy()),
        layer=(rnn.convert.from_torch(rnn.LSTM(5), lstm),),
    )
    w, b = linear.weight.detach().numpy().T, linear.bias.detach().numpy()
    params = params._replace(encoder=encoder, w=jnp.asarray(w), b=jnp.asarray(b))
    tokens = torch.tensor(TOKENS.astype(np.int64))
    logits = linear(lstm(embedding(tokens[:-1])[:, None])[0][:, 0])
    expected = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none").detach().numpy()
    assert_close(jax.jit(task.predict)(params, jnp.asarray(TOKENS)), jnp.asarray(expected), atol=1e-5)


def test_figures_are_in_nats_and_bits():
    examples = make_windows(TOKENS, 1, len(TOKENS) - 1)
    figures = model().measure(examples, np.full(examples.targets.shape, math.log(4)))
    assert figures == pytest.approx({"Loss": math.log(4), "Bits per Character": 2})
    guesses = model().baselines(examples)
    assert [values.shape for values in guesses.values()] == [examples.targets.shape] * 2
    bits = [model().measure(examples, values)["Bits per Character"] for values in guesses.values()]
    assert bits == pytest.approx([math.log2(6), 2.5])


def test_a_text_is_shaded_by_its_surprisal():
    task = model()
    examples = make_windows(TOKENS, 1, len(TOKENS) - 1)
    nats = np.full(examples.targets.shape, math.log(2))
    figures = {name: draw() for name, draw in task.pictures(examples, nats, "a title").items()}
    (text, _), (bars,) = figures["surprisal"].axes, figures["surprisal_by_token"].axes
    signs = [sign.get_text() for sign in text.texts]
    assert "".join(signs) == decode(INFO, examples.targets[0])
    assert float(np.max(text.images[0].get_array())) == pytest.approx(1)  # type: ignore
    assert [bar.get_height() for bar in bars.patches] == pytest.approx([1] * V)  # type: ignore


# --- files ---


def test_every_character_comes_back(tmp_path):
    text = "Ünï\tcode ☃ 𝄞\r\nline\n\n \x0b end"
    (tmp_path / "a.txt").write_bytes(text.encode() * 20)
    data = load_text(tmp_path / "a.txt", window=4, batch_size=3)
    whole = text * 20
    first = len(whole) - len(whole) // 10
    held_out = np.append(data.test.inputs[0, 0], data.test.targets[0])
    assert decode(data.info, held_out) == whole[first - 1 :]
    assert data.train.inputs.dtype == np.uint8
    assert decode(data.info, encode(data.info, "☃?".encode())) == "☃\N{REPLACEMENT CHARACTER}"
    assert TextInfo.from_json(json.loads(json.dumps(data.info.to_json()))) == data.info


def test_characters_that_training_has_not_seen_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("ab" * 95 + "aXbYYaaaaabbbbbb" + "abab")
    data = load_text(tmp_path / "a.txt", window=4, batch_size=2)
    assert "of which 3 are none of the 2 of the training part" in data.info.summary
    assert int(np.sum(data.test.targets == data.info.num_tokens - 1)) == 3


def test_a_folder_of_tables_with_a_note_beside_them_is_no_text(tmp_path):
    (tmp_path / "walking").mkdir()
    (tmp_path / "walking" / "a.csv").write_text("x\n1\n")
    (tmp_path / "notes.txt").write_text("how it was recorded")
    assert find_text_task(tmp_path) is None
    assert find_text_task(tmp_path, "language") == "language"


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b.txt").write_text("second\n")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst")
    (tmp_path / "ignored.md").write_text("# Notes")
    assert read_text(tmp_path) == b"first\nsecond\n"
    assert find_text_task(tmp_path) == "language"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"short", "is too short: 5 characters"),
        (b"abc\xff" * 100, "byte 4 of .*, 0xff, is not UTF-8.*tokens"),
        ("text".encode("utf-16") * 100, "is UTF-16"),
        (b"\0\1\2" * 100, "is no text, its byte 1 is zero"),
    ],
)
def test_files_that_are_no_text_are_one_line(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_text(tmp_path / "a.txt")
    if len(content) > 100:
        assert load_text(tmp_path / "a.txt", tokens="bytes", window=8, batch_size=2).info.num_tokens == 256


@pytest.mark.parametrize(
    ("name", "content", "task", "expected"),
    [
        ("a.txt", "ham\thello", None, "language"),
        ("a.txt", "ham\thello", "classify", "classify"),
        ("a.tsv", "ham\thello", "classify", "classify"),
        ("a.tsv", "1\t0.5", "classify", None),
        ("a.tsv", "1\t0.5\t0.7", None, None),
        ("a.jsonl", '{"text": "hello", "label": "ham"}', None, "classify"),
        ("a.jsonl", '{"x": 1, "label": "ham"}', None, None),
        ("a.csv", "text,label", None, None),
        ("a.log", "anything", "language", "language"),
    ],
)
def test_text_is_told_from_other_data(tmp_path, name, content, task, expected):
    (tmp_path / name).write_text(content + "\n")
    assert find_text_task(tmp_path / name, task) == expected
    assert find_text_task(tmp_path / "missing", task) == ("language" if task == "language" else None)


def test_every_python_has_a_text():
    data = load_dataset("text")
    assert data.info.name == "text"
    assert data.info.source == "pydoc_data.topics"
    assert 'The "if" statement' in decode(data.info, np.ravel(data.train.targets)).replace("\n", " ")


# --- runs ---

SMALL = ["--hidden-size=6", "--layers=1", "--batch-size=4", "--window=16", "--devices=1", "--no-pictures"]


def train_text(capsys, file, folder, *argv):
    return run_train(capsys, "--data", file, *SMALL, "--output-dir", folder, *argv)


def test_a_run_on_text_from_the_command(tmp_path, capsys, file, monkeypatch):
    steps = "--steps=40", "--checkpoint-every=10"
    status, out, _ = train_text(capsys, file, tmp_path / "whole", *steps)
    assert status == 0
    assert "characters/s" in out
    assert "Baseline, the frequency of each of the characters: Loss " in out
    lines = dict(line.split(": ", 1) for line in out.splitlines() if line.startswith("Testing ") and ": " in line)
    assert lines["Testing Loss"].endswith(" nats (verses)")
    nats = float(lines["Testing Loss"].split()[0])
    assert float(lines["Testing Bits per Character"].split()[0]) == pytest.approx(nats / math.log(2), abs=1e-3)

    def fit_and_be_stopped(*args, **options):
        for state, metrics in fit(*args, **options):
            if int(state.step) == 20:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.2)
            yield state, metrics

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "fit", fit_and_be_stopped)
        assert train_text(capsys, file, tmp_path / "cut", *steps)[0] == 143
    assert run_train(capsys, "--resume", "--output-dir", tmp_path / "cut")[0] == 0
    assert (tmp_path / "cut" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
    for a, b in zip(final_params(tmp_path / "cut"), final_params(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(a, b)

    assert main(["evaluate", str(tmp_path / "whole")]) == 0
    assert f"Testing Loss: {lines['Testing Loss']}" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "whole"), str(file)]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header == "file,characters,unseen,nats,bits"
    assert row.startswith(f"{file},999,0,")
    (surprisals,) = rnn.load_run(tmp_path / "whole").predict([TEXT])
    assert float(row.split(",")[3]) == pytest.approx(surprisals.mean(), abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bidirectional"], "--bidirectional reads the tokens that a language model is to predict"),
        (["--horizon=3"], "--horizon is not for text"),
        (["--tied", "--task=classify"], "--tied is of a language model"),
        (["--window=5000"], "is too short: 1,000 characters"),
        (["--batch-size=1000"], "--batch-size 1000 is larger than the training set, 6 windows"),
    ],
)
def test_flags_that_do_not_fit_text_are_one_line(tmp_path, capsys, file, flags, message):
    try:
        status, _, err = run_train(capsys, "--data", file, "--output-dir", tmp_path / "run", *flags)
    except SystemExit as error:
        status, err = error.code, capsys.readouterr().err
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_labelled_texts_from_the_command(tmp_path, capsys):
    rows = [
        (name, "".join(RNG.choice(list(letters), RNG.integers(3, 12))))
        for name, letters in (("x", "abc"), ("y", "cde")) * 30
    ]
    file = tmp_path / "mail.tsv"
    file.write_text("".join(f"{label}\t{text}\n" for label, text in rows))
    flags = "--task=classify", "--hidden-size=4", "--batch-size=8", "--devices=1", "--steps=60", "--no-pictures"
    status, out, err = run_train(
        capsys, "--data", file, *flags, "--learning-rate=0.5", "--output-dir", tmp_path / "run"
    )
    assert status == 0, err
    (accuracy,) = (line.split()[2] for line in out.splitlines() if line.startswith("Testing Accuracy: "))
    assert float(accuracy) > 0.8
    assert "Testing Macro F1: " in out
    assert main(["predict", str(tmp_path / "run"), str(file)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "text,predicted,x,y"
    assert len(table) == 61
    json_lines = tmp_path / "mail.jsonl"
    json_lines.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for label, text in rows))
    for a, b in zip(load_labelled(file), load_labelled(json_lines), strict=True):
        if not isinstance(a, TextInfo):
            jax.tree.map(np.testing.assert_array_equal, a, b)
