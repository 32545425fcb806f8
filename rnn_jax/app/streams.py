"""Makes the standard streams of a command safe, however the shell set them up. Imports only the standard library."""

import codecs
import contextlib
import io
import os
import sys
from typing import Any

STDOUT = "standard output"


def open_streams() -> None:
    """Makes the standard streams safe to write to, before anything else opens a file.

    A stream that the shell has closed (`2>&-`) is opened on the null device, so that no other file takes its
    descriptor. A character outside the encoding is replaced. An `OSError` of the output has `STDOUT` as its filename.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, mode)  # Takes the lowest free descriptor, which is this one.
    codecs.register_error("plain", _plain)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        stream.reconfigure(errors="plain")
        setattr(sys, name, stream)
    out, raw = sys.stdout, getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)  # without buffer under `python -u`
    if isinstance(raw, io.FileIO):  # not a Windows console
        unbuffered, named = raw is out.buffer, _NamedOutput(1, "wb", closefd=False)
        sys.stdout = io.TextIOWrapper(
            named if unbuffered else io.BufferedWriter(named),  # type: ignore
            encoding=out.encoding,
            errors="plain",
            line_buffering=bool(out.line_buffering),
            write_through=unbuffered,
        )


def tell(message: str) -> None:
    """Writes a line to stderr; drops it if stderr cannot be written."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(message, file=sys.stderr, flush=True)


def discard_output() -> None:
    """Discards the output's buffer and all later output."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _NamedOutput(io.FileIO):
    """The file behind `sys.stdout`; its errors have `STDOUT` as their filename."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)  # type: ignore
        except OSError as error:
            error.filename = error.filename or STDOUT
            raise


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replaces characters that an encoding lacks: ± by +-, others by their escapes."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start : error.end] == "±":
        return "+-", error.end
    return codecs.backslashreplace_errors(error)
