"""The order of examples in training, a function of a key and of the step."""

import functools
import threading

import jax
import numpy as np

from rnn_jax.base import Array


class ExampleOrder:
    """An endless stream of shuffled epochs, cut into batches.

    The stream is one permutation of all examples after another. A batch may hold the end of one epoch and the beginning
    of the next, as in TensorFlow's `input_data`. The stream is a function of its key alone, so that the step number is
    its only state.

    >>> order = ExampleOrder(jax.random.key(0), num_examples=4, batch_size=3)
    >>> batches = order.read(range(4))
    >>> batches.shape, sorted(batches.ravel()[:4].tolist())
    ((4, 3), [0, 1, 2, 3])
    """

    def __init__(self, key: Array, num_examples: int, batch_size: int) -> None:
        """Orders the examples 0 to `num_examples` - 1 by `key`, in batches of `batch_size`."""
        self._key, self._num_examples, self._batch_size = key, num_examples, batch_size
        # Drawing an epoch takes as long as several training steps, so epochs in use are kept.
        self._epochs: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def read(self, steps: range) -> np.ndarray:
        """Returns the examples of steps numbered from 0: int32 [len(steps), batch_size]."""
        stream = np.concatenate([self._epoch(epoch) for epoch in self._epochs_of(steps)])
        start = steps.start * self._batch_size % self._num_examples
        return stream[start : start + len(steps) * self._batch_size].reshape(len(steps), self._batch_size)

    def prepare(self, steps: range) -> None:
        """Draws the epochs that these steps need, and forgets all others."""
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
