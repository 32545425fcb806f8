"""`python -m benchmarks.latency`: the time of one sequence and of one streamed step, batch 1, in four runtimes."""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax as rnn
from benchmarks.peers import available_cores, describe_cores
from benchmarks.report import make_table, milliseconds, write_section
from rnn_jax.saving import name_arrays

COMMAND = "python -m benchmarks.latency"
NUM_STEPS, INPUT_SIZE = 28, 28
SIZES = ((1, 128), (2, 512))  # layers, units
RUNTIMES = ("onnxruntime", "PyTorch", "exported StableHLO", "jitted")
PACKAGES = ("jax", "onnx", "onnxruntime", "torch")

INTRODUCTION = f"""\
## Latency

Milliseconds a call of LSTMs in float32 on the CPU, batch 1: a sequence of {NUM_STEPS} steps with {INPUT_SIZE} features,
and one step of a stream, whose state goes in and comes out. Median ± half the interquartile range of {{rounds}}
interleaved rounds of {{seconds}} s. Inputs are NumPy arrays. The state of onnxruntime is NumPy arrays too, that of
PyTorch and JAX stays with them. PyTorch runs `LSTM` for a sequence and `LSTMCell` for a step, under `inference_mode`.
StableHLO is exported for any batch, loaded from its bytes and called under `jax.jit`. Each runtime uses {{cores}}."""

Run: TypeAlias = Callable[[], None]  # one call, which ends when its results are there


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes it into RESULTS.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Measures latency, for benchmarks/RESULTS.md.")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each (default: 15)")
    parser.add_argument("--seconds", type=float, default=0.2, help="duration of a measurement (default: 0.2)")
    arguments = parser.parse_args(argv)

    def measure_sizes() -> str:
        rows = [row for size in SIZES for row in measure_size(*size, arguments.rounds, arguments.seconds)]
        introduction = INTRODUCTION.format(rounds=arguments.rounds, seconds=arguments.seconds, cores=describe_cores())
        return f"{introduction}\n\n{make_table(['LSTM', 'call', *RUNTIMES], rows)}"

    return write_section(COMMAND, PACKAGES, argv, measure_sizes)


def measure_size(num_layers: int, hidden_size: int, rounds: int, min_seconds: float) -> list[list[str]]:
    """Returns the rows of one network."""
    net = rnn.stack(*[rnn.LSTM(hidden_size)] * num_layers)
    params = net.init(jax.random.key(0), INPUT_SIZE)
    session = _start_session(net, params)
    rows = []
    for call, num_steps in (("sequence", NUM_STEPS), ("step", 1)):
        xs = np.random.default_rng(0).normal(size=(num_steps, 1, INPUT_SIZE)).astype(np.float32)
        runs = _make_runs(net, params, session, xs, stream=call == "step")
        seconds = measure(runs, rounds, min_seconds)
        rows.append([f"{num_layers} x {hidden_size}", call, *(milliseconds(seconds[name]) for name in RUNTIMES)])
    return rows


def measure(runs: Mapping[str, Run], rounds: int, min_seconds: float) -> dict[str, list[float]]:
    """Returns the seconds a call by name, a mean for each round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _, (name, run) in itertools.product(range(rounds), runs.items()):
        run()  # The caches are those of another runtime.
        count, elapsed, start = 0, 0.0, time.perf_counter()
        while not count or elapsed < min_seconds:
            run()
            count, elapsed = count + 1, time.perf_counter() - start
        seconds[name].append(elapsed / count)
    return seconds


def _make_runs(net: Any, params: Any, session: Any, xs: np.ndarray, *, stream: bool) -> dict[str, Run]:
    """Returns a call of each runtime, having compared their results."""
    initial = net.initial_state((1,))
    structure = jax.tree.structure(initial)

    def apply(state: list[jax.Array], xs: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        final, ys = net.apply(params, xs, jax.tree.unflatten(structure, state))
        return jax.tree.leaves(final), ys

    (batch,) = jax.export.symbolic_shape("B")
    like = [jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in jax.tree.leaves(initial)]
    exported = jax.export.export(jax.jit(apply))(like, jax.ShapeDtypeStruct((len(xs), batch, INPUT_SIZE), "float32"))
    functions = {
        "onnxruntime": _run_session(session, initial),
        "PyTorch": _run_pytorch(net, params, stream),
        "exported StableHLO": jax.jit(jax.export.deserialize(exported.serialize()).call),
        "jitted": jax.jit(apply),
    }

    first = [np.array(a) for a in jax.tree.leaves(initial)]

    def make(name: str, function: Callable[..., Any]) -> Run:
        state = [jnp.asarray(a) for a in first] if name in ("exported StableHLO", "jitted") else first

        def run() -> None:
            nonlocal state
            new, _ = jax.block_until_ready(function(state, xs))
            if stream:
                state = new

        return run

    results = [np.asarray(function(first, xs)[1]) for function in functions.values()]
    for result in results:
        np.testing.assert_allclose(result, results[-1], atol=1e-5)
    return {name: make(name, function) for name, function in functions.items()}


def _start_session(net: Any, params: Any) -> Any:
    """Loads a network into onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # It warns of every input that has a default.
    return onnxruntime.InferenceSession(rnn.convert.to_onnx(net, params).SerializeToString(), options)


def _run_session(session: Any, initial: Any) -> Callable[..., Any]:
    """Returns a session as a function from the arrays of the state and the inputs to those after them."""
    names = list(name_arrays(initial, "state"))
    outputs = [f"final_{name}" for name in names] + ["ys"]

    def function(state: Sequence[Any], xs: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        *final, ys = session.run(outputs, {"xs": xs} | dict(zip(names, map(np.asarray, state), strict=True)))
        return final, ys

    return function


def _run_pytorch(net: Any, params: Any, stream: bool) -> Callable[..., Any]:
    """Returns PyTorch's network as a function from the arrays of the state and the inputs to those after them."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(available_cores())
    weights = {name: torch.tensor(np.asarray(w)) for name, w in rnn.convert.to_torch(net, params).items()}
    hidden_size, num_layers = net.output_size, len(net.layers)
    lstm = torch.nn.LSTM(INPUT_SIZE, hidden_size, num_layers)
    lstm.load_state_dict(weights)
    cells = [torch.nn.LSTMCell(hidden_size if n else INPUT_SIZE, hidden_size) for n in range(num_layers)]
    for n, cell in enumerate(cells):
        cell.load_state_dict({name: weights[f"{name}_l{n}"] for name in cell.state_dict()})

    @torch.inference_mode()
    def sequence(state: Sequence[Any], xs: np.ndarray) -> tuple[Sequence[Any], Any]:
        h, c = (torch.stack([torch.as_tensor(a) for a in state[n::2]]) for n in (0, 1))
        ys, (h, c) = lstm(torch.from_numpy(xs), (h, c))
        return [a for pair in zip(h, c, strict=True) for a in pair], ys

    @torch.inference_mode()
    def step(state: Sequence[Any], xs: np.ndarray) -> tuple[Sequence[Any], Any]:
        new, x = [], torch.from_numpy(xs)[0]
        for n, cell in enumerate(cells):
            x, c = cell(x, tuple(map(torch.as_tensor, state[2 * n : 2 * n + 2])))
            new += [x, c]
        return new, x[None]

    return step if stream else sequence


if __name__ == "__main__":
    sys.exit(main())
