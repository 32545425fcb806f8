"""The file formats of the UCR and UEA archives: `.ts`, `.arff` and `.tsv`.

A `.ts` file has a header of keywords, in any order and case, and then one sequence a line: channels separated by
colons, the values of a channel by commas, the label last.

    # a comment
    @classLabel true walk run
    @data
    0.1,0.2,0.3:1.5,?,1.7:walk

An `.arff` file (Weka's) has one attribute for each step, or for many channels one relational attribute that holds a
quoted table with a row for each channel; the last attribute is the label. A `.tsv` file has one sequence a line,
the label first. In both, shorter sequences are padded with missing values at their end.
"""

import re
from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.files import Notify, nearest, parse_numbers, read_lines, shown
from rnn_jax.data.series.sequences import Form, Sequences, assemble, cut_padding, plural

FLAGS = ("timestamps", "missing", "univariate", "equallength", "classlabel", "targetlabel")
TEXTS = ("problemname", "dimensions", "dimension", "serieslength", "data")


def read_ts(path: Path, *, task: str | None = None, like: Form | None = None, notify: Notify) -> Sequences:
    """Reads a `.ts` file; see `read_sequences`."""
    lines = read_lines(path, notify)
    header, end = _read_header(path, lines)
    labelled = header.get("classlabel", ["false"])[0] == "true" or header.get("targetlabel", ["false"])[0] == "true"
    if "classlabel" not in header and "targetlabel" not in header:
        raise DataError(
            f"{path}, line {end + 1}: the header says nothing about labels: add @classLabel true and the classes, "
            "@classLabel false, or @targetLabel true"
        )
    rows, labels, numbers = [], [], []
    for i, line in _data_lines(lines, end + 1, ("#", "%")):
        where = f"{path}, line {i + 1}"
        if line.startswith("@"):
            raise DataError(f"{where}: {shown(line.split()[0])} in the data, a second header: keep one file a data set")
        fields = line.split(":")
        if labelled:
            labels.append(fields.pop().strip())
        if not fields:
            raise DataError(f"{where}: no label after the values: add ':' and the label, or take the line out")
        rows.append(_parse_channels(fields, where))
        numbers.append(i + 1)
        _check_row(rows, numbers, header, where)
    if not rows:
        raise DataError(f"{path}, line {end + 1}: there are no sequences after @data")
    regression = header.get("targetlabel", ["false"])[0] == "true"
    if labelled:
        _check_given_task(path, task)
    if labelled and task is None:
        task = "regress" if regression else "classify"
    return assemble(
        path,
        rows,
        labels if labelled else None,
        numbers,
        channels=_numbered(rows[0].shape[1]),
        target="target" if regression else "class",
        task=task,
        classes=tuple(header["classlabel"][1:]) if labelled and not regression else (),
        like=like,
        notify=notify,
    )


def _data_lines(lines: list[str], start: int, comments: tuple[str, ...]) -> list[tuple[int, str]]:
    """Returns the lines from `start` on, with their indices, without blank ones and comments."""
    stripped = [(i, lines[i].strip()) for i in range(start, len(lines))]
    return [(i, line) for i, line in stripped if line and not line.startswith(comments)]


def _read_header(path: Path, lines: list[str]) -> tuple[dict[str, list[str]], int]:
    """Reads the keywords of a `.ts` file: ({keyword in lower case: words after it}, the index of the line @data)."""
    header: dict[str, list[str]] = {}
    seen: dict[str, int] = {}
    for i, line in _data_lines(lines, 0, ("#", "%")):
        where = f"{path}, line {i + 1}"
        if not line.startswith("@"):
            raise DataError(f"{where}: expected a keyword such as @classLabel, or @data before the first sequence")
        key, *words = line[1:].split() or [""]
        key = key.lower()
        if key in seen and key != "problemname":  # Some files of the archive repeat that one.
            raise DataError(f"{where}: @{key} again, as in line {seen[key]}: keep one header")
        seen[key] = i + 1
        if key in FLAGS:
            words = _read_flag(key, words, where)
        if key == "timestamps" and words[0] == "true":
            raise DataError(f"{where}: values with time stamps cannot be read: write values alone, @timeStamps false")
        if key in ("dimensions", "dimension", "serieslength") and (len(words) != 1 or not words[0].isdecimal()):
            raise DataError(f"{where}: @{key} needs one whole number")
        if key == "data":
            if words:
                raise DataError(f"{where}: @data must stand alone, the sequences follow in the next lines")
            return header, i
        header["dimensions" if key == "dimension" else key] = words
    keys = tuple(f"@{key}" for key in seen if key not in FLAGS + TEXTS)
    guess = nearest("@data", keys)
    hint = guess if guess.startswith(",") else ": is the file complete?"
    raise DataError(f"{path}, line {len(lines)}: the file ends without @data{hint}")


def _read_flag(key: str, words: list[str], where: str) -> list[str]:
    """Checks the words after a boolean keyword; returns them with true or false in lower case."""
    if not words or words[0].lower() not in ("true", "false"):
        raise DataError(f"{where}: @{key} needs true or false")
    value, names = words[0].lower(), words[1:]
    if key == "classlabel" and value == "true" and not names:
        raise DataError(f"{where}: @classLabel true needs the names of the classes after it")
    if len(set(names)) < len(names):
        raise DataError(f"{where}: @{key} names a class twice")
    return [value, *names]


def _parse_channels(fields: list[str], where: str) -> np.ndarray:
    """Parses the channels of a sequence, texts [D] -> float64 [T, D]."""
    channels = [
        parse_numbers(field.split(","), where if len(fields) == 1 else f"{where}, channel {d + 1}")
        for d, field in enumerate(fields)
    ]
    for d, channel in enumerate(channels):
        if len(channel) != len(channels[0]):
            raise DataError(
                f"{where}: channel {d + 1} has {plural(len(channel), 'value')}, channel 1 has {len(channels[0])}: "
                "all channels of a sequence need as many"
            )
    return np.stack(channels, axis=1)


def _check_row(rows: list[np.ndarray], numbers: list[int], header: dict[str, list[str]], where: str) -> None:
    """Compares the last sequence with the first one and with the header."""
    (T, D), (first_T, first_D) = rows[-1].shape, rows[0].shape
    if first_D != D:
        raise DataError(f"{where}: {plural(D, 'channel')}, but line {numbers[0]} has {first_D}: is one missing?")
    if D > 1 and header.get("univariate") == ["true"]:
        raise DataError(f"{where}: {D} channels, but the header has @univariate true: correct one of them")
    if "dimensions" in header and int(header["dimensions"][0]) != D:
        raise DataError(
            f"{where}: {plural(D, 'channel')}, but the header has @dimensions {header['dimensions'][0]}: correct it"
        )
    if header.get("equallength", ["true"]) == ["false"]:
        return
    if "serieslength" in header and int(header["serieslength"][0]) != T:
        raise DataError(
            f"{where}: {plural(T, 'step')}, but the header has @seriesLength {header['serieslength'][0]}: correct it"
        )
    if first_T != T:
        raise DataError(
            f"{where}: {plural(T, 'step')}, but line {numbers[0]} has {first_T}: correct it, or write @equalLength "
            "false into the header"
        )


def read_tsv(path: Path, *, task: str | None = None, like: Form | None = None, notify: Notify) -> Sequences:
    """Reads a `.tsv` file of the UCR archive: a line is a label, a tab, and the values of a sequence with tabs."""
    lines = read_lines(path, notify)
    rows, labels, numbers, width = [], [], [], 0
    for i, _ in _data_lines(lines, 0, ("#",)):
        where = f"{path}, line {i + 1}"
        label, *values = lines[i].split("\t")
        if not values:
            raise DataError(f"{where}: expected a label and values, with tabs between them")
        width = width or len(values)
        if len(values) != width:
            raise DataError(f"{where}: {plural(len(values), 'value')}, but line {numbers[0]} has {width}: correct it")
        labels.append(label.strip())
        numbers.append(i + 1)
        rows.append(_padded_row(parse_numbers([value.strip() or "?" for value in values], where)[:, None], where))
    if rows:
        _check_given_task(path, task)
    return assemble(path, rows, labels, numbers, channels=_numbered(1), task=task, like=like, notify=notify)


def _check_given_task(path: Path, task: str | None) -> None:
    if task == "forecast":
        raise DataError(f"{path} holds sequences with a label each, nothing to forecast: choose classify or regress")


def _padded_row(row: np.ndarray, where: str) -> np.ndarray:
    row = cut_padding(row)
    if not len(row):
        raise DataError(f"{where}: all values are missing: take the line out")
    return row


ATTRIBUTE = re.compile(r"""@attribute\s+('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S+)\s*(.*)""", re.IGNORECASE)
INSTANCE = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,]*)\s*(?:,|$)""")
NUMERIC = ("numeric", "real", "integer")


def read_arff(path: Path, *, task: str | None = None, like: Form | None = None, notify: Notify) -> Sequences:
    """Reads an `.arff` file of the UCR and UEA archives; see `read_sequences`."""
    lines = read_lines(path, notify)
    attributes, relation, end = _read_attributes(path, lines)
    (target, kind, where), width = attributes[-1], len(attributes) - 1
    classes = tuple(_unquote(name) for name in kind.strip("{} ").split(",")) if kind.startswith("{") else ()
    if not classes and kind.lower() not in (*NUMERIC, "string"):
        raise DataError(f"{where}: the last attribute, {target}, is the target and should be numeric or {{classes}}")
    rows, labels, numbers = [], [], []
    for i, line in _data_lines(lines, end + 1, ("%",)):
        where = f"{path}, line {i + 1}"
        if line.startswith("@"):
            raise DataError(f"{where}: {shown(line.split()[0])} in the data, a second header: keep one file a data set")
        if line.startswith("{"):
            raise DataError(f"{where}: sparse data cannot be read: write all values")
        fields = _split_instance(line, where)
        if len(fields) != width + 1:
            raise DataError(
                f"{where}: {plural(len(fields), 'field')}, but the header has {width + 1} attributes: correct it"
            )
        if relation:
            table = [row.split(",") for row in _unquote(fields[0]).replace("\\n", "\n").strip("\n").split("\n")]
            if any(len(row) != len(relation) for row in table):
                raise DataError(f"{where}: a channel does not have the {len(relation)} values of the header's relation")
            if rows and len(table) != rows[0].shape[1]:
                raise DataError(
                    f"{where}: {plural(len(table), 'channel')}, but line {numbers[0]} has {rows[0].shape[1]}"
                )
            row = _parse_channels([",".join(values) for values in table], where)
        else:
            row = parse_numbers(fields[:-1], where)[:, None]
        rows.append(_padded_row(row, where))
        labels.append(_unquote(fields[-1]))
        numbers.append(i + 1)
    if not rows:
        raise DataError(f"{path}, line {end + 1}: there are no sequences after @data")
    _check_given_task(path, task)
    if task is None:
        task = "classify" if classes else None if kind.lower() == "string" else "regress"
    return assemble(
        path,
        rows,
        labels,
        numbers,
        channels=_numbered(rows[0].shape[1]),
        target=target,
        task=task,
        classes=classes,
        like=like,
        notify=notify,
    )


def _read_attributes(path: Path, lines: list[str]) -> tuple[list[tuple[str, str, str]], list[str], int]:
    """Reads the header of an `.arff` file.

    Returns:
      (names, types and places of the attributes, the names within the relational one, the index of the line @data).
    """
    attributes: list[tuple[str, str, str]] = []
    relation: list[str] = []
    inside, relations = False, 0
    for i, line in _data_lines(lines, 0, ("%",)):
        where, key = f"{path}, line {i + 1}", line.split()[0].lower()
        if key == "@relation" and not relations:
            relations += 1
        elif key == "@relation":
            raise DataError(f"{where}: @relation again: keep one header")
        elif key == "@end" and inside:
            inside = False
        elif key == "@data":
            if inside or len(attributes) < 2:
                raise DataError(f"{where}: @data needs attributes before it: the steps, and the label last")
            _check_attributes(path, attributes, relation)
            return attributes, relation, i
        elif match := ATTRIBUTE.fullmatch(line):
            name, kind = _unquote(match[1]), match[2].strip()
            if inside:
                relation.append(name)
            else:
                attributes.append((name, kind, where))
                inside = kind.lower() == "relational"
        else:
            raise DataError(f"{where}: expected @relation, @attribute, or @data before the first sequence")
    raise DataError(f"{path}, line {len(lines)}: the file ends without @data: is it complete?")


def _check_attributes(path: Path, attributes: list[tuple[str, str, str]], relation: list[str]) -> None:
    if relation and len(attributes) != 2:
        raise DataError(f"{path}: a relational attribute and the label are expected, not {len(attributes)} attributes")
    for name, kind, where in attributes[: 0 if relation else -1]:
        if kind.lower() not in NUMERIC:
            raise DataError(f"{where}: attribute {shown(name)} is {shown(kind)}, not numeric: take it out")


def _split_instance(line: str, where: str) -> list[str]:
    """Splits a line at its commas, but not within quotes."""
    if "'" not in line and '"' not in line:
        return line.split(",")
    fields, position = [], 0
    while position < len(line):
        match = INSTANCE.match(line, position)
        if not match or (match[1][:1] in ("'", '"') and (len(match[1]) < 2 or match[1][-1] != match[1][0])):
            raise DataError(f"{where}: a quote is not closed, or text follows it: is the line complete?")
        fields.append(match[1])
        position = match.end()
    return fields + [""] * line.endswith(",")


def _unquote(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0] else text


def _numbered(count: int) -> tuple[str, ...]:
    """Names the channels of a format without names."""
    return tuple(f"channel {d + 1}" for d in range(count)) if count > 1 else ("value",)
