"""Small synthetic data sets, and what the tests do with them."""

import gzip
import struct
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.data.mnist.family import FILES

MNIST = Path(__file__).resolve().parents[2].parent / "shared" / "mnist"  # the published archives, where they are


class Arrays(NamedTuple):
    """What the four archives of a data set hold, in the order of FILES."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def make_arrays(seed: int = 0, train: int = 24, test: int = 12, size: int = 28) -> Arrays:
    rng = np.random.default_rng(seed)

    def draw(high: int, *shape: int) -> np.ndarray:
        return rng.integers(0, high, shape).astype(np.uint8)

    return Arrays(draw(256, train, size, size), draw(10, train), draw(256, test, size, size), draw(10, test))


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_archives(folder: Path, arrays: Arrays) -> Arrays:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in zip(FILES, arrays, strict=True):
        (folder / file).write_bytes(gzip.compress(idx_bytes(array), mtime=0))
    return arrays


def contents(folder: Path) -> list[str]:
    """Every file and folder below a folder, hidden ones included."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
