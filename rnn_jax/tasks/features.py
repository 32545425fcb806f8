"""Computes the features that a network reads from scaled sequences."""

import jax
import jax.numpy as jnp

from rnn_jax.base import Array
from rnn_jax.data.series import SeriesInfo

MOST_STEPS = 40  # in time, for a network; longer sequences are read several steps at once


def steps_at_once(info: SeriesInfo) -> int:
    """Returns the number of steps read as one, so that a network takes at most `MOST_STEPS`; 1 if each has a target."""
    return 1 if info.form.per_step else -(-info.steps // MOST_STEPS)


def num_features(info: SeriesInfo) -> int:
    """Returns the number of features of a step that `features` computes."""
    return 2 * len(info.scaling.mean) * steps_at_once(info)


def features(
    info: SeriesInfo, inputs: Array, lengths: Array | None = None, *, noise: float = 0.0, key: Array | None = None
) -> tuple[Array, Array | None]:
    """Adds the change from step to step, and joins steps.

        d_t = (x_t - x_{t-1}) / rate,    d_1 = 0

    Changes have a deviation of 1 in the training data, so that small but informative ones count, such as the shape of
    a spectrum whose level varies. Joining k steps makes one step with k times as many features.

    Args:
      info: the facts about the data, with the rates.
      inputs: float [B, T, D], scaled.
      lengths: int [B], or None if all steps are valid.
      noise: the standard deviation of Gaussian noise added to all features in training.
      key: drives the noise; None for none.

    Returns:
      (features [T / k, B, 2 D k], time leading and T / k rounded up; the lengths in joined steps).
    """
    x = jnp.moveaxis(jnp.asarray(inputs), -2, 0)
    rates = jnp.asarray(info.rates, x.dtype)
    d = (x[1:] - x[:-1]) * jnp.where(rates > 0, 1 / jnp.where(rates > 0, rates, 1), 0)
    x = jnp.concatenate([x, jnp.concatenate([jnp.zeros_like(x[:1]), d])], axis=-1)
    if noise and key is not None:
        x = x + noise * jax.random.normal(key, x.shape, x.dtype)
    if lengths is not None:
        valid = jnp.arange(len(x)).reshape(-1, *[1] * lengths.ndim) < lengths
        x = jnp.where(valid[..., None], x, 0)
    k = steps_at_once(info)
    if k == 1:
        return x, lengths
    steps = -(-len(x) // k)
    x = jnp.pad(x, [(0, steps * k - len(x)), *[(0, 0)] * (x.ndim - 1)])
    x = jnp.moveaxis(x.reshape(steps, k, *x.shape[1:]), 1, -2).reshape(steps, *x.shape[1:-1], -1)
    return x, None if lengths is None else -(-lengths // k)
