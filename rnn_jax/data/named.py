"""From the name of a data set to the data, from wherever they can be had."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError, Dataset, DownloadError, make_dataset, make_split
from rnn_jax.data.mnist.archives import FILES, PUBLICATIONS, read_archives
from rnn_jax.data.mnist.download import download
from rnn_jax.data.mnist.prepared import find_prepared, read_prepared

NAMES = ("auto", *PUBLICATIONS, "digits")


def _print_to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def load_dataset(
    name: str = "auto",
    data_dir: str | Path | None = None,
    *,
    notify: Callable[[str], None] = _print_to_stderr,
) -> Dataset:
    """Loads a data set into memory.

    MNIST and its siblings are looked for in `data_dir`: as the four published IDX files, in
    `data_dir/<name>` or in `data_dir` itself; then as a folder prepared by tensorflow-datasets; at
    last they are downloaded to there. Whatever they are read from, the arrays are the same.

    Args:
        name: "mnist", "fashion_mnist" or "kmnist": this data set or an error. "digits":
            scikit-learn's 1,797 embedded digits of 8x8 pixels, a third of them for testing.
            "auto": MNIST; digits, after a warning, if it is neither there nor downloadable.
        data_dir: The folder of data sets; None is that of tensorflow-datasets, $TFDS_DATA_DIR or
            `~/tensorflow_datasets`. It is created when something has been downloaded.
        notify: Is told, in words for the user, of downloads and of the warning above.

    Returns:
        The data set.

    Raises:
        DataError: If the name is unknown, the data are damaged or not those asked for, `data_dir`
            cannot be used, or the data cannot be had at all.
    """
    if name not in NAMES:
        raise DataError(f"there is no data set {name!r}: choose one of {', '.join(NAMES)}")
    if name == "digits":
        return _load_digits()
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    folder = Path(os.path.realpath(os.path.expanduser(data_dir)))
    wanted = "mnist" if name == "auto" else name
    try:
        return _load_local(wanted, folder) or _load_published(wanted, folder, notify)
    except DownloadError as error:
        if name != "auto":
            raise DataError(f"{wanted} is not in {folder}, and {error}") from error
        notify(_fallback_warning(folder, error))
        return _load_digits()
    except OSError as error:
        raise DataError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error


def _load_local(name: str, data_dir: Path) -> Dataset | None:
    for folder in (data_dir / name, data_dir):
        if splits := read_archives(name, folder):
            return make_dataset(name, *splits, source=f"IDX archives in {folder}")
    for folder in (data_dir / "mnist_family" / name, data_dir / name, data_dir):
        if prepared := find_prepared(folder):
            return _load_prepared(name, prepared)
    return None


def _load_published(name: str, data_dir: Path, notify: Callable[[str], None]) -> Dataset:
    return _load_prepared(name, download(name, data_dir, notify=notify))


def _load_prepared(name: str, folder: Path) -> Dataset:
    return make_dataset(name, *read_prepared(name, folder), source=f"tfds folder {folder}")


def _load_digits() -> Dataset:
    """scikit-learn's digits, divided once and for all: 1,198 for training, 599 for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    images = pixels.astype(np.uint8).reshape(-1, 8, 8)
    training, test = train_test_split(np.arange(len(labels)), test_size=599, stratify=labels, random_state=0)
    source = "scikit-learn's embedded digits"
    return make_dataset(
        "digits",
        make_split(images[training], labels[training], source),
        make_split(images[test], labels[test], source),
        source=source,
        max_pixel=16,
    )


def _fallback_warning(data_dir: Path, reason: DownloadError) -> str:
    stars = "*" * 88
    return f"""
{stars}
WARNING: THIS IS NOT MNIST.

MNIST is not in {data_dir}, and
{reason}

Everything reported from here on is about scikit-learn's "digits" instead: 1,797 images of
8x8 pixels. Its results cannot be compared with results on MNIST.

To get MNIST, connect to the network and run this again; or download these four files by
hand from {PUBLICATIONS["mnist"].url}

    {FILES[0]}  {FILES[1]}
    {FILES[2]}   {FILES[3]}

into a folder and name it: data_dir=FOLDER, on the command line --data-dir FOLDER.
To choose digits without this warning: name="digits", on the command line --dataset digits.
{stars}
"""
