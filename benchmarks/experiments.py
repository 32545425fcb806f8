"""`python -m benchmarks.experiments NAME`: measurements behind the library's own choices, as sections of RESULTS.md."""

import argparse
import functools
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import rnn_jax as rnn
from benchmarks.cases import SHAPES, Shape
from benchmarks.measure import HOME, PAUSE
from benchmarks.peers import describe_cores
from benchmarks.plot import plot_curves
from benchmarks.report import make_table, write_section
from rnn_jax.cells.equations import multiply
from rnn_jax.data import load_dataset
from rnn_jax.implementations import fused
from rnn_jax.implementations.plan import LONGEST_JOINED, choose_axis, make_plan
from rnn_jax.implementations.problem import Implementation, Problem
from rnn_jax.implementations.recurrence import by_halves, in_a_loop
from rnn_jax.implementations.table import FUSED
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.image_order import read_in_order, step_size
from rnn_jax.training.fit import fit
from rnn_jax.training.step import init_state

PACKAGES = ("jax",)
REMAT: dict[str, dict[str, Any]] = {
    'implementation="scan"': {"implementation": "scan"},
    "the default": {},
    "remat=True": {"remat": True},
    "remat=1024": {"remat": 1024},
}
HOWS = ("scan", "fused", "parallel")
NEWTON_FIGURES = "rounds", "outputs", "gradients"
NEWTON_CASES = (
    *((cell, "rows") for cell in (rnn.LSTM(32), rnn.GRU(32), rnn.LSTM(128), rnn.GRU(128))),
    *((cell, "pixels") for cell in (rnn.LSTM(32), rnn.GRU(32))),
)
PARALLEL_CELLS = (rnn.MinGRU, rnn.LRU, rnn.GRU, rnn.LSTM)
MORE_SHAPES = (Shape(16, 50, 256, 256), Shape(64, 50, 256, 256), Shape(128, 50, 512, 512), Shape(256, 50, 512, 512))


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the section and writes it into RESULTS.md; returns the exit status."""
    measurements = {
        "long-sequences": lambda: measure_long_sequences(16_384, arguments.rounds),
        "layout": lambda: measure_layouts((*SHAPES, *MORE_SHAPES), arguments.rounds),
        "joining": lambda: measure_joining(SHAPES, arguments.rounds),
        "products": lambda: measure_products(SHAPES, arguments.rounds),
        "parallel": lambda: measure_parallel((100, 1000, 10_000, 100_000), arguments.rounds),
        "newton": lambda: measure_newton(arguments.steps, arguments.data_dir),
    }
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments",
        description="Measures an alternative of the library's own, and writes a section of benchmarks/RESULTS.md.",
    )
    parser.add_argument(
        "name",
        choices=measurements,
        help="long-sequences: memory and time of a training step with and without rematerialization, batch 32, input "
        "32, hidden 256, T = 16,384; layout: the batch before or after the features inside the loops; joining: the "
        "vectors of a product joined or apart; products: the rate of the products of a sequence, by XLA and by "
        "PyTorch; parallel: steps one by one and all at once, batch 1, hidden 32, T from 100 to 100,000; newton: "
        "rounds of Newton's method and the difference from a scan, before and after training on MNIST",
    )
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: 7)")
    parser.add_argument("--data-dir", type=Path, help="the folder of MNIST, as in train.py")
    parser.add_argument("--steps", type=int, default=300, help="updates before newton measures again (default: 300)")
    arguments = parser.parse_args(argv)
    rest = list(sys.argv[1:] if argv is None else argv)
    rest.remove(arguments.name)
    command = f"python -m benchmarks.experiments {arguments.name}"
    return write_section(command, PACKAGES, rest, measurements[arguments.name])


def measure_long_sequences(num_steps: int, rounds: int) -> str:
    """A table of memory and time with and without rematerialization, in Markdown."""
    shape = Shape(batch=32, time=num_steps, input_size=32, hidden_size=256)
    steps = {name: compile_step(shape, last_state=True, **options) for name, options in REMAT.items()}
    seconds = median_seconds(steps, make_arguments(shape), rounds)
    megabytes = {name: step.memory_analysis().temp_size_in_bytes / 1e6 for name, step in steps.items()}
    plain = next(iter(REMAT))
    rows = [
        [
            name,
            f"{megabytes[name]:.0f}",
            f"{megabytes[name] / megabytes[plain]:.3f}",
            f"{seconds[name]:.2f}",
            f"{seconds[name] / seconds[plain]:.2f}",
        ]
        for name in steps
    ]
    return (
        f"## Long sequences\n\nAn LSTM's training step on its last state at {shape} (batch, time, input, hidden): "
        f"memory for intermediate values, and the median of {rounds} interleaved rounds.\n\n"
        + make_table(["unroll with", "MB", "of plain", "seconds", "of plain"], rows)
    )


def measure_layouts(shapes: tuple[Shape, ...], rounds: int) -> str:
    """A table of times with the features last and first inside the loops, in Markdown."""
    rows = []
    for shape in shapes:
        arguments = params, xs = make_arguments(shape)
        cell = rnn.LSTM(shape.hidden_size)
        plan = make_plan(Problem(cell, params, cell.initial_state((shape.batch,)), xs))
        chosen = {-1: "last", 0: "first"}[choose_axis(plan, jax.tree.leaves(params), shape.batch)]
        steps = {
            name: compile_step(shape, implementation=fused_in(axis=axis)) for name, axis in (("last", -1), ("first", 0))
        }
        seconds = median_seconds(steps, arguments, rounds)
        rows.append([str(shape), *(f"{1e3 * seconds[name]:.1f}" for name in steps), chosen])
    return (
        "## Layout inside the loops\n\nAn LSTM's training step on one CPU device with the features last, [B, H], and "
        f"first, [H, B]: milliseconds, median of {rounds} interleaved rounds; and what `unroll` chooses.\n\n"
        + make_table(["batch, time, input, hidden", "last", "first", "chosen"], rows)
    )


def measure_joining(shapes: tuple[Shape, ...], rounds: int) -> str:
    """A table of times with the vectors of a product joined and apart, in Markdown."""
    rows = []
    for make_cell in (rnn.LSTM, rnn.GRU, rnn.VanillaRNN):
        for shape in shapes:
            arguments = make_arguments(shape, make_cell)
            steps = {
                name: compile_step(shape, make_cell, implementation=fused_in(longest_joined=longest))
                for name, longest in (("joined", math.inf), ("apart", 0), ("chosen", LONGEST_JOINED))
            }
            seconds = median_seconds(steps, arguments, rounds)
            rows.append([make_cell.__name__, str(shape), *(f"{1e3 * seconds[name]:.1f}" for name in steps)])
    return (
        "## Joining vectors\n\nA training step on one CPU device with the products of a step joined as one, "
        "[x h 1] [w_x; w_h; b], with each taken apart, and as `unroll` chooses: milliseconds, median of "
        f"{rounds} interleaved rounds.\n\n"
        + make_table(["cell", "batch, time, input, hidden", "joined", "apart", "chosen"], rows)
    )


def measure_products(shapes: tuple[Shape, ...], rounds: int) -> str:
    """Makes a table of the rates of an LSTM's products, by XLA and by PyTorch, in Markdown."""
    rows = []
    for shape in shapes:
        sizes = shape.batch, shape.input_size + shape.hidden_size, 4 * shape.hidden_size
        runs = products_by_xla(shape.time, *sizes) | products_by_pytorch(shape.time, *sizes)
        seconds = median_seconds(runs, (), rounds)
        rates = [f"{2e-9 * shape.time * math.prod(sizes) / seconds[name]:.0f}" for name in runs]
        rows.append([" x ".join(map(str, sizes)), str(shape.time), *rates])
    return (
        "## The products of a sequence\n\nAn LSTM's [x h] w, B x (D + H) x 4H, of T steps: one after the other in a "
        "loop of nothing else, and all at once. "
        f"GFLOP/s on {describe_cores()}, median of {rounds} interleaved rounds.\n\n"
        + make_table(["sizes", "steps", *runs], rows)
    )


def products_by_xla(num_steps: int, rows: int, inner: int, columns: int) -> dict[str, Callable[[], Any]]:
    """Returns the products of all steps, with their factors in float32 and rounded to bfloat16."""
    vs, w, z = jnp.ones((num_steps, rows, inner)), jnp.ones((inner, columns)), jnp.zeros((rows, columns))
    runs: dict[str, Callable[[], Any]] = {}
    for dtype in (jnp.float32, jnp.bfloat16):

        @jax.jit
        def in_loop(vs: jax.Array, w: jax.Array, dtype: Any = dtype) -> jax.Array:
            return jax.lax.scan(lambda _, v: (multiply(v, w, dtype), None), z, vs)[0]

        @jax.jit
        def at_once(vs: jax.Array, w: jax.Array, dtype: Any = dtype) -> jax.Array:
            return multiply(vs.reshape(-1, inner), w, dtype)

        name = f"XLA, {dtype.__name__}"
        runs[f"{name}, loop"] = functools.partial(in_loop, vs, w)
        runs[f"{name}, at once"] = functools.partial(at_once, vs, w)
    return runs


def products_by_pytorch(num_steps: int, rows: int, inner: int, columns: int) -> dict[str, Callable[[], Any]]:
    """Returns the same in float32."""
    import torch  # pyright: ignore[reportMissingImports]

    vs, w = torch.ones((num_steps, rows, inner)), torch.ones((inner, columns))
    return {
        "PyTorch, loop": lambda: [v @ w for v in vs][-1],
        "PyTorch, at once": lambda: vs.reshape(-1, inner) @ w,
    }


def measure_parallel(lengths: tuple[int, ...], rounds: int) -> str:
    """Tables of times against the number of steps, of recurrences and of cells, in Markdown."""
    recurrences = {"loop": in_a_loop, "associative scan": by_halves, "loops over blocks": in_blocks}
    rows = []
    for num_steps in lengths:
        k_a, k_b = jax.random.split(jax.random.key(0))
        arguments = jax.random.uniform(k_a, (num_steps, 1, 32)), jax.random.normal(k_b, (num_steps, 1, 32))
        steps = {name: jax.jit(solve).lower(*arguments).compile() for name, solve in recurrences.items()}
        seconds = median_seconds(steps, arguments, rounds)
        rows.append([f"{num_steps:,}", *(f"{1e3 * seconds[name]:.3g}" for name in recurrences)])
    text = (
        "## Parallel over time\n\n![Time against the number of steps](parallel.png)\n\n"
        f"A linear recurrence of 32 units, forward: milliseconds, median of {rounds} interleaved rounds.\n\n"
        + make_table(["steps", *recurrences], rows)
    )
    curves: dict[str, Any] = {}
    for make_cell in PARALLEL_CELLS:
        rows, of_cell = [], {name: ([], []) for name in HOWS}
        for num_steps in lengths:
            shape, names = Shape(1, num_steps, 32, 32), ["scan", "parallel"]
            if issubclass(make_cell, rnn.EquationsCell):
                # Newton's method keeps a Jacobian for every step: 10,000 of them take 40 MB to 160 MB.
                names = ["scan", "fused", *(["parallel"] if num_steps <= 10_000 else [])]
            steps = {name: compile_step(shape, make_cell, implementation=name) for name in names}
            seconds = median_seconds(steps, make_arguments(shape, make_cell), rounds)
            for name in names:
                of_cell[name][0].append(num_steps)
                of_cell[name][1].append(1e3 * seconds[name])
            columns = (f"{1e3 * seconds[name]:.3g}" if name in seconds else "" for name in HOWS)
            rows.append([f"{num_steps:,}", *columns])
        curves[f"{make_cell.__name__}(32)"] = {name: values for name, values in of_cell.items() if values[0]}
        table = make_table(["steps", *HOWS], rows)
        text += f"\n\nA training step of `{make_cell.__name__}(32)`, batch 1: milliseconds.\n\n{table}"
    plot_curves(curves, "steps", "training step, ms", log=True).savefig(HOME / "parallel.png", dpi=100)
    return text


def measure_newton(num_updates: int, data_dir: Path | None) -> str:
    """A table of the rounds of Newton's method before and after training on MNIST, in Markdown."""
    data, rows = load_dataset("mnist", data_dir), []
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    for cell, order in NEWTON_CASES:
        network = rnn.Classifier(rnn.stack(cell), data.info.num_classes)
        task = Classification(network, step_size(data.info.image_shape, order), scale=data.info.max_pixel, order=order)
        first = init_state(task.init, optimizer, jax.random.key(0))
        *_, (last, _) = fit(task.loss, optimizer, first, data.train, steps=num_updates, batch_size=64)
        weights = {"new": first.params.encoder[0], "trained": last.params.encoder[0]}
        images = data.test.inputs[:16] / data.info.max_pixel
        xs = np.moveaxis(read_in_order(images, order), 1, 0)
        figures = [newton_figures(cell, list(weights.values()), xs, dtype) for dtype in ("float32", "float64")]
        for when, *numbers in zip(weights, *figures, strict=True):
            rows.append([f"{type(cell).__name__}({cell.hidden_size})", order, when, *itertools.chain(*numbers)])
    header = ["cell", "order", "weights", *(f"{name}, {bits}" for bits in ("32", "64") for name in NEWTON_FIGURES)]
    return (
        '## Newton\'s method on MNIST\n\nRounds that `implementation="parallel"` takes on 16 test images, and its '
        "largest difference from the scan, over the largest output and over each parameter's largest gradient, in "
        f"float32 and float64: of a new cell, and after {num_updates} updates of Adam in a classifier.\n\n"
        + make_table(header, rows)
    )


def newton_figures(cell: rnn.Cell, weights: Sequence[Any], xs: np.ndarray, dtype: str) -> list[tuple[str, str, str]]:
    """Returns `NEWTON_FIGURES` of a cell with each of some weights, as texts."""
    with jax.enable_x64(dtype == "float64"):
        inputs = jnp.asarray(xs, dtype)

        def loss(params: Any, implementation: str) -> tuple[jax.Array, jax.Array]:
            ys = rnn.unroll(cell, params, inputs, implementation=implementation)[1]
            return jnp.mean(jnp.sin(ys)), ys

        solve = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
        ask = jax.jit(lambda params: rnn.newton_report(cell, params, inputs))
        figures = []
        for params in weights:
            params = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), dtype), params)
            report = ask(params)
            errors = jax.tree.map(
                lambda a, b: float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))),
                solve(params, "parallel"),
                solve(params, "scan"),
            )
            rounds = f"{report.rounds}" if report.converged else f"{report.rounds}, then the scan"
            figures.append((rounds, f"{errors[1]:.1e}", f"{max(jax.tree.leaves(errors[0])):.1e}"))
    return figures


def in_blocks(a: jax.Array, b: jax.Array) -> jax.Array:
    """Solves a linear recurrence in about sqrt(T) blocks at once, and then from block to block."""
    num_steps, size = len(a), math.isqrt(len(a) - 1) + 1
    count = -(-num_steps // size)

    def split(v: jax.Array, fill: float) -> jax.Array:
        padding = jnp.full((count * size - num_steps, *v.shape[1:]), fill, v.dtype)
        return jnp.concatenate([v, padding]).reshape(count, size, *v.shape[1:]).swapaxes(0, 1)

    def step(before: Any, now: Any) -> Any:
        after = now[0] * before[0], now[0] * before[1] + now[1]
        return after, after

    a, b = split(a, 1), split(b, 0)
    ends, (products, hs) = jax.lax.scan(step, (jnp.ones_like(a[0]), jnp.zeros_like(b[0])), (a, b))
    starts = jax.lax.scan(lambda h, end: (end[0] * h + end[1], h), jnp.zeros_like(b[0, 0]), ends)[1]
    return (products * starts + hs).swapaxes(0, 1).reshape(-1, *b.shape[2:])[:num_steps]


def make_arguments(shape: Shape, make_cell: Callable[[int], Any] = rnn.LSTM) -> tuple[Any, jax.Array]:
    """Parameters and inputs."""
    params = make_cell(shape.hidden_size).init(jax.random.key(0), shape.input_size)
    return params, jax.random.normal(jax.random.key(1), (shape.time, shape.batch, shape.input_size))


def fused_in(**layout: Any) -> Implementation:
    """The fused implementation with a layout of its own, see `unroll_fused`."""
    return FUSED._replace(run=functools.partial(fused.unroll_fused, **layout))


def training_step(
    shape: Shape, make_cell: Callable[[int], Any] = rnn.LSTM, *, last_state: bool = False, **options: Any
) -> Callable[..., Any]:
    """Forward, backward and update on the mean square of all outputs, or of the last state."""
    cell = make_cell(shape.hidden_size)

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        state, ys = rnn.unroll(cell, params, xs, **options)
        return jnp.mean((state.h if last_state else ys) ** 2)

    def step(params: Any, xs: jax.Array) -> Any:
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params, xs))

    return step


def compile_step(shape: Shape, make_cell: Callable[[int], Any] = rnn.LSTM, **options: Any) -> Any:
    """`training_step`, compiled."""
    shapes = jax.eval_shape(lambda: make_arguments(shape, make_cell))
    return jax.jit(training_step(shape, make_cell, **options)).lower(*shapes).compile()


def median_seconds(steps: Mapping[str, Any], arguments: tuple[Any, ...], rounds: int) -> dict[str, float]:
    """Times all in turn, round after round, each for 0.1 s or one step."""

    def run(step: Any, times: int) -> float:
        time.sleep(PAUSE)
        began = time.perf_counter()
        for _ in range(times):
            jax.block_until_ready(step(*arguments))
        return (time.perf_counter() - began) / times

    times = {name: max(1, int(0.1 / run(step, 1))) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(rounds), unit=" rounds"):
        for name, step in steps.items():
            seconds[name].append(run(step, times[name]))
    return {name: statistics.median(measured) for name, measured in seconds.items()}


if __name__ == "__main__":
    sys.exit(main())
