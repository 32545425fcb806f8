"""Connection, agreement and shutdown of several processes that train together, on one machine or on many.

Each process runs the same program on its own devices (`jax.distributed`); only process 0 writes and prints. An error
ends the process that raised it. Its peers notice the closed connection or the missing heartbeats, and end too.
"""

import contextlib
import importlib.util
import os
import signal
import socket
import zlib
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from rnn_jax.app.checkpoint import with_keys, without_keys
from rnn_jax.app.errors import Mistake, SharedEnd
from rnn_jax.app.runtime import PEER_LOST, AbortShield

CONNECT_TIMEOUT = 300  # seconds, for all processes to connect
HEARTBEAT_TIMEOUT = 20  # seconds without a heartbeat, after which a process counts as dead

_LOST = "another process of this run has ended, or cannot be reached: what it said tells why; --resume goes on"

T = TypeVar("T")


class MeetingError(Mistake):
    """The processes cannot connect."""


class ProcessLost(Exception):
    """A peer has died or is unreachable; the message is one line."""


@contextlib.contextmanager
def joined(coordinator: str | None, count: int | None, index: int | None) -> Iterator[None]:
    """Connects this process to its peers, if it was started as one of several, and disconnects all on exit.

    Enter it before JAX is used. An exception of this process alone leaves it connected; `leave` then ends it. If a
    peer is lost, this process ends with status 1, after one line on stderr.

    Args:
      coordinator: HOST:PORT of process 0, which listens there. None for detection by JAX on Cloud TPU pods and in
        SLURM steps of several tasks; elsewhere this process is the only one.
      count: the number of processes.
      index: the index of this process, from 0 to `count` - 1.

    Raises:
      MeetingError: if process 0 cannot listen.
    """
    if coordinator is None and not _may_be_in_cluster():
        yield
        return
    where = f"--coordinator {coordinator}" if coordinator else "their coordinator"
    if coordinator and index == 0:
        _check_port(coordinator)
    never_met = f"not all processes have met at {where} within {CONNECT_TIMEOUT} s: start all with the same one"
    shield = AbortShield(PEER_LOST, never_met)
    # The service would replace our handler of SIGTERM.
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
        shield.release()  # JAX has found no cluster.
        yield
        return
    shield.last_words = _LOST
    try:
        with _lost_is_one_error():
            yield
    except ProcessLost:
        shield.end()
    except SharedEnd:
        jax.distributed.shutdown()  # waits for the others
        shield.release()
        raise
    jax.distributed.shutdown()
    shield.release()


def is_first() -> bool:
    """True in process 0, which writes and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """Runs the context in the first process before the others, which then find its downloads."""
    if not is_first():
        _everyone(np.int32(0))
    yield
    if is_first():
        _everyone(np.int32(0))


def check_same(*facts: object) -> None:
    """Checks that the facts are equal in all processes; raises `ValueError`, in one line, if they are not."""
    told = _everyone(np.uint32(zlib.crc32(repr(facts).encode())))
    if (told != told[0]).any():
        raise ValueError(
            "the processes are not about to train the same: start all with the same flags, on the same data"
        )


def agree_to_stop(asked: signal.Signals | None) -> signal.Signals | None:
    """Returns a signal that any process has received. All processes call it at the same step and get the same answer.

    Args:
      asked: the signal that this process has received, if any.
    """
    number = int(_everyone(np.int32(asked or 0)).max())
    return signal.Signals(number) if number else None


def from_first(state: T) -> T:
    """Broadcasts the first process's state; the others pass arrays of the same shapes."""
    if jax.process_count() == 1:
        return state
    with _lost_is_one_error():
        data = multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, without_keys(state)))
    return with_keys(state, jax.tree.map(jnp.asarray, data))


def _everyone(value: Any) -> np.ndarray:
    """Gathers and stacks a value of every process; each must call it."""
    if jax.process_count() == 1:
        return np.asarray(value)[None]
    with _lost_is_one_error():
        return np.asarray(multihost_utils.process_allgather(value))


def _may_be_in_cluster() -> bool:
    """True if JAX should detect a cluster, which may be slow on a single machine."""
    # An interactive SLURM shell has the variables of all its job's tasks, but is a step of one task.
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 or importlib.util.find_spec("libtpu") is not None


def _check_port(coordinator: str) -> None:
    """Raises `MeetingError` if this process cannot listen; JAX's runtime might crash instead."""
    try:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        address = ("", int(coordinator.rpartition(":")[2]))
        socket.create_server(address, family=family, dualstack_ipv6=family == socket.AF_INET6).close()
    except (OSError, OverflowError) as error:
        raise MeetingError(f"cannot listen at --coordinator {coordinator}: choose another port") from error


@contextlib.contextmanager
def _lost_is_one_error() -> Iterator[None]:
    """Raises errors of Gloo, the collectives of CPUs, within the context as `ProcessLost`."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if "Gloo" not in str(error):
            raise
        raise ProcessLost(_LOST) from error
