"""Downloading and preparing, through the real machinery of tfds, from a server on this machine."""

import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import MNIST, QuietHandler, contents, make_arrays, write_archives

from rnn_jax.data import DataError, load_dataset
from rnn_jax.data.dataset import DownloadError
from rnn_jax.data.mnist import builder
from rnn_jax.data.mnist.archives import PUBLICATIONS
from rnn_jax.data.mnist.download import _probe, download
from rnn_jax.data.mnist.family import FILES


@pytest.fixture
def published(tmp_path, serve, publish):
    """A small mnist that can be downloaded."""
    folder = tmp_path / "publisher"
    arrays = write_archives(folder, make_arrays())
    publish("mnist", folder, serve(folder))
    return arrays


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "home" / "tensorflow_datasets"


def prepared_files(data_dir):
    return [file for file in contents(data_dir) if (data_dir / file).is_file()]


def test_downloaded_once_then_read(published, data_dir, monkeypatch, capfd):
    messages = []
    first = load_dataset("mnist", data_dir, notify=messages.append)
    np.testing.assert_array_equal(first.train.inputs, published.train_images[2:])
    np.testing.assert_array_equal(first.validation.inputs, published.train_images[:2])
    np.testing.assert_array_equal(first.test.targets, published.test_labels)

    (message,) = messages
    url = PUBLICATIONS["mnist"].url
    assert message.startswith("Downloading mnist (0.0 MB)")
    assert message.endswith(f"from {url} to {data_dir}")
    assert capfd.readouterr() == ("", "")

    folder = data_dir / "mnist_family" / "mnist" / "1.0.0"
    assert {Path(file).parent for file in prepared_files(data_dir)} == {folder.relative_to(data_dir)}
    assert contents(data_dir.parent)[0] == "tensorflow_datasets"

    monkeypatch.delitem(PUBLICATIONS, "mnist")
    again = load_dataset("mnist", data_dir, notify=messages.append)
    assert again.info.source == f"tfds folder {folder}"
    np.testing.assert_array_equal(again.train.inputs, first.train.inputs)
    assert len(messages) == 1


def test_what_is_prepared_is_a_data_source_for_everybody(published, data_dir):
    import tensorflow_datasets as tfds

    folder = download("mnist", data_dir, notify=print)
    sources: Any = tfds.builder_from_directory(folder).as_data_source()
    source = sources["train"]
    assert len(source) == 24
    np.testing.assert_array_equal(source[3]["image"], published.train_images[3])
    assert source[3]["label"] == published.train_labels[3]


def test_a_second_process_may_finish_at_the_same_time(published, data_dir):
    assert download("mnist", data_dir, notify=print) == download("mnist", data_dir, notify=print)
    assert not [file for file in contents(data_dir.parent) if ".rnn_jax" in file]


class CuttingHandler(QuietHandler):
    """Promises the whole file, and sends half of it."""

    def copyfile(self, source, outputfile):
        data = source.read()
        outputfile.write(data[: len(data) // 2])


@pytest.mark.parametrize("exists", [False, True])
class TestNothingIsLeftBehind:
    @pytest.fixture(autouse=True)
    def existing(self, exists, data_dir, tmp_path):
        if exists:
            data_dir.mkdir(parents=True)
        before = contents(tmp_path / "home")
        yield
        assert contents(tmp_path / "home") == before

    def test_when_nobody_answers(self, data_dir):
        with pytest.raises(DataError, match=r"mnist is not in .* cannot be reached: .*refused"):
            load_dataset("mnist", data_dir)

    def test_when_the_files_are_not_there(self, data_dir, tmp_path, serve):
        with pytest.raises(DownloadError, match="404"):
            download("mnist", data_dir, notify=print, url=serve(tmp_path))

    def test_when_something_else_is_sent(self, published, data_dir, tmp_path):
        path = tmp_path / "publisher" / FILES[3]
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(DownloadError, match="wrong checksum"):
            download("mnist", data_dir, notify=print)

    def test_when_the_connection_breaks(self, published, data_dir, tmp_path, serve):
        with pytest.raises(DownloadError, match="broke off"):
            download("mnist", data_dir, notify=print, url=serve(tmp_path / "publisher", CuttingHandler))

    def test_when_the_user_interrupts(self, published, data_dir, monkeypatch):
        generate = builder.MnistFamily._generate_examples

        def interrupted(self, *args):
            yield next(generate(self, *args))
            raise KeyboardInterrupt

        monkeypatch.setattr(builder.MnistFamily, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            download("mnist", data_dir, notify=print)

    def test_when_writing_is_forbidden(self, published, data_dir, monkeypatch):
        def forbidden(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryDirectory", forbidden)
        with pytest.raises(DataError, match=r"cannot write mnist to .*: Permission denied"):
            load_dataset("auto", data_dir)


def test_a_server_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(DownloadError, match=r"does not answer|timed out"):
            _probe(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=0.4)
        assert time.monotonic() - start < 2


def test_a_name_that_is_never_resolved_is_given_up(monkeypatch):
    def resolve(*args):
        time.sleep(0.6)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(DownloadError, match=r"does not answer within 0\.2 seconds"):
        _probe("http://127.0.0.1/", seconds=0.2)


def test_beside_tfds_own_folder(published, data_dir):
    """tfds's own builder and this one use one data_dir, and neither sees the other's files."""
    import tensorflow_datasets as tfds

    load_dataset("mnist", data_dir)
    own = tfds.builder("mnist", data_dir=data_dir)
    assert not own.data_path.exists()
    own.data_path.mkdir(parents=True)
    assert load_dataset("mnist", data_dir).info.source.endswith("mnist_family/mnist/1.0.0")


@pytest.mark.skipif(not MNIST.exists(), reason=f"{MNIST} does not exist")
def test_the_real_mnist(data_dir, serve):
    url = serve(MNIST)
    prepared = load_dataset("mnist", download("mnist", data_dir, notify=print, url=url).parents[2])
    archives = load_dataset("mnist", MNIST)
    assert [len(split.inputs) for split in (prepared.train, prepared.validation, prepared.test)] == [55000, 5000, 10000]
    assert archives.train.targets[:5].tolist() == [7, 3, 4, 6, 1]
    for split in ("train", "validation", "test"):
        for part, other in zip(getattr(prepared, split)[:2], getattr(archives, split)[:2], strict=True):
            np.testing.assert_array_equal(part, other)
