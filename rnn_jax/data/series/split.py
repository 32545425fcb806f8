"""Parts of a data set: held out by class, drawn from a seed, or the end of a time series."""

import numpy as np


def hold_out(classes: np.ndarray | None, count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides sequences at random, so that each class is held out in the same proportion.

    Args:
      classes: int [N], the class of each sequence; None to draw from all of them alike.
      count: N.
      fraction: the part to hold out, from 0 to 1. At least one sequence of each class is kept, and, of two or
        more, at least one is held out.
      seed: the same seed draws the same sequences.

    Returns:
      (kept indices, held-out indices), both rising.
    """
    rng = np.random.default_rng(seed)
    held = []
    classes = np.zeros(count, int) if classes is None else classes
    for c in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == c))
        held.append(members[: min(max(1, round(fraction * len(members))), len(members) - 1)])
    held_out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(count), held_out), held_out


class TooShort(ValueError):
    """The sequences are too short for the requested windows."""


def cut_in_time(length: int, window: int, horizon: int, has_test: bool = True) -> tuple[int, int]:
    """Divides the steps of a series into training, validation and test, in this order.

    The test is the last sixth, at least two horizons. Validation is as long and precedes it, but takes at most a
    quarter of the steps that training could use, and at least one horizon.

    Args:
      length: T, the number of steps.
      window: the steps that are read before a forecast.
      horizon: the steps that are forecast.
      has_test: False if the test is a series of its own, and all steps are for training and validation.

    Returns:
      (the first step of validation, the first step of the test).

    Raises:
      TooShort: if no training window remains.
    """
    held_out = max(2 * horizon, length // 6)
    test = length - held_out if has_test else length
    validation = test - min(held_out, max(horizon, (test - window - horizon) // 4))
    if validation < window + horizon:
        needed = window + (4 if has_test else 2) * horizon
        raise TooShort(
            f"{length} steps are too few for window {window} and horizon {horizon}, at least {needed} are needed"
        )
    return validation, test


def window_starts(first: int, end: int, window: int, horizon: int) -> np.ndarray:
    """Returns the starts of the windows whose targets lie within the steps from `first` to before `end`.

    Window w reads the steps w to w + window - 1 and its targets are the `horizon` steps after them. Its inputs may
    lie before `first`, in the past.

    >>> window_starts(0, 6, window=3, horizon=2)
    array([0, 1])
    >>> window_starts(6, 10, window=3, horizon=2)
    array([3, 4, 5])
    """
    return np.arange(max(0, first - window), end - window - horizon + 1)
