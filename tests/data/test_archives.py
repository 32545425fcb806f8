"""Finding the four archives in a folder, and making sure that they are what was asked for."""

import gzip

import numpy as np
import pytest
from synthetic import idx_bytes, make_arrays, write_archives

from rnn_jax.data import DataError, load_dataset
from rnn_jax.data.dataset import make_split
from rnn_jax.data.mnist.archives import PUBLICATIONS, read_archives
from rnn_jax.data.mnist.family import FILES

ORIGINAL_PUBLICATIONS = dict(PUBLICATIONS)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_every_usual_name_and_compression(tmp_path, compressed, dotted, suffix):
    arrays = make_arrays()
    for file, array in zip(FILES, arrays, strict=True):
        name = file.removesuffix(".gz").replace("-idx", ".idx" if dotted else "-idx") + suffix
        data = idx_bytes(array)
        (tmp_path / name).write_bytes(gzip.compress(data) if compressed else data)
    splits = read_archives("mnist", tmp_path)
    assert splits is not None
    for found, expected in zip([*splits[0][:2], *splits[1][:2]], arrays, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert splits[0].inputs.dtype == np.uint8
    assert splits[0].targets.dtype == np.int32


@pytest.mark.parametrize("place", ["", "mnist"])
def test_the_folder_itself_or_one_of_the_name(tmp_path, place):
    arrays = write_archives(tmp_path / place, make_arrays())
    data = load_dataset("mnist", tmp_path)
    assert data.info.source == f"IDX archives in {tmp_path / place}"
    np.testing.assert_array_equal(data.test.inputs, arrays.test_images)


def test_each_data_set_finds_its_own_folder(tmp_path):
    write_archives(tmp_path / "mnist", make_arrays(seed=1))
    kmnist = write_archives(tmp_path / "kmnist", make_arrays(seed=2))
    np.testing.assert_array_equal(load_dataset("kmnist", tmp_path).test.inputs, kmnist.test_images)


def test_no_archives_at_all(tmp_path):
    assert read_archives("mnist", tmp_path) is None
    assert read_archives("mnist", tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_missing_archives_are_named(tmp_path, name):
    write_archives(tmp_path, make_arrays())
    (tmp_path / FILES[1]).unlink()
    (tmp_path / FILES[2]).unlink()
    with pytest.raises(DataError, match=f"{FILES[1]}, {FILES[2]} missing"):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a._replace(train_labels=a.train_labels[:-1]), "24 images but labels of shape"),
        (lambda a: a._replace(test_labels=a.test_labels + 9), "labels should go from 0 to 9"),
        (lambda a: a._replace(test_labels=a.test_images), "12 images but labels of shape"),
        (lambda a: a._replace(train_images=a.train_labels), "expected images"),
        (lambda a: a._replace(test_images=a.test_images[:0], test_labels=a.test_labels[:0]), "expected images"),
        (lambda a: a._replace(test_images=a.test_images[:, 1:]), "training images are .* but test images are"),
        (lambda a: a._replace(train_images=a.train_images[:9], train_labels=a.train_labels[:9]), "too few"),
    ],
)
def test_archives_that_do_not_fit_together(tmp_path, change, reason):
    write_archives(tmp_path, change(make_arrays()))
    with pytest.raises(DataError, match=reason):
        load_dataset("mnist", tmp_path)


def test_labels_may_not_be_negative():
    images, labels, *_ = make_arrays()
    with pytest.raises(DataError, match="these go from -1 to"):
        make_split(images, np.full(len(labels), -1), "somewhere", num_classes=10)


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_another_data_set_is_not_taken_for_the_one_asked_for(tmp_path, publish, name):
    write_archives(tmp_path, make_arrays())
    publish("fashion_mnist", tmp_path)
    with pytest.raises(DataError, match="belongs to fashion_mnist, not to mnist"):
        load_dataset(name, tmp_path)
    assert load_dataset("fashion_mnist", tmp_path).info.name == "fashion_mnist"


def test_the_checksums_are_those_that_tfds_knows():
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import load_url_infos

    for name, publication in ORIGINAL_PUBLICATIONS.items():
        known = load_url_infos(tfds.core.tfds_path() / "url_checksums" / f"{name}.txt")
        for file, archive in zip(FILES, publication.archives, strict=True):
            info = known[publication.url + file]
            assert archive == (info.size, info.checksum)
