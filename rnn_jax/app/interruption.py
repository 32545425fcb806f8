"""Handles SIGINT (Ctrl-C) and SIGTERM: ends the process with one line and a status, or records a request to stop.

Imports only the standard library, so that a command can use it before it imports JAX.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from rnn_jax.app.streams import tell

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 2  # seconds, for an exception to reach the end of the command


class Interruption(KeyboardInterrupt):
    """A signal has asked the command to end.

    Attributes:
      status: 128 plus the signal's number, the exit status that shells give to a killed process.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def end_at_signals(program: str) -> None:
    """Makes SIGINT and SIGTERM end the process with one line on stderr and status 130 or 143.

    The process ends without an exception and without the interpreter's clean-up: JAX's callbacks may swallow an
    exception, and its threads may crash during the clean-up.

    Args:
      program: the name that begins the line.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        with contextlib.suppress(OSError):
            os.write(2, f"{program}: interrupted\n".encode())
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, end)


def ignore_signals() -> None:
    """Ignores SIGINT and SIGTERM, once the command has finished its work."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def unwinding(program: str) -> Iterator[None]:
    """Raises `Interruption` at SIGINT and SIGTERM within the context, so that temporary files are removed.

    If the exception is swallowed, the process still ends after `PATIENCE` seconds.

    Args:
      program: the name that begins the line on stderr.
    """

    def insist(number: int) -> NoReturn:
        time.sleep(PATIENCE)
        tell(f"{program}: interrupted")
        os._exit(128 + number)

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        sys.unraisablehook = lambda *_: None  # Otherwise Python prints exceptions in finalizers, this one included.
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        threading.Thread(target=insist, args=(number,), daemon=True).start()
        raise Interruption(number)

    handlers = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        if all(signal.getsignal(number) is interrupt for number in SIGNALS):
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def stop_requests(notice: str) -> Iterator[Callable[[], signal.Signals | None]]:
    """Records SIGINT (Ctrl-C) and SIGTERM within the context; a SIGINT after the first signal ends the process at once.

    Python runs signal handlers only between two operations of the main thread, and one call of a jitted function may
    last minutes. Another thread therefore reads the signals as they arrive. A signal that arrives too late to be
    polled is sent again after the context.

    Args:
      notice: the text printed on stderr at the first signal.

    Yields:
      A function that returns the first signal received, or None.
    """
    received: list[signal.Signals] = []

    def listen() -> None:
        while number := reader.recv(1):
            if number[0] not in SIGNALS:
                continue
            if received and number[0] == signal.SIGINT:
                os._exit(128 + signal.SIGINT)
            received.append(signal.Signals(number[0]))
            if len(received) == 1:
                tell(notice)

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    # At any moment, either the thread or a handler receives a signal.
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    unasked = False
    try:
        yield lambda: received[0] if received else None
        unasked = True
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        writer.close()  # ends the thread
        thread.join()
        reader.close()
        if unasked and received:
            signal.raise_signal(received[0])
