"""Serves a page on which a trained run reads step by step: `python -m rnn_jax demo RUN`.

The server listens on 127.0.0.1 alone. Its answers are JSON, but for the page itself and generated text.

| request | answer |
|---|---|
| GET / | the page |
| GET /run | facts about the run |
| GET /examples?start=0 | test examples, the worst mistakes first |
| GET /read?example=3 | the reading of a test example |
| POST /read?name=seven.png | the reading of the file in the body |
| POST /generate?length=200&temperature=0.8&seed=1 | the continuation of the text in the body, as it is made |

`&choice=7` asks for the gradient of another class than the answer's, or for another sequence of a file than its first.
A refusal is `{"error": one line}`.
"""

import argparse
import base64
import contextlib
import hashlib
import http.server
import importlib.resources
import itertools
import json
import os
import re
import socket
import sys
import threading
import urllib.parse
import webbrowser
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from rnn_jax.app.errors import Mistake
from rnn_jax.app.readings import Reader
from rnn_jax.app.streams import tell

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # in the header Host; any other name is another site's, pointed here (DNS rebinding)
MOST_BYTES = 8 << 20  # of a body
MOST_DISCARDED = 64 << 20  # of a body that is refused
LINGER = 1  # seconds to wait for more of it
SECONDS = 30  # before a silent client is given up
ROUTES = {"/": ("GET",), "/run": ("GET",), "/examples": ("GET",), "/read": ("GET", "POST"), "/generate": ("POST",)}
MOST_GENERATED = 10_000  # tokens


class Refusal(Exception):
    """A request that is not served.

    Attributes:
      status: the status of HTTP.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server(http.server.ThreadingHTTPServer):
    """The server of one run's page, which listens from its construction on.

    Args:
      reader: the run.
      port: the port; 0 for any that is free.

    Raises:
      Mistake: if the port cannot be used.
    """

    daemon_threads = True

    def __init__(self, reader: Reader, port: int = 0) -> None:
        self.reader = reader
        self.page = importlib.resources.files("rnn_jax.app").joinpath("demo.html").read_bytes()
        self.policy = content_policy(self.page.decode())
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            remedy = "choose another --port, or leave it out for a free one"
            raise Mistake(f"--port {port} cannot be used: {error.strerror}: {remedy}") from error

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_address[1]}"

    def shutdown_request(self, request: Any) -> None:
        """Discards the rest of a body before closing: a client reads the answer once it has sent all of it."""
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            request.settimeout(LINGER)
            left = MOST_DISCARDED
            while left > 0 and (piece := request.recv(1 << 16)):
                left -= len(piece)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says in one line what went wrong, but for a client that has left."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            tell(f"rnn_jax: {type(error).__name__}: {' '.join(str(error).split())}")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: Server  # type: ignore
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "rnn_jax", ""
    timeout = SECONDS

    def do_GET(self) -> None:
        """Answers a request of any known method."""
        try:
            self._check_site()
            body = self._read_body()
            content, kind = self._answer(body)
        except Refusal as error:
            self._send(error.status, *_json({"error": str(error)}))
            return
        except ValueError as error:  # the run or the file has its reasons
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, *_json({"error": " ".join(str(error).split())}))
            return
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"
            tell(f"rnn_jax: {message}")
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, *_json({"error": message}))
            return
        if isinstance(content, bytes):
            self._send(HTTPStatus.OK, content, kind)
        else:
            self._stream(content, kind)

    do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def _check_site(self) -> None:
        """Refuses requests that another site has a part in."""
        host = self.headers.get("Host", "")
        if re.sub(r":\d+$", "", host) not in NAMES:
            raise Refusal(HTTPStatus.FORBIDDEN, f"this page is at {self.server.url}, not at {host or 'no host'}")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            raise Refusal(HTTPStatus.FORBIDDEN, f"requests come from this page, not from {origin}")

    def _read_body(self) -> bytes:
        """Reads the body, which has to tell its length; refuses one that is too large."""
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "a body needs a Content-Length, not a Transfer-Encoding")
        text = self.headers.get("Content-Length")
        if text is None:
            if self.command == "POST":
                raise Refusal(HTTPStatus.LENGTH_REQUIRED, "a body needs a Content-Length")
            return b""
        if not re.fullmatch(r"[0-9]{1,18}", text):
            self.close_connection = True
            raise Refusal(HTTPStatus.BAD_REQUEST, f"Content-Length must be a number of bytes, not {text!r}")
        length = int(text)
        if length > MOST_BYTES:
            self.close_connection = True
            limit = f"{MOST_BYTES >> 20} MiB"
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the file is larger than {limit}: make it smaller")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the client left in the middle of its request")
        return body

    def _answer(self, body: bytes) -> tuple[bytes | Iterator[bytes], str]:
        """Returns (the content, or its parts as they are made; its kind) for a request that is allowed."""
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        methods = ROUTES.get(url.path)
        if methods is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no {url.path[:200]}")
        if self.command not in methods:
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{url.path} takes {' and '.join(methods)}")
        reader = self.server.reader
        match url.path:
            case "/":
                return self.server.page, "text/html; charset=utf-8"
            case "/run":
                return _json({**reader.describe(), "most_bytes": MOST_BYTES})
            case "/examples":
                return _json(reader.examples(_number(query, "start") or 0))
            case "/generate":
                return self._generate(query, body), "text/plain; charset=utf-8"
            case _:
                choice = _number(query, "choice")
                if self.command == "POST":
                    return _json(reader.read_file(query.get("name", ""), body, choice))
                index = _number(query, "example")
                if index is None:
                    raise Refusal(HTTPStatus.BAD_REQUEST, "GET /read needs an example")
                return _json(reader.read_example(index, choice))

    def _generate(self, query: dict[str, str], body: bytes) -> Iterator[bytes]:
        """Continues a prompt; the first part is made at once, so that a refusal is one."""
        length, seed = (_number(query, name) for name in ("length", "seed"))
        if length is None or length > MOST_GENERATED:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"length must be a whole number up to {MOST_GENERATED:,}")
        try:
            prompt, temperature = body.decode(), float(query.get("temperature", "1"))
        except ValueError as error:  # of which UnicodeDecodeError is one
            raise Refusal(HTTPStatus.BAD_REQUEST, f"neither a prompt in UTF-8 nor a temperature: {error}") from error
        model = self.server.reader.model
        pieces = model.generate(prompt, length=length, temperature=temperature, seed=seed or 0)
        first = next(pieces, "")
        return (piece.encode() for piece in itertools.chain([first], pieces))

    def _stream(self, pieces: Iterator[bytes], kind: str) -> None:
        """Sends an answer in chunks; one that ends early closes the connection, which the client can tell."""
        self._send_head(HTTPStatus.OK, {"Content-Type": kind, "Transfer-Encoding": "chunked"})
        try:
            for piece in filter(None, pieces):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        except Exception:
            self.close_connection = True
            raise
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        """Sends an answer at once."""
        self._send_head(status, {"Content-Type": kind, "Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        """Sends the status and the headers, with those that keep the page to itself."""
        self.send_response(status)
        headers = {
            **headers,
            "Content-Security-Policy": self.server.policy,
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(ROUTES[urllib.parse.urlsplit(self.path).path])
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuses a request that is no HTTP, or of an unknown method, in the form of every other refusal."""
        self.close_connection = True
        status = HTTPStatus(code)
        self.command = self.command or "GET"
        self._send(status, *_json({"error": message or status.phrase}))

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: the page shows refusals itself."""


def serve(reader: Reader, name: str, port: int, *, browser: bool) -> None:
    """Serves the page until the process is interrupted.

    Args:
      reader: the run.
      name: the run's, for the line that tells the address.
      port: the port; 0 for any that is free.
      browser: True to open the page in a browser, where there is a screen.

    Raises:
      Mistake: if the port cannot be used.
    """
    with Server(reader, port) as server:
        threading.Thread(target=reader.warm_up, daemon=True).start()
        print(f"Serving {name} at {server.url} (Ctrl-C stops)", flush=True)
        if browser and has_screen():
            webbrowser.open(server.url)
        server.serve_forever()


def port(text: str) -> int:
    """Makes a port of a flag's value; raises `ArgumentTypeError` for anything else."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return int(text)


def has_screen() -> bool:
    """Returns False on a machine where a browser would take over the terminal, or find no screen."""
    wanted = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return not sys.platform.startswith("linux") or any(map(os.environ.get, wanted))


def content_policy(page: str) -> str:
    """Returns the Content-Security-Policy that allows the page's own script and style, and requests to its server."""
    script, style = (_digest(page, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; "
        "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(page: str, tag: str) -> str:
    """Returns the digest of an element's content, as a policy names it."""
    content = page.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _json(values: dict[str, Any]) -> tuple[bytes, str]:
    return json.dumps(values, allow_nan=False, separators=(",", ":")).encode(), "application/json"


def _number(query: dict[str, str], name: str) -> int | None:
    """Returns a whole number of a query; None if it is not there."""
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number from 0, not {text[:40]!r}")
    return int(text)
