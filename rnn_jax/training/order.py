"""The order of examples in training, a function of a key and of the step."""

import threading
from typing import Protocol

import numpy as np

from rnn_jax.base import Array
from rnn_jax.training.threefry import fold_in, key_words, permutation


class Order(Protocol):
    """The examples that each step takes."""

    def read(self, steps: range) -> np.ndarray:
        """Returns the examples of steps numbered from 0: int32 [len(steps), batch_size]."""
        ...

    def prepare(self, steps: range) -> None:
        """Draws what `read` needs for these steps."""
        ...


class ExampleOrder:
    """An endless stream of shuffled epochs, cut into batches.

    The stream is one permutation of all examples after another. A batch may hold the end of one epoch and the beginning
    of the next, as in TensorFlow's `input_data`. The stream is a function of its key alone, so that the step number is
    its only state.

    >>> import jax
    >>> order = ExampleOrder(jax.random.key(0), num_examples=4, batch_size=3)
    >>> batches = order.read(range(4))
    >>> batches.shape, sorted(batches.ravel()[:4].tolist())
    ((4, 3), [0, 1, 2, 3])
    """

    def __init__(self, key: Array | np.ndarray, num_examples: int, batch_size: int) -> None:
        """Orders the examples 0 to `num_examples` - 1 by a typed key or its words, in batches of `batch_size`."""
        self._words = key if isinstance(key, np.ndarray) else key_words(key)
        self._num_examples, self._batch_size = num_examples, batch_size
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
                self._epochs[epoch] = permutation(fold_in(self._words, epoch), self._num_examples)
            return self._epochs[epoch]


class StreamOrder:
    """The order of windows that continue each other: row b of a batch reads stream b, one window after another.

    The examples are the windows of the first stream, then those of the second, and so on. After its last window, each
    row begins again with its first.

    >>> StreamOrder(num_examples=6, batch_size=2).read(range(4)).tolist()
    [[0, 3], [1, 4], [2, 5], [0, 3]]

    Raises:
      ValueError: for examples that are not as many windows of each stream.
    """

    def __init__(self, num_examples: int, batch_size: int) -> None:
        """Divides `num_examples` windows among `batch_size` streams."""
        if num_examples % batch_size:
            raise ValueError(f"{num_examples} windows are not those of {batch_size} streams of equal length")
        self._windows, self._batch_size = num_examples // batch_size, batch_size

    def read(self, steps: range) -> np.ndarray:
        """Returns the examples of steps numbered from 0: int32 [len(steps), batch_size]."""
        window = np.arange(steps.start, steps.stop, dtype=np.int32)[:, None] % self._windows
        return window + self._windows * np.arange(self._batch_size, dtype=np.int32)

    def prepare(self, steps: range) -> None:
        """Does nothing: the order needs no random numbers."""
