"""The training loop: jits many steps a call, places data and state on devices, and hands out progress."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.base import check_size
from rnn_jax.sharding import BATCH, make_mesh, shardings
from rnn_jax.training.host import read_ahead
from rnn_jax.training.order import ExampleOrder, Order, StreamOrder
from rnn_jax.training.placement import on_one_device, place
from rnn_jax.training.step import Batch, Loss, Metrics, TrainState, train_steps
from rnn_jax.training.threefry import fold_in, key_words

# The vectors of elementwise work on CPUs with AVX-512; XLA prefers 256 bits. On an AMD EPYC, an LSTM's training step
# takes 0.91 to 0.98 of the time so, and its inference 0.89 to 1.0; without AVX-512 nothing changes.
WIDE_VECTORS = {"xla_cpu_prefer_vector_width": 512}


def jit_train_steps(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    devices: Sequence[Any],
    *,
    batch_size: int,
    model_devices: int = 1,
    data_on: Literal["device", "host"] = "device",
) -> tuple[Any, Any, Sharding, Sharding]:
    """Jits `train_steps` for devices that share the work, which may be those of a machine that is not here.

    Args:
      loss: see `train_step`.
      optimizer: computes updates from gradients.
      state: a state of `init_state` or, to train many at once, of `init_states`; or its shapes.
      devices: the devices.
      batch_size: examples in a batch.
      model_devices: the number of devices that share each matrix, see `sharding`; each such group takes an equal share
        of every batch.
      data_on: where the examples lie, see `fit`.

    Returns:
      (a jitted function of state, data, rows and the number of steps; the shardings of the state, of the data, and of
      the rows, which lead with another axis where many states are trained).

    Raises:
      ValueError: for devices that cannot be grouped, a batch that they cannot share equally, or many states whose
        matrices are to be shared.
    """
    mesh = make_mesh(devices, model_devices)
    num_groups = mesh.shape[BATCH]
    if batch_size % num_groups:
        groups = "devices" if model_devices == 1 else f"groups of {model_devices} devices"
        raise ValueError(f"a batch of {batch_size} cannot be shared equally by {num_groups} {groups}")
    take_steps = functools.partial(train_steps, loss, optimizer, axis_name=BATCH if num_groups > 1 else None)
    batches_spec, carry_spec = P(None, BATCH), P(BATCH)
    if state.step.ndim:
        if data_on == "host":
            raise ValueError("data on the host are read for one seed at a time")
        if model_devices > 1:
            raise ValueError("devices share the matrices of one state at a time")
        take_steps = jax.vmap(take_steps, in_axes=(0, None, 0, None))
        batches_spec, carry_spec = P(None, None, BATCH), P(None, BATCH)
    jit = functools.partial(jax.jit, compiler_options=WIDE_VECTORS if devices[0].platform == "cpu" else None)
    if len(devices) == 1:
        on_it = SingleDeviceSharding(devices[0])
        return jit(take_steps), jax.tree.map(lambda _: on_it, state), on_it, on_it
    state_shardings = shardings(state, mesh)
    state_spec = jax.tree.map(lambda _: P(), state)._replace(carry=jax.tree.map(lambda _: carry_spec, state.carry))
    data_spec, rows_spec = (P(), batches_spec) if data_on == "device" else (batches_spec, P())
    # XLA decides what devices along the other axis send each other. Between calls, all devices hold the whole carry.
    take_steps = jax.shard_map(
        take_steps,
        mesh=mesh,
        axis_names={BATCH},
        in_specs=(state_spec, data_spec, rows_spec, P()),
        out_specs=(state_spec, P()),
        check_vma=False,
    )
    take_steps = jit(take_steps, out_shardings=(state_shardings, NamedSharding(mesh, P())))
    return take_steps, state_shardings, NamedSharding(mesh, data_spec), NamedSharding(mesh, rows_spec)


def fit(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    examples: Batch,
    *,
    steps: int,
    batch_size: int,
    steps_per_call: int = 50,
    devices: Sequence[Any] | None = None,
    model_devices: int = 1,
    data_on: Literal["device", "host"] = "device",
) -> Iterator[tuple[TrainState, Metrics]]:
    """Trains until `steps` updates have been made, and hands out the state along the way.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.training.step import init_state
    >>> def loss(w, batch, key):  # of fitting a line
    ...     xs, ys = batch
    ...     error = jnp.mean((w * xs - ys) ** 2)
    ...     return error, {"loss": error}
    >>> xs, optimizer = jnp.arange(6.0), optax.sgd(0.05)
    >>> state = init_state(lambda key: jnp.zeros(()), optimizer, jax.random.key(0))
    >>> for state, metrics in fit(loss, optimizer, state, (xs, 2 * xs), steps=20, batch_size=3):
    ...     pass
    >>> round(float(state.params), 3)
    2.0

    Args:
      loss: (params, batch, key) -> (loss [], metrics), both means over the batch. The key drives dropout; None turns
        it off. With a carry, see `train_step`.
      optimizer: computes updates from gradients.
      state: the state to begin with, perhaps with a `carry`: of `init_state`, of `init_states` to train many at once,
        or of an earlier `fit`.
      examples: the training set, a pytree of arrays [N, ...]. Batches have the same structure. They are shuffled, or
        taken as the windows of streams in a `StreamOrder` if the state has a carry.
      steps: the number of the last update.
      batch_size: examples in a batch.
      steps_per_call: updates between two hand-outs.
      devices: of `jax.devices()`, those to train on; each takes an equal share of every batch. None for the first
        device. Each of several processes passes the same arguments, with devices of every process among them.
      model_devices: the number of devices that share each matrix instead, see `sharding`.
      data_on: "device" copies all examples there, once. "host" leaves them in place, and reads batches ahead in the
        same order; one state at a time can be trained so.

    Yields:
      (state, its metrics on the last batch), after update 1, after every multiple of `steps_per_call`, and at the end.
      Both lead with the axis of the states where many are trained at once.

    Raises:
      ValueError: for examples that are no arrays of one length, sizes that are not positive, devices that cannot be
        grouped, a batch that they cannot share equally, many states with data on the host or with shared matrices, or
        windows that are not as many of each stream.
    """
    num_examples = _count(examples)
    check_size("batch_size", batch_size)
    check_size("steps_per_call", steps_per_call)
    devices = devices or jax.devices()[:1]
    take_steps, state_sharding, data_sharding, rows_sharding = jit_train_steps(
        loss, optimizer, state, devices, batch_size=batch_size, model_devices=model_devices, data_on=data_on
    )
    state = jax.tree.map(place, state, state_sharding)
    shape, step = state.step.shape, int(np.max(np.asarray(state.step)))
    calls = [range(*ends) for ends in itertools.pairwise([step, *_goals(step, steps, steps_per_call)])]
    max_steps = min(steps_per_call, steps)
    orders: list[Order] = [
        ExampleOrder(fold_in(words, 0), num_examples, batch_size)
        if state.carry is None
        else StreamOrder(num_examples, batch_size)
        for words in key_words(on_one_device(state).key).reshape(-1, 2)
    ]
    if data_on == "device":
        data = place(examples, data_sharding)

        def read(steps: range) -> np.ndarray:
            rows = np.zeros((len(orders), max_steps, batch_size), np.int32)
            for order, rows_of_seed in zip(orders, rows, strict=True):
                order.prepare(steps)
                rows_of_seed[: len(steps)] = order.read(steps)
            return rows.reshape(*shape, max_steps, batch_size)

        supply = ((data, place(read(steps), rows_sharding)) for steps in calls)
    else:
        process = jax.process_index()
        own = [i // model_devices for i, device in enumerate(devices) if device.process_index == process]
        share = batch_size * model_devices // len(devices)
        batches = read_ahead(
            examples,
            orders[0],
            calls,
            own=slice(share * own[0], share * (own[-1] + 1)),
            max_steps=max_steps,
            place=lambda batches: jax.tree.map(
                functools.partial(jax.make_array_from_process_local_data, data_sharding), batches
            ),
        )
        supply = zip(batches, itertools.repeat(None))
    for steps_of_call, (data, rows) in zip(calls, supply, strict=True):
        # Blocking keeps the progress bar's clock true and one call in flight: more would deadlock CPU devices.
        state, metrics = jax.block_until_ready(take_steps(state, data, rows, len(steps_of_call)))
        yield state, metrics


def _count(examples: Batch) -> int:
    """Returns the number of examples; raises `ValueError` unless they are arrays of one length."""
    shapes = {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree.leaves_with_path(examples)}
    if not shapes or any(not shape or not shape[0] for shape in shapes.values()):
        raise ValueError(f"examples needs arrays that lead with at least one example, not {shapes or 'no arrays'}")
    lengths = {name: shape[0] for name, shape in shapes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the arrays of examples need the same length, not {lengths}")
    return next(iter(lengths.values()))


def _goals(step: int, steps: int, steps_per_call: int) -> Iterator[int]:
    """Yields the updates after which `fit` hands out the state, from update `step` on."""
    while step < steps:
        step = 1 if step == 0 else min((step // steps_per_call + 1) * steps_per_call, steps)
        yield step
