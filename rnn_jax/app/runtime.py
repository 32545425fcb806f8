"""Keeps the libraries below JAX from printing and from aborting this process.

The C++ code below JAX reports a fatal error as a log line with a stack trace on file descriptor 2, and then calls
`abort`. This module replaces one such error by one line for the user: a peer of a distributed run has died or never
connected. Python cannot intercept it: no exception is raised, and a Python handler of SIGABRT would only run after C++
has returned. For example, when one of two processes is killed, the other prints "Terminating process because the JAX
distributed service detected fatal errors", some thirty lines, and ends with SIGABRT.
"""

import contextlib
import ctypes
import functools
import logging
import os
import select
import signal
import sys
import threading
from typing import Any, NoReturn

# Logged by JAX's distributed runtime just before it aborts the process.
PEER_LOST = b"Terminating process because the JAX distributed service detected fatal errors"


class AbortShield:
    """Replaces a fatal log of C++, and the abort that follows it, by one line and exit status 1.

    From construction to `release`, file descriptor 2 is a pipe. A thread reads the pipe and passes on all but the fatal
    log. The handler of SIGABRT puts the aborting thread to sleep, which leaves the reader time. This requires POSIX;
    elsewhere nothing is replaced.

    Args:
      fatal: the text that identifies the log.
      last_words: the line to print on stderr instead.
    """

    def __init__(self, fatal: bytes, last_words: str) -> None:
        self.last_words, self._fatal = last_words, fatal
        self._ending = threading.Lock()
        self._active = os.name == "posix"
        self._previous_stderr = self._stderr = sys.stderr
        if not self._active:
            return
        self._stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
        sys.stderr = self._stderr
        reader, writer = os.pipe()
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(target=self._relay, args=(reader,), daemon=True)
        self._thread.start()
        libc = ctypes.CDLL(None)
        self._set_handler = libc.signal
        self._set_handler.argtypes, self._set_handler.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
        # The handler is called with the signal's number: it sleeps six seconds, without Python's GIL.
        self._handler = self._set_handler(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))

    def release(self) -> None:
        """Restores stderr and the handler of SIGABRT."""
        if not self._active:
            return
        self._set_handler(signal.SIGABRT, self._handler)
        os.dup2(self._stderr.fileno(), 2)  # Closes the pipe's last writer, which ends the thread.
        self._thread.join()
        sys.stderr = self._previous_stderr

    def end(self) -> NoReturn:
        """Prints the last words and ends the process."""
        with self._ending:
            with contextlib.suppress(OSError, ValueError):
                print(f"train.py: error: {self.last_words}", file=self._stderr, flush=True)
            os._exit(1)

    def _relay(self, reader: int) -> None:
        text, more = b"", b"..."
        while more:
            # Hold text back for half a second, because the fatal log may follow it.
            if select.select([reader], [], [], 0.5 if text else None)[0]:
                text += (more := os.read(reader, 1 << 16))
                if self._fatal in text:
                    self.end()
            else:
                self._pass_on(text)
                text = b""
        self._pass_on(text)
        os.close(reader)

    def _pass_on(self, text: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._stderr.fileno(), text)


@functools.cache  # once is enough
def quiet_libraries() -> None:
    """Keeps orbax and tensorstore from printing the errors that they raise, and matplotlib from warning about fonts.

    Only for the entry point of a program. It is never undone, because threads of a failed write may print long after
    the error was reported.
    """

    def hook(unraisable: Any) -> None:
        # After a failure nothing waits for tensorstore's threads, and unfinished coroutines are dropped.
        code = getattr(unraisable.object, "cr_code", None)
        dropped = code is not None and "orbax" in code.co_filename
        if str(unraisable.exc_value) != "Event loop is closed" and not dropped:
            previous(unraisable)

    previous, sys.unraisablehook = sys.unraisablehook, hook
    for name in ("absl", "asyncio", "matplotlib"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
