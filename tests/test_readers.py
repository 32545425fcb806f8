"""Readings of text and of sequences for the page of `demo`, beside what the library predicts."""

import json
import math

import numpy as np
import pytest
from sequences import draw_sequences, write_ts
from untrained import untrained, untrained_forecast, untrained_text

from rnn_jax.app.readers import make_reader
from rnn_jax.app.series import predict_file
from rnn_jax.app.text_reader import MOST_TOKENS
from rnn_jax.data.text import encode


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    return make_reader(untrained_text(folder), folder)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """A reader of labelled sequences, and their file."""
    folder = tmp_path_factory.mktemp("trials")
    file = write_ts(folder / "trials.ts", draw_sequences(0, 40), ["left", "right"] * 20)
    options = {"task": "classify", "bidirectional": True, "batch_size": 8}
    return make_reader(untrained(folder, data=file, **options), folder), file


@pytest.fixture(scope="module")
def forecast(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forecast")
    return make_reader(untrained_forecast(folder), folder)


def test_every_kind_of_run_is_described(language, trials, forecast):
    described = [json.loads(json.dumps(reader.describe())) for reader in (language, trials[0], forecast)]
    assert [each["kind"] for each in described] == ["text", "series", "series"]
    assert described[0]["classes"][-1] == "\N{REPLACEMENT CHARACTER}"
    assert described[0]["word"] == "character"
    assert described[1]["classes"] == ["left", "right"]
    assert described[1]["suffix"] == ".ts"
    assert [each["reverse"] for each in described[1]["passes"]] == [False, True]
    assert described[2]["horizon"] == 4


def test_a_text_takes_the_bits_that_predict_computes(language):
    text = "the dog sat"
    reading = language.read_file("typed", text.encode())
    nats = language.model.predict([text])[0]
    assert reading["tokens"] == list(text)
    assert reading["bits"][0] is None
    np.testing.assert_allclose(reading["bits"][1:], nats / math.log(2), atol=2e-3)
    for t, token in enumerate(encode(language.info, text[1:].encode())):
        found = dict(map(tuple, reading["likeliest"][t]))
        assert sorted(found.values(), reverse=True) == list(found.values())
        assert found.get(int(token), 0) == pytest.approx(math.exp(-nats[t]), rel=1e-3) or int(token) not in found


def test_a_text_has_the_states_of_unroll_however_it_is_padded(language):
    short, long = (
        language.read_file("typed", text) for text in (b"the cat", b"the cat sat on the mat, and the dog ran")
    )
    states = np.array(short["passes"][0]["states"]["h"])
    assert states.shape == (7, 6)
    np.testing.assert_allclose(states, np.array(long["passes"][0]["states"]["h"])[:7], atol=1e-5)
    task, params = language.task, language.model.params
    tokens = encode(language.info, b"the cat").astype(np.int32)
    _, ys = task.network.encoder.apply(params.encoder, tokens)
    np.testing.assert_allclose(states, ys, atol=1e-5)
    assert list(short["passes"][0]["gates"]) == ["reset", "update"]


def test_unseen_characters_are_marked_and_long_texts_are_cut(language):
    reading = language.read_file("typed", "a\N{SNOWMAN}".encode() * MOST_TOKENS)
    assert reading["tokens"][:2] == ["a", "\N{REPLACEMENT CHARACTER}"]
    assert len(reading["likeliest"]) == MOST_TOKENS
    assert reading["notes"] == ["the first 1,000 of 2,000 characters are read"]


@pytest.mark.parametrize(("content", "words"), [(b"", "no text to read yet"), (b"\xff\xfe\x00", "is not UTF-8")])
def test_what_is_no_text_is_refused(language, content, words):
    with pytest.raises(ValueError, match=words):
        language.read_file("notes.txt", content)


def test_the_test_text_comes_in_excerpts(language):
    listed = language.examples(0)
    assert listed["mistakes"] is None
    first = language.read_example(listed["examples"][0]["index"])
    assert " ".join(first["text"].split()).startswith(listed["examples"][0]["text"][:60].strip())
    with pytest.raises(ValueError, match="there is no example 999"):
        language.read_example(999)


def test_a_classifier_of_texts_ends_with_its_prediction(tmp_path):
    lines = [f"{label}\t{label} and {word}" for label in ("yes", "no") for word in map(str, range(20))]
    (tmp_path / "answers.txt").write_text("\n".join(lines) + "\n")
    options = {"task": "classify", "tokens": "bytes", "bidirectional": True, "batch_size": 8}
    reader = make_reader(untrained(tmp_path, data=tmp_path / "answers.txt", **options), tmp_path)
    text = "yes, \N{LATIN SMALL LETTER E WITH ACUTE}"
    reading = reader.read_file("", text.encode())
    assert reading["tokens"][-2:] == ["c3", "a9"]
    last = dict(map(tuple, reading["likeliest"][-1]))
    np.testing.assert_allclose([last[0], last[1]], reader.model.predict([text])[0], atol=1e-3)
    listed = reader.examples(0)
    assert listed["examples"][0]["wrong"] == (listed["mistakes"] > 0)
    assert reader.read_example(0)["label"] in (0, 1)


def test_a_sequence_of_a_file_ends_with_its_prediction(trials):
    reader, file = trials
    reading = reader.read_file("mine.ts", file.read_bytes(), 3)
    rows = list(predict_file(reader.task, reader.model.params, reader.info, file))
    np.testing.assert_allclose(reading["answers"][-1], np.array(rows[4][2:], float), atol=2e-6)
    assert reading["truth"] == 1
    assert reading["sequence"] == 3
    assert len(reading["names"]) == 40
    values = draw_sequences(0, 40)[3]
    np.testing.assert_allclose([each["values"] for each in reading["plot"]], values.T, atol=1e-4)
    assert len(reading["answers"]) == len(values)


def test_a_forecast_reads_the_last_window(forecast):
    file = forecast.model.config.data.read_bytes()
    reading = forecast.read_file("", file)  # pasted: the suffix is the run's own
    values = np.array([float(line.split(b",")[1]) for line in file.splitlines()[1:]])
    np.testing.assert_allclose(reading["plot"][0]["values"], values[-8:], rtol=1e-5)
    np.testing.assert_allclose(reading["answers"][-1], forecast.model.predict([values[:, None]])[0], rtol=1e-4)
    assert np.shape(reading["answers"]) == (8, 4)
    with pytest.raises(ValueError, match="3 steps are too few to forecast from, at least 8 are needed"):
        forecast.read_file("few.csv", b"\n".join(file.splitlines()[:4]))


def test_a_number_is_in_units_of_the_target(tmp_path):
    lines = "@equalLength true\n@seriesLength 3\n@targetlabel true\n@data\n"
    rows = [f"{i},{i + 1},{i * i}:{100 + 7 * i}" for i in range(30)]
    (tmp_path / "fat.ts").write_text(lines + "\n".join(rows) + "\n")
    reader = make_reader(untrained(tmp_path, data=tmp_path / "fat.ts", task="regress", batch_size=8), tmp_path)
    reading = reader.read_file("fat.ts", (tmp_path / "fat.ts").read_bytes(), 5)
    expected = reader.model.predict([np.array([[5.0], [6.0], [25.0]])])[0]
    assert reading["answers"][-1] == pytest.approx(expected, rel=1e-4)
    assert reading["truth"] == 135
    listed = reader.examples(0)
    assert listed["mistakes"] is None
    assert "predicted" in listed["examples"][0]["text"]
    assert 100 <= reader.read_example(listed["examples"][0]["index"])["truth"] <= 303


def test_examples_of_sequences_begin_with_the_worst(trials):
    reader, _ = trials
    listed = reader.examples(0)
    wrong = [example["wrong"] for example in listed["examples"]]
    assert wrong == sorted(wrong, reverse=True)
    assert sum(wrong) == listed["mistakes"]
    reading = reader.read_example(listed["examples"][-1]["index"])
    assert np.argmax(reading["answers"][-1]) == reading["truth"]


def test_a_file_of_another_kind_is_refused_under_its_own_name(trials):
    reader, file = trials
    with pytest.raises(ValueError, match=r"^cannot read mine\.ts|mine\.ts") as error:
        reader.read_file("mine.ts", b"no sequences")
    assert "/tmp" not in str(error.value)
    with pytest.raises(ValueError, match="there is no sequence 40, but 40 from 0"):
        reader.read_file("mine.ts", file.read_bytes(), 40)
