"""Tables: CSV, Parquet and JSON lines, read by pyarrow, as columns with names."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.columns import Column, make_column
from rnn_jax.data.series.files import Notify, cannot_read, check_end, check_size, check_text, nearest, read_bytes, shown
from rnn_jax.data.series.sequences import is_number, plural
from rnn_jax.data.series.times import is_time

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".json", ".jsonl", ".ndjson")


class Table(NamedTuple):
    """A table read from a file.

    Attributes:
      path: the file.
      columns: its columns, each [S].
      lines: int64 [S], the line of each row in the file.
      unit: the unit of `lines`: "line" or "row".
    """

    path: Path
    columns: tuple[Column, ...]
    lines: np.ndarray
    unit: str

    def where(self, row: int) -> str:
        """Names the file and the line of a row, for messages."""
        return f"{self.path}, {self.unit} {self.lines[row]}"

    def column(self, name: str, purpose: str) -> Column:
        """Returns the column of that name.

        Raises:
          DataError: if there is none, with the nearest guess.
        """
        for column in self.columns:
            if column.name == name:
                return column
        names = tuple(column.name for column in self.columns)
        raise DataError(f"{self.path} has no column {name!r} for the {purpose}{nearest(name, names)}")


def read_table(path: Path, notify: Notify) -> Table:
    """Reads a table by the suffix of its name.

    Args:
      path: a file with one of `SUFFIXES`.
      notify: called if the last line of a CSV file has no end.

    Raises:
      DataError: if the file is damaged, has no rows, or has two columns of the same name.
    """
    import pyarrow as pa

    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            names, cells, lines, unit = *_read_csv(path, notify), "line"
        else:
            is_binary = suffix in (".parquet", ".pq")
            cells, lines = _read_parquet(path) if is_binary else _read_json(path)
            names, unit = cells.column_names, "row" if is_binary else "line"
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {_one_line(error)}") from error
    except OSError as error:
        if error.errno is None:  # an error of pyarrow's about the content
            raise DataError(f"{path} is damaged: {_one_line(error)}") from error
        raise cannot_read(path, error) from error
    twice = [name for i, name in enumerate(names) if name and name in names[:i]]
    if twice:
        raise DataError(f"{path}, {unit} 1: two columns are named {twice[0]!r}: rename one of them")
    if not len(cells):
        raise DataError(f"{path} has no rows")
    try:
        columns = tuple(
            make_column(name or f"column {i + 1}", column, named=bool(name))
            for i, (name, column) in enumerate(zip(names, cells.columns, strict=True))
        )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return Table(path, columns, lines, unit)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _read_csv(path: Path, notify: Notify) -> tuple[list[str], "pa.Table", np.ndarray]:
    """Reads a CSV file as texts: (names of the columns, cells, lines)."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    content = check_text(path, read_bytes(path)).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    check_end(path, content.split(b"\n"), notify)
    lines = np.array([i for i, line in enumerate(content.split(b"\n"), 1) if line.strip()])
    header = content.split(b"\n")[lines[0] - 1].decode()
    delimiter = max("\t" if path.suffix.lower() == ".tsv" else ",", ";", "\t", "|", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
    if all(is_number(name) or is_time(name) for name in names):
        raise DataError(f"{path}, line {lines[0]}: the first line has values, but should name the columns: add names")
    wrong: list[tuple[int, int]] = []

    def skip(row) -> str:
        wrong.append((row.number, row.actual_columns))
        return "skip"

    keys = [str(i) for i in range(len(names))]
    body = content.split(b"\n", int(lines[0]))
    table = pa.table({key: pa.array([], pa.string()) for key in keys})
    if len(body) > lines[0] and body[-1].strip():
        table = arrow_csv.read_csv(
            pa.BufferReader(body[-1]),
            read_options=arrow_csv.ReadOptions(column_names=keys, use_threads=False),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string())),
        )
    if wrong:
        number, count = wrong[0]
        raise DataError(
            f"{path}, line {lines[min(number, len(lines) - 1)]}: {plural(count, 'value')}, but the header names "
            f"{plural(len(names), 'column')}: add or remove a value, or put text with a {shown(delimiter)} into quotes"
        )
    if delimiter != ",":
        table = pa.table([_with_points(column) for column in table.columns], names=keys)
    if len(table) != len(lines) - 1:  # Quoted texts contain line ends.
        lines = np.arange(1, len(table) + 2)
    return names, table, lines[1:]


def _with_points(cells: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Writes 1.5 for 1,5, if some texts have a comma and all of those are such numbers."""
    import pyarrow.compute as pc

    commas = cells.filter(pc.call_function("match_substring", [cells], pc.MatchSubstringOptions(",")))
    number = pc.MatchSubstringOptions(r"^\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*$")
    if (
        not len(commas)
        or not pc.call_function("all", [pc.call_function("match_substring_regex", [commas], number)]).as_py()
    ):
        return cells
    return pc.call_function("replace_substring", [cells], pc.ReplaceSubstringOptions(",", "."))


def _read_parquet(path: Path) -> tuple["pa.Table", np.ndarray]:
    """Reads a Parquet file: (cells, the numbers of the rows)."""
    from pyarrow import parquet

    content = read_bytes(path)
    import pyarrow as pa

    file = parquet.ParquetFile(pa.BufferReader(content))
    check_size(path, 8 * file.metadata.num_rows * file.metadata.num_columns)
    table = file.read()
    table.validate()
    return table, np.arange(1, len(table) + 1)


def _read_json(path: Path) -> tuple["pa.Table", np.ndarray]:
    """Reads JSON lines: (cells, lines)."""
    import pyarrow as pa
    from pyarrow import json

    content = check_text(path, read_bytes(path))
    if content.lstrip().startswith(b"["):
        raise DataError(f"{path} is one JSON array: write one object a line instead")
    lines = np.array([i for i, line in enumerate(content.split(b"\n"), 1) if line.strip()])
    if not content.lstrip().startswith(b"{"):  # Of a null in the first line pyarrow dies.
        raise DataError(f"{path}, line {lines[0]}: no JSON object: write one object a line, {{NAME: VALUE, ...}}")
    options = json.ReadOptions(use_threads=False, block_size=len(content) + 1)
    try:
        cells = json.read_json(pa.BufferReader(content), read_options=options)
    except pa.ArrowInvalid as error:
        message, _, row = _one_line(error).rpartition(" in row ")
        if not row.isdecimal() or int(row) >= len(lines):
            raise
        raise DataError(f"{path} is damaged: {message} in line {lines[int(row)]}: write an object a line") from error
    return cells, lines if len(cells) == len(lines) else np.arange(1, len(cells) + 1)
