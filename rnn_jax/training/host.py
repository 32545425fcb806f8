"""Batches of data that stay on the host, read ahead of the device by the threads of a Grain pipeline.

For data that do not fit the device, in memory or in memory-mapped files. Batches come in an `Order`, so that
training equals training on data that lie on the device, and the step alone says where in the stream one is.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from rnn_jax.training.order import Order

READ_AHEAD = 2  # calls of the training function
THREADS = 2

T = TypeVar("T")


def read_ahead(
    examples: Any,
    order: Order,
    calls: Sequence[range],
    *,
    own: slice,
    max_steps: int,
    place: Callable[[Any], T],
) -> Iterator[T]:
    """Reads the batches of one call after another, the next ones while a call computes.

    Args:
      examples: a pytree of NumPy arrays [N, ...], which may be memory-mapped.
      order: the examples that each step takes.
      calls: the steps, numbered from 0, of each call; one range begins where the last one ends.
      own: the part of each batch to read, of B' examples.
      max_steps: S, the length of the longest range.
      place: copies batches to the devices, in a thread of its own.

    Yields:
      For each range the result of `place` on a pytree of arrays [S, B', ...], zero after the steps of the range.
    """
    import grain  # Importing takes a moment, and most runs do not need it.

    def read(steps: range) -> T:
        rows = order.read(steps)[:, own]

        def take(array: np.ndarray) -> np.ndarray:
            window = np.zeros((max_steps, *rows.shape[1:], *array.shape[1:]), array.dtype)
            np.take(array, rows, axis=0, out=window[: len(steps)], mode="clip")  # The default mode would copy twice.
            return window

        return place(jax.tree.map(take, examples))

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=READ_AHEAD)
    reader = iter(grain.MapDataset.source(calls).map(read).to_iter_dataset(options))
    for i, steps in enumerate(calls):
        # The order forgets here the epochs that no reader needs any more.
        order.prepare(range(steps.start, calls[min(i + READ_AHEAD + 1, len(calls) - 1)].stop))
        yield next(reader)
