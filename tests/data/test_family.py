"""MNIST's siblings as they are published: names, layouts, classes, and who keeps them where."""

import gzip
import hashlib
import string
import struct

import numpy as np
import pytest
from synthetic import MNIST, Arrays, idx_bytes, make_arrays, write_archives

from rnn_jax.data import DataError, load_dataset
from rnn_jax.data.mnist.archives import PUBLICATIONS
from rnn_jax.data.mnist.family import FAMILY, FILES

SIZES = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}


def write_files(folder, names, arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, arrays, strict=True):
        (folder / name).write_bytes(gzip.compress(idx_bytes(array)) if name.endswith(".gz") else idx_bytes(array))


def qmnist_labels(classes):
    """QMNIST's table: the class, and seven columns about the writer, as big-endian 32-bit integers."""
    table = np.arange(8 * len(classes)).reshape(-1, 8)
    table[:, 0] = classes
    return gzip.compress(struct.pack(">BBBBII", 0, 0, 12, 2, *table.shape) + table.astype(">i4").tobytes())


def emnist_arrays(split):
    """Upright images and labels of which the first is the first class and the second the last."""
    rng = np.random.default_rng(0)
    first = FAMILY[f"emnist_{split}"].first_label
    images = rng.integers(0, 256, (36, 28, 28)).astype(np.uint8)
    labels = rng.integers(first, first + SIZES[split], 36).astype(np.uint8)
    labels[:2] = first, first + SIZES[split] - 1
    return Arrays(images[:24], labels[:24], images[24:], labels[24:])


def lie_down(arrays):
    return Arrays(*(array.swapaxes(1, 2) if array.ndim == 3 else array for array in arrays))


@pytest.mark.parametrize("split", SIZES)
def test_emnist_is_turned_upright_and_numbered_from_0(tmp_path, split):
    name, arrays = f"emnist_{split}", emnist_arrays(split)
    write_files(tmp_path, FAMILY[name].files, lie_down(arrays))
    data = load_dataset(f"EMNIST-{split}", tmp_path)
    assert (data.info.name, data.info.num_classes, len(data.class_names)) == (name, SIZES[split], SIZES[split])
    np.testing.assert_array_equal(data.validation.inputs, arrays.train_images[:2])
    np.testing.assert_array_equal(data.test.inputs, arrays.test_images)
    assert data.validation.targets.tolist() == [0, SIZES[split] - 1]


def test_the_classes_of_emnist_are_those_of_its_mapping():
    names = {split: "".join(FAMILY[f"emnist_{split}"].class_names) for split in SIZES}
    assert names["byclass"] == string.digits + string.ascii_uppercase + string.ascii_lowercase
    # emnist-balanced-mapping.txt: 36 to 46 are a b d e f g h n q r t.
    assert names["balanced"] == names["bymerge"] == string.digits + string.ascii_uppercase + "abdefghnqrt"
    assert (names["letters"], names["digits"]) == (string.ascii_lowercase, string.digits)


def test_emnist_letters_with_a_label_0_are_refused(tmp_path):
    arrays = emnist_arrays("letters")
    arrays.train_labels[5] = 0
    write_files(tmp_path, FAMILY["emnist_letters"].files, arrays)
    with pytest.raises(DataError, match="labels should go from 1 to 26, these go from 0 to 26"):
        load_dataset("emnist_letters", tmp_path)


def test_qmnist_is_read_with_its_table_of_labels(tmp_path):
    arrays = make_arrays()
    write_files(tmp_path, FAMILY["qmnist"].files, arrays)
    (tmp_path / "qmnist-train-labels-idx2-int.gz").write_bytes(qmnist_labels(arrays.train_labels))
    (tmp_path / "qmnist-test-labels-idx2-int.gz").write_bytes(qmnist_labels(arrays.test_labels))
    data = load_dataset("qmnist", tmp_path)
    np.testing.assert_array_equal(data.train.targets, arrays.train_labels[2:])
    np.testing.assert_array_equal(data.test.targets, arrays.test_labels)
    assert data.train.targets.dtype == np.int32


def test_names_in_capitals_are_found(tmp_path):
    arrays = make_arrays()
    write_files(tmp_path, [file.removesuffix(".gz").upper() for file in FILES], arrays)
    np.testing.assert_array_equal(load_dataset("mnist", tmp_path).test.inputs, arrays.test_images)


def test_a_folder_with_the_name_of_a_file_is_passed_over(tmp_path):
    arrays = make_arrays()
    write_files(tmp_path, [file.removesuffix(".gz").replace("-idx", ".idx") for file in FILES], arrays)
    (tmp_path / FILES[0].removesuffix(".gz")).mkdir()
    np.testing.assert_array_equal(load_dataset("mnist", tmp_path).test.inputs, arrays.test_images)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "MNIST/raw"),
        ("fashion_mnist", "FashionMNIST/raw"),
        ("fashion_mnist", "fashion-mnist"),
        ("kmnist", "KMNIST/raw"),
        ("qmnist", "QMNIST/raw"),
        ("emnist_letters", "EMNIST/raw"),
        ("emnist_letters", "gzip"),
        ("mnist", "raw"),
    ],
)
def test_the_folders_of_torchvision_keras_and_nist_are_found(tmp_path, name, folder):
    arrays = make_arrays()
    arrays.train_labels.fill(5)
    arrays.test_labels.fill(5)
    write_files(tmp_path / folder, [file.removesuffix(".gz") for file in FAMILY[name].files], arrays)
    data = load_dataset(name, tmp_path)
    assert data.info.source == f"IDX archives in {tmp_path / folder}"
    assert data.test.targets[0] == (4 if name == "emnist_letters" else 5)


def test_one_torchvision_root_holds_every_data_set(tmp_path):
    for seed, name in enumerate(("mnist", "fashion_mnist", "kmnist")):
        arrays = write_archives(tmp_path / FAMILY[name].folder / "raw", make_arrays(seed))
        np.testing.assert_array_equal(load_dataset(name, tmp_path).test.inputs, arrays.test_images)


def save_keras(path, arrays, dtype: type = np.uint8):
    images, labels, test_images, test_labels = (array.astype(dtype) for array in arrays)
    np.savez(path, x_train=images, y_train=labels, x_test=test_images, y_test=test_labels)


def test_the_archive_of_keras_is_read(tmp_path):
    arrays = make_arrays()
    save_keras(tmp_path / "mnist.npz", arrays)
    data = load_dataset("mnist", tmp_path)
    assert data.info.source == f"Keras archive in {tmp_path}"
    np.testing.assert_array_equal(data.validation.inputs, arrays.train_images[:2])
    np.testing.assert_array_equal(data.test.targets, arrays.test_labels)


def test_a_file_can_be_named_in_place_of_its_folder(tmp_path):
    arrays = make_arrays()
    save_keras(tmp_path / "my copy.npz", arrays)
    write_archives(tmp_path / "archives", arrays)
    for file in ("my copy.npz", f"archives/{FILES[2]}"):
        np.testing.assert_array_equal(load_dataset("mnist", tmp_path / file).test.inputs, arrays.test_images)


def test_a_damaged_archive_of_keras_is_one_line(tmp_path):
    path = tmp_path / "mnist.npz"
    save_keras(path, make_arrays())
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"\0" * 50, whole.replace(b"y_test", b"z_test")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"{path} is not a sound \.npz archive of x_train") as caught:
            load_dataset("mnist", tmp_path)
        assert "\n" not in str(caught.value)
    save_keras(path, make_arrays(), float)
    with pytest.raises(DataError, match="expected images of unsigned bytes, got float64"):
        load_dataset("mnist", tmp_path)


def test_kmnist_is_read_as_npz(tmp_path):
    arrays = make_arrays()
    names = [f"kmnist-{part}-{kind}.npz" for part in ("train", "test") for kind in ("imgs", "labels")]
    for name, array in zip(names, arrays, strict=True):
        np.savez(tmp_path / name, array)
    data = load_dataset("kmnist", tmp_path)
    np.testing.assert_array_equal(data.test.inputs, arrays.test_images)
    assert data.class_names[:3] == ("o", "ki", "su")


def test_the_archives_of_one_member_are_not_another(tmp_path):
    write_files(tmp_path, FAMILY["emnist_letters"].files, emnist_arrays("letters"))
    for name in ("mnist", "auto", "emnist_digits"):
        with pytest.raises(DataError, match=r"holds emnist_letters, not .*: ask for emnist_letters"):
            load_dataset(name, tmp_path)


def test_the_plain_names_of_mnist_are_no_other_member(tmp_path):
    write_archives(tmp_path, make_arrays())
    for name in ("qmnist", "emnist_mnist"):
        with pytest.raises(DataError, match=f"{name} is not in {tmp_path}"):
            load_dataset(name, tmp_path)


def test_a_file_of_many_forms_is_read_as_published(tmp_path):
    old, new = make_arrays(1), make_arrays(2)
    write_files(tmp_path, [file.removesuffix(".gz") for file in FILES], old)
    write_files(tmp_path, [file.removesuffix(".gz").replace("-idx", ".idx") for file in FILES], old)
    write_archives(tmp_path, new)
    np.testing.assert_array_equal(load_dataset("mnist", tmp_path).test.inputs, new.test_images)


def test_what_nobody_downloads_is_said(tmp_path):
    with pytest.raises(
        DataError, match=r"qmnist is not in .*, and is not downloaded for you: get qmnist-train-images.*"
    ):
        load_dataset("qmnist", tmp_path)


@pytest.mark.parametrize("pack", ["idx", "repacked", "keras"])
def test_an_unpacked_or_repacked_data_set_is_not_taken_for_another(tmp_path, monkeypatch, pack):
    arrays = make_arrays()
    digests = tuple(
        hashlib.sha256(labels.tobytes()).hexdigest() for labels in (arrays.train_labels, arrays.test_labels)
    )
    monkeypatch.setitem(PUBLICATIONS, "mnist", PUBLICATIONS["mnist"]._replace(labels=digests))
    if pack == "keras":
        save_keras(tmp_path / "fashion_mnist.npz", arrays)
    else:
        write_files(tmp_path, [file if pack == "repacked" else file.removesuffix(".gz") for file in FILES], arrays)
        assert load_dataset("mnist", tmp_path).info.name == "mnist"
    with pytest.raises(DataError, match=f"{tmp_path}.* holds mnist, not fashion_mnist: ask for mnist"):
        load_dataset("fashion_mnist", tmp_path)


def test_classes_are_named(tmp_path):
    write_archives(tmp_path / "fashion_mnist", make_arrays())
    assert load_dataset("fashion_mnist", tmp_path).class_names[9] == "Ankle boot"
    assert load_dataset("digits").class_names == tuple("0123456789")


@pytest.mark.skipif(not MNIST.exists(), reason=f"{MNIST} does not exist")
def test_the_real_mnist_unpacked_is_not_fashion_mnist(tmp_path):
    for file in FILES:
        (tmp_path / file.removesuffix(".gz")).write_bytes(gzip.decompress((MNIST / file).read_bytes()))
    with pytest.raises(DataError, match="holds mnist, not fashion_mnist"):
        load_dataset("fashion_mnist", tmp_path)
