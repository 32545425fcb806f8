"""Reads a folder with one file for each sequence, in subfolders named after the classes."""

import os
from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.files import Notify, cannot_read, check_size
from rnn_jax.data.series.roles import steps_of_table
from rnn_jax.data.series.sequences import Form, Sequences, encode_targets, sort_classes
from rnn_jax.data.series.tables import SUFFIXES, read_table


def read_folder(folder: Path, *, task: str | None = None, like: Form | None = None, notify: Notify) -> Sequences:
    """Reads a table from each file of each subfolder, its rows the steps of a sequence; see `read_sequences`.

    Files and folders whose names begin with a dot are ignored.

    Raises:
      DataError: if there are no subfolders with tables, other files are in them, or the tables differ in columns.
    """
    if task not in (None, "classify"):
        raise DataError(f"{folder} is a folder: its subfolders are classes, the task cannot be {task}")
    try:
        files = [
            (entry, name) for entry in _list(folder) if (folder / entry).is_dir() for name in _list(folder / entry)
        ]
        check_size(folder, sum((folder / entry / name).stat().st_size for entry, name in files))
    except OSError as error:
        raise cannot_read(folder, error) from error
    if not files:
        raise DataError(
            f"{folder} has no subfolders with files: put each sequence into the folder of its "
            "class, texts into .txt files, or name a file"
        )
    parts: list[Sequences] = []
    form = like and Form("forecast", like.channels, "", time=like.time)
    for entry, name in files:
        path = folder / entry / name
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} is no table: take it out, or save it as one of {', '.join(SUFFIXES)}")
        parts.append(steps_of_table(read_table(path, notify), form, notify if not parts else _ignore))
        form = form or parts[0].form
    entries = [entry for entry, _ in files]
    classes = like.classes if like is not None else sort_classes(entries)
    first = parts[0].form
    times = [part.times for part in parts if part.times is not None]
    return Sequences(
        form=like or Form("classify", first.channels, "folder", classes, time=first.time),
        values=np.concatenate([part.values for part in parts]),
        lengths=np.array([len(part.values) for part in parts]),
        targets=encode_targets(entries, "classify", classes, lambda k: str(folder / entries[k])),
        names=tuple(f"{entry}/{name}" for entry, name in files),
        times=np.concatenate(times) if times else None,
        lines=np.concatenate([part.lines for part in parts]),
        source=folder,
        unit=parts[0].unit,
    )


def _list(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _ignore(message: str) -> None:
    """Discards a message: all tables are alike, and the first one has been described."""
