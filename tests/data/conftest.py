"""A network that ends at this machine."""

import functools
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from synthetic import QuietHandler

from rnn_jax.data.mnist.archives import PUBLICATIONS, Archive, Publication
from rnn_jax.data.mnist.family import FILES


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every publisher's address refuses connections, proxies are off, and no folder of the user's is looked at."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # Bound but not listening: nobody else can answer there.
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        for name, publication in PUBLICATIONS.items():
            monkeypatch.setitem(PUBLICATIONS, name, publication._replace(url=url))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("TFDS_DATA_DIR", "/nonexistent")
        yield


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """A function that serves a folder on 127.0.0.1 and returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(folder: Path, handler: type[SimpleHTTPRequestHandler] = QuietHandler) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that makes the archives in a folder the published ones of a data set."""

    def replace(name: str, folder: Path, url: str | None = None) -> None:
        data = [(folder / file).read_bytes() for file in FILES]
        archives = tuple(Archive(len(each), hashlib.sha256(each).hexdigest()) for each in data)
        monkeypatch.setitem(PUBLICATIONS, name, Publication(url or PUBLICATIONS[name].url, archives))

    return replace
