"""From images to batches of sequences, in an order that is a function of a key alone."""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Array


class ExampleOrder:
    """Which examples each training step takes, from an endless stream of shuffled epochs.

    The stream is one permutation of all examples after another; a batch may hold the end of one and the beginning of
    the next, as in TensorFlow's `input_data`. It is a function of its key alone, so that the number of a step is all
    that needs to be remembered of it.

    >>> order = ExampleOrder(jax.random.key(0), num_examples=4, batch_size=3)
    >>> batches = order.read(range(4))
    >>> batches.shape, sorted(batches.ravel()[:4].tolist())
    ((4, 3), [0, 1, 2, 3])
    """

    def __init__(self, key: Array, num_examples: int, batch_size: int) -> None:
        """The order that `key` makes of the examples 0 to `num_examples` - 1 in batches of `batch_size`."""
        self._key, self._num_examples, self._batch_size = key, num_examples, batch_size
        # To draw an epoch takes as long as some training steps, so those in use are kept.
        self._epochs: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def read(self, steps: range) -> np.ndarray:
        """The examples of some steps, numbered from 0: int32 [len(steps), batch_size]."""
        stream = np.concatenate([self._epoch(epoch) for epoch in self._epochs_of(steps)])
        start = steps.start * self._batch_size % self._num_examples
        return stream[start : start + len(steps) * self._batch_size].reshape(len(steps), self._batch_size)

    def prepare(self, steps: range) -> None:
        """Draws what reading these steps needs, and forgets all other epochs."""
        needed = self._epochs_of(steps)
        for epoch in needed:
            self._epoch(epoch)
        with self._lock:
            for epoch in self._epochs.keys() - set(needed):
                del self._epochs[epoch]

    def _epochs_of(self, steps: range) -> range:
        first, last = steps.start * self._batch_size, steps.stop * self._batch_size - 1
        return range(first // self._num_examples, last // self._num_examples + 1)

    def _epoch(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._epochs:
                self._epochs[epoch] = np.asarray(_shuffle(self._key, self._num_examples, epoch))
            return self._epochs[epoch]


@functools.partial(jax.jit, static_argnums=1)
def _shuffle(key: Array, num_examples: int, epoch: int) -> Array:
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)


def rows_in_time(images: Array, max_pixel: int) -> Array:
    """Reads images row by row: uint8 [B, rows, columns] -> float [T = rows, B, D = columns], from 0 to 1."""
    return jnp.moveaxis(images, -2, 0).astype(float) / max_pixel
