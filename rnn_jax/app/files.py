"""Atomic writes of files, and errors that name the file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def unfinished(file: Path) -> Path:
    """Returns the temporary name of a file in progress."""
    return file.with_name(file.name + ".unfinished")


def write_text(file: Path, text: str) -> None:
    """Writes a file atomically, see `write_bytes`."""
    write_bytes(file, text.encode())


def write_bytes(file: Path, data: bytes | bytearray) -> None:
    """Writes a file atomically; a pipe or a device is written to directly.

    Raises:
      OSError: with the name of the file, which stays unchanged.
    """
    with naming(file):
        if file.exists() and not file.is_file():
            file.write_bytes(data)
            return
        file = Path(os.path.realpath(file))  # Replace the link's target, not the link.
        try:
            unfinished(file).write_bytes(data)
            unfinished(file).replace(file)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished(file).unlink()
            raise


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """Adds the file's name to every `OSError` of the context; Python itself adds it only on opening a file."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        raise
