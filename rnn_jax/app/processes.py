"""Several processes that train together, on one machine or on many: how they meet, agree, and end.

Each process runs the same program on the devices of its own (`jax.distributed`); process 0 alone writes and prints.
What any of them takes part in alone ends it alone: the others notice, by a closed connection or by heartbeats that fail
to come, and end as well.
"""

import contextlib
import ctypes
import importlib.util
import os
import select
import signal
import socket
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from rnn_jax.app.checkpoint import with_keys, without_keys
from rnn_jax.app.errors import Mistake, SharedEnd

CONNECT_TIMEOUT = 300  # seconds, for all processes to have started
HEARTBEAT_TIMEOUT = 20  # seconds, after which a process that is not heard of counts as dead

# What the runtime says, and then aborts the process, when another one has died; or when nobody is met.
_FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
_LOST = "another process of this run has ended, or cannot be reached: what it said tells why; --resume goes on"

T = TypeVar("T")


class MeetingError(Mistake):
    """The processes cannot meet."""


class ProcessLost(Exception):
    """Another process has ended, or cannot be reached; the message is one line."""


@contextlib.contextmanager
def joined(coordinator: str | None, count: int | None, index: int | None) -> Iterator[None]:
    """Within the context, this process is one of several, if it was started so; at its end, they part together.

    To be entered before JAX is used for anything else. After an exception that is this process's alone it is still one
    of them, and `leave` ends it. If another one is gone, it ends with status 1, after one line on stderr.

    Args:
      coordinator: HOST:PORT of process 0, which listens there. None: found by JAX on pods of Cloud TPUs and in a step
        of SLURM with several tasks; elsewhere this process is the only one.
      count: how many there are.
      index: which of them this is, from 0 to `count` - 1.

    Raises:
      MeetingError: if process 0 cannot listen.
    """
    if coordinator is None and not _may_be_in_cluster():
        yield
        return
    where = f"--coordinator {coordinator}" if coordinator else "their coordinator"
    if coordinator and index == 0:
        _check_port(coordinator)
    runtime = _Runtime(f"not all processes have met at {where} within {CONNECT_TIMEOUT} s: start all with the same one")
    # It would take SIGTERM from us.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            cluster_detection_method="deactivate" if coordinator else None,
            initialization_timeout=CONNECT_TIMEOUT,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    except ValueError:
        if coordinator:
            raise
        runtime.release()  # JAX has found no cluster.
        yield
        return
    runtime.last_words = _LOST
    try:
        with _lost_is_one_error():
            yield
    except ProcessLost:
        runtime.end()
    except SharedEnd:
        jax.distributed.shutdown()  # waits for the others
        runtime.release()
        raise
    jax.distributed.shutdown()
    runtime.release()


def leave(main: Callable[[], int]) -> NoReturn:
    """Ends this process with the status that `main` returns.

    A process that ends alone must not wait for the others, as JAX otherwise does when the interpreter exits, nor may
    the runtime speak up meanwhile.
    """
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        if not _Runtime.held:
            raise
        traceback.print_exc()
        status = 1
    if _Runtime.held:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """The first process goes through the context before the others, who then find what it has downloaded."""
    if not is_first():
        _everyone(np.int32(0))
    yield
    if is_first():
        _everyone(np.int32(0))


def check_same(*facts: object) -> None:
    """Checks that all processes say the same; raises `ValueError`, in one line, if they do not."""
    told = _everyone(np.uint32(zlib.crc32(repr(facts).encode())))
    if (told != told[0]).any():
        raise ValueError(
            "the processes are not about to train the same: start all with the same flags, on the same data"
        )


def agree_to_stop(asked: signal.Signals | None) -> signal.Signals | None:
    """The signal that any of the processes was sent; all ask at the same step, and have the same answer."""
    number = int(_everyone(np.int32(asked or 0)).max())
    return signal.Signals(number) if number else None


def from_first(state: T) -> T:
    """What the first process has; the others give arrays of the same shapes."""
    if jax.process_count() == 1:
        return state
    with _lost_is_one_error():
        data = multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, without_keys(state)))
    return with_keys(state, jax.tree.map(jnp.asarray, data))


def _everyone(value: Any) -> np.ndarray:
    """Every process's value, stacked; all must ask."""
    if jax.process_count() == 1:
        return np.asarray(value)[None]
    with _lost_is_one_error():
        return np.asarray(multihost_utils.process_allgather(value))


def _may_be_in_cluster() -> bool:
    """Whether to ask JAX, which knows clusters: only where it does not make a lone machine wait."""
    # An interactive shell of SLURM has the variables of all its job's tasks, but is a step of one.
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 or importlib.util.find_spec("libtpu") is not None


def _check_port(coordinator: str) -> None:
    """Raises `MeetingError` if this process cannot listen; the runtime, which listens everywhere, might crash."""
    try:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        address = ("", int(coordinator.rpartition(":")[2]))
        socket.create_server(address, family=family, dualstack_ipv6=family == socket.AF_INET6).close()
    except (OSError, OverflowError) as error:
        raise MeetingError(f"cannot listen at --coordinator {coordinator}: choose another port") from error


@contextlib.contextmanager
def _lost_is_one_error() -> Iterator[None]:
    """Turns the errors of Gloo, which connects CPUs, into `ProcessLost`."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if "Gloo" not in str(error):
            raise
        raise ProcessLost(_LOST) from error


class _Runtime:
    """JAX's distributed runtime, kept from ending this process by a fatal log with a stack trace.

    It writes to the file descriptor of stderr and aborts. From now on that is a pipe, which a thread reads and passes
    on, unless it tells of another process's end; and the handler of SIGABRT makes the aborting thread sleep, so that
    there is time to read.

    Args:
      last_words: the line on stderr that comes instead.
    """

    held = False  # Whether there is one that has not been released.

    def __init__(self, last_words: str) -> None:
        self.last_words = last_words
        self._ending = threading.Lock()
        self._previous_stderr, self._stderr = sys.stderr, os.fdopen(os.dup(2), "w", buffering=1)
        sys.stderr = self._stderr
        reader, writer = os.pipe()
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(target=self._relay, args=(reader,), daemon=True)
        self._thread.start()
        libc = ctypes.CDLL(None)
        self._set_handler = libc.signal
        self._set_handler.argtypes, self._set_handler.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
        # Handlers are called with the signal's number: this one sleeps six seconds, without Python's lock.
        self._handler = self._set_handler(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
        _Runtime.held = True

    def release(self) -> None:
        """Lets it do as it likes again."""
        _Runtime.held = False
        self._set_handler(signal.SIGABRT, self._handler)
        os.dup2(self._stderr.fileno(), 2)  # The pipe has no writer any more, which ends the thread.
        self._thread.join()
        sys.stderr = self._previous_stderr

    def end(self) -> NoReturn:
        """Ends the process: what it was to do together cannot be done."""
        with self._ending:
            print(f"train.py: error: {self.last_words}", file=self._stderr, flush=True)
            os._exit(1)

    def _relay(self, reader: int) -> None:
        text, more = b"", b"..."
        while more:
            # What was said within half a second before the end belongs to it.
            if select.select([reader], [], [], 0.5 if text else None)[0]:
                text += (more := os.read(reader, 1 << 16))
                if _FATAL in text:
                    self.end()
            else:
                os.write(self._stderr.fileno(), text)
                text = b""
        os.write(self._stderr.fileno(), text)
        os.close(reader)
