"""The published archives of MNIST and its siblings: their addresses, checksums and reading."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from rnn_jax.data.dataset import DataError, make_split
from rnn_jax.data.examples import Examples
from rnn_jax.data.mnist.idx import read_idx

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class Archive(NamedTuple):
    """What identifies a published file: its size in bytes and its SHA-256."""

    size: int
    sha256: str


class Publication(NamedTuple):
    """A published data set: the address of its folder and, in the order of FILES, its archives."""

    url: str
    archives: tuple[Archive, ...]


PUBLICATIONS = {
    "mnist": Publication(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        (
            Archive(9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            Archive(28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            Archive(1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            Archive(4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion_mnist": Publication(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            Archive(26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            Archive(29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            Archive(4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            Archive(5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    "kmnist": Publication(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        (
            Archive(18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            Archive(29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            Archive(3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            Archive(5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
    ),
}


def list_folder(folder: Path) -> set[str]:
    """The names in a folder; none if it does not exist.

    Raises:
        OSError: If it may not be read, or is not a folder.
    """
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def read_archives(name: str, folder: Path) -> tuple[Examples, Examples] | None:
    """Reads the four IDX files of a data set from a folder.

    Files may be compressed or not, with the suffix .gz or without, and be named as published
    (`train-images-idx3-ubyte`) or with a dot (`train-images.idx3-ubyte`).

    Args:
        name: A key of PUBLICATIONS.
        folder: Where to look.

    Returns:
        The published training and test images; None if the folder holds none of the four files.

    Raises:
        DataError: If some files are missing, damaged, do not fit together, or are the published
            archives of another data set than `name`.
        OSError: If the folder or a file in it cannot be read.
    """
    names = list_folder(folder)
    found = [_find(file, names) for file in FILES]
    if not any(found):
        return None
    missing = [file for file, match in zip(FILES, found, strict=True) if not match]
    if missing:
        raise DataError(f"{folder} holds only a part of {name}: {', '.join(missing)} missing")
    paths = [folder / match for match in found if match]
    for path in paths:
        _refuse_other_dataset(name, path)
    train_images, train_labels, test_images, test_labels = map(read_idx, paths)
    return (
        make_split(train_images, train_labels, f"{paths[0]} and {paths[1].name}"),
        make_split(test_images, test_labels, f"{paths[2]} and {paths[3].name}"),
    )


def _find(file: str, names: set[str]) -> str | None:
    """Which of the names stands for a published file."""
    plain = file.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    candidates = (file, plain, f"{dotted}.gz", dotted)
    return next((candidate for candidate in candidates if candidate in names), None)


def _refuse_other_dataset(name: str, path: Path) -> None:
    """Raises DataError if the file is a published archive, but not of this data set.

    A file with an unknown digest passes: it may have been unpacked, or packed again.
    """
    sizes = {archive.size for publication in PUBLICATIONS.values() for archive in publication.archives}
    if path.stat().st_size not in sizes:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for other, publication in PUBLICATIONS.items():
        if other != name and digest in (archive.sha256 for archive in publication.archives):
            raise DataError(f"{path} belongs to {other}, not to {name}: ask for {other}")
