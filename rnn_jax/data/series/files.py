"""Reads files as bytes or as lines of text; every failure is an error of one line."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError

Notify = Callable[[str], None]

COPIES = 4  # A file's text, its numbers, and the scaled and padded numbers may be in memory at once.
CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")  # a container's limit, in bytes or "max"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def shown(text: object) -> str:
    """Quotes a text for an error message, on one line and shortened.

    >>> shown("1.2x")
    "'1.2x'"
    """
    quoted = repr(str(text))
    return quoted if len(quoted) <= 40 else quoted[:36] + "...'"


def memory() -> int:
    """Returns the memory that this process may use, in bytes: the machine's, or its container's if that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(CONTROL_GROUP.read_text()))
    except (OSError, ValueError):
        return physical


def check_size(path: Path, size: int) -> None:
    """Refuses data that would not fit into memory.

    Args:
      path: the file, for the message.
      size: its unpacked size in bytes.

    Raises:
      DataError: if several copies of `size` bytes exceed `memory()`.
    """
    limit = memory() // COPIES
    if size > limit:
        raise DataError(
            f"{path} takes {size / 1e9:,.2f} GB, more than the limit of {limit / 1e9:,.2f} GB, which is 1/{COPIES} of "
            f"this machine's memory: use fewer sequences, or fewer steps of each"
        )


def read_bytes(path: Path) -> bytes:
    """Reads a file, which must be neither empty nor too large.

    Raises:
      DataError: if it cannot be read, is empty or does not fit into memory.
    """
    try:
        check_size(path, path.stat().st_size)
        content = path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error
    if not content:
        raise DataError(f"{path} is empty")
    return content


def cannot_read(path: Path, error: OSError) -> DataError:
    """Makes a one-line error of the system's reason for not reading a file."""
    return DataError(f"cannot read {error.filename or path}: {error.strerror or error}")


def check_text(path: Path, content: bytes) -> bytes:
    """Returns the UTF-8 text of a file, without its byte order mark.

    Raises:
      DataError: if the file is binary or in another encoding.
    """
    if content.startswith(UTF_16):
        raise DataError(f"{path} is UTF-16 text: save it as UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if (zero := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, zero) + 1
        raise DataError(f"{path}, line {line}: a zero byte; the file is binary or UTF-16, save it as UTF-8 text")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8, save the file as UTF-8 text") from error
    if not content.strip():
        raise DataError(f"{path} holds nothing but blanks")
    return content


def read_lines(path: Path, notify: Notify) -> list[str]:
    """Reads the lines of a text file, without their ends.

    Args:
      path: the file.
      notify: called if the last line has no end, as in a truncated file.

    Raises:
      DataError: if it cannot be read, is empty, binary, or not UTF-8.
    """
    text = check_text(path, read_bytes(path)).decode()
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    check_end(path, lines, notify)
    return lines if lines[-1] else lines[:-1]


def check_end(path: Path, lines: Sequence[str | bytes], notify: Notify) -> None:
    """Notifies the user if the last of the lines is not empty: its end is missing, as in a truncated file."""
    if lines[-1]:
        notify(f"{path}, line {len(lines)}: the last line has no end; if the file was cut, its last value may be wrong")


def parse_numbers(texts: list[str], where: str) -> np.ndarray:
    """Parses numbers: texts [T] -> float64 [T], nan for "?" and "nan".

    Args:
      texts: the numbers.
      where: the file and the line, for the message of an error.

    Raises:
      DataError: if one of them is not a finite number.
    """
    try:
        values = np.array([float(text) for text in texts])
        wrong = np.flatnonzero(np.isinf(values))
    except ValueError:
        values = np.array([_number(text) for text in texts])
        wrong = np.flatnonzero(np.isinf(values))
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"{where}: value {first + 1}, {shown(texts[first].strip())}, is not a finite number: correct it"
        )
    return values


def _number(text: str) -> float:
    """Parses a number; nan if it is missing, inf if it is not a number."""
    text = text.strip()
    if text == "?":
        return np.nan
    try:
        return float(text)
    except ValueError:
        return np.inf


def nearest(word: str, known: tuple[str, ...]) -> str:
    """Returns the end of a message about an unknown name: the nearest known one, or all of them.

    >>> nearest("passengers", ("Date", "Passengers"))
    ", did you mean 'Passengers'?"
    >>> nearest("x", ("Date", "Sales"))
    '; there are Date, Sales'
    """
    import difflib

    lowered = {name.lower(): name for name in known}
    guess = difflib.get_close_matches(word.lower(), list(lowered), n=1)
    if guess:
        return f", did you mean {lowered[guess[0]]!r}?"
    some = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    return f"; there are {some}"
