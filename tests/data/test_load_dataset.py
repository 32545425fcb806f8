"""From a name to data: where they are looked for, what replaces them, and what is an error."""

import os
import subprocess
import sys

import numpy as np
import pytest
from synthetic import contents, make_arrays, write_archives

from rnn_jax.data import DataError, load_dataset
from rnn_jax.data.mnist.family import FILES


def test_validation_is_the_first_twelfth_of_training(tmp_path):
    arrays = write_archives(tmp_path, make_arrays(train=60))
    data = load_dataset("mnist", tmp_path)
    np.testing.assert_array_equal(data.validation.inputs, arrays.train_images[:5])
    np.testing.assert_array_equal(data.validation.targets, arrays.train_labels[:5])
    np.testing.assert_array_equal(data.train.inputs, arrays.train_images[5:])
    np.testing.assert_array_equal(data.train.targets, arrays.train_labels[5:])
    assert (data.info.name, data.info.max_pixel, data.info.num_classes) == ("mnist", 255, 10)


def test_digits_are_divided_as_scikit_learn_divides_them():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_dataset("digits")
    assert [len(split.targets) for split in (data.validation, data.train, data.test)] == [99, 1099, 599]
    assert data.train.inputs.shape[1:] == (8, 8)
    assert data.train.inputs.max() == data.info.max_pixel == 16
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    training, test = train_test_split(np.arange(len(labels)), test_size=599, stratify=labels, random_state=0)
    for split, rows in ((data.validation, training[:99]), (data.train, training[99:]), (data.test, test)):
        np.testing.assert_array_equal(split.inputs, pixels[rows].reshape(-1, 8, 8))
        np.testing.assert_array_equal(split.targets, labels[rows])


def test_digits_without_scikit_learn_are_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"^the digits come with scikit-learn, which is missing: pip install"):
        load_dataset("digits")


def test_auto_is_mnist_if_it_is_there(tmp_path):
    write_archives(tmp_path, make_arrays())
    messages = []
    assert load_dataset("auto", tmp_path, notify=messages.append).info.name == "mnist"
    assert not messages


def test_auto_is_digits_after_a_warning_that_cannot_be_overlooked(tmp_path):
    messages = []
    data = load_dataset("auto", tmp_path / "new", notify=messages.append)
    assert data.info.name == "digits"
    (warning,) = messages
    assert warning.count("\n") > 10
    assert max(map(len, warning.splitlines())) > 80
    for words in ("NOT MNIST", str(tmp_path / "new"), "refused", '"digits"', "--data-dir", *FILES):
        assert words in warning
    assert contents(tmp_path) == []


def test_the_warning_goes_to_stderr(tmp_path, capsys):
    load_dataset("auto", tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "NOT MNIST" in err


def test_auto_does_not_hide_a_damaged_mnist(tmp_path):
    write_archives(tmp_path, make_arrays())
    path = tmp_path / FILES[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged gzip file"):
        load_dataset("auto", tmp_path)


def test_an_unknown_name():
    with pytest.raises(DataError, match="no data set 'cifar10': choose one of auto, mnist"):
        load_dataset("cifar10")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_a_name_is_that_data_set_or_an_error(tmp_path, name):
    with pytest.raises(DataError, match=f"{name} is not in {tmp_path}, and .* cannot be reached") as caught:
        load_dataset(name, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("below", ["", "new"])
def test_a_file_is_no_folder(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot read .*file.*: Not a directory"):
        load_dataset("auto", tmp_path / "file" / below)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    # chmod would not forbid anything to root.
    monkeypatch.setattr(os, "listdir", forbidden)
    with pytest.raises(DataError, match=f"cannot read {tmp_path}.*: Permission denied"):
        load_dataset("auto", tmp_path)


def test_the_default_folder_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "set"))
    write_archives(tmp_path / "set" / "mnist", make_arrays())
    assert str(tmp_path / "set") in load_dataset("mnist").info.source

    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    write_archives(tmp_path / "tensorflow_datasets", make_arrays())
    assert str(tmp_path / "tensorflow_datasets") in load_dataset("mnist").info.source


def test_importing_does_not_import_the_slow_libraries():
    code = """import sys, rnn_jax.data
rnn_jax.data.load_dataset('digits')
print({'tensorflow_datasets', 'sklearn'} & set(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
