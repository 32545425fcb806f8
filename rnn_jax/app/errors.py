"""The ways in which a command ends: exceptions that carry an exit status, and the one place that reports them."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax

from rnn_jax.app.flags import in_flags
from rnn_jax.app.interruption import Interruption
from rnn_jax.app.streams import discard_output, tell
from rnn_jax.data import DataError

READER_GONE = 128 + 13  # the status of a process that SIGPIPE has ended


class CommandError(Exception):
    """Ends a command; the message is one line for the user.

    Attributes:
      status: the exit status.
    """

    status = 1


class Mistake(CommandError):
    """The user can put it right."""

    status = 2


class SharedEnd(CommandError):
    """Ends every process of a run alike, at the same step."""


class Interrupted(SharedEnd):
    """Training has stopped because a signal asked for it. It has been reported when this is raised.

    Attributes:
      status: the exit status that shells give to a process which a signal has ended, 128 and the signal's number.
    """

    def __init__(self, signal: signal.Signals) -> None:
        super().__init__("")
        self.status = 128 + signal


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
    """Turns errors in values and in data, which the user can put right, into `Mistake`."""
    try:
        yield
    except (DataError, ValueError) as error:
        raise Mistake(in_flags(str(error)) if isinstance(error, DataError) else str(error)) from error


def run_command(program: str, command: Callable[[], None]) -> int:
    """Runs a command and reports how it ends: nothing for success, else one line on stderr.

    Args:
      program: the name that begins the line.
      command: raises `CommandError` to end with a status of its own.

    Returns:
      The exit status: 0; that of a `CommandError`; 1 for what cannot be read or written; 130 for Ctrl-C; 141 when
      nobody reads the output.
    """

    def fail(status: int, message: str) -> int:
        if message:
            tell(f"{program}: {message}")
        return status

    try:
        command()
    except CommandError as error:
        return fail(error.status, str(error) and f"error: {error}")
    except KeyboardInterrupt as error:
        return fail(error.status if isinstance(error, Interruption) else 128 + signal.SIGINT, "interrupted")
    except BrokenPipeError:  # The reader of the output has gone, as `head` does.
        discard_output()
        return READER_GONE
    except OSError as error:
        return fail(1, f"error: cannot write {error.filename or 'to the output folder'}: {error.strerror or error}")
    except FloatingPointError as error:  # of JAX, if JAX_DEBUG_NANS asks for it
        return fail(1, f"error: {' '.join(str(error).split())}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return fail(1, f"error: not enough memory on the device: {str(error).splitlines()[0]}")
    except MemoryError:
        return fail(1, "error: not enough memory")
    return 0
