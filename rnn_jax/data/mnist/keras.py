"""Reads MNIST as Keras keeps it: one file `mnist.npz` with four arrays."""

from pathlib import Path

from rnn_jax.data.examples import Examples
from rnn_jax.data.mnist.archives import list_folder, refuse_other_labels
from rnn_jax.data.mnist.family import make_member_split
from rnn_jax.data.mnist.npz import read_npz


def read_keras(name: str, folder: Path) -> tuple[Examples, Examples] | None:
    """Reads `<name>.npz` from a folder.

    Args:
      name: a key of `FAMILY`.
      folder: the folder to look in.

    Returns:
      The published training and test images; None if the folder has no such file.

    Raises:
      DataError: if the file is damaged, or holds another data set.
      OSError: if the folder or the file cannot be read.
    """
    found = sorted(file for file in list_folder(folder) if file.lower() == f"{name}.npz")
    if not found:
        return None
    return read_keras_file(name, folder / found[0])


def read_keras_file(name: str, path: Path) -> tuple[Examples, Examples]:
    """Reads an archive of any name, see `read_keras`."""
    train_images, train_labels, test_images, test_labels = read_npz(path, ("x_train", "y_train", "x_test", "y_test"))
    splits = (
        make_member_split(name, train_images, train_labels, f"{path}, training part"),
        make_member_split(name, test_images, test_labels, f"{path}, test part"),
    )
    refuse_other_labels(name, splits, path)
    return splits
