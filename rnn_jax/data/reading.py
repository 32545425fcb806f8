"""Batches of images that stay on the host, read ahead of the device by the threads of a Grain pipeline.

For data that do not fit the device: in memory, or in memory-mapped files. The examples come in `example_order`, so that
training on them is what it would be if they lay on the device, and the step says where in the stream one is.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np

from rnn_jax.base import Array
from rnn_jax.data.batching import epoch_order
from rnn_jax.data.dataset import Split

READ_AHEAD = 2  # calls of the training function
THREADS = 2

T = TypeVar("T")


def read_ahead(
    data: Split,
    key: Array,
    calls: Sequence[range],
    *,
    batch_size: int,
    own: slice,
    max_steps: int,
    place: Callable[[Split], T],
) -> Iterator[T]:
    """Reads the batches of some steps at a time, beginning with the next ones while those before are in use.

    Args:
      data: N images and labels; arrays, which may be memory-mapped.
      key: of `example_order`.
      calls: the steps, numbered from 0, whose batches are wanted at once; one range begins where the last one ends.
      batch_size: B, examples in a batch.
      own: which of the examples of each batch are read.
      max_steps: S, the length of the longest range.
      place: what is done with what is read, in a thread of its own: to bring it to the devices.

    Yields:
      For each range what `place` makes of images [S, B', R, C] and labels [S, B'], B' the examples of `own`; after the
      steps of the range they are zero.
    """
    import grain  # It takes a moment to import, which most runs need not spend.

    orders: dict[int, np.ndarray] = {}
    draw, lock = jax.jit(epoch_order, static_argnums=1), threading.Lock()

    def order(epoch: int) -> np.ndarray:
        with lock:
            if epoch not in orders:
                orders[epoch] = np.asarray(draw(key, len(data.labels), epoch))
            return orders[epoch]

    def epochs(steps: range) -> range:
        return range(
            steps.start * batch_size // len(data.labels), (steps.stop * batch_size - 1) // len(data.labels) + 1
        )

    def read(steps: range) -> T:
        stream = np.concatenate([order(epoch) for epoch in epochs(steps)])
        start = steps.start * batch_size % len(data.labels)
        rows = stream[start : start + len(steps) * batch_size].reshape(len(steps), batch_size)[:, own]
        window = Split(*(np.zeros((max_steps, *rows.shape[1:], *array.shape[1:]), array.dtype) for array in data))
        for whole, part in zip(data, window, strict=True):
            np.take(whole, rows, axis=0, out=part[: len(steps)], mode="clip")  # the default would copy twice
        return place(window)

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=READ_AHEAD)
    reader = iter(grain.MapDataset.source(calls).map(read).to_iter_dataset(options))
    for i, steps in enumerate(calls):
        # The orders that the threads will need are drawn here, where nothing else is in flight: devices made of CPU
        # cores, which wait for each other, must not be kept from it by a computation of another thread.
        horizon = calls[min(i + READ_AHEAD + 1, len(calls) - 1)]
        needed = range(epochs(steps).start, epochs(horizon).stop)
        for epoch in needed:
            order(epoch)
        with lock:
            for epoch in orders.keys() - set(needed):
                del orders[epoch]
        yield next(reader)
