"""Arrays of sequences in a `.npz` file, as `numpy.savez` writes it."""

import zipfile
from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.series.files import Notify, cannot_read, check_size, nearest, read_bytes
from rnn_jax.data.series.sequences import Form, Sequences, choose_task, encode_targets, find_task, plural, sort_classes

NAMES = ("xs", "ys", "lengths")


def read_npz(path: Path, *, task: str | None = None, like: Form | None = None, notify: Notify) -> Sequences:
    """Reads the arrays `xs`, `ys` and `lengths` of a file.

    `xs` is [N, T, D]; with `lengths` [N], it may be [S, D] instead, one sequence after another. `ys` holds text
    or numbers: [N], or with a target for each step, [N, T] or [S].

    Raises:
      DataError: if the file is damaged, an array is missing, or its shape or its type is not as above.
    """
    arrays = _read_arrays(path)
    xs, lengths = arrays["xs"], arrays.get("lengths")
    if xs.dtype.kind not in "fiub":
        raise DataError(f"{path}: xs should hold numbers, not {xs.dtype}")
    if xs.ndim == 2 and lengths is None:
        xs = xs[:, :, None]  # one channel
    if xs.ndim not in (2, 3) or xs.size == 0:
        raise DataError(f"{path}: xs should be [N, T, D], or [sum of lengths, D] with lengths, not {list(xs.shape)}")
    N = len(xs) if lengths is None else len(lengths)
    lengths = np.full(N, xs.shape[1]) if lengths is None else _check_lengths(path, lengths, xs)
    valid = np.arange(xs.shape[1]) < lengths[:, None] if xs.ndim == 3 else None
    values = (xs if valid is None else xs[valid]).astype(np.float64)
    if np.isinf(values).any():
        raise DataError(f"{path}: xs holds an infinite value in row {np.argwhere(np.isinf(xs))[0, 0]}: correct it")
    D = values.shape[1]
    channels = like.channels if like is not None else tuple(f"channel {d + 1}" for d in range(D))
    if len(channels) != D:
        raise DataError(f"{path}: {plural(D, 'channel')}, but the training data has {len(channels)}")
    names, lines = tuple(map(str, range(N))), np.arange(N)
    form = like or Form("", channels, "y")
    sequences = Sequences(form, values, lengths, None, names, None, lines, path, "row")
    if "ys" not in arrays:
        return (
            sequences
            if like is not None
            else sequences._replace(form=form._replace(task="forecast", target=channels[0]))
        )
    return _with_targets(sequences, arrays["ys"], valid, task, like, notify)


def _with_targets(
    sequences: Sequences, ys: np.ndarray, valid: np.ndarray | None, task: str | None, like: Form | None, notify: Notify
) -> Sequences:
    """Adds the targets, after checking their shape."""
    path, N, S = sequences.source, len(sequences.lengths), len(sequences.values)
    if ys.ndim == 2 and ys.shape[1] == 1 and len(ys) == N:
        ys = ys[:, 0]
    per_step = (valid is not None and ys.shape == valid.shape) or (valid is None and ys.shape == (S,) != (N,))
    if not per_step and ys.shape != (N,):
        raise DataError(f"{path}: ys should be [{N}], or have a target for each step, not {list(ys.shape)}")
    if ys.dtype.kind not in "fiubU":
        raise DataError(f"{path}: ys should be text or numbers, not {ys.dtype}")
    ys = ys[valid] if per_step and valid is not None else ys
    labels = [f"{y:.17g}" for y in ys] if ys.dtype.kind == "f" else [str(y) for y in ys.tolist()]
    if like is None:
        if task is None and ys.dtype.kind == "f":
            if find_task(labels) == "classify":
                notify(f'{path}: the targets are floats, taken as numbers; for classes: task="classify"')
            task = "regress"
        task = choose_task(task, labels, path, notify)
        classes = sort_classes([label for label in labels if label]) if task == "classify" else ()
        like = sequences.form._replace(task=task, classes=classes, per_step=per_step)
    elif per_step != like.per_step:
        raise DataError(
            f"{path}: ys has a target for each {'step' if per_step else 'sequence'}, unlike the training data"
        )
    targets = encode_targets(labels, like.task, like.classes, lambda k: f"{path}, ys[{k}]")
    return sequences._replace(form=like, targets=targets)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays with known names; if `xs` is missing, the error suggests the nearest other name."""
    read_bytes(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_size(path, sum(info.file_size for info in archive.infolist()))
        with np.load(path, allow_pickle=False) as file:
            if "xs" not in file.files:
                raise DataError(f"{path} has no array xs{nearest('xs', tuple(file.files))}")
            return {name: file[name] for name in NAMES if name in file.files}
    except OSError as error:
        raise cannot_read(path, error) from error
    except ValueError as error:
        if "allow_pickle" in str(error):
            objects = "an array holds Python objects: convert it before saving, text with astype(str)"
            raise DataError(f"{path} is no undamaged .npz file of numbers and text: {objects}") from error
        raise DataError(f"{path} is no undamaged .npz file: {' '.join(str(error).split())[:150]}") from error
    except (zipfile.BadZipFile, EOFError, KeyError, SyntaxError, zipfile.zlib.error) as error:  # type: ignore
        raise DataError(f"{path} is no undamaged .npz file: {' '.join(str(error).split())[:150]}") from error


def _check_lengths(path: Path, lengths: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Returns the lengths as int64; raises `DataError` unless they fit `xs`."""
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths):
        raise DataError(f"{path}: lengths should be whole numbers [N], not {lengths.dtype} {list(lengths.shape)}")
    lengths = lengths.astype(np.int64)
    if lengths.min() < 1:
        raise DataError(f"{path}: length {lengths.min()} of sequence {lengths.argmin()}: each needs at least one step")
    if xs.ndim == 2 and lengths.sum() != len(xs):
        raise DataError(f"{path}: the lengths sum up to {lengths.sum()}, but xs has {len(xs)} rows")
    if xs.ndim == 3 and (len(lengths) != len(xs) or lengths.max() > xs.shape[1]):
        raise DataError(f"{path}: {len(lengths)} lengths, up to {lengths.max()}, do not fit xs {list(xs.shape)}")
    return lengths
