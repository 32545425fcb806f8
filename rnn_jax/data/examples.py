"""Examples in memory: sequences, their targets, and their lengths."""

from typing import NamedTuple

import numpy as np

PIECE = 256 << 20  # bytes


class Examples(NamedTuple):
    """A set of N examples. The arrays may be read-only.

    Attributes:
      inputs: [N, T, D], one sequence each; of an image T are its rows and D its columns.
      targets: [N, ...], for example int32 [N], the classes.
      lengths: int32 [N], how many steps of each sequence are valid; None if all are.
      starts: bool [N], True for the first window of a stream, whose next windows go on from its state; None where every
        example stands for itself.
    """

    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray | None = None
    starts: np.ndarray | None = None


def num_bytes(examples: Examples) -> int:
    """Returns the memory that the arrays take."""
    return sum(array.nbytes for array in examples if array is not None)


def pieces(examples: Examples) -> list[Examples]:
    """Cuts examples into parts of at most `PIECE` bytes, which fit any device."""
    count = len(examples.targets)
    size = max(1, PIECE * count // num_bytes(examples))
    return [
        Examples(*(None if array is None else array[start : start + size] for array in examples))  # type: ignore
        for start in range(0, count, size)
    ]
