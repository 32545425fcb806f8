"""Files written as a whole or not at all."""

from pathlib import Path


def unfinished(file: Path) -> Path:
    """Returns the name of a file while it is being written."""
    return file.with_name(file.name + ".unfinished")


def write_text(file: Path, text: str) -> None:
    """Writes a file as a whole or not at all."""
    unfinished(file).write_text(text)
    unfinished(file).replace(file)
