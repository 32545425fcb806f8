"""Makes sequences of tables: finds the time, the target and the channels, and whether a row is a step."""

from typing import NamedTuple

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.columns import (
    Column,
    counts_rows,
    first_wrong,
    is_identifier,
    is_named_time,
    is_text_of_numbers,
    texts,
)
from rnn_jax.data.series.files import Notify
from rnn_jax.data.series.sequences import (
    Form,
    Sequences,
    assemble,
    choose_task,
    cut_padding,
    encode_targets,
    sort_classes,
)
from rnn_jax.data.series.tables import Table
from rnn_jax.data.series.times import time_text

CONTENT = {"time": "times", "other": "lists", "empty": "no values"}  # of columns, in messages


class Groups(NamedTuple):
    """The grouping of the S rows of a table into N sequences.

    Attributes:
      order: int64 [S], the indices of the rows, grouped by sequence.
      starts: int64 [N], the start of each sequence in `order`.
      names: the N names.
    """

    order: np.ndarray
    starts: np.ndarray
    names: tuple[str, ...]

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each sequence, int64 [N]."""
        return np.diff(np.append(self.starts, len(self.order)))


class Roles(NamedTuple):
    """The roles of a table's columns, apart from the target and the column that tells sequences apart."""

    time: Column | None
    channels: list[Column]


def sequences_of_table(
    table: Table,
    *,
    task: str | None = None,
    target: str | None = None,
    sequence_column: str | None = None,
    like: Form | None = None,
    notify: Notify,
) -> Sequences:
    """Makes sequences of a table; see `read_sequences`.

    A row is a step if a column tells sequences apart, or if the table is one sequence in time to forecast; otherwise
    it is a whole sequence.

    Raises:
      DataError: if the columns do not fit together, or their roles are ambiguous.
    """
    if like is not None:
        task, target, sequence_column = like.task, like.target, like.sequence_column
    known = [column.name for column in table.columns if column.kind != "empty"]
    is_unlabelled = like is not None and task != "forecast" and target not in known  # a table to predict for
    goal = None if is_unlabelled else _find_target(table, target)
    groups = _group(table, sequence_column)
    roles = _find_roles(table, groups, (target, sequence_column), like, notify)
    task = task or _find_table_task(table, goal, sequence_column, roles)
    if task == "forecast":
        return _forecast(table, goal, sequence_column, roles, groups, like, notify)
    if goal is None and like is None:
        raise DataError(f"{table.path}: name the column of classes or numbers to predict: target=NAME")
    if sequence_column is None:
        return _wide(table, goal, task, roles, like, notify)
    return _long(table, goal, task, sequence_column, roles, groups, like, notify)


def _find_target(table: Table, name: str | None) -> Column | None:
    if name is None:
        return None
    goal = table.column(name, "target")
    if goal.kind in CONTENT:
        raise DataError(
            f"{table.path}: the target {name!r} holds {CONTENT[goal.kind]}, but classes or numbers are needed"
        )
    return goal


def _find_table_task(table: Table, goal: Column | None, sequence_column: str | None, roles: Roles) -> str | None:
    """Finds the task of a table; None leaves the choice to the values of the target."""
    if sequence_column is not None:
        series = goal is None or (goal.kind == "number" and not roles.channels)
        return "forecast" if series and roles.time is not None else None
    if roles.time is not None and goal is not None and goal.kind == "text":
        raise DataError(
            f"{table.path}: the target {goal.name!r} is text, but all rows are one sequence in time: name the column "
            "that tells sequences apart, sequence_column=NAME"
        )
    if roles.time is not None:
        return "forecast"
    if goal is not None and goal.kind in ("text", "mixed"):
        return "classify"
    raise DataError(
        f'{table.path}: no column is a time, and none was named to tell sequences apart: task="forecast" if rows are '
        "steps in time, sequence_column=NAME if a column numbers the sequences, or "
        'task="classify" or task="regress" and target=NAME if each row is a sequence'
    )


def _group(table: Table, name: str | None) -> Groups:
    """Groups the rows by sequence; without a name, all rows are one sequence."""
    if name is None:
        return Groups(np.arange(len(table.lines)), np.zeros(1, np.int64), ("1",))
    keys = texts(table.column(name, "sequences"))
    if "" in keys:
        raise DataError(f"{table.where(keys.index(''))}: no value in {name!r}: say which sequence the row belongs to")
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    order = np.argsort(group, kind="stable")
    return Groups(order, np.searchsorted(group[order], np.arange(len(numbers))), tuple(numbers))


def _find_roles(table: Table, groups: Groups, used: tuple[str | None, ...], like: Form | None, notify: Notify) -> Roles:
    """Divides the remaining columns into time, channels, and columns left out, which are reported."""
    columns = [column for column in table.columns if column.name not in used]
    sorted_columns = [
        column if column.values is None else column._replace(values=column.values[groups.order]) for column in columns
    ]
    if like is not None and (like.sequence_column or like.task == "forecast" or like.steps):
        names = [name for name in like.steps or like.channels if name not in used]
        known = [table.column(name, "input, as the training data has it") for name in names]
        time = table.column(like.time, "time") if like.time else None
        if time is not None and time.kind == "mixed times":
            _refuse_no_number(table, time)
        if time is not None and time.values is None:
            raise DataError(f"{table.path}: the column {time.name!r} holds text, but times are needed")
        for column in known:
            _refuse_no_number(table, column)
        return Roles(time, known)
    times = [column for column in columns if column.kind == "time"]
    times += [column for column, s in zip(columns, sorted_columns, strict=True) if is_named_time(s, groups.starts)]
    counting = [
        column
        for column, s in zip(columns, sorted_columns, strict=True)
        if (is_identifier(s) or column is table.columns[0]) and counts_rows(s, groups.starts)
    ]
    time = next(iter(times + counting), None)
    channels, left_out = [], []
    for column in columns:
        if column is time:
            continue
        if column.kind in ("mixed", "mixed times", "formatted"):
            _refuse_no_number(table, column)
        if column.kind != "number" or column in times:
            kind = {"time": "another time", "number": "another time", "empty": "no values", "other": "no numbers"}
            left_out.append(f"{column.name} ({kind.get(column.kind, column.kind)})")
        elif is_identifier(column):
            left_out.append(f"{column.name} (an identifier)")
        else:
            channels.append(column)
    if time is not None:
        notify(f"{table.path}: {time.name!r} is the time")
    if left_out:
        notify(f"{table.path}: left out: {', '.join(left_out)}")
    return Roles(time, channels)


def _refuse_no_number(table: Table, column: Column) -> None:
    """Raises `DataError` for a column that should hold numbers and does not."""
    if column.kind in ("mixed", "mixed times", "formatted"):
        row, message = first_wrong(column)
        raise DataError(f"{table.where(row)}: {message}")
    if column.kind != "number":
        content = CONTENT.get(column.kind, column.kind)
        raise DataError(f"{table.path}: the column {column.name!r} holds {content}, but numbers are needed")


def _stack(table: Table, columns: list[Column]) -> np.ndarray:
    """Puts channels side by side, float64 [S, D]; refuses infinite values and a table without channels."""
    if not columns:
        raise DataError(f"{table.path}: no column of numbers is left to learn from")
    values = np.stack([column.values for column in columns if column.values is not None], axis=1)
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, d = map(int, infinite[0])
        raise DataError(f"{table.where(row)}: an infinite value in the column {columns[d].name!r}: correct it")
    return values


def _check_times(table: Table, time: Column | None, groups: Groups) -> np.ndarray | None:
    """Returns the times in the order of the rows, which must rise within each sequence."""
    if time is None or time.values is None:
        return None
    order, times = groups.order, time.values[groups.order]
    missing = np.flatnonzero(np.isnan(times))
    if len(missing):
        raise DataError(f"{table.where(int(order[missing[0]]))}: no time in the column {time.name!r}: fill it in")
    falls = np.setdiff1d(np.flatnonzero(times[1:] <= times[:-1]) + 1, groups.starts)
    if len(falls):
        k = int(falls[0])
        now, before, line = time_text(times[k]), time_text(times[k - 1]), table.lines[order[k - 1]]
        if now == before:
            remedy = "name the column that tells sequences apart, sequence_column=NAME, or keep one of the rows"
            raise DataError(f"{table.where(int(order[k]))}: time {now} again, as in {table.unit} {line}: {remedy}")
        raise DataError(
            f"{table.where(int(order[k]))}: time {now} comes after {before}: sort the table by {time.name!r}, or "
            "name the column that tells sequences apart, sequence_column=NAME"
        )
    return times


def steps_of_table(table: Table, like: Form | None, notify: Notify) -> Sequences:
    """Makes one sequence of all rows of a table, with all columns of numbers as channels and no target.

    Args:
      table: the table.
      like: the form of another such table, whose channels and time this one must have.
      notify: called for columns that are left out.
    """
    groups = _group(table, None)
    return _steps(table, "forecast", "", None, _find_roles(table, groups, (), like, notify), groups)


def _steps(
    table: Table, task: str, target: str, sequence_column: str | None, roles: Roles, groups: Groups
) -> Sequences:
    """Makes sequences whose steps are rows, without targets."""
    times = _check_times(table, roles.time, groups)
    channels, time = tuple(column.name for column in roles.channels), roles.time and roles.time.name
    form = Form(task, channels, target, sequence_column=sequence_column, time=time)
    values, lines = _stack(table, roles.channels)[groups.order], table.lines[groups.order]
    return Sequences(form, values, groups.lengths, None, groups.names, times, lines, table.path, table.unit)


def _forecast(
    table: Table,
    goal: Column | None,
    sequence_column: str | None,
    roles: Roles,
    groups: Groups,
    like: Form | None,
    notify: Notify,
) -> Sequences:
    """Makes one sequence in time, or several; the target is one of their channels."""
    if goal is None and len(roles.channels) != 1:
        candidates = ", ".join(column.name for column in roles.channels)
        candidates = f"there are {candidates}" if candidates else "there is no column of numbers"
        raise DataError(f"{table.path}: name the column to forecast, target=NAME; {candidates}")
    goal = goal or roles.channels[0]
    _refuse_no_number(table, goal)
    channels = [goal, *(column for column in roles.channels if column is not goal)]
    if like is not None:
        channels = [table.column(name, "input") for name in like.channels]
    if roles.time is None and like is None:
        notify(f"{table.path}: no column is a time: the rows are taken in their order")
    return _steps(table, "forecast", goal.name, sequence_column, Roles(roles.time, channels), groups)


def _labels(table: Table, goal: Column, task: str | None, notify: Notify) -> tuple[str, list[str]]:
    """Returns the task and a text for each row's target."""
    if is_text_of_numbers(goal) or (task == "regress" and goal.kind in ("mixed", "formatted", "text")):
        row, message = first_wrong(goal)
        raise DataError(f"{table.where(row)}: {message}")
    labels = texts(goal)
    if "" in labels:
        raise DataError(f"{table.where(labels.index(''))}: no value in {goal.name!r}, the target: fill it in")
    return choose_task(task, labels, table.path, notify), labels


def _long(
    table: Table,
    goal: Column | None,
    task: str | None,
    sequence_column: str,
    roles: Roles,
    groups: Groups,
    like: Form | None,
    notify: Notify,
) -> Sequences:
    """Makes a sequence of the rows that have the same value in a column."""
    sequences = _steps(table, task or "", "", sequence_column, roles, groups)
    if goal is None:
        return sequences if like is None else sequences._replace(form=like)
    task, labels = _labels(table, goal, task, notify)
    classes = like.classes if like is not None else sort_classes(labels) if task == "classify" else ()
    targets = encode_targets(labels, task, classes, table.where)[groups.order]
    changes = np.setdiff1d(np.flatnonzero(np.diff(targets)) + 1, groups.starts)
    per_step = len(changes) > 0 if like is None else like.per_step
    if len(changes) and not per_step:
        raise DataError(
            f"{table.where(int(groups.order[changes[0]]))}: the target {goal.name!r} changes within a sequence"
        )
    form = sequences.form._replace(task=task, target=goal.name, classes=classes, per_step=per_step)
    return sequences._replace(form=form, targets=targets if per_step else targets[groups.starts])


def _wide(
    table: Table, goal: Column | None, task: str | None, roles: Roles, like: Form | None, notify: Notify
) -> Sequences:
    """Makes a sequence of each row, whose steps are the columns of numbers in their order."""
    columns = roles.channels
    values = _stack(table, columns)
    rows = [cut_padding(row[:, None]) for row in values]
    for i, row in enumerate(rows):
        if not len(row):
            raise DataError(f"{table.where(i)}: all values are missing: take the row out")
    labels = None
    if goal is not None:
        task, labels = _labels(table, goal, task, notify)
    notify(f"{table.path}: each row is a sequence of up to {len(columns)} steps")
    sequences = assemble(
        table.path,
        rows,
        labels,
        table.lines.tolist(),
        channels=("value",),
        target=goal.name if goal is not None else "",
        task=task,
        like=like,
        unit=table.unit,
        notify=notify,
    )
    return sequences._replace(form=like or sequences.form._replace(steps=tuple(column.name for column in columns)))
