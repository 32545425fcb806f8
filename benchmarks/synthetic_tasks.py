"""Generators of the tasks that papers on recurrent networks test memory with, each with its definition.

A generator takes a NumPy generator of random numbers, the number N of sequences and the sizes of the task. Inputs are
tokens int32 [N, T], from 0 up, or numbers float32 [N, T, D]. Targets are tokens int32 [N, T], `IGNORED` at all steps
that are not scored, or one number for each sequence, float32 [N].
"""

import numpy as np

from rnn_jax.data import Examples

IGNORED = -1


def adding(rng: np.random.Generator, count: int, *, length: int) -> Examples:
    """Draws the adding problem (Hochreiter and Schmidhuber, 1997; in this form Le et al., 2015, arXiv:1504.00941).

    A step has two features: a number, uniform from 0 to 1, and a mark, 1 at one random step of the first half of the
    sequence and at one of the second, else 0. The target is the sum of the two marked numbers. A prediction counts as
    correct within 0.04, as in the first paper.
    """
    numbers = rng.random((count, length), np.float32)
    half = length // 2
    marked = np.stack([rng.integers(half, size=count), rng.integers(half, length, size=count)], axis=1)
    marks = np.zeros_like(numbers)
    np.put_along_axis(marks, marked, 1, axis=1)
    return Examples(np.stack([numbers, marks], axis=-1), np.sum(numbers * marks, axis=1))


def copying(rng: np.random.Generator, count: int, *, delay: int, symbols: int = 8, copied: int = 10) -> Examples:
    """Draws the copying memory task (Arjovsky et al., 2016, arXiv:1511.06464).

    The inputs are `copied` random symbols, 1 to `symbols`; `delay` - 1 blanks, 0; a marker, `symbols` + 1; and `copied`
    blanks, at which the targets are the symbols in their order: T = delay + 2 copied. The paper scores the blanks
    before, too, which any network learns.
    """
    data = rng.integers(1, symbols + 1, (count, copied), np.int32)
    inputs = np.zeros((count, delay + 2 * copied), np.int32)
    inputs[:, :copied] = data
    inputs[:, -copied - 1] = symbols + 1
    return Examples(inputs, _at_the_end(data, inputs))


def selective_copying(
    rng: np.random.Generator, count: int, *, length: int, symbols: int = 14, copied: int = 16
) -> Examples:
    """Draws selective copying (Gu and Dao, 2023, arXiv:2312.00752).

    Of `length` inputs, `copied` at random steps are random symbols, 1 to `symbols`, and the others noise, 0. `copied`
    markers, `symbols` + 1, follow, at which the targets are the symbols in their order: T = length + copied. The paper
    has 16 tokens, 16 of them copied, and length 4096.
    """
    data = rng.integers(1, symbols + 1, (count, copied), np.int32)
    steps = np.sort(rng.random((count, length)).argsort(axis=1)[:, :copied], axis=1)
    inputs = np.zeros((count, length + copied), np.int32)
    np.put_along_axis(inputs, steps, data, axis=1)
    inputs[:, length:] = symbols + 1
    return Examples(inputs, _at_the_end(data, inputs))


def associative_recall(
    rng: np.random.Generator, count: int, *, length: int, pairs: int, tokens: int, power: float = 0.01
) -> Examples:
    """Draws multi-query associative recall (Arora et al., 2023, arXiv:2312.04927).

    The sequence begins with `pairs` pairs of a key and a value. The keys are different tokens from 1 to below
    `tokens` / 2, the values different tokens from there on. Each key comes again once, as a query, at which the target
    is its value; the other inputs are 0. The places of the queries are drawn without replacement from every second
    step after the pairs, the g-th of them, from 1, with a probability proportional to g^(power - 1).

    Raises:
      ValueError: for more pairs than keys, or queries than places.
    """
    half, places = tokens // 2, (length - 2 * pairs) // 2
    if pairs > min(half - 1, places):
        raise ValueError(f"{pairs} pairs need more than {pairs} of {tokens // 2} keys, and as many of {places} places")
    keys = 1 + rng.random((count, half - 1)).argsort(axis=1)[:, :pairs]
    values = half + rng.random((count, tokens - half)).argsort(axis=1)[:, :pairs]
    inputs = np.zeros((count, length), np.int32)
    targets = np.full((count, length), IGNORED, np.int32)
    inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
    # The smallest of exponential numbers divided by weights are a draw without replacement by these weights.
    weights = np.arange(1.0, places + 1) ** (power - 1)
    queries = 2 * pairs + 2 * (rng.exponential(size=(count, places)) / weights).argsort(axis=1)[:, :pairs]
    np.put_along_axis(inputs, queries, keys.astype(np.int32), axis=1)
    np.put_along_axis(targets, queries, values.astype(np.int32), axis=1)
    return Examples(inputs, targets)


def parity(rng: np.random.Generator, count: int, *, length: int, first: int = 1) -> Examples:
    """Draws parity, which tests the tracking of a state (Deletang et al., 2022, arXiv:2207.02098).

    The inputs are random bits, and the target of each step is the parity of all bits up to it, so that a sequence
    stands for all of its beginnings. Those of fewer than `first` bits are not scored: a network that was trained on
    `length` bits is tested on `first` = length + 1 to 2 length.
    """
    bits = rng.integers(2, size=(count, length), dtype=np.int32)
    targets = np.cumsum(bits, axis=1, dtype=np.int32) % 2
    targets[:, : first - 1] = IGNORED
    return Examples(bits, targets)


def _at_the_end(data: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Returns targets that score the last steps alone."""
    targets = np.full_like(inputs, IGNORED)
    targets[:, -data.shape[1] :] = data
    return targets
