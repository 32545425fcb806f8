"""Batches of images that stay on the host, read ahead of the device by the threads of a Grain pipeline.

For data that do not fit the device: in memory, or in memory-mapped files. They come in an `ExampleOrder`, so that
training on them is what it would be if they lay on the device, and the step says where in the stream one is.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from rnn_jax.data.dataset import Split
from rnn_jax.training.order import ExampleOrder

READ_AHEAD = 2  # calls of the training function
THREADS = 2

T = TypeVar("T")


def read_ahead(
    data: Split,
    order: ExampleOrder,
    calls: Sequence[range],
    *,
    own: slice,
    max_steps: int,
    place: Callable[[Split], T],
) -> Iterator[T]:
    """Reads the batches of some steps at a time, beginning with the next ones while those before are in use.

    Args:
      data: N images and labels; arrays, which may be memory-mapped.
      order: which of them each step takes.
      calls: the steps, numbered from 0, whose batches are wanted at once; one range begins where the last one ends.
      own: which of the examples of each batch are read.
      max_steps: S, the length of the longest range.
      place: what is done with what is read, in a thread of its own: to bring it to the devices.

    Yields:
      For each range what `place` makes of images [S, B', R, C] and labels [S, B'], B' the examples of `own`; after the
      steps of the range they are zero.
    """
    import grain  # It takes a moment to import, which most runs need not spend.

    def read(steps: range) -> T:
        rows = order.read(steps)[:, own]
        window = Split(*(np.zeros((max_steps, *rows.shape[1:], *array.shape[1:]), array.dtype) for array in data))
        for whole, part in zip(data, window, strict=True):
            np.take(whole, rows, axis=0, out=part[: len(steps)], mode="clip")  # the default would copy twice
        return place(window)

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=READ_AHEAD)
    reader = iter(grain.MapDataset.source(calls).map(read).to_iter_dataset(options))
    for i, steps in enumerate(calls):
        # The orders that the threads will need are drawn here, where nothing else is in flight: devices made of CPU
        # cores, which wait for each other, must not be kept from it by a computation of another thread.
        order.prepare(range(steps.start, calls[min(i + READ_AHEAD + 1, len(calls) - 1)].stop))
        yield next(reader)
