"""Exceptions that end a command with an exit status, and the function that reports them."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax

from rnn_jax.app.flags import in_flags
from rnn_jax.app.interruption import Interruption
from rnn_jax.app.streams import discard_output, tell
from rnn_jax.data import DataError

READER_GONE = 128 + 13  # the exit status of a process killed by SIGPIPE


class CommandError(Exception):
    """Ends a command; the message is one line for the user.

    Attributes:
      status: the exit status.
    """

    status = 1


class Mistake(CommandError):
    """A mistake that the user can correct."""

    status = 2


class SharedEnd(CommandError):
    """Ends all processes of a run at the same step."""


class Interrupted(SharedEnd):
    """A signal has stopped training. Raised after the signal has been reported.

    Attributes:
      status: 128 plus the signal's number, the exit status that shells give to a killed process.
    """

    def __init__(self, signal: signal.Signals) -> None:
        super().__init__("")
        self.status = 128 + signal


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
    """Raises `ValueError` and `DataError` within the context as `Mistake`."""
    try:
        yield
    except (DataError, ValueError) as error:
        raise Mistake(in_flags(str(error)) if isinstance(error, DataError) else str(error)) from error


def run_command(program: str, command: Callable[[], None]) -> int:
    """Runs a command and reports its failure in one line on stderr.

    Args:
      program: the name that begins the line.
      command: raises `CommandError` to end with a status of its own.

    Returns:
      The exit status: 0; that of a `CommandError`; 1 for an `OSError`, nan under JAX_DEBUG_NANS or too little memory;
      130 for Ctrl-C; 141 for a broken pipe.
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
    except BrokenPipeError:  # The reader has closed the pipe, as `head` does.
        discard_output()
        return READER_GONE
    except OSError as error:
        return fail(1, f"error: cannot write {error.filename or 'to the output folder'}: {error.strerror or error}")
    except FloatingPointError as error:  # raised by JAX under JAX_DEBUG_NANS
        return fail(1, f"error: {' '.join(str(error).split())}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return fail(1, f"error: not enough memory on the device: {str(error).splitlines()[0]}")
    except MemoryError:
        return fail(1, "error: not enough memory")
    return 0
