"""Runs a function as a program: safe streams, signals and exit. Imports only the standard library.

`rnn_jax/__init__.py` calls `begin_if_command` before it imports JAX, which takes a second: Python imports the package
before any other line of `python -m rnn_jax`.
"""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from rnn_jax.app.interruption import end_at_signals, ignore_signals
from rnn_jax.app.streams import STDOUT, discard_output, open_streams, tell

_begun: list[str] = []


def begin_if_command() -> None:
    """Calls `begin` if this process runs `train.py` of this checkout or `python -m rnn_jax`."""
    script = sys.argv[0] if getattr(sys, "argv", None) else ""
    if script == "-m" and module_run() == "rnn_jax":
        begin("rnn_jax")
    elif script and Path(script).absolute() == Path(__file__).parents[2] / "train.py":
        begin("train.py")


def begin(program: str) -> None:
    """Opens the streams, and installs handlers of signals and of errors in imports. Later calls do nothing.

    Args:
      program: the name that begins the lines of errors.
    """
    if _begun:
        return
    _begun.append(program)
    gc.disable()  # until `started`
    os.environ["MPLBACKEND"] = "agg"  # A notebook's backend, inherited by this process, need not be installed here.
    open_streams()
    end_at_signals(program)

    def report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> NoReturn:
        # JAX rejects invalid environment variables when it is imported.
        tell(f"{program}: error: cannot start: {' '.join(str(error).split()) or kind.__name__}")
        os._exit(2)

    sys.excepthook = report


def started() -> None:
    """Ends the start of a program that has called `begin`: from here on, Python collects garbage.

    Nearly all objects that a start makes live as long as the process. To look through them for garbage, again and
    again, takes a tenth of the start, and is never worth it.
    """
    if _begun:
        gc.freeze()
        gc.enable()


def leave(main: Callable[[], int]) -> NoReturn:
    """Runs the program and ends this process with the status that `main` returns.

    The process ends without the interpreter's clean-up, which takes seconds with JAX, and may wait for threads that are
    still at work after an interruption.
    """
    sys.excepthook = sys.__excepthook__
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore
        status = 1
    ignore_signals()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        discard_output()
        if status == 0:
            status = 1
            tell(f"{_begun[0] if _begun else sys.argv[0]}: error: cannot write {STDOUT}: {error.strerror}")
    if module_run() not in (None, "rnn_jax"):
        sys.exit(status)  # A profiler or a debugger reports at its own end.
    os._exit(status)


def module_run() -> str | None:
    """Returns the module that this process was started with, as in `python -m MODULE`; None if there is none."""
    options = sys.orig_argv[1:]
    return options[options.index("-m") + 1] if "-m" in options[:-1] else None
