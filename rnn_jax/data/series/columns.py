"""Columns of tables: their kinds (numbers, times or text), and hints of their roles."""

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from rnn_jax.data.series.files import shown
from rnn_jax.data.series.sequences import MOST_CLASSES, is_number
from rnn_jax.data.series.times import is_time, parse_times

if TYPE_CHECKING:
    import pyarrow as pa

TIMES = ("time", "timestamp", "date", "datetime", "year")  # names of numbers that are times
STEPS = ("t", "step", "frame", "seconds", "milliseconds", "ms")  # names of numbers that are times if they never fall
IDENTIFIER = re.compile(r"(?i:(.*[_ .-])?(id|uuid|index|obs|row))|[A-Za-z]*[a-z]I[dD]|Unnamed: 0")
DAY = re.compile(r"((?:19|20)\d\d)(0[1-9]|1[0-2])([0-2]\d|3[01])")  # 20200131
FORMATTED = re.compile(r"[$€£]?[+-]?[$€£]?(\d+|\d{1,3}([,' ]\d{3})+)([.,]\d+)? ?[%$€£]?")  # a price, 1,234.50 or 12 %
MISSING_TEXTS = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "None")


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      name: its name; for one without a name, "column 1" and so on.
      kind: "number", "time" or "text"; "mixed" or "mixed times" if most of its texts, but not all, are numbers or
        times; "formatted" for prices, percentages and numbers with commas; "empty" if all are missing, and "other" for
        lists and other non-scalars.
      values: float64 for numbers, datetime64 for times, both [S]; None for the other kinds.
      cells: the arrow array, [S].
      named: True if the file has a name for it.
    """

    name: str
    kind: Literal["number", "time", "text", "mixed", "mixed times", "formatted", "empty", "other"]
    values: np.ndarray | None
    cells: Any  # a pyarrow.ChunkedArray
    named: bool = True


def make_column(name: str, cells: "pa.ChunkedArray", *, named: bool = True) -> Column:
    """Determines the kind of a column.

    Raises:
      ValueError: if it holds dates that can be read in two ways.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = pc.cast(cells, cells.type.value_type)
    kind = cells.type
    if cells.null_count == len(cells):
        return Column(name, "empty", None, cells, named)
    if (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        return Column(name, "number", _floats(cells), cells, named)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return Column(name, "time", _datetimes(cells), cells, named)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return Column(name, "other", None, cells, named)
    cells = _trimmed(cells)
    if cells.null_count < len(cells) and DAY.fullmatch(cells.drop_null()[0].as_py()):
        cells = _with_dashes(cells)
    try:
        return Column(name, "empty" if cells.null_count == len(cells) else "number", _floats(cells), cells, named)
    except pa.ArrowInvalid:
        pass
    present = cells.drop_null().to_pylist()
    if all(map(is_number, present)):  # Python reads +5, arrow does not.
        return Column(name, "number", np.array([float(cell or "nan") for cell in cells.to_pylist()]), cells, named)
    times = parse_times(present)
    if times is not None:
        values = np.full(len(cells), "NaT", times.dtype)
        values[cells.is_valid().to_numpy()] = times
        return Column(name, "time", values, cells, named)
    if 2 * sum(map(is_number, present)) > len(present):
        return Column(name, "mixed", None, cells, named)
    if any(map(is_time, present[:2])) and 2 * sum(map(is_time, present)) > len(present):
        return Column(name, "mixed times", None, cells, named)
    if all(map(FORMATTED.fullmatch, present)):
        return Column(name, "formatted", None, cells, named)
    return Column(name, "text", None, cells, named)


def _trimmed(cells: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Strips the blanks around texts, and replaces markers of missing values by null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.call_function("utf8_trim_whitespace", [cells])
    options = pc.SetLookupOptions(pa.array(MISSING_TEXTS, trimmed.type))
    missing = pc.call_function("is_in", [trimmed], options)
    return pc.call_function("if_else", [missing, pa.scalar(None, trimmed.type), trimmed])


def _with_dashes(cells: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Writes 2020-01-31 for 20200131, if all texts are such days."""
    import pyarrow as pa

    texts = cells.to_pylist()
    if not all(text is None or DAY.fullmatch(text) for text in texts):
        return cells
    return pa.chunked_array([pa.array([text and DAY.sub(r"\1-\2-\3", text) for text in texts], pa.string())])


def _floats(cells: "pa.ChunkedArray") -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_boolean(cells.type):
        cells = pc.cast(cells, pa.int8())
    return np.array(pc.cast(cells, pa.float64(), safe=False).to_numpy(), np.float64)


def _datetimes(cells: "pa.ChunkedArray") -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_timestamp(cells.type) and cells.type.tz:
        cells = pc.cast(cells, pa.timestamp(cells.type.unit))
    return cells.to_numpy()


def texts(column: Column) -> list[str]:
    """Formats the cells of a column as text, "" for those that are missing; whole floats without a fraction."""
    cells = column.cells.to_pylist()
    if column.kind == "number" and any(isinstance(cell, float) for cell in cells):
        return ["" if cell is None or cell != cell else f"{cell:.17g}" for cell in cells]
    return ["" if cell is None else str(cell) for cell in cells]


def first_wrong(column: Column) -> tuple[int, str]:
    """Finds the first cell that is not a number, or not a time, in a mixed or formatted column.

    Returns:
      (its row, what is wrong with it).
    """
    is_right, noun = (is_time, "time") if column.kind == "mixed times" else (is_number, "number")
    cells = column.cells.to_pylist()
    row, cell = next((row, cell) for row, cell in enumerate(cells) if cell is not None and not is_right(cell))
    if column.kind == "formatted":
        remedy = "write digits alone, with a point before decimals"
        return row, f"{shown(cell)} in the column {column.name!r} is no number: {remedy}"
    return row, f"{shown(cell)} in the column {column.name!r} is no {noun} as the others are: correct it"


def is_text_of_numbers(column: Column) -> bool:
    """True if a column has too many different numbers among its texts for them to be names of classes."""
    return column.kind == "mixed" and len(set(column.cells.to_pylist())) > MOST_CLASSES


def counts_rows(column: Column, starts: np.ndarray) -> bool:
    """True if whole numbers rise by one from each row to the next, but for the rows that begin a sequence."""
    if column.kind != "number" or column.values is None or len(column.values) < 2:
        return False
    within = np.setdiff1d(np.arange(1, len(column.values)), starts)
    return len(within) > 0 and bool((column.values[within] - column.values[within - 1] == 1).all())


def is_identifier(column: Column) -> bool:
    """True if the name of a column says that it identifies rows or things."""
    return column.kind in ("number", "text") and (not column.named or bool(IDENTIFIER.fullmatch(column.name)))


def is_named_time(column: Column, starts: np.ndarray) -> bool:
    """True if a column of numbers has the name of a time; some names count only if it never falls within a sequence."""
    name = column.name.lower().strip()
    if column.kind != "number" or column.values is None or name not in TIMES + STEPS:
        return False
    falls = np.flatnonzero(np.diff(column.values) < 0) + 1
    return name in TIMES or (not np.isnan(column.values).any() and not len(np.setdiff1d(falls, starts)))
