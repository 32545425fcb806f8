"""The one table of MNIST and its siblings: classes, published file names and layout."""

import string
from typing import NamedTuple

import numpy as np

from rnn_jax.data.dataset import make_split
from rnn_jax.data.examples import Examples

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class Member(NamedTuple):
    """A data set of the family.

    Attributes:
      class_names: a name for each class, in the order of the labels.
      files: the published names of training images and labels, test images and labels.
      homepage: where the files can be fetched by hand.
      folder: the folder that torchvision keeps it in.
      first_label: the published label of the first class.
      transposed: True if the published images are lying, rows exchanged with columns.
    """

    class_names: tuple[str, ...]
    files: tuple[str, ...]
    homepage: str
    folder: str
    first_label: int = 0
    transposed: bool = False


def _emnist(split: str, class_names: str, first_label: int = 0) -> Member:
    files = tuple(f"emnist-{split}-{file.replace('t10k', 'test')}" for file in FILES)
    homepage = "https://www.nist.gov/itl/products-and-services/emnist-dataset"
    return Member(tuple(class_names), files, homepage, "EMNIST", first_label, transposed=True)


_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_QMNIST_FILES = (
    "qmnist-train-images-idx3-ubyte.gz",
    "qmnist-train-labels-idx2-int.gz",
    "qmnist-test-images-idx3-ubyte.gz",
    "qmnist-test-labels-idx2-int.gz",
)
# Fifteen small letters look like their capitals, and share a class with them.
_MERGED = string.digits + string.ascii_uppercase + "abdefghnqrt"

FAMILY = {
    "mnist": Member(tuple(string.digits), FILES, "https://storage.googleapis.com/cvdf-datasets/mnist/", "MNIST"),
    "fashion_mnist": Member(_FASHION, FILES, "https://github.com/zalandoresearch/fashion-mnist", "FashionMNIST"),
    "kmnist": Member(_KUZUSHIJI, FILES, "http://codh.rois.ac.jp/kmnist/", "KMNIST"),
    "qmnist": Member(tuple(string.digits), _QMNIST_FILES, "https://github.com/facebookresearch/qmnist", "QMNIST"),
    "emnist_byclass": _emnist("byclass", string.digits + string.ascii_uppercase + string.ascii_lowercase),
    "emnist_bymerge": _emnist("bymerge", _MERGED),
    "emnist_balanced": _emnist("balanced", _MERGED),
    "emnist_letters": _emnist("letters", string.ascii_lowercase, first_label=1),
    "emnist_digits": _emnist("digits", string.digits),
    "emnist_mnist": _emnist("mnist", string.digits),
}


def make_member_split(name: str, images: np.ndarray, labels: np.ndarray, where: str) -> Examples:
    """Turns published arrays into a split: images upright, labels from 0.

    Args:
      name: a key of `FAMILY`.
      images: uint8 [N, R, C].
      labels: integers [N]; or [N, 8] as in QMNIST, whose first column is the class and the others tell who wrote it.
      where: where they came from, for error messages.

    Raises:
      DataError: if they do not belong together, or are not of this data set's classes.
    """
    member = FAMILY[name]
    if labels.shape[1:] == (8,):
        labels = labels[:, 0]
    if member.transposed and images.ndim == 3:
        images = np.ascontiguousarray(images.swapaxes(1, 2))
    return make_split(images, labels, where, num_classes=len(member.class_names), first_label=member.first_label)
