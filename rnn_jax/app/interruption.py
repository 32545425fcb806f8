"""Ctrl-C and SIGTERM as requests that a loop can ask for, instead of exceptions that strike anywhere."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requests(notice: str) -> Iterator[Callable[[], signal.Signals | None]]:
    """Within the context, SIGINT (Ctrl-C) and SIGTERM only leave a note; SIGINT after one ends the process at once.

    Python runs its signal handlers only between two operations of its main thread, of which the call of a jitted
    function may last minutes. The signals are therefore read in another thread, as they come.

    Args:
      notice: is printed on stderr at the first signal.

    Yields:
      A function that returns the first signal that has come, or None.
    """
    received: list[signal.Signals] = []

    def listen() -> None:
        while number := reader.recv(1):
            if number[0] not in handlers:
                continue
            if received and number[0] == signal.SIGINT:
                os._exit(128 + signal.SIGINT)
            received.append(signal.Signals(number[0]))
            if len(received) == 1:
                print(notice, file=sys.stderr, flush=True)

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield lambda: received[0] if received else None
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.close()  # ends the thread
        thread.join()
        reader.close()
