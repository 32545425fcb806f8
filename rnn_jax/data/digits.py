"""scikit-learn's embedded digits: 1,797 images of 8x8 pixels that need no network."""

import numpy as np

from rnn_jax.data.dataset import Dataset, make_dataset, make_split

CLASS_NAMES = tuple("0123456789")


def load_digits() -> Dataset:
    """Loads the digits in a fixed, stratified division: 1,198 images for training, 599 for testing."""
    import sklearn.datasets
    from sklearn.model_selection import train_test_split

    pixels, labels = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    images = pixels.astype(np.uint8).reshape(-1, 8, 8)
    training, test = train_test_split(np.arange(len(labels)), test_size=599, stratify=labels, random_state=0)
    source = "scikit-learn's embedded digits"
    return make_dataset(
        "digits",
        make_split(images[training], labels[training], source, num_classes=len(CLASS_NAMES)),
        make_split(images[test], labels[test], source, num_classes=len(CLASS_NAMES)),
        source=source,
        class_names=CLASS_NAMES,
        max_pixel=16,
    )
