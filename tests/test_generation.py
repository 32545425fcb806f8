"""Text from a trained language model: from Python, from the command line, and where there is nothing but JAX."""

import dataclasses
import io
import itertools
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_close

import rnn_jax as rnn
import rnn_jax.__main__ as command
from rnn_jax.app import generation
from rnn_jax.app.config import Config
from rnn_jax.app.export import describe_export, export_model, write_export
from rnn_jax.data.text import TextInfo, encode
from rnn_jax.tasks.language import LanguageModel
from rnn_jax.tasks.texts import TextClassification

WORDS = "\n dehlorw"
CHARACTERS = TextInfo("tale", "tale.txt", "", "language", "characters", WORDS, 8, (1,) * 10)
BYTES = CHARACTERS._replace(tokens="bytes", vocabulary="", counts=(1,) * 256)


def make_model(info):
    """A model that has not been trained, but for one that tells characters apart."""
    net = rnn.Classifier(rnn.embed(rnn.GRU(8), info.num_tokens), info.num_tokens, readout="every_step")
    params = net.init(jax.random.key(0), info.num_tokens)
    return rnn.Model(Config(), info, 0, 0, LanguageModel(net, info), params._replace(w=9 * params.w))


MODEL, BYTE_MODEL = make_model(CHARACTERS), make_model(BYTES)


def text_of(model=MODEL, prompt="hello", **options):
    return "".join(model.generate(prompt, **{"length": 20} | options))


def test_a_text_is_the_network_s_own_choice_step_by_step():
    net, params = MODEL.task.network, MODEL.params  # type: ignore
    state, logits = net.read(params, np.array([[WORDS.index(c)] for c in "hello"]))
    text, logits, step = "", logits[-1], jax.jit(net.step)
    for _ in range(20):
        token = int(np.argmax(logits[0, :-1]))
        text += WORDS[token]
        state, logits = step(params, state, np.array([token]))
    assert text_of(temperature=0) == text


def test_the_seed_and_the_number_of_a_sample_determine_a_text():
    assert text_of(seed=3) == text_of(seed=3) != text_of(seed=4)
    first, second = map("".join, zip(*MODEL.generate("hello", length=20, samples=2, seed=3), strict=True))
    assert first == text_of(seed=3) != second


@pytest.mark.parametrize("seconds", [0, 1e9])
def test_pieces_come_as_they_are_made_and_their_size_changes_nothing(monkeypatch, seconds):
    expected = text_of(length=700)
    monkeypatch.setattr(generation, "SECONDS", seconds)
    pieces = list(MODEL.generate("hello", length=700))
    assert len(pieces[0]) == generation.FIRST_CHUNK
    assert max(map(len, pieces)) == (generation.FIRST_CHUNK if seconds == 0 else generation.CHUNK)
    assert "".join(pieces) == expected


def test_a_text_never_ends_for_lack_of_memory():
    assert all(itertools.islice(MODEL.generate("", length=10**15), 5))


def test_characters_that_training_has_not_seen_are_neither_read_nor_made():
    assert set(text_of(length=2000, temperature=9)) == set(WORDS)
    with pytest.raises(ValueError, match=r"characters that training has not seen: 'H', '\\xe9'$"):
        MODEL.generate("Héllo")


def test_a_long_prompt_is_read_in_windows(monkeypatch):
    prompt = "hello world\n" * 30
    expected = text_of(prompt=prompt)
    monkeypatch.setattr(generation, "CHUNK", 1000)
    assert text_of(prompt=prompt) == expected


def test_without_a_prompt_a_text_begins_on_a_new_line():
    assert text_of(prompt="") == text_of(prompt="\n")
    lines = dataclasses.replace(MODEL, data=CHARACTERS._replace(vocabulary="#" + WORDS[1:]))
    assert len(text_of(lines, prompt="")) == 20


def test_bytes_become_characters_once_they_are_complete():
    decode = generation.make_decoder(BYTES)
    euro = np.frombuffer("€!".encode(), np.uint8)
    assert [decode(euro[:2], False), decode(euro[2:], False), decode(euro[:1], True)] == ["", "€!", "\ufffd"]
    text = text_of(BYTE_MODEL, prompt="€ \udcff", temperature=5)
    assert "\ufffd" in text
    assert len(text) <= 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be at least 0 and finite, not -0.1"),
        ({"top_k": 0}, "top_k must be a positive whole number, not 0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, not 1.5"),
        ({"samples": 0}, "samples must be a positive whole number, not 0"),
        ({"length": -1}, "length must be at least 0, not -1"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_generated(options, message):
    with pytest.raises(ValueError, match=message):
        MODEL.generate(**options)


# --- where there is nothing but JAX ---

STREAM = """
import sys
import jax

state_shapes, vocabulary, prompt, length = eval(sys.stdin.readline())
step = jax.jit(jax.export.deserialize(open(sys.argv[1], "rb").read()).call)
state = {name: jax.numpy.zeros(shape) for name, shape in state_shapes.items()}
text = prompt
for i in range(len(prompt) + length - 1):
    state, probabilities = step(state, jax.numpy.array([vocabulary.index(text[i])]))
    if i + 1 == len(text):
        text += vocabulary[int(probabilities[0].argmax())]
print(text)
assert "rnn_jax" not in sys.modules
"""


def test_a_program_that_has_only_jax_streams_the_same_text(tmp_path):
    write_export(MODEL, tmp_path / "step.stablehlo", step=True)
    shapes = {"network.encoder.h": (1, 8)}
    process = subprocess.run(
        [sys.executable, "-c", STREAM, "step.stablehlo"],
        cwd=tmp_path,
        input=repr((shapes, WORDS, "hello", 20)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (process.stdout, process.stderr) == (f"hello{text_of(temperature=0)}\n", "")
    description = describe_export(MODEL, tmp_path / "step.stablehlo", step=True)
    assert "state, int32 [N] -> state, probabilities [N, 10] of the next of the characters, for" in description
    assert "\nState, zeros at first: network.encoder.h [N, 8]\n" in description
    assert "\nCharacters, by number: \\n dehlorw, and one for all others\n" in description


def test_a_language_model_is_a_step_or_a_network(tmp_path):
    for format in ("stablehlo", "onnx"):
        with pytest.raises(ValueError, match="a language model is exported by --step, or as --format safetensors"):
            write_export(MODEL, tmp_path / "file", format)
    write_export(MODEL, tmp_path / "net.safetensors", "safetensors")
    net, params = rnn.load(tmp_path / "net.safetensors")
    assert net == MODEL.task.network  # type: ignore
    jax.tree.map(np.testing.assert_array_equal, params, MODEL.params)
    assert "xs characters as numbers, [T, N]" in describe_export(MODEL, tmp_path / "net.safetensors", "safetensors")


def test_a_classifier_of_texts_is_exported_with_lengths():
    info = CHARACTERS._replace(task="classify", window=6, classes=("no", "yes"))
    net = rnn.Classifier(rnn.embed(rnn.GRU(4), info.num_tokens), 2)
    task: Any = TextClassification(net, info.num_tokens, info=info)
    model = rnn.Model(Config(), info, 0, 0, task, task.init(jax.random.key(0)))
    expected = model.predict(["hello", "old"])
    exported = jax.export.deserialize(export_model(model))
    tokens = np.stack([np.pad(encode(info, text), (0, 6 - len(text))) for text in (b"hello", b"old")]).astype(np.int32)
    assert_close(exported.call(tokens, np.array([5, 3], np.int32)), np.stack(expected))
    with pytest.raises(ValueError, match="--format onnx needs a model of images or sequences, not of text"):
        write_export(model, Path("model.onnx"), "onnx")
    description = describe_export(model, Path("model.stablehlo"))
    assert "int32 [N, 6], int32 lengths [N] -> probabilities [N, 2] of no, yes, for" in description


# --- the command ---


@pytest.fixture
def call(monkeypatch, capsys):
    """Returns a function that runs the command on a model instead of a folder."""

    def run(*argv, model=MODEL):
        monkeypatch.setattr(command, "load_run", lambda folder, **options: model)
        status = command.main(["generate", "RUN", *map(str, argv)])
        return status, *capsys.readouterr()

    return run


def test_the_command_prints_the_prompt_and_its_continuation(call):
    options = {"length": 30, "temperature": 0.8, "top_k": 5, "top_p": 0.9, "seed": 7}
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert call("--prompt", "hello", *argv) == (0, f"hello{text_of(**options)}\n", "")


def test_the_command_prints_samples_one_below_the_other(call):
    first, second = map("".join, zip(*MODEL.generate("hello", length=20, samples=2), strict=True))
    status, out, _ = call("--prompt", "hello", "--length", 20, "--samples", 2)
    assert (status, out) == (0, f"hello{first}\n--------------------\nhello{second}\n")


def test_a_prompt_may_come_from_stdin(call, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello")))
    assert call("--prompt", "-", "--length", 20)[1] == f"hello{text_of()}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--prompt", "Hello"], "rnn_jax: error: the prompt has characters that training has not seen: 'H'"),
        (["--temperature=-1"], "rnn_jax: error: --temperature must be at least 0 and finite, not -1.0"),
        (["--top-k=0"], "rnn_jax: error: --top-k must be a positive whole number, not 0"),
        (["--top-p=0"], "rnn_jax: error: --top-p must be above 0 and at most 1, not 0.0"),
        (["--samples=0"], "rnn_jax: error: --samples must be a positive whole number, not 0"),
    ],
)
def test_a_mistake_is_one_line(call, argv, message):
    assert call(*argv) == (2, "", f"{message}\n")


def test_a_run_of_another_task_is_refused(call):
    images = dataclasses.replace(MODEL, data=types.SimpleNamespace(name="mnist"))
    message = "rnn_jax: error: a run on mnist cannot generate text: train one with --task language\n"
    assert call(model=images) == (2, "", message)
