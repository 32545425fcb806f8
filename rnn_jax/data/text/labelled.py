"""Texts with labels, for classification."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.data.dataset import DataError, Dataset
from rnn_jax.data.examples import Examples
from rnn_jax.data.series.sequences import sort_classes
from rnn_jax.data.series.split import hold_out
from rnn_jax.data.text.info import TextInfo, Tokens, code_points, encode
from rnn_jax.data.text.read import read_text, refuse_binary

TEST, VALIDATION = 0.2, 0.1  # fractions of the texts, the second of the remaining ones


class Labelled(NamedTuple):
    """Texts in UTF-8 and their labels; "" where there is none."""

    texts: list[bytes]
    labels: list[str]


def read_labelled(path: Path, *, labels: bool = True) -> Labelled:
    """Reads lines of `label<TAB>text`, or JSON lines with `text` and `label`. Empty lines are left out.

    Args:
      path: the file.
      labels: False if labels may be missing: a line without a tab is then a text.

    Raises:
      DataError: in one line that names the file and the line.
    """
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    data = read_text(path)
    refuse_binary(data, path)
    code_points(data, path)
    texts, found = [], []
    for number, line in enumerate(data.split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line.strip():
            continue
        label, text = (_from_json if is_json else _from_line)(line, f"{path}, line {number}", labels)
        if not text:
            raise DataError(f"{path}, line {number} has no text")
        texts.append(text)
        found.append(label)
    if not texts:
        raise DataError(f"{path} is empty")
    return Labelled(texts, found)


def load_labelled(path: Path, test: Path | None = None, *, tokens: Tokens = "characters", seed: int = 0) -> Dataset:
    """Loads labelled texts as a data set: inputs int [N, T], the tokens, and lengths.

    Args:
      path: the file, see `read_labelled`.
      test: the file to test with; None to hold out a fifth of each class.
      tokens: "characters" or "bytes".
      seed: the seed of the random hold-out.

    Raises:
      DataError: in one line; see `read_labelled`. Also if there is only one label, a test has another, or there are too
        few texts.
    """
    read = read_labelled(path)
    tested = None if test is None else read_labelled(test)
    classes = sort_classes(read.labels)
    if len(classes) < 2:
        raise DataError(f"{path}: all texts have the label {read.labels[0]!r}: there is nothing to tell apart")
    numbers = {name: i for i, name in enumerate(classes)}
    targets = np.array([numbers[label] for label in read.labels], np.int32)
    everything = np.arange(len(targets))
    if tested is None:
        kept, held = hold_out(targets, len(targets), TEST, seed)
        test_texts, test_targets = [read.texts[i] for i in held], targets[held]
        source = f"{path}, a part held out by class, drawn with seed {seed}, for the test"
    else:
        for i, label in enumerate(tested.labels):
            if label not in numbers:
                raise DataError(f"{test}, text {i + 1} has the label {label!r}, which none of {path} has")
        kept, test_texts = everything, tested.texts
        test_targets = np.array([numbers[label] for label in tested.labels], np.int32)
        source = f"{path}, tested on {test}"
    train, validation = hold_out(targets[kept], len(kept), VALIDATION, seed)
    train, validation = kept[train], kept[validation]
    if not len(test_texts) or not len(validation):
        raise DataError(f"{path}: {len(targets)} texts are too few to hold some out for a test")
    vocabulary = ""
    if tokens == "characters":
        points = code_points(b"".join(read.texts[i] for i in train), path)
        vocabulary = np.unique(points).astype("<u4").tobytes().decode("utf-32-le")
    usual = int(np.bincount(targets[train]).argmax())
    info = TextInfo(path.stem, source, "", "classify", tokens, vocabulary, 0, classes=classes, usual=usual)
    parts = [[read.texts[i] for i in train], [read.texts[i] for i in validation], test_texts]
    encoded = [[encode(info, text) for text in part] for part in parts]
    longest = max(len(text) for part in encoded for text in part)
    unseen = sum(int(np.sum(text == len(vocabulary))) for text in encoded[2]) if tokens == "characters" else 0
    summary = (
        f"{len(train) + len(validation):,} training, {len(test_texts):,} test texts of up to {longest:,} {tokens}, "
        f"{len(classes)} classes; {len(validation):,} of the training texts are for validation"
        + (
            f"; {unseen:,} {tokens} of the test are none of the {len(vocabulary)} of the training part"
            if unseen
            else ""
        )
    )
    info = info._replace(window=longest, summary=summary)
    training, held_out, testing = (
        pad_texts(part, longest, info)._replace(targets=labels)
        for part, labels in zip(encoded, (targets[train], targets[validation], test_targets), strict=True)
    )
    return Dataset(info, training, held_out, testing, classes)


def pad_texts(texts: list[np.ndarray], length: int, info: TextInfo) -> Examples:
    """Pads texts to a length: inputs [N, length], of the smallest unsigned integers, and int32 lengths [N]."""
    inputs = np.zeros((len(texts), length), np.min_scalar_type(info.num_tokens - 1))
    for row, text in zip(inputs, texts, strict=True):
        row[: len(text)] = text
    return Examples(inputs, np.zeros(len(texts), np.int32), np.array([len(text) for text in texts], np.int32))


def _from_line(line: bytes, where: str, labels: bool) -> tuple[str, bytes]:
    label, tab, text = line.partition(b"\t")
    if not tab:
        if labels:
            raise DataError(f"{where} has no tab between a label and a text")
        return "", line
    return label.decode(), text


def _from_json(line: bytes, where: str, labels: bool) -> tuple[str, bytes]:
    try:
        value = json.loads(line)
        text, label = value["text"], value.get("label")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where} is not a JSON object with text and label") from error
    if not isinstance(text, str) or (labels and not isinstance(label, str | int | bool)):
        raise DataError(f"{where} needs a text, and a label that is a text or a whole number")
    return "" if label is None else str(label), text.encode("utf-8", errors="replace")
