"""Reading the folders that tfds's own builder has prepared, without TensorFlow."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from rnn_jax.data import DataError, load_dataset
from rnn_jax.data.mnist.prepared import _read_tf_records, find_prepared, read_prepared

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "tfds_mnist"
TRAIN = "mnist-train.tfrecord-00000-of-00001"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the prepared folder, to be damaged."""
    return Path(shutil.copytree(FIXTURE / "mnist" / "3.0.1", tmp_path / "mnist" / "3.0.1"))


def convert_to_array_record(folder: Path) -> None:
    """What tfds leaves when it is asked for file_format="array_record"."""
    for path in folder.glob("*.tfrecord-*"):
        writer = array_record_module.ArrayRecordWriter(str(path).replace("tfrecord", "array_record"), "group_size:1")
        for record in _read_tf_records(path):
            writer.write(record)
        writer.close()
        path.unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"array_record"'))


@pytest.mark.parametrize("convert", [lambda folder: None, convert_to_array_record])
def test_the_same_data_in_the_same_order_as_the_archives(folder, convert):
    convert(folder)
    found = load_dataset("mnist", folder.parents[1])
    expected = load_dataset("mnist", FIXTURE / "idx")
    assert found.info.source == f"tfds folder {folder}"
    for split in ("train", "validation", "test"):
        for part, other in zip(getattr(found, split)[:2], getattr(expected, split)[:2], strict=True):
            assert part.dtype == other.dtype
            np.testing.assert_array_equal(part, other)
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("level", [0, 1])
def test_the_prepared_folder_itself_is_a_data_dir(folder, level):
    assert load_dataset("mnist", [folder, folder.parent][level]).info.source == f"tfds folder {folder}"


def test_a_folder_of_another_data_set_is_refused(folder):
    with pytest.raises(DataError, match="holds mnist, not kmnist: ask for mnist"):
        load_dataset("kmnist", folder)


def test_the_newest_complete_version_is_taken(folder):
    versions = folder.parent
    for name in ("2.0.0", "10.0.0", "incomplete.XYZ_11.0.0"):
        shutil.copytree(folder, versions / name)
    (versions / "12.0.0").mkdir()
    assert find_prepared(versions) == versions / "10.0.0"
    assert find_prepared(versions / "nowhere") is None


def cut(folder: Path) -> None:
    path = folder / TRAIN
    path.write_bytes(path.read_bytes()[:-1])


def drop_last_record(folder: Path) -> None:
    path = folder / TRAIN
    path.write_bytes(path.read_bytes()[: -len(list(_read_tf_records(path))[-1]) - 16])


def flip_pixel(folder: Path) -> None:
    path = folder / TRAIN
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    path.write_bytes(data)


def remove_shard(folder: Path) -> None:
    (folder / TRAIN).unlink()


def spoil_description(folder: Path) -> None:
    (folder / "dataset_info.json").write_text("{")


@pytest.mark.parametrize("damage", [cut, drop_last_record, flip_pixel, remove_shard, spoil_description])
@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_damaged_folder_is_an_error(folder, damage, name):
    damage(folder)
    with pytest.raises(DataError) as caught:
        load_dataset(name, folder.parents[1])
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_not_blamed_on_the_folder(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError):
        read_prepared("mnist", folder)
