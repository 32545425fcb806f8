"""scikit-learn's embedded digits: 1,797 images of 8x8 pixels that need no network."""

import importlib.util
from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError, Dataset, make_dataset, make_split

CLASS_NAMES = tuple("0123456789")
FILE = Path("datasets/data/digits.csv.gz")  # in scikit-learn's package; a row has the pixels, then the label


def load_digits() -> Dataset:
    """Loads the digits in a fixed, stratified division: 1,198 images for training, 599 for testing."""
    package = importlib.util.find_spec("sklearn")  # Importing scikit-learn would take a second.
    if package is None or not package.submodule_search_locations:
        raise DataError("the digits come with scikit-learn, which is missing: pip install scikit-learn")
    table = np.loadtxt(Path(package.submodule_search_locations[0], FILE), np.uint8, delimiter=",")
    images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    training, test = divide(labels)
    source = "scikit-learn's embedded digits"
    return make_dataset(
        "digits",
        make_split(images[training], labels[training], source, num_classes=len(CLASS_NAMES)),
        make_split(images[test], labels[test], source, num_classes=len(CLASS_NAMES)),
        source=source,
        class_names=CLASS_NAMES,
        max_pixel=16,
    )


def divide(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divides the digits as scikit-learn's `train_test_split(..., test_size=599, stratify=labels, random_state=0)`.

    Returns:
      (the rows for training, those for testing), two thirds and one third of each class.
    """
    random = np.random.RandomState(0)
    random.permutation(2)  # scikit-learn draws the order in which two classes get one image more.
    training, test = [], []
    for label in range(len(CLASS_NAMES)):
        rows = random.permutation(np.flatnonzero(labels == label))
        count = round(len(rows) * 2 / 3)
        training.extend(rows[:count])
        test.extend(rows[count:])
    return random.permutation(training), random.permutation(test)
