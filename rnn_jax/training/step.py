"""The training step: a state goes in, the next one comes out."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rnn_jax.base import Array, Params

Batch: TypeAlias = Any  # a pytree of arrays that lead with the examples
Metrics: TypeAlias = Any  # a pytree of scalars, by convention a NamedTuple with a field `loss`
Loss: TypeAlias = Callable[..., tuple[Array, Any]]  # see `train_step`


class TrainState(NamedTuple):
    """Everything that changes in training.

    Attributes:
      step: int32 [], the number of updates made.
      params: the parameters.
      opt_state: the optimizer's state.
      key: the run's key, never consumed: each use derives its own with `fold_in(purpose)` and `fold_in(step)`.
      carry: arrays [B, ...] that the loss hands from batch to batch, such as the state of a recurrent network at the
        end of each row's window; None if nothing is carried.
    """

    step: Array
    params: Params
    opt_state: Any
    key: Array
    carry: Any = None


def init_state(
    init: Callable[[Array], Params], optimizer: optax.GradientTransformation, key: Array, carry: Any = None
) -> TrainState:
    """Makes the state before the first step.

    Args:
      init: draws the parameters from a key.
      optimizer: computes updates from gradients.
      key: the source of all randomness in the run; a typed key, as `jax.random.key` makes it.
      carry: see `TrainState`.

    Raises:
      ValueError: for a raw key of `jax.random.PRNGKey`, or no key at all.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError("key must be a typed key: make it with jax.random.key(seed), not jax.random.PRNGKey(seed)")
    params = init(jax.random.fold_in(key, 0))
    return TrainState(jnp.int32(0), params, optimizer.init(params), jax.random.fold_in(key, 1), carry)


def init_states(
    init: Callable[[Array], Params],
    optimizer: optax.GradientTransformation,
    seed: Array,
    num_seeds: int,
    carry: Any = None,
) -> TrainState:
    """Makes the states of the runs of `seed`, `seed + 1`, ... before their first steps.

    Args:
      init: draws the parameters from a key.
      optimizer: computes updates from gradients.
      seed: uint32 [], the first seed.
      num_seeds: the number of runs.
      carry: of each run, see `TrainState`.

    Returns:
      A state whose arrays lead with an axis of `num_seeds`, or have no such axis for a single seed.
    """

    def init_seed(seed: Array) -> TrainState:
        return init_state(init, optimizer, jax.random.key(seed), carry)

    return init_seed(seed) if num_seeds == 1 else jax.vmap(init_seed)(seed + jnp.arange(num_seeds, dtype=jnp.uint32))


def train_step(
    loss: Loss, optimizer: optax.GradientTransformation, state: TrainState, batch: Batch, axis_name: str | None = None
) -> tuple[TrainState, Metrics]:
    """Makes one update on one batch.

    Args:
      loss: (params, batch, key) -> (loss [], metrics), both means over the batch. The key drives dropout; None turns
        it off. For a state with a `carry`: (params, batch, key, carry) -> (loss, (metrics, the next carry)).
      optimizer: computes updates from gradients.
      state: the state before the update.
      batch: a pytree of arrays that lead with the examples.
      axis_name: the mesh axis whose devices hold equal shares of the batch, see `jax.shard_map`; None for one device.

    Returns:
      (the next state, the batch's metrics before the update).
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    given = () if state.carry is None else (state.carry,)
    grads, aux = jax.grad(loss, has_aux=True)(state.params, batch, key, *given)
    metrics, carry = (aux, None) if state.carry is None else aux
    if axis_name is not None:
        grads, metrics = lax.pmean((grads, metrics), axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, state.key, carry), metrics


def train_steps(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Batch,
    rows: Array | None,
    num_steps: Array,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Makes many updates in one call.

    Args:
      loss: see `train_step`.
      optimizer: computes updates from gradients.
      state: the state before the first update.
      data: with `rows`, all N examples: a pytree of arrays [N, ...]. Without, the batches of S steps: [S, B, ...].
      rows: int32 [S, B], the examples that each step takes; None if `data` holds batches.
      num_steps: int [], the number of updates, from 1 to S. Its value may change without recompilation.
      axis_name: see `train_step`; each device passes its share of every batch as B.

    Returns:
      (the state after the updates, its metrics on the batch of the last update).
    """

    def batch(i: Array) -> Batch:
        index = i if rows is None else rows[i]
        return jax.tree.map(lambda array: array[index], data)

    def body(i: Array, states: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
        state, _ = states
        return train_step(loss, optimizer, state, batch(i), axis_name)[0], state.carry

    state, carry = lax.fori_loop(0, num_steps, body, (state, state.carry))
    if carry is None:
        _, metrics = loss(state.params, batch(num_steps - 1), None)
    else:
        _, (metrics, _) = loss(state.params, batch(num_steps - 1), None, carry)
    return state, metrics if axis_name is None else lax.pmean(metrics, axis_name)


def evaluate(loss: Loss, params: Params, examples: Batch, *, batch_size: int = 1000) -> Metrics:
    """Computes the mean metrics of a whole data set.

    Args:
      loss: see `train_step`; it is given examples without a batch axis, under `vmap`, and no carry.
      params: the parameters.
      examples: a pytree of arrays [N, ...].
      batch_size: examples computed at once. It bounds the memory and changes no result.

    Returns:
      Means over all N examples.
    """

    def metrics(example: Batch) -> Metrics:
        return loss(params, example, None)[1]

    return jax.tree.map(jnp.mean, lax.map(metrics, jax.tree.map(jnp.asarray, examples), batch_size=batch_size))
