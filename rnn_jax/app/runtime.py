"""Libraries below JAX, kept from printing and from aborting this process.

The C++ code below JAX reports a fatal error as a log line with a stack trace on file descriptor 2, and then calls
`abort`. Two such errors are the user's to see in one line: a peer of a distributed run has died or never connected, and
XLA_FLAGS holds a flag that XLA does not know. Python is never asked: no exception is raised, and a handler of SIGABRT
written in Python would only run after C++ has returned. Evidence, with two processes of which one is killed: the other
prints "Terminating process because the JAX distributed service detected fatal errors", some thirty lines, and ends with
SIGABRT.
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
from collections.abc import Iterator
from typing import Any, NoReturn

# Logged by JAX's distributed runtime just before it aborts the process.
PEER_LOST = b"Terminating process because the JAX distributed service detected fatal errors"
UNKNOWN_FLAG = b"in XLA_FLAGS"

_held: list["AbortShield"] = []


class AbortShield:
    """Replaces a fatal log of C++, and the abort that follows it, by one line and an exit status.

    From its making to its `release`, file descriptor 2 is a pipe. A thread reads the pipe and passes on all but the
    fatal log. The handler of SIGABRT lets the aborting thread sleep, which leaves the time to read. Only POSIX has the
    calls that this takes; elsewhere nothing is replaced.

    Args:
      fatal: a part of the log.
      last_words: the line on stderr that comes instead.
      status: the exit status that comes instead.
    """

    def __init__(self, fatal: bytes, last_words: str, *, status: int = 1) -> None:
        self.last_words, self._fatal, self._status = last_words, fatal, status
        self._ending = threading.Lock()
        _held.append(self)
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
        # A handler is called with the signal's number: this one sleeps six seconds, without the lock of Python.
        self._handler = self._set_handler(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))

    def release(self) -> None:
        """Gives stderr and SIGABRT back."""
        _held.remove(self)
        if not self._active:
            return
        self._set_handler(signal.SIGABRT, self._handler)
        os.dup2(self._stderr.fileno(), 2)  # The pipe has no writer any more, which ends the thread.
        self._thread.join()
        sys.stderr = self._previous_stderr

    def end(self) -> NoReturn:
        """Ends the process with the last words."""
        with self._ending:
            with contextlib.suppress(OSError, ValueError):
                print(f"train.py: error: {self.last_words}", file=self._stderr, flush=True)
            os._exit(self._status)

    def _relay(self, reader: int) -> None:
        text, more = b"", b"..."
        while more:
            # A log of the last half second before the end belongs to it.
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


def is_held() -> bool:
    """True while there is a shield that has not been released."""
    return bool(_held)


@contextlib.contextmanager
def refusing_unknown_flags() -> Iterator[None]:
    """Within the context, in which XLA reads its flags, an unknown one ends the process with one line and status 2."""
    flags = os.environ.get("XLA_FLAGS")
    if not flags or is_held():
        yield
        return
    shield = AbortShield(UNKNOWN_FLAG, f"XLA_FLAGS has a flag that XLA does not know: {flags}", status=2)
    try:
        yield
    finally:
        shield.release()


@functools.cache  # once is enough
def quiet_libraries() -> None:
    """Keeps orbax and tensorstore from printing the errors that they also raise, and matplotlib from warning of fonts.

    For the entry point of a program, and for good: threads of a failed write may print long after the error was
    reported.
    """

    def hook(unraisable: Any) -> None:
        # After a failure, tensorstore's threads find nobody who waits for them, and unfinished coroutines are dropped.
        code = getattr(unraisable.object, "cr_code", None)
        dropped = code is not None and "orbax" in code.co_filename
        if str(unraisable.exc_value) != "Event loop is closed" and not dropped:
            previous(unraisable)

    previous, sys.unraisablehook = sys.unraisablehook, hook
    for name in ("absl", "asyncio", "matplotlib"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
