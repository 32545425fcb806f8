"""This library, on one device or with the batch divided among all of them."""

import contextlib
import functools
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax as rnn
from benchmarks.cases import TUTORIAL, Case, Shape
from benchmarks.peers import Program, Unsupported
from benchmarks.peers.jax_program import Network, make_program, short_call, train_step
from rnn_jax.app.recipes import RECIPES
from rnn_jax.cells import CELLS as NAMED_CELLS
from rnn_jax.data import Examples
from rnn_jax.implementations.platform import default_platform
from rnn_jax.readout import Classifier
from rnn_jax.tasks.classification import Classification
from rnn_jax.training.fit import fit
from rnn_jax.training.step import init_state

PACKAGES = ("jax", "jaxlib")


class Precision(NamedTuple):
    """Of all arrays; of products of float32, as JAX calls it; and the policy that `unroll` follows."""

    dtype: str
    products: Any = None
    policy: Any = None


PRECISIONS = {
    "float32": Precision("float32", "highest"),
    "tf32": Precision("float32"),  # as JAX has it on GPUs; on the CPU this is float32
    "mixed": Precision("float32", None, "bfloat16"),
    "bfloat16": Precision("bfloat16"),
}


def prepare(case: Case, implementation: Any, precision: str | None = None) -> Program:
    """Compiles a case: for all of JAX's devices, or for a GPU with a precision of `PRECISIONS`."""
    if precision is not None:
        return prepare_on_gpu(case, implementation, precision)
    network = build(case.cell, case.shape, implementation)
    devices = jax.devices()
    if case.shape.batch % len(devices):
        raise Unsupported(f"a batch of {case.shape.batch} cannot be divided among {len(devices)} devices")
    return make_program(case, network, devices if len(devices) > 1 else ())


def prepare_on_gpu(case: Case, implementation: Any, precision: str) -> Program:
    """Compiles a case in a precision, on the default device; refuses what the implementation does not serve."""
    dtype, products, policy = PRECISIONS[precision]
    with jax.default_matmul_precision(products), refusals():
        network = build(case.cell, case.shape, implementation, policy)
        network = network._replace(params=jax.tree.map(lambda leaf: leaf.astype(dtype), network.params))
        return make_program(case, network, (), short_call(case.shape))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Makes what `unroll` says of an implementation that cannot serve a case a reason to leave the case blank."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("implementation="):
            raise
        raise Unsupported(str(error).rsplit(": ", 1)[0]) from error


class Trial(NamedTuple):
    """What to compare on: params, inputs and state; cotangents of the results; lengths; and the right results."""

    arguments: Any
    cotangents: Any
    lengths: Any
    reference: Any


def check(cell: str, shape: Sequence[int], implementation: Any, precision: str, ragged: bool) -> dict[str, float]:
    """Compares an implementation with the scan in float64, on the same random numbers.

    Args:
      cell: its name.
      shape: the sizes.
      implementation: of `unroll`.
      precision: of `PRECISIONS`.
      ragged: whether sequences are read from their ends and have lengths of their own, from 0 to T.

    Returns:
      |ours - reference| / |reference|, the largest of all arrays: of the outputs and the final state, and of the
      gradients of their product with random numbers with respect to the parameters, the inputs and the first state.
    """
    dtype, products, policy = PRECISIONS[precision]
    trial = make_trial(cell, Shape(*shape), dtype, ragged)
    with jax.default_matmul_precision(products), refusals():
        ours = run_trial(cell, trial, ragged, implementation=implementation, precision=policy)

    def error(ours: Any, reference: Any) -> float:
        distance = np.linalg.norm(np.asarray(ours, np.float64) - reference) / max(np.linalg.norm(reference), 1e-30)
        return float(distance) if np.isfinite(distance) else 1e30  # JSON has no infinity

    values, grads = jax.tree.map(error, ours, trial.reference)
    return {"outputs": max(jax.tree.leaves(values)), "gradients": max(jax.tree.leaves(grads))}


@functools.lru_cache(maxsize=4)
def make_trial(cell: str, shape: Shape, dtype: str, ragged: bool) -> Trial:
    """Draws numbers, other ones for every case, and computes what is right."""
    T, B, D, H = shape.time, shape.batch, shape.input_size, shape.hidden_size
    layer = CELLS[cell](H)
    keys = iter(jax.random.split(jax.random.key(zlib.crc32(repr((cell, shape, ragged)).encode())), 16))

    def draw(like: Any, scale: float) -> Any:
        return jax.tree.map(lambda a: (scale * jax.random.normal(next(keys), a.shape)).astype(dtype), like)

    params = jax.tree.map(lambda a: a.astype(dtype), layer.init(next(keys), D))
    state = layer.initial_state((B,))
    arguments = params, draw(jnp.zeros((T, B, D)), 1.0), draw(state, 0.5)
    lengths = jax.random.randint(next(keys), (B,), 0, T + 1) if ragged else None
    trial = Trial(arguments, draw((state, jnp.zeros((T, B, H))), 1.0), lengths, None)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda a: a.astype("float64"), trial._replace(lengths=None))._replace(lengths=lengths)
        reference = run_trial(cell, exact, ragged, implementation="scan")
        return trial._replace(reference=jax.tree.map(np.asarray, reference))


def run_trial(cell: str, trial: Trial, ragged: bool, **options: Any) -> Any:
    """((final state, ys), gradients with respect to the arguments)."""
    layer = CELLS[cell](trial.cotangents[1].shape[-1])

    @jax.jit
    def run(arguments: Any, cotangents: Any) -> Any:
        unroll = functools.partial(rnn.unroll, layer, lengths=trial.lengths, reverse=ragged, **options)
        values, vjp = jax.vjp(unroll, *arguments)
        return values, vjp(cotangents)

    return run(trial.arguments, trial.cotangents)


def train(implementation: Any, precision: str, num_steps: int) -> dict[str, float]:
    """Seconds that the tutorial's training takes: an LSTM on images of MNIST's size and number, of noise.

    Returns:
      {"first": until the first step is done, which compiles; "others": from there to the end}.
    """
    dtype, products, policy = PRECISIONS[precision]
    assert dtype == "float32", "what the trainer has"
    random = np.random.default_rng(0)
    data = Examples(
        random.integers(0, 256, (55_000, 28, 28), np.uint8), random.integers(0, 10, 55_000).astype(np.int32)
    )
    recipe = RECIPES["tutorial"]
    encoder = rnn.Recurrent(rnn.LSTM(TUTORIAL.hidden_size), implementation=implementation, precision=policy)
    network, optimizer = Classifier(encoder, 10, readout=recipe.readout, head=recipe.head), recipe.optimizer()
    task = Classification(network, TUTORIAL.input_size, scale=255)
    with jax.default_matmul_precision(products), refusals():
        state = init_state(task.init, optimizer, jax.random.key(0))
        times = [time.perf_counter()]
        for _ in fit(task.loss, optimizer, state, data, steps=num_steps, batch_size=TUTORIAL.batch):
            times.append(time.perf_counter())
    return {"first": times[1] - times[0], "others": times[-1] - times[1]}


def find_device() -> dict[str, str]:
    """What JAX computes on by default: its platform (cpu, cuda, rocm, tpu) and the name of the device."""
    return {"platform": default_platform(), "name": jax.devices()[0].device_kind}


def build(cell: str, shape: Shape, implementation: Any, precision: Any = None) -> Network:
    """A network by its name in the tables; layers are composed of `unroll`, to choose its implementation."""
    H = shape.hidden_size
    layer = CELLS[cell](H)

    def outputs(cell: rnn.LSTM, params: Any, xs: jax.Array, reverse: bool = False) -> jax.Array:
        return rnn.unroll(cell, params, xs, reverse=reverse, precision=precision, implementation=implementation)[1]

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        match cell:
            case "bidirectional-lstm":
                forward = outputs(rnn.LSTM(H), params.forward, xs)
                return jnp.concatenate([forward, outputs(rnn.LSTM(H), params.backward, xs, reverse=True)], -1)
            case "two-layer-lstm":
                return outputs(rnn.LSTM(H), params[1], outputs(rnn.LSTM(H), params[0], xs))
            case _:
                return outputs(layer, params, xs)

    return Network(layer.init(jax.random.key(0), shape.input_size), apply)


CELLS: dict[str, Callable[[int], Any]] = {
    **{name: row.make for name, row in NAMED_CELLS.items()},
    "gru-reset-before": lambda H: rnn.GRU(H, reset_after=False),
    "layer-norm-lstm": rnn.LayerNormLSTM,
    "bidirectional-lstm": lambda H: rnn.bidirectional(rnn.LSTM(H)),
    "two-layer-lstm": lambda H: rnn.stack(rnn.LSTM(H), rnn.LSTM(H)),
}


def compile_seconds(shape: Sequence[int], implementation: Any) -> float:
    """Seconds from the Python function of an LSTM's training step to machine code, with nothing remembered."""
    shape = Shape(*shape)
    network = build("lstm", shape, implementation)
    xs = jax.ShapeDtypeStruct((shape.time, shape.batch, shape.input_size), np.float32)
    jax.clear_caches()
    began = time.perf_counter()
    jax.jit(lambda params, xs: train_step(network, params, xs)).lower(network.params, xs).compile()
    return time.perf_counter() - began
