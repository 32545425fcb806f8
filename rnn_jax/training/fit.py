"""Training as pure functions: a state goes in, the next one comes out; `fit` jits them and counts the steps."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.base import Array, Params, State, check_size
from rnn_jax.data import Split
from rnn_jax.readout import Classifier, Metrics, classification_metrics
from rnn_jax.sharding import BATCH, make_mesh, shardings
from rnn_jax.training.host import read_ahead
from rnn_jax.training.order import ExampleOrder, rows_in_time
from rnn_jax.training.placement import on_one_device, place


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


def init_states(
    classifier: Classifier, optimizer: optax.GradientTransformation, seed: Array, num_seeds: int, input_size: int
) -> TrainState:
    """The states of the runs of `seed`, `seed + 1` and so on before their first steps.

    Args:
      classifier: what is to be trained.
      optimizer: how.
      seed: uint32 [], the first seed.
      num_seeds: how many there are.
      input_size: the features of one step.

    Returns:
      A state whose arrays lead with an axis of `num_seeds`; without that axis if there is only one.
    """

    def init(seed: Array) -> TrainState:
        return init_state(classifier, optimizer, jax.random.key(seed), input_size)

    return init(seed) if num_seeds == 1 else jax.vmap(init)(seed + jnp.arange(num_seeds, dtype=jnp.uint32))


def train_step(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    xs: Array,
    labels: Array,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One update on one batch.

    Args:
      classifier: what is trained.
      optimizer: how.
      state: where training is.
      xs: the sequences, [T, B, D].
      labels: int [B].
      axis_name: the axis of devices, where each has an equal share of the batch (see `jax.shard_map`); None for one.

    Returns:
      (the next state, the batch's metrics before the update).
    """

    def loss_and_metrics(params: Params) -> tuple[Array, Metrics]:
        dropout_key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)
        if axis_name is not None:
            dropout_key = jax.random.fold_in(dropout_key, lax.axis_index(axis_name))
        metrics = classification_metrics(classifier.apply(params, xs, key=dropout_key), labels)
        return metrics.loss, metrics

    grads, metrics = jax.grad(loss_and_metrics, has_aux=True)(state.params)
    if axis_name is not None:
        grads, metrics = lax.pmean((grads, metrics), axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, state.key), metrics


def train_steps(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Split,
    examples: Array | None,
    num_steps: Array,
    *,
    max_pixel: int,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Many updates in one call, each on a batch of data that lie on the device, or of batches read on the host.

    Args:
      classifier: what is trained.
      optimizer: how.
      state: where training is.
      data: the training images, uint8 [N, rows, columns], and labels [N]; without `examples` the batches of `S` steps,
        uint8 [S, B, rows, columns] and [S, B].
      examples: int32 [S, B], the numbers of the examples that each step takes; or None.
      num_steps: int [], how many updates to make, from 1 to S; its value may change without recompilation.
      max_pixel: the value of a white pixel.
      axis_name: the axis of devices, see `train_step`; each gives its share of every batch as B.

    Returns:
      (the state after the updates, its metrics on the batch of the last update).
    """

    def batch(i: Array) -> tuple[Array, Array]:
        of_step = i if examples is None else examples[i]
        return rows_in_time(data.images[of_step], max_pixel), data.labels[of_step]

    def body(i: Array, state: TrainState) -> TrainState:
        return train_step(classifier, optimizer, state, *batch(i), axis_name)[0]

    state = lax.fori_loop(0, num_steps, body, state)
    xs, labels = batch(num_steps - 1)
    metrics = classification_metrics(classifier.apply(state.params, xs), labels)
    return state, metrics if axis_name is None else lax.pmean(metrics, axis_name)


def train_on_stream(
    loss: Callable[[Params, State, Any], tuple[Array, State]],
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: Any,
    state: State,
    stream: Any,
    *,
    window: int,
) -> tuple[Params, Any, State, Array]:
    """Truncated backpropagation through time: an update after every `window` steps of a stream without end.

    The state goes on from window to window, the gradient does not (Williams and Peng, 1990). Call it again with what it
    returns, and the next part of the stream.

    >>> import jax, jax.numpy as jnp, optax, rnn_jax as rnn
    >>> cell, optimizer = rnn.GRU(8), optax.sgd(0.1)
    >>> def loss(params, state, window):  # of predicting the next value
    ...     xs, targets = window
    ...     state, ys = rnn.unroll(cell, params, xs, state)
    ...     return jnp.mean((ys[..., :1] - targets) ** 2), state
    >>> params = cell.init(jax.random.key(0), input_size=1)
    >>> wave = jnp.sin(jnp.arange(101.0))[:, None, None]  # [T, B, D]
    >>> params, opt_state, state, losses = train_on_stream(
    ...     loss, optimizer, params, optimizer.init(params), cell.initial_state((1,)), (wave[:-1], wave[1:]), window=20
    ... )
    >>> losses.shape
    (5,)

    Args:
      loss: a function of the parameters, the state before a window, and the window, a part of `stream` of `window`
        steps; it gives the loss and the state after the window.
      optimizer: how to update.
      params: the parameters.
      opt_state: the optimizer's state.
      state: the recurrent state before the stream.
      stream: a pytree of arrays that lead with T, for example inputs and targets.
      window: steps between updates, over which the gradient goes back; it divides T.

    Returns:
      (params, opt_state, the recurrent state after the stream, the loss in each window [T / window]).

    Raises:
      ValueError: for a window that does not divide T.
    """
    check_size("window", window)
    num_steps = len(jax.tree.leaves(stream)[0])
    if num_steps % window:
        raise ValueError(f"a stream of {num_steps} steps cannot be cut into windows of {window}")

    def update(carry: tuple[Params, Any, State], piece: Any) -> tuple[tuple[Params, Any, State], Array]:
        params, opt_state, state = carry
        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params, state, piece)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), value

    windows = jax.tree.map(lambda a: a.reshape(-1, window, *a.shape[1:]), stream)
    (params, opt_state, state), losses = lax.scan(update, (params, opt_state, state), windows)
    return params, opt_state, state, losses


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


def jit_train_steps(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    devices: Sequence[Any],
    *,
    max_pixel: int,
    batch_size: int,
    model_devices: int = 1,
    data_on: Literal["device", "host"] = "device",
) -> tuple[Any, Any, Sharding, Sharding]:
    """`train_steps`, jitted for devices that share the work; they may be those of a machine that is not here.

    Args:
      classifier: what is trained.
      optimizer: how.
      state: a state, or its shapes; of `init_state`, or of `init_states` to train many at once.
      devices: what to train on.
      max_pixel: the value of a white pixel.
      batch_size: examples in a batch.
      model_devices: how many devices share each matrix, see `sharding`; each such group takes an equal share of every
        batch.
      data_on: where the data are, see `fit`.

    Returns:
      (a jitted function of state, data, examples and the number of steps; where to put the state; the data; and the
      examples, which lead with another axis where many states are trained).

    Raises:
      ValueError: for devices that cannot be grouped, a batch that they cannot share equally, or many states whose
        matrices are to be shared.
    """
    mesh = make_mesh(devices, model_devices)
    num_groups = mesh.shape[BATCH]
    if batch_size % num_groups:
        groups = "devices" if model_devices == 1 else f"groups of {model_devices} devices"
        raise ValueError(f"a batch of {batch_size} cannot be shared equally by {num_groups} {groups}")
    take_steps = functools.partial(
        train_steps,
        classifier,
        optimizer,
        max_pixel=max_pixel,
        axis_name=BATCH if num_groups > 1 else None,
    )
    batches_spec = P(None, BATCH)
    if state.step.ndim:
        if data_on == "host":
            raise ValueError("data on the host are read for one seed at a time")
        if model_devices > 1:
            raise ValueError("devices share the matrices of one state at a time")
        take_steps, batches_spec = jax.vmap(take_steps, in_axes=(0, None, 0, None)), P(None, None, BATCH)
    if len(devices) == 1:
        on_it = SingleDeviceSharding(devices[0])
        return jax.jit(take_steps), jax.tree.map(lambda _: on_it, state), on_it, on_it
    state_shardings = shardings(state, mesh)
    data_spec, examples_spec = (P(), batches_spec) if data_on == "device" else (batches_spec, P())
    # What the devices on the other axis send each other is XLA's to decide.
    take_steps = jax.shard_map(
        take_steps,
        mesh=mesh,
        axis_names={BATCH},
        in_specs=(P(), data_spec, examples_spec, P()),
        out_specs=P(),
        check_vma=False,
    )
    take_steps = jax.jit(take_steps, out_shardings=(state_shardings, NamedSharding(mesh, P())))
    return take_steps, state_shardings, NamedSharding(mesh, data_spec), NamedSharding(mesh, examples_spec)


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
    devices: Sequence[Any] | None = None,
    model_devices: int = 1,
    data_on: Literal["device", "host"] = "device",
) -> Iterator[tuple[TrainState, Metrics]]:
    """Trains until `steps` updates have been made, handing out where it is on the way.

    Args:
      classifier: what is trained.
      optimizer: how.
      state: where to begin; of `init_state`, of `init_states` to train many at once, or of an earlier `fit`.
      data: the training images, uint8 [N, rows, columns], and labels [N].
      max_pixel: the value of a white pixel.
      steps: the number of the last update.
      batch_size: examples in a batch.
      steps_per_call: updates between two hand-outs.
      devices: of `jax.devices()`, what to train on; each takes an equal share of every batch. None for the first. Of
        several processes each calls this with the same arguments, devices of every process among them.
      model_devices: how many of them share each matrix instead, see `sharding`.
      data_on: "device" moves all data there, once; "host" leaves them where they are, and reads batches ahead in the
        same order. One state at a time can be trained so.

    Yields:
      (state, its metrics on the last batch), after update 1 and after every multiple of `steps_per_call`, and at the
      end. Where many are trained at once, both lead with their axis.

    Raises:
      ValueError: for devices that cannot be grouped; for a batch that they cannot share equally; for many states with
        data on the host, or with matrices to be shared.
    """
    devices = devices or jax.devices()[:1]
    take_steps, *placements = jit_train_steps(
        classifier,
        optimizer,
        state,
        devices,
        max_pixel=max_pixel,
        batch_size=batch_size,
        model_devices=model_devices,
        data_on=data_on,
    )
    state_placement, data_placement, examples_placement = placements
    state = jax.tree.map(place, state, state_placement)
    shape, step = state.step.shape, int(np.max(np.asarray(state.step)))
    calls = [range(*ends) for ends in itertools.pairwise([step, *_goals(step, steps, steps_per_call)])]
    max_steps = min(steps_per_call, steps)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))(on_one_device(state).key.reshape(-1))
    orders = [ExampleOrder(key, len(data.labels), batch_size) for key in keys]
    if data_on == "device":
        data = place(data, data_placement)

        def read(steps: range) -> np.ndarray:
            examples = np.zeros((len(orders), max_steps, batch_size), np.int32)
            for order, rows in zip(orders, examples, strict=True):
                order.prepare(steps)
                rows[: len(steps)] = order.read(steps)
            return examples.reshape(*shape, max_steps, batch_size)

        supply = ((data, place(read(steps), examples_placement)) for steps in calls)
    else:
        process = jax.process_index()
        own = [i // model_devices for i, device in enumerate(devices) if device.process_index == process]
        share = batch_size * model_devices // len(devices)
        batches = read_ahead(
            data,
            orders[0],
            calls,
            own=slice(share * own[0], share * (own[-1] + 1)),
            max_steps=max_steps,
            place=lambda batches: jax.tree.map(
                functools.partial(jax.make_array_from_process_local_data, data_placement), batches
            ),
        )
        supply = zip(batches, itertools.repeat(None))
    for steps_of_call, (data, examples) in zip(calls, supply, strict=True):
        # Waiting keeps the reader's clock true, and one call in flight: more would deadlock CPU devices.
        state, metrics = jax.block_until_ready(take_steps(state, data, examples, len(steps_of_call)))
        yield state, metrics


def _goals(step: int, steps: int, steps_per_call: int) -> Iterator[int]:
    """After which updates `fit` hands out where it is, from update number `step` on."""
    while step < steps:
        step = 1 if step == 0 else min((step // steps_per_call + 1) * steps_per_call, steps)
        yield step
