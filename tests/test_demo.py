"""`python -m rnn_jax demo RUN`: the server, asked as a browser and as a stranger would ask it."""

import functools
import http.client
import io
import json
import os
import re
import signal
import socket
import threading
import time

import jax
import numpy as np
import pytest
from helpers import run_train
from PIL import Image
from serving import serving
from untrained import untrained_text

import rnn_jax as rnn
from rnn_jax.__main__ import main
from rnn_jax.app import interruption
from rnn_jax.app.demo import MOST_BYTES, Server
from rnn_jax.app.errors import Mistake
from rnn_jax.app.readers import make_reader
from rnn_jax.app.readings import worst_first
from rnn_jax.data import load_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = "--dataset=digits", "--cell=lstm", "--bidirectional", "--hidden-size=8", "--steps=60", "--no-pictures"
    with jax.numpy_dtype_promotion("standard"):  # as users have it; optax's schedules need it
        assert run_train(None, *options, "--learning-rate=0.3", "--output-dir", folder)[0] == 0
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return rnn.load_run(folder)


@pytest.fixture(scope="module")
def server(model, folder):
    with serving(make_reader(model, folder)) as server:
        yield server


@pytest.fixture(scope="module")
def ask(server):
    """Asks for a path; returns the status, the answer from JSON, and the headers. Every request is a new connection."""
    return asker(server)


@pytest.fixture(scope="module")
def ask_text(tmp_path_factory):
    """Asks the server of a language model, which is an attribute."""
    folder = tmp_path_factory.mktemp("text")
    model = untrained_text(folder)
    with serving(make_reader(model, folder)) as server:
        ask = asker(server)
        ask.server = server
        yield ask


def asker(server):
    def ask(path, method="GET", body=None, headers=()):
        connection = http.client.HTTPConnection(*server.server_address, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            content = response.read()
            is_json = response.headers["Content-Type"] == "application/json" and content
            return response.status, json.loads(content) if is_json else content, response.headers
        finally:
            connection.close()

    return ask


@functools.cache
def digit_images():
    return load_dataset("digits").test


def png(pixels):
    """A picture of fractions [H, W] as a file."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(255 * np.asarray(pixels)).astype(np.uint8)).save(file, "png")
    return file.getvalue()


def send_raw(server, text):
    """Sends bytes that are not a client's of any library; returns all that comes back."""
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_the_page_needs_no_other_host(ask):
    status, page, headers = ask("/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(rb"https?://|@import|<link (?!rel=\"icon\" href=\"data:,\")", page)


def test_the_run_is_described(ask):
    status, run, _ = ask("/run")
    assert status == 200
    assert run["cell"] == "lstm, 8 units, both ways"
    assert run["classes"] == list("0123456789")
    assert [each["name"] for each in run["passes"]] == ["layer 1, forward", "layer 1, backward"]
    assert "the backward half the last t" in run["explanation"]


def test_a_reading_has_the_library_s_own_numbers(ask, model):
    status, reading, _ = ask("/read?example=5")
    assert status == 200
    image = digit_images().inputs[5]
    np.testing.assert_allclose(reading["answers"][-1], model.predict(image), atol=2e-6)
    assert reading["answer"] == model.predict(image).argmax()
    assert reading["label"] == digit_images().targets[5]
    np.testing.assert_allclose(reading["pixels"], image / 16, atol=1e-6)
    xs = np.asarray(image / 16, np.float32)
    cell = model.task.network.encoder.layers[0].forward.cell
    for part, reverse in (("forward", False), ("backward", True)):
        params = getattr(model.params.encoder[0], part)
        final, ys = rnn.unroll(cell, params, xs, reverse=reverse)
        states = reading["passes"][int(reverse)]["states"]
        np.testing.assert_allclose(states["h"], ys, atol=2e-6)
        np.testing.assert_allclose(states["c"][0 if reverse else -1], final.c, atol=2e-6)
        assert list(reading["passes"][int(reverse)]["gates"]) == ["input", "forget", "output"]


def test_the_gradient_is_of_the_answer_or_of_the_class_asked_for(ask):
    _, first, _ = ask("/read?example=5")
    _, other, _ = ask(f"/read?example=5&choice={(first['answer'] + 1) % 10}")
    assert first["gradient_of"] == first["answer"] != other["gradient_of"]
    assert np.shape(first["gradient"]) == (8, 8)
    assert first["gradient"] != other["gradient"]
    assert first["answers"] == other["answers"]


def test_examples_begin_with_the_worst_mistakes(ask, model):
    _, listed, _ = ask("/examples?start=0")
    probabilities, targets = model.predict(digit_images().inputs), digit_images().targets
    wrong = np.flatnonzero(probabilities.argmax(1) != targets)
    assert listed["mistakes"] == len(wrong) > 1
    first = [example["index"] for example in listed["examples"]]
    assert first[0] == wrong[probabilities[wrong].max(1).argmax()]
    assert listed["examples"][0]["answer"] != listed["examples"][0]["label"] == targets[first[0]]
    _, last, _ = ask(f"/examples?start={listed['count'] - 1}")
    assert len(last["examples"]) == 1
    assert last["examples"][0]["answer"] == last["examples"][0]["label"]


def test_mistakes_come_by_certainty_and_right_answers_by_doubt():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    assert worst_first(probabilities, np.array([0, 0, 0, 0])).tolist() == [3, 2, 1, 0]


def test_a_picture_is_read_wherever_its_ink_lies(ask):
    small = np.zeros((90, 120))
    small[10:40, 70:76] = 1
    readings = [
        ask("/read?name=a.png", "POST", png(picture))[1] for picture in (small, np.roll(small, 30, 0), 1 - small)
    ]
    assert readings[0]["pixels"] == readings[1]["pixels"]
    assert readings[0]["pixels"] == readings[2]["pixels"]
    lit = np.argwhere(np.array(readings[0]["pixels"]) > 0.3)
    assert lit[:, 0].min() == 0
    assert lit[:, 0].max() == 7
    np.testing.assert_allclose(lit[:, 1].mean(), 3.5, atol=0.6)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "words"),
    [
        ("GET", "/etc/passwd", None, {}, 404, "there is no /etc/passwd"),
        ("GET", "/../pyproject.toml", None, {}, 404, "there is no"),
        ("POST", "/run", b"", {}, 405, "/run takes GET"),
        ("DELETE", "/read", None, {}, 405, "/read takes GET and POST"),
        ("BREW", "/", None, {}, 501, "Unsupported method"),
        ("GET", "/read", None, {}, 400, "needs an example"),
        ("GET", "/read?example=-1", None, {}, 400, "example must be a whole number from 0, not '-1'"),
        ("GET", "/read?example=9999", None, {}, 422, "there is no example 9999, but 599 from 0"),
        ("GET", "/read?example=1&choice=10", None, {}, 422, "there is no class 10, but 10 from 0"),
        ("POST", "/read?name=notes.png", b"no picture", {}, 422, "notes.png is neither a picture nor a .npy array"),
        ("POST", "/read", b"", {}, 422, "neither a picture"),
        ("POST", "/read?name=a.png", png(np.eye(40))[:60], {}, 422, "cannot be read"),
        ("GET", "/run", None, {"Host": "evil.example"}, 403, "not at evil.example"),
        ("GET", "/run", None, {"Host": "127.0.0.1.evil.example:80"}, 403, "not at"),
        ("GET", "/run", None, {"Origin": "https://evil.example"}, 403, "not from https://evil.example"),
        ("POST", "/read", b"", {"Origin": "null"}, 403, "not from null"),
        ("POST", "/read", b"", {"Content-Length": "-5"}, 400, "Content-Length must be a number of bytes, not '-5'"),
        ("POST", "/read", b"", {"Content-Length": "many"}, 400, "must be a number"),
        ("POST", "/read", iter([b"abc"]), {}, 411, "not a Transfer-Encoding"),
        ("POST", "/read", bytes(10_000_000), {}, 413, "the file is larger than 8 MiB"),
    ],
)
def test_a_bad_request_is_answered_in_one_line_and_the_server_goes_on(ask, method, path, body, headers, status, words):
    got, answer, _ = ask(path, method, body, headers)
    assert got == status
    assert words in answer["error"]
    assert "\n" not in answer["error"]
    assert "/tmp" not in answer["error"]
    assert ask("/run")[0] == 200


def test_a_request_of_the_page_itself_is_served_by_either_name(ask, server):
    port = server.server_address[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost:9"):  # the last through a tunnel
        assert ask("/run", headers={"Host": host, "Origin": f"http://{host}"})[0] == 200
    assert ask("/run", headers={"Host": f"127.0.0.1:{port}", "Origin": f"http://localhost:{port}"})[0] == 403


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"POST /read HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 411"),
        (b"nonsense\r\n\r\n", b"Bad request syntax ('nonsense')"),  # an answer of HTTP/0.9, which has no status
        (b"GET /run HTTP/1.1\r\n\r\n", b"HTTP/1.1 403"),  # no Host
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b" 414 "),
    ],
)
def test_what_is_no_request_is_refused(server, ask, text, words):
    assert words in send_raw(server, text)
    assert ask("/run")[0] == 200


def test_a_browser_may_leave_in_the_middle(server, ask, capsys):
    for text in (
        b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nhalf",
        b"GET /read?example=1 HTTP/1.1\r\nHost: loc",
    ):
        with socket.create_connection(server.server_address, timeout=10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close by a reset
            connection.sendall(text)
    assert ask("/run")[0] == 200
    assert capsys.readouterr().err == ""


def test_an_error_of_the_program_s_own_is_an_answer_as_well(ask, server, monkeypatch, capsys):
    def fail(start):
        raise RuntimeError("a device\nis lost")

    monkeypatch.setattr(server.reader, "examples", fail)
    assert ask("/examples")[:2] == (500, {"error": "RuntimeError: a device is lost"})
    assert capsys.readouterr().err == "rnn_jax: RuntimeError: a device is lost\n"


def test_without_the_data_there_are_no_examples_and_pictures_are_read(model, folder, monkeypatch):
    reader = make_reader(model, folder)
    monkeypatch.setattr("rnn_jax.app.readings.digest", lambda data: "another")
    with pytest.raises(ValueError, match="is other data than those of the run"):
        reader.examples(0)
    assert reader.read_file("a.png", png(np.eye(20)))["answer"] in range(10)


def test_a_port_that_is_taken_is_one_line(server, folder, capsys):
    port = str(server.server_address[1])
    assert main(["demo", str(folder), "--port", port, "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"rnn_jax: error: --port {port} cannot be used: Address already in use: choose another --port, or leave it "
        "out for a free one\n"
    )
    with pytest.raises(Mistake, match="cannot be used"):
        Server(server.reader, int(port))


def test_a_port_that_is_none_and_a_run_that_is_not_there_are_mistakes(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["demo", str(tmp_path), "--port", "70000"])
    assert end.value.code == 2
    assert "--port" in capsys.readouterr().err
    assert main(["demo", str(tmp_path / "none")]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err


def test_control_c_ends_it_with_one_line(folder, capfd, monkeypatch):
    opened = []
    monkeypatch.setenv("BROWSER", "any")
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(interruption, "PATIENCE", 1e6)  # the thread that would end this process
    handlers = {number: signal.getsignal(number) for number in interruption.SIGNALS}

    def interrupt():
        while not opened:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    try:
        threading.Thread(target=interrupt, daemon=True).start()
        assert main(["demo", str(folder)]) == 130
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    out, err = capfd.readouterr()
    assert out == f"Serving {folder} at {opened[0]} (Ctrl-C stops)\n"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", opened[0])
    assert err == "rnn_jax: interrupted\n"


def test_the_limit_of_a_file_is_told_to_the_page(ask):
    assert ask("/run")[1]["most_bytes"] == MOST_BYTES


def test_text_is_generated_as_generate_does(ask_text):
    model = ask_text.server.reader.model
    status, content, headers = ask_text("/generate?length=40&temperature=0.5&seed=3", "POST", b"the ")
    assert status == 200
    assert headers["Transfer-Encoding"] == "chunked"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert content.decode() == "".join(model.generate("the ", length=40, temperature=0.5, seed=3))
    assert ask_text("/generate?length=0", "POST", b"the ")[1] == b""


@pytest.mark.parametrize(
    ("query", "body", "status", "words"),
    [
        ("", b"the", 400, "length must be a whole number up to 10,000"),
        ("length=10001", b"the", 400, "length must be a whole number"),
        ("length=5&temperature=hot", b"the", 400, "could not convert string to float: 'hot'"),
        ("length=5&temperature=-1", b"the", 422, "temperature must be at least 0 and finite, not -1"),
        ("length=5&temperature=nan", b"the", 422, "temperature must be at least 0"),
        ("length=5", b"\xff", 400, "neither a prompt in UTF-8"),
        ("length=5", "\N{SNOWMAN}".encode(), 422, "characters that training has not seen"),
    ],
)
def test_a_bad_prompt_is_refused_before_anything_is_generated(ask_text, query, body, status, words):
    got, answer, _ = ask_text(f"/generate?{query}", "POST", body)
    assert got == status
    assert words in answer["error"]
    assert ask_text("/generate", "GET")[0] == 405


def test_a_run_on_images_generates_nothing(ask):
    status, answer, _ = ask("/generate?length=5", "POST", b"the")
    assert status == 422
    assert "cannot generate text" in answer["error"]


def test_generation_stops_when_the_browser_leaves(ask_text, monkeypatch, capsys):
    made = []

    def generate(*args, **options):
        for i in range(10_000):
            made.append(i)
            yield "word " * 2000

    monkeypatch.setattr(type(ask_text.server.reader.model), "generate", generate)
    with socket.create_connection(ask_text.server.server_address, timeout=10) as connection:
        head = b"POST /generate?length=100 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(head)
        assert b"200 OK" in connection.recv(1000)
    while ask_text("/run")[0] == 200:
        before = len(made)
        time.sleep(0.1)
        if len(made) == before:
            break
    assert len(made) < 10_000
    assert capsys.readouterr().err == ""


def test_an_error_in_the_middle_of_a_text_cuts_it_off(ask_text, monkeypatch):
    def generate(*args, **options):
        yield "the "
        raise RuntimeError("a device is lost")

    monkeypatch.setattr(type(ask_text.server.reader.model), "generate", generate)
    with pytest.raises(http.client.IncompleteRead):
        ask_text("/generate?length=100", "POST", b"")
    assert ask_text("/run")[0] == 200


@pytest.mark.parametrize("port", ["65536", "-1", "http", "1e3"])
def test_a_port_that_is_none_is_one_line(capsys, port):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "run", f"--port={port}"])
    assert f"--port: must be a whole number from 0 to 65535, not '{port}'" in capsys.readouterr().err
