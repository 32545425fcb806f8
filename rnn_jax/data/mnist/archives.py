"""The published archives of MNIST and its siblings: their addresses, checksums and reading."""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.examples import Examples
from rnn_jax.data.mnist.family import FAMILY, make_member_split
from rnn_jax.data.mnist.idx import read_idx
from rnn_jax.data.mnist.npz import read_npz


class Archive(NamedTuple):
    """The size in bytes and the SHA-256 of a published file."""

    size: int
    sha256: str


class Publication(NamedTuple):
    """A data set that can be downloaded.

    Attributes:
      url: the address of its folder, ending in a slash.
      archives: its files, in the order of `FILES`.
      labels: the SHA-256 of its training and test labels, one byte each: they identify it once it is unpacked.
    """

    url: str
    archives: tuple[Archive, ...]
    labels: tuple[str, str] | None = None


PUBLICATIONS = {
    "mnist": Publication(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        (
            Archive(9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            Archive(28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            Archive(1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            Archive(4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        (
            "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
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
        (
            "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
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
    """Returns the names in a folder; none if it does not exist.

    Raises:
      OSError: if it may not be read, or is not a folder.
    """
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def read_archives(name: str, folder: Path) -> tuple[Examples, Examples] | None:
    """Reads the four files of a data set from a folder, see `find_archives`.

    Args:
      name: a key of `FAMILY`.
      folder: the folder to look in.

    Returns:
      The published training and test images; None if the folder holds none of the four files.

    Raises:
      DataError: if some files are missing, damaged, do not fit together, or are those of another data set.
      OSError: if the folder or a file in it cannot be read.
    """
    found = find_archives(name, folder)
    if not any(found):
        return None
    missing = [file for file, path in zip(FAMILY[name].files, found, strict=True) if not path]
    if missing:
        raise DataError(f"{folder} holds only a part of {name}: {', '.join(missing)} missing")
    paths = [path for path in found if path]
    for path in paths:
        _refuse_other_archive(name, path)
    train_images, train_labels, test_images, test_labels = map(_read, paths)
    splits = (
        make_member_split(name, train_images, train_labels, f"{paths[0]} and {paths[1].name}"),
        make_member_split(name, test_images, test_labels, f"{paths[2]} and {paths[3].name}"),
    )
    refuse_other_labels(name, splits, folder)
    return splits


def find_archives(name: str, folder: Path) -> list[Path | None]:
    """Finds the files of a data set in a folder, in the order of `Member.files`; None for each that is missing.

    A file may be compressed or not, with the suffix .gz or without, in capitals, and be named as published
    (`train-images-idx3-ubyte`), with a dot (`train-images.idx3-ubyte`) or `test` for `t10k`. KMNIST's may be .npz.
    """
    parts: dict[str, Path] = {}
    # The last of several files for one part wins: the compressed archive as published.
    for file in sorted(list_folder(folder), key=lambda file: (file[-4:] != ".npz", ".idx" not in file, file)):
        if (part := _part(file)) and (folder / file).is_file():
            parts[part] = folder / file
    spelled = name.replace("_", "-")
    return [parts.get(part) or parts.get(f"{spelled}-{part}") for part in map(_part, FAMILY[name].files)]


def _part(file: str) -> str:
    """Returns the part that a file name stands for, such as "train-images"; empty for the name of something else."""
    part, replaced = re.subn(r"[-.]idx\d-(ubyte|int)(\.gz)?$|\.npz$", "", file.lower())
    return part.replace("t10k", "test").replace("imgs", "images") if replaced else ""


def _read(path: Path) -> np.ndarray:
    return read_npz(path, ("arr_0",))[0] if path.suffix.lower() == ".npz" else read_idx(path)


def _refuse_other_archive(name: str, path: Path) -> None:
    """Raises `DataError` if the file is a published archive of another data set.

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


def refuse_other_labels(name: str, splits: tuple[Examples, Examples], where: Path) -> None:
    """Raises `DataError` if these are the labels of another data set, however they are packed.

    Only data sets that share their file names are told apart: QMNIST and EMNIST repeat labels of MNIST.
    """
    digests = tuple(hashlib.sha256(split.targets.astype(np.uint8).tobytes()).hexdigest() for split in splits)
    for other, publication in PUBLICATIONS.items():
        if name in PUBLICATIONS and other != name and digests == publication.labels:
            raise DataError(f"{where} holds {other}, not {name}: ask for {other}")
