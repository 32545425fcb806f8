"""JAX's default random numbers in NumPy, for the host: nothing is compiled, and no device is needed.

Threefry-2x32 (Salmon et al., 2011, doi:10.1145/2063384.2063405) maps a key of two words and a counter of 64 bits to two
words. The functions return the numbers of their namesakes in `jax.random`, with the settings that are JAX's defaults.
"""

import math

import jax
import numpy as np

from rnn_jax.base import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)


def key_words(key: Array) -> np.ndarray:
    """Returns the first two words of typed keys [...]: uint32 [..., 2], a key of another generator's cut short."""
    return np.asarray(jax.random.key_data(key)).reshape(*key.shape, -1)[..., :2]


def fold_in(words: np.ndarray, data: int) -> np.ndarray:
    """Derives the words of a new key from those of a key, uint32 [2], and a number."""
    return threefry(words, np.array([data]))[:, 0]


def permutation(words: np.ndarray, n: int) -> np.ndarray:
    """Draws a permutation of 0 to `n` - 1, int32 [n], from the words of a key."""
    order = np.arange(n, dtype=np.int32)
    # Sorts by random words, until ties in all of the sorts are improbable.
    for _ in range(math.ceil(3 * math.log(n) / math.log(2**32 - 1))):
        words, subkey = threefry(words, np.arange(2)).T
        high, low = threefry(subkey, np.arange(n))
        order = order[np.argsort(high ^ low, kind="stable")]
    return order


def threefry(words: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Encrypts counters, integers [n], by the words of a key: uint32 [2, n]."""
    keys = words[0], words[1], words[0] ^ words[1] ^ PARITY
    x = (counters >> 32).astype(np.uint32) + keys[0]
    y = counters.astype(np.uint32) + keys[1]
    for i in range(5):
        for bits in ROTATIONS[i % 2]:
            x += y
            y = (y << bits | y >> (32 - bits)) ^ x
        x += keys[(i + 1) % 3]
        y += keys[(i + 2) % 3]
        y += np.uint32(i + 1)
    return np.stack([x, y])
