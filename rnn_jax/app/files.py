"""Files written as a whole or not at all, whose errors name them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def unfinished(file: Path) -> Path:
    """Returns the name of a file while it is being written."""
    return file.with_name(file.name + ".unfinished")


def write_text(file: Path, text: str) -> None:
    """Writes a file as a whole or not at all, see `write_bytes`."""
    write_bytes(file, text.encode())


def write_bytes(file: Path, data: bytes | bytearray) -> None:
    """Writes a file as a whole or not at all; a pipe or a device is written to directly.

    Raises:
      OSError: with the name of the file, which is then as it was.
    """
    with naming(file):
        if file.exists() and not file.is_file():
            file.write_bytes(data)
            return
        file = Path(os.path.realpath(file))  # A link stays a link.
        try:
            unfinished(file).write_bytes(data)
            unfinished(file).replace(file)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished(file).unlink()
            raise


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """Within the context, every `OSError` has the name of the file, which Python knows only when it opens it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        raise
