"""The one table of named data sets, and the loading of one by its name."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rnn_jax.data.dataset import DataError, Dataset, DownloadError
from rnn_jax.data.digits import load_digits
from rnn_jax.data.mnist.archives import PUBLICATIONS
from rnn_jax.data.mnist.family import FAMILY, FILES
from rnn_jax.data.mnist.load import letters, load_member
from rnn_jax.data.text import load_text

# A loader takes the folder of data sets and a function that is told of downloads.
LOADERS: dict[str, Callable[[Path, Callable[[str], None]], Dataset]] = {
    **{name: functools.partial(load_member, name) for name in FAMILY},
    "digits": lambda data_dir, notify: load_digits(),
    "text": lambda data_dir, notify: load_text(None),
}
NAMES = ("auto", *LOADERS)


def full_name(name: str) -> str:
    """Returns the name of a data set, however it is spelled; a name of none is returned unchanged.

    >>> full_name("EMNIST-Digits"), full_name("FashionMNIST"), full_name("imagenet")
    ('emnist_digits', 'fashion_mnist', 'imagenet')
    """
    return {letters(known): known for known in NAMES}.get(letters(name), name)


def _print_to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def load_dataset(
    name: str = "auto",
    data_dir: str | Path | None = None,
    *,
    notify: Callable[[str], None] = _print_to_stderr,
) -> Dataset:
    """Loads a data set into memory.

    MNIST and its siblings are looked for in `data_dir`, see `rnn_jax.data.mnist.load`, then downloaded if their
    publisher offers that. The arrays are the same from every source.

    Args:
      name: a key of `LOADERS`, also in capitals and with other separators; or "auto": MNIST, or digits with a warning
        if MNIST is neither in `data_dir` nor downloadable.
      data_dir: the folder of data sets, or a file in it; None is that of tensorflow-datasets, $TFDS_DATA_DIR or
        `~/tensorflow_datasets`. A download creates it.
      notify: is called with a message for the user before a download, and with the warning above.

    Raises:
      DataError: if the name is unknown, the data are damaged or of another data set, `data_dir` cannot be used, or
        the data are nowhere to be found.
    """
    name = full_name(name)
    if name not in NAMES:
        raise DataError(f"there is no data set {name!r}: choose one of {', '.join(NAMES)}")
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    folder = Path(os.path.realpath(os.path.expanduser(data_dir)))
    wanted = "mnist" if name == "auto" else name
    try:
        return LOADERS[wanted](folder, notify)
    except DownloadError as error:
        if name != "auto":
            raise DataError(f"{wanted} is not in {folder}, and {error}") from error
        notify(_fallback_warning(folder, error))
        return load_digits()
    except OSError as error:
        raise DataError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error


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
