"""Training as pure functions: a state goes in, the next one comes out; `fit` jits them and counts the steps."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rnn_jax.base import Array, Params
from rnn_jax.classifier import Classifier, Metrics, classification_metrics
from rnn_jax.data import Split
from rnn_jax.data.batching import example_order, rows_in_time


class TrainState(NamedTuple):
    """All that changes in training.

    Attributes:
      step: int32 [], how many updates have been made.
      params: the classifier's.
      opt_state: the optimizer's.
      key: the run's key; it stays as it is, each use of it folds in what it is for and the step.
    """

    step: Array
    params: Params
    opt_state: Any
    key: Array


def init_state(
    classifier: Classifier, optimizer: optax.GradientTransformation, key: Array, input_size: int
) -> TrainState:
    """The state before the first step, for inputs of `input_size` features. All that is random comes from `key`."""
    params = classifier.init(jax.random.fold_in(key, 0), input_size)
    return TrainState(jnp.int32(0), params, optimizer.init(params), jax.random.fold_in(key, 1))


def train_step(
    classifier: Classifier, optimizer: optax.GradientTransformation, state: TrainState, xs: Array, labels: Array
) -> tuple[TrainState, Metrics]:
    """One update on one batch.

    Args:
      classifier: what is trained.
      optimizer: how.
      state: where training is.
      xs: the sequences, [T, B, D].
      labels: int [B].

    Returns:
      (the next state, the batch's metrics before the update).
    """

    def loss_and_metrics(params: Params) -> tuple[Array, Metrics]:
        dropout_key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)
        metrics = classification_metrics(classifier.apply(params, xs, key=dropout_key), labels)
        return metrics.loss, metrics

    grads, metrics = jax.grad(loss_and_metrics, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, state.key), metrics


def train_steps(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Split,
    num_steps: Array,
    *,
    max_pixel: int,
    batch_size: int,
    max_steps: int,
) -> tuple[TrainState, Metrics]:
    """Many updates in one call, each on a batch drawn from data that lies on the device.

    What a step does depends on `state` alone, not on how the steps are cut into calls.

    Args:
      classifier: what is trained.
      optimizer: how.
      state: where training is.
      data: the training images, uint8 [N, rows, columns], and labels [N].
      num_steps: int [], how many updates to make, from 1 to `max_steps`; its value may change without recompilation.
      max_pixel: the value of a white pixel.
      batch_size: examples in a batch.
      max_steps: the most updates that one call makes.

    Returns:
      (the state after the updates, its metrics on the batch of the last update).
    """
    order_key = jax.random.fold_in(state.key, 0)
    order = example_order(order_key, len(data.labels), state.step * batch_size, max_steps * batch_size)
    order = order.reshape(max_steps, batch_size)

    def batch(i: Array) -> tuple[Array, Array]:
        return rows_in_time(data.images[order[i]], max_pixel), data.labels[order[i]]

    def body(i: Array, state: TrainState) -> TrainState:
        return train_step(classifier, optimizer, state, *batch(i))[0]

    state = lax.fori_loop(0, num_steps, body, state)
    xs, labels = batch(num_steps - 1)
    return state, classification_metrics(classifier.apply(state.params, xs), labels)


def evaluate(classifier: Classifier, params: Params, data: Split, *, max_pixel: int, batch_size: int = 1000) -> Metrics:
    """Metrics over a whole split, `batch_size` images at a time; the last batch may be smaller.

    Args:
      classifier: what is evaluated.
      params: its parameters.
      data: images uint8 [N, rows, columns] and labels [N].
      max_pixel: the value of a white pixel.
      batch_size: images classified at once; it bounds the memory and changes no result.

    Returns:
      Means over all N images.
    """

    def one(example: Split) -> Metrics:
        logits = classifier.apply(params, rows_in_time(jnp.asarray(example.images), max_pixel))
        return classification_metrics(logits, jnp.asarray(example.labels))

    return jax.tree.map(jnp.mean, lax.map(one, data, batch_size=batch_size))


def fit(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Split,
    *,
    max_pixel: int,
    steps: int,
    batch_size: int,
    steps_per_call: int = 50,
) -> Iterator[tuple[TrainState, Metrics]]:
    """Trains until `steps` updates have been made, handing out where it is on the way.

    Args:
      classifier: what is trained.
      optimizer: how.
      state: where to begin; of `init_state`, or of an earlier `fit`.
      data: the training images, uint8 [N, rows, columns], and labels [N]; moved to the device once.
      max_pixel: the value of a white pixel.
      steps: the number of the last update.
      batch_size: examples in a batch.
      steps_per_call: updates between two hand-outs.

    Yields:
      (state, its metrics on the last batch), after update 1 and after every multiple of `steps_per_call`, and at the
      end.
    """
    data = jax.device_put(data)
    take_steps = jax.jit(
        functools.partial(
            train_steps,
            classifier,
            optimizer,
            max_pixel=max_pixel,
            batch_size=batch_size,
            max_steps=min(steps_per_call, steps),
        )
    )
    step = int(state.step)
    while step < steps:
        goal = 1 if step == 0 else min((step // steps_per_call + 1) * steps_per_call, steps)
        # Waiting keeps the reader's clock true, and one call in flight.
        state, metrics = jax.block_until_ready(take_steps(state, data, goal - step))
        step = goal
        yield state, metrics
