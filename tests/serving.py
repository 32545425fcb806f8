"""The server of `python -m rnn_jax demo`, for tests that ask it."""

import contextlib
import threading

from rnn_jax.app.demo import Server


@contextlib.contextmanager
def serving(reader):
    """A server of a reader in a thread."""
    with Server(reader) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()
