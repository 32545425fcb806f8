"""Reads text from files, byte for byte."""

import json
from pathlib import Path

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.files import UTF_16, cannot_read, check_size
from rnn_jax.data.series.tables import SUFFIXES

HEAD = 1 << 16  # bytes to tell the kind of a file from


def find_text_task(path: Path, task: str | None = None) -> str | None:
    """Finds out if a file or a folder is text, from names and the first line.

    Args:
      path: the file or the folder.
      task: the task, if it is known.

    Returns:
      "language" for a `.txt` file and for a folder with one and no tables; "classify" for lines of `label<TAB>text` if
      the task is known to be that, and for JSON lines with `text` and `label`; None for data of other kinds, or that
      cannot be read.
    """
    try:
        if path.is_dir():
            is_text = bool(_files(path)) and (task == "language" or not _has_tables(path))
            return "language" if task in (None, "language") and is_text else None
        suffix = path.suffix.lower()
        if task == "language":
            return "language"
        if suffix in (".jsonl", ".ndjson") and task in (None, "classify"):
            return "classify" if _is_labelled_json(_first_line(path)) else None
        if suffix in (".txt", ".tsv") and task == "classify":
            _, tab, text = _first_line(path).partition("\t")
            return "classify" if tab and not _is_number(text.split("\t")[0]) and "\t" not in text else None
        return "language" if suffix == ".txt" and task is None else None
    except (OSError, ValueError):
        return None


def read_text(path: Path) -> bytes:
    """Reads a file, or the `*.txt` files of a folder and of its subfolders in the order of their names.

    Nothing is changed, but that a byte order mark of UTF-8 is dropped, and that a file without a newline at its end
    gets one before the next.

    Raises:
      DataError: if it cannot be read, is empty, or holds no `*.txt` file.
    """
    try:
        files = _files(path) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path} is a folder without .txt files: name a file")
        check_size(path, sum(file.stat().st_size for file in files))
        parts = [file.read_bytes().removeprefix(b"\xef\xbb\xbf") for file in files]
    except OSError as error:
        raise cannot_read(path, error) from error
    data = b"".join(
        part + b"\n" * (not part.endswith(b"\n") and i + 1 < len(parts)) for i, part in enumerate(parts) if part
    )
    if not data:
        raise DataError(f"{path} is empty")
    return data


def refuse_binary(data: bytes, path: Path) -> None:
    """Raises `DataError` for UTF-16 and for files that are no text."""
    if data.startswith(UTF_16):
        raise DataError(f'{path} is UTF-16: convert it to UTF-8, or read it with tokens="bytes"')
    if b"\0" in data:
        raise DataError(f'{path} is no text, its byte {data.index(0) + 1} is zero: read it with tokens="bytes"')


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.txt") if path.is_file())


def _has_tables(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(HEAD).decode("utf-8-sig", errors="replace").rstrip("\r\n")


def _is_labelled_json(line: str) -> bool:
    value = json.loads(line)
    return isinstance(value, dict) and isinstance(value.get("text"), str) and "label" in value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
