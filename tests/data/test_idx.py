"""Reading IDX files: what is written comes back, and what is damaged never does."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from synthetic import idx_bytes

from rnn_jax.data import DataError
from rnn_jax.data.mnist.idx import read_idx

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
compressions = st.sampled_from([bytes, gzip.compress])


def read(data: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        return read_idx(path)


@given(arrays, compressions)
def test_round_trip(array, compress):
    found = read(compress(idx_bytes(array)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


def test_what_is_not_compressed_is_mapped(tmp_path):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    (tmp_path / "file").write_bytes(idx_bytes(array))
    found = read_idx(tmp_path / "file")
    with (tmp_path / "file").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    assert found[-1, -1, -1] == 255, "it is the file, not a copy"


@given(arrays, compressions, st.data())
def test_a_file_cut_anywhere_is_refused(array, compress, data):
    whole = compress(idx_bytes(array))
    with pytest.raises(DataError):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(arrays, st.binary(min_size=1, max_size=9))
def test_bytes_too_many_are_refused(array, more):
    with pytest.raises(DataError, match="bytes follow its header"):
        read(idx_bytes(array) + more)


def test_a_flipped_bit_in_an_archive_is_never_silent():
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    whole = gzip.compress(idx_bytes(array))
    refused = 0
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            try:
                np.testing.assert_array_equal(read(bytes(damaged)), array)
            except DataError:
                refused += 1
    # What may change unnoticed is the gzip header's: the time, the system, and a few flags.
    assert refused >= 8 * (len(whole) - 8)


def test_a_flipped_bit_in_the_header_is_refused():
    whole = idx_bytes(np.zeros((3, 4, 5), np.uint8))
    for position in range(4 + 3 * 4):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            with pytest.raises(DataError):
                read(bytes(damaged))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "does not start as one"),
        (b"<html>404 Not Found</html>", "does not start as one"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "type 0x0d"),
        (b"\0\0\x08\0", "header is incomplete"),
        (b"\0\0\x08\x03\0\0\0\x01", "header is incomplete"),
        (b"\0\0\x08\x03" + 12 * b"\xff", "0 bytes follow its header"),
        (b"\x1f\x8b", "damaged gzip file"),
    ],
)
def test_the_reason_is_named(tmp_path, data, reason):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
