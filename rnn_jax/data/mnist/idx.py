"""The IDX format: the files that MNIST and its siblings are published as.

A file is, all integers big-endian:

    2 bytes   zero
    1 byte    type of the elements: 0x08 is an unsigned byte, 0x0C a signed 32-bit integer (QMNIST's labels)
    1 byte    number of dimensions, n
    4n bytes  size of each dimension
    the rest  the elements, last dimension fastest

and is often, but not always, compressed with gzip.
"""

import gzip
import math
import mmap
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from rnn_jax.data.dataset import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_DTYPES = {0x08: np.dtype(np.uint8), 0x0C: np.dtype(">i4")}


def read_idx(path: str | Path) -> np.ndarray:
    """Reads one IDX file, compressed with gzip or not.

    An uncompressed file is mapped into memory, so it may be larger than the memory. The content decides whether it is
    compressed: a browser may have unpacked it and kept the name.

    Args:
      path: the file.

    Returns:
      uint8 or int32, with the file's dimensions; read-only if uint8.

    Raises:
      DataError: if the file is truncated, corrupt, or not of this format.
      OSError: if the file cannot be read.
    """
    with Path(path).open("rb") as file:
        compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        empty = os.fstat(file.fileno()).st_size == 0  # and cannot be mapped
        data = file.read() if compressed or empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _parse(gzip.decompress(data) if compressed else data)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): get it again") from error
    except ValueError as error:
        raise DataError(f"{path} is not a sound IDX file: {error}") from error


def _parse(data: bytes | mmap.mmap) -> np.ndarray:
    """Reads IDX data; raises `ValueError` with the reason if it is not sound."""
    if len(data) < 4 or data[:2] != b"\0\0":
        raise ValueError("it does not start as one")
    code, ndim = data[2], data[3]
    if code not in _DTYPES:
        raise ValueError(f"its elements have type 0x{code:02x}, only unsigned bytes and 32-bit integers are read")
    dtype, start = _DTYPES[code], 4 + 4 * ndim
    if ndim == 0 or len(data) < start:
        raise ValueError("its header is incomplete")
    shape = struct.unpack(f">{ndim}I", data[4:start])
    # Python's integers do not overflow, so absurd sizes in a damaged header fail here.
    needed = dtype.itemsize * math.prod(shape)
    if len(data) - start != needed:
        raise ValueError(f"{len(data) - start} bytes follow its header, shape {shape} needs {needed}")
    elements = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return elements.astype(dtype.newbyteorder("="), copy=False)
