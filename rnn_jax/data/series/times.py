"""Dates and times: recognised in text, checked, written, and continued into the future."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

ISO = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?)?")
QUARTER = re.compile(r"(\d{4})[- ]?Q([1-4])", re.IGNORECASE)
DAY = np.timedelta64(1, "D")
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
DAYS = ("%Y/%m/%d", "%d.%m.%Y", "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y")
FORMATS = tuple(day + clock for day in DAYS for clock in CLOCKS)
SLASHED = tuple(
    (month_first + clock, day_first + clock)
    for month_first, day_first in (("%m/%d/%Y", "%d/%m/%Y"), ("%m-%d-%Y", "%d-%m-%Y"), ("%m/%d/%y", "%d/%m/%y"))
    for clock in CLOCKS
)
MONTHS = ("%Y %b", "%b %Y", "%b-%Y", "%Y-%b", "%b-%y", "%Y %B", "%B %Y")


def parse_times(texts: Sequence[str]) -> np.ndarray | None:
    """Parses dates, times, months or quarters: texts [S] -> datetime64 [S] without time zone (UTC where one is given).

    Returns:
      The times; None unless all texts have the same known form.

    Raises:
      ValueError: if months and days cannot be told apart, as in 01/02/2020.
    """
    if all(map(ISO.fullmatch, texts)):
        try:
            return np.array([text.replace(" ", "T") for text in texts], "datetime64")
        except ValueError:
            return None
    if all(map(QUARTER.fullmatch, texts)):
        return np.array([QUARTER.sub(_first_month, text) for text in texts], "datetime64[M]")
    for parse in (_from_iso, *(_parser(format) for format in FORMATS)):
        if (times := _parse(texts, parse)) is not None:
            return times
    for format in MONTHS:
        if (times := _parse(texts, _parser(format))) is not None:
            return times.astype("datetime64[M]")
    for month_first, day_first in SLASHED:
        first, second = (_parse(texts, _parser(format)) for format in (month_first, day_first))
        if first is not None and second is not None and (first != second).any():
            raise ValueError(f"{texts[0]!r} may be day/month or month/day: write dates as YYYY-MM-DD")
        if first is not None or second is not None:
            return first if first is not None else second
    return None


def is_time(text: str) -> bool:
    """True if the text alone is a time of a known form."""
    try:
        return parse_times([text]) is not None
    except ValueError:
        return True


def _first_month(match: re.Match[str]) -> str:
    return f"{match[1]}-{3 * int(match[2]) - 2:02}"


def _parser(format: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, format)


def _from_iso(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if not re.match(r"\d{4}-?\d{2}-?\d{2}", text):
        raise ValueError(text)
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _parse(texts: Sequence[str], parse: Callable[[str], datetime]) -> np.ndarray | None:
    try:
        times = np.array([parse(text) for text in texts], "datetime64[us]")
    except (ValueError, OverflowError):
        return None
    return _coarsest(times)


def _coarsest(times: np.ndarray) -> np.ndarray:
    """Returns the times in the coarsest unit, from days to microseconds, that holds them."""
    return next(
        coarse for unit in ("D", "m", "s", "ms", "us") if ((coarse := times.astype(f"M8[{unit}]")) == times).all()
    )


def step_of_times(times: np.ndarray) -> tuple[np.ndarray, np.timedelta64 | float | None]:
    """Finds the distance of evenly spaced times: [S] -> (the times, in months if monthly, and their distance).

    The distance is None if the times are not evenly spaced. The first or the last days of months count as months.
    """
    if np.issubdtype(times.dtype, np.datetime64):
        months = times.astype("M8[M]")
        if len(set(np.diff(months).astype(int))) == 1 and ((times == months).all() or _end_months(times)):
            times = months
    steps = np.diff(times)
    even = len(steps) > 0 and np.allclose(steps.astype(float), steps[0].astype(float), rtol=1e-3, atol=0)
    return times, steps[0] if even else None


def _end_months(times: np.ndarray) -> bool:
    """True if all times [S] are the last days of months."""
    next_days = times.astype("M8[D]") + DAY
    return bool((next_days == next_days.astype("M8[M]")).all() and (times == next_days - DAY).all())


def extend_times(times: np.ndarray, count: int) -> np.ndarray:
    """Continues times by `count` steps: [S] -> [count]; by their median distance if they are not evenly spaced."""
    months, step = step_of_times(times)
    if step is None:
        months, step = times, np.sort(np.diff(times))[len(times) // 2 - 1] if len(times) > 1 else times.dtype.type(1)
    future = months[-1] + step * np.arange(1, count + 1)
    if months is not times and _end_months(times):
        future = (future + np.timedelta64(1, "M")).astype("M8[D]") - DAY
    return future.astype(times.dtype)


def season_of_times(times: np.ndarray) -> int:
    """Guesses the season of times [S]: 12 for months, 4 for quarters, 7 for days, a day for shorter steps; else 1.

    >>> season_of_times(np.arange("2020-01", "2021-01", dtype="datetime64[M]"))
    12
    >>> season_of_times(np.arange("2020-01-01T00", "2020-01-03T00", dtype="datetime64[h]"))
    24
    """
    times, step = step_of_times(times)
    if not isinstance(step, np.timedelta64):
        return 1
    if np.datetime_data(times.dtype)[0] == "M":
        return {1: 12, 3: 4}.get(int(step.astype(int)), 1)
    day, seconds = 86_400, step.astype("m8[s]").astype(int)
    if seconds == day:
        return 7
    return int(day // seconds) if 300 <= seconds < day and day % seconds == 0 else 1


def time_text(time: np.datetime64 | float) -> str:
    """Formats a time in its shortest readable form that keeps it apart from others.

    >>> time_text(np.datetime64("1949-01")), time_text(np.datetime64("2021-05-01T00:30")), time_text(3.0)
    ('1949-01', '2021-05-01 00:30', '3')
    """
    return str(time).replace("T", " ") if isinstance(time, np.datetime64) else f"{time:.15g}"
