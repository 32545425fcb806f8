"""Reads folders that tensorflow-datasets (tfds) has prepared, without TensorFlow.

It reads the folders of `rnn_jax.data.mnist.builder` and those of tfds's own builders of the same data sets, for
instance after `tfds.load("mnist")`, whose images are PNG files.

Examples are parsed in bulk, because a data source takes 0.2 ms for each.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.data.dataset import DataError
from rnn_jax.data.examples import Examples
from rnn_jax.data.mnist.archives import list_folder
from rnn_jax.data.mnist.family import make_member_split


def find_prepared(folder: Path) -> Path | None:
    """Returns the folder itself if it is a prepared one, else the newest version prepared in it, else None.

    Args:
      folder: tfds's folder of a data set or of its configuration, such as `<data_dir>/mnist`, or of a version.

    Raises:
      OSError: if the folder cannot be read.
    """
    if _is_prepared(folder):
        return folder
    versions = [name for name in list_folder(folder) if re.fullmatch(r"\d+\.\d+\.\d+", name)]
    for version in sorted(versions, key=_version_order, reverse=True):
        if _is_prepared(folder / version):
            return folder / version
    return None


def _is_prepared(folder: Path) -> bool:
    return "dataset_info.json" in list_folder(folder)


def _version_order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def read_prepared(name: str, folder: Path) -> tuple[Examples, Examples]:
    """Reads a prepared version of MNIST or of a sibling, in the published order of the images.

    Args:
      name: a key of `FAMILY`.
      folder: a folder from `find_prepared`.

    Returns:
      The published training and test images.

    Raises:
      DataError: if the folder is damaged, or holds another data set.
    """
    import tensorflow_datasets as tfds

    try:
        info = tfds.builder_from_directory(folder).info
        found = info.config_name or info.name
        if found != name:
            raise DataError(f"{folder} holds {found}, not {name}: ask for {found}")
        return _read_split(name, info, "train"), _read_split(name, info, "test")
    # A missing library or permission does not mean that the folder is damaged.
    except (DataError, ImportError, PermissionError):
        raise
    # JSON, protobuf, Pillow, array_record and tfds raise errors of many classes for a damaged folder.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read the prepared folder {folder}: {reason}; delete it to prepare it anew") from error


def _read_split(name: str, info: Any, part: str) -> Examples:
    """Reads the split called `part` of the data set called `name` from its tfds.core.DatasetInfo."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2

    example_pb2: Any = tf_example_pb2  # Its messages are made at run time, unseen by type checkers.
    split, features = info.splits[part], info.features
    read_records = _READERS[info.file_format.value]
    examples = [
        example_pb2.Example.FromString(record).features.feature
        for path in split.filepaths
        for record in read_records(Path(path))
    ]
    if len(examples) != split.num_examples:
        raise ValueError(f"{part} has {len(examples)} images instead of {split.num_examples}")

    encoded = [example["image"].bytes_list.value[0] for example in examples]
    decode = _decode_png if isinstance(features["image"], tfds.features.Image) else bytes
    pixels = np.frombuffer(b"".join(map(decode, encoded)), np.uint8)
    images = pixels.reshape(len(examples), *features["image"].shape[:2])
    labels = np.array([example["label"].int64_list.value[0] for example in examples])
    if not info.disable_shuffling:
        order = _published_order(len(examples), part)
        images, labels = images[order], labels[order]
    return make_member_split(name, images, labels, f"{info.data_dir}, split {part}")


def _published_order(count: int, split: str) -> np.ndarray:
    """Returns where tfds's shuffling has put each published image, int64 [count].

    tfds orders examples by a hash of their keys, salted with the split's name; the keys of MNIST and its siblings are
    the positions in the published files. Undoing it makes "the first 5,000" the same images from every source.
    """
    from tensorflow_datasets.core.hashing import Hasher

    written = sorted(range(count), key=Hasher(split).hash_key)
    return np.argsort(written)


def _decode_png(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        return image.tobytes()


def _read_array_records(path: Path) -> Iterable[bytes]:
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return reader.read_all()
    finally:
        reader.close()


def _read_tf_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file.

    A record is its length (8 bytes, little-endian), a checksum of the length (4 bytes), the data, and a checksum of
    the data (4 bytes). The checksums, CRC-32C, are not verified: Python has no fast one, and PNG images carry
    their own.
    """
    data = path.read_bytes()
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        start, position = position + 12, position + length + 16
        if position > len(data):
            raise ValueError(f"{path.name} is truncated")
        yield data[start : start + length]


_READERS: dict[str, Callable[[Path], Iterable[bytes]]] = {
    "array_record": _read_array_records,
    "tfrecord": _read_tf_records,
}
