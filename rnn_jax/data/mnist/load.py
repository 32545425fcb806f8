"""Loads MNIST or a sibling: from files as they are published, else from a prepared folder, else by download.

| looked for | in the order of |
|---|---|
| folders | `data_dir/<name>`, however spelled (`fashion-mnist`, `FashionMNIST`), then `data_dir` itself |
| `data_dir` as a file | Keras's archive, of any name; for one of the four archives, its folder |
| in each folder | the four archives or Keras's `<name>.npz`, there, in torchvision's `raw` or in EMNIST's `gzip` |
| prepared by tensorflow-datasets | `data_dir/mnist_family/<name>`, `data_dir/<name>`, `data_dir` |
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from rnn_jax.data.dataset import DataError, Dataset, DownloadError, make_dataset
from rnn_jax.data.examples import Examples
from rnn_jax.data.mnist.archives import PUBLICATIONS, find_archives, list_folder, read_archives
from rnn_jax.data.mnist.download import download
from rnn_jax.data.mnist.family import FAMILY, FILES
from rnn_jax.data.mnist.keras import read_keras, read_keras_file
from rnn_jax.data.mnist.prepared import find_prepared, read_prepared


def load_member(name: str, data_dir: Path, notify: Callable[[str], None]) -> Dataset:
    """Loads a data set of the family.

    Args:
      name: a key of `FAMILY`.
      data_dir: the folder of data sets or a file in it, an absolute path.
      notify: is called with a message before a download.

    Raises:
      DownloadError: if the data set is not in `data_dir` and cannot be downloaded.
      DataError: if it is damaged, or `data_dir` holds another one.
      OSError: if a folder or a file cannot be read.
    """
    if data_dir.is_file() and data_dir in find_archives(name, data_dir.parent):
        data_dir = data_dir.parent
    elif data_dir.is_file() and data_dir.suffix.lower() == ".npz":
        return _make(name, read_keras_file(name, data_dir), f"Keras archive {data_dir}")
    for folder in _folders(name, data_dir):
        if splits := read_archives(name, folder):
            return _make(name, splits, f"IDX archives in {folder}")
        if splits := read_keras(name, folder):
            return _make(name, splits, f"Keras archive in {folder}")
    for folder in (data_dir / "mnist_family" / name, data_dir / name, data_dir):
        if prepared := find_prepared(folder):
            return _load_prepared(name, prepared)
    _refuse_another_member(name, data_dir)
    if name not in PUBLICATIONS:
        member = FAMILY[name]
        raise DownloadError(f"is not downloaded for you: get {', '.join(member.files)} from {member.homepage}")
    return _load_prepared(name, download(name, data_dir, notify=notify))


def _load_prepared(name: str, folder: Path) -> Dataset:
    return _make(name, read_prepared(name, folder), f"tfds folder {folder}")


def _make(name: str, splits: tuple[Examples, Examples], source: str) -> Dataset:
    return make_dataset(name, *splits, source=source, class_names=FAMILY[name].class_names)


def _folders(name: str, data_dir: Path) -> Iterator[Path]:
    """Yields every folder that may hold the published files."""
    spellings = {letters(name), letters(FAMILY[name].folder)}
    named = [data_dir / entry for entry in sorted(list_folder(data_dir)) if letters(entry) in spellings]
    # The exact name first, where several are there.
    named.sort(key=lambda folder: folder.name != name)
    for folder in (*(each for each in named if each.is_dir()), data_dir):
        yield from (folder, folder / "raw", folder / "gzip")


def letters(name: str) -> str:
    """Returns the letters and digits of a name in lower case: the same for all its spellings."""
    return "".join(filter(str.isalnum, name.lower()))


def _refuse_another_member(name: str, data_dir: Path) -> None:
    """Raises `DataError` if the folder itself holds archives whose file names say that they are another data set's."""
    named = [other for other, member in FAMILY.items() if other != name and member.files != FILES]
    for folder in (data_dir, data_dir / "raw", data_dir / "gzip"):
        if others := [other for other in named if all(find_archives(other, folder))]:
            raise DataError(f"{folder} holds {', '.join(others)}, not {name}: ask for {' or '.join(others)}")
