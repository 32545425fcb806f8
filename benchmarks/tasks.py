"""`python -m benchmarks.tasks`: accuracy by seconds of training, of every cell, on tasks that test its memory.

Each network is a stack of residual blocks of one cell, trained by Adam on batches that are drawn afresh.
"""

import argparse
import dataclasses
import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnn_jax as rnn
from benchmarks.blocks import make_encoder
from benchmarks.measure import HOME
from benchmarks.plot import plot_curves
from benchmarks.report import EMPTY, make_table, write_section
from benchmarks.synthetic_tasks import IGNORED, adding, associative_recall, copying, parity, selective_copying
from rnn_jax.base import Array, Layer, Params
from rnn_jax.cells import CELLS
from rnn_jax.data import Dataset, Examples, load_dataset
from rnn_jax.readout import Readout
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.image_order import ORDERS, step_size
from rnn_jax.training.step import evaluate, init_state, train_steps

COMMAND = "python -m benchmarks.tasks"
PACKAGES = ("jax", "optax")
STEPS_PER_CALL = 5
WARM_UP = 0.05  # of the seconds
EVALUATIONS = 10  # of each run
WITHIN = 0.04  # a number is predicted correctly
RADII = (0.9, 0.999)  # of LRU, as its paper has them for long sequences

INTRODUCTION = """\
## Accuracy by seconds of training{of_section}

Test accuracy on {tested:,} sequences after {seconds:g} seconds of training, or after fewer where all were right.
{layers} residual blocks of {hidden_size} units (`benchmarks/blocks.py`), Adam with a warm-up to a learning rate of
{learning_rate:g} and a cosine to 0, gradients clipped to norm 1, batches of {batch_size}, seed {seed}; the same
for all cells. Seconds are of processor time without compilation and tests: on one core, other work does not count. The
second table has the updates of this time. `benchmarks/synthetic_tasks.py` defines the tasks."""


class Metrics(NamedTuple):
    """Means over a batch: the loss, and the fraction of scored steps or of numbers predicted correctly."""

    loss: Array
    accuracy: Array


@dataclasses.dataclass(frozen=True)
class Sequences:
    """The loss of a network on the examples of `synthetic_tasks`.

    Args:
      network: reads out every step for targets [N, T], the final one for numbers [N].
      input_size: V, the number of tokens, or D, the features of a step.
    """

    network: rnn.Classifier
    input_size: int

    def init(self, key: Array) -> Params:
        """Draws the network's parameters. Consumes `key`."""
        return self.network.init(key, self.input_size)

    def loss(self, params: Params, batch: Examples, key: Array | None = None) -> tuple[Array, Metrics]:
        """Computes the cross-entropy of scored steps, or the squared error of numbers, and the accuracy."""
        targets: Any = batch.targets
        is_number = jnp.issubdtype(targets.dtype, jnp.floating)
        ys = self.network.apply(params, jnp.moveaxis(jnp.asarray(batch.inputs), -2 if is_number else -1, 0))
        if is_number:
            errors = ys[..., 0] - targets
            return jnp.mean(errors**2), Metrics(jnp.mean(errors**2), jnp.mean(jnp.abs(errors) < WITHIN))
        logits, scored = jnp.moveaxis(ys, 0, -2), targets != IGNORED
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(scored, targets, 0))
        correct = jnp.argmax(logits, axis=-1) == targets
        metrics = Metrics(jnp.mean(losses, where=scored), jnp.mean(correct, where=scored))
        return metrics.loss, metrics


class Exercise(NamedTuple):
    """A task of this benchmark.

    Attributes:
      name: its name in the table.
      draw: (random numbers, N) -> N examples to train on.
      test: draws N examples to test on.
      num_tokens: V, of tokens; None for features.
      task: makes the library's task, or `Sequences`, of an encoder.
    """

    name: str
    draw: Callable[[np.random.Generator, int], Examples]
    test: Callable[[int], Examples]
    num_tokens: int | None
    task: Callable[[Layer], Any]


class Run(NamedTuple):
    """The course of a training.

    Attributes:
      seconds: of processor time before each test.
      accuracy: of each test.
      steps: the number of updates.
    """

    seconds: tuple[float, ...]
    accuracy: tuple[float, ...]
    steps: int

    def summary(self, limit: float) -> str:
        """Returns the last accuracy, and the seconds that it took if they are fewer than the limit.

        >>> Run((1.0, 2.04), (0.5, 1.0), 90).summary(10), Run((5.0, 10.0), (0.5, 0.7504), 90).summary(10)
        ('1.000 in 2.0 s', '0.750')
        """
        early = f" in {self.seconds[-1]:.1f} s" if self.seconds[-1] < limit else ""
        return f"{self.accuracy[-1]:.3f}{early}"


def main(argv: Sequence[str] | None = None) -> int:
    """Trains every cell on every task, and writes the results; returns the exit status."""
    sections = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    sections.add_argument("--section", help="a word for a section of RESULTS.md beside the main one")
    chosen, argv = sections.parse_known_args(argv)
    arguments = parse(argv, sections)

    def measure() -> str:
        runs = train_all(arguments)
        if chosen.section:
            return describe(runs, arguments, f": {chosen.section}")
        curves = {name: {cell: run[:2] for (task, cell), run in runs.items() if task == name} for name, _ in runs}
        plot_curves(curves, "seconds of training", "test accuracy").savefig(HOME / "tasks.png", dpi=100)
        return describe(runs, arguments) + "\n\n![Accuracy by seconds of training](tasks.png)"

    command = f"{COMMAND} --section {chosen.section}" if chosen.section else COMMAND
    return write_section(command, PACKAGES, argv, measure)


def parse(argv: Sequence[str], sections: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the command line; the flag of `sections` is in the help alone."""
    names = list(exercises(None, None, "final"))
    description = "Trains every cell on tasks that test its memory."
    parser = argparse.ArgumentParser(prog=COMMAND, description=description, parents=[sections])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="default: all")
    parser.add_argument("--tasks", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--seconds", type=float, default=20, help="of processor time, of each run (default: 20)")
    parser.add_argument("--layers", type=int, default=2, help="default: 2")
    parser.add_argument("--hidden-size", type=int, default=64, help="default: 64")
    parser.add_argument("--length", type=int, help="steps of the synthetic tasks, in place of each one's own")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="the highest (default: 0.003)")
    parser.add_argument("--batch-size", type=int, default=64, help="default: 64")
    parser.add_argument("--readout", choices=["final", "mean"], default="final", help="of images, default: final")
    parser.add_argument(
        "--radii", type=float, nargs=2, default=RADII, help="of lru: r_min and r_max (default: 0.9 0.999)"
    )
    parser.add_argument("--max-phase", type=float, default=math.tau, help="of lru, in radians (default: 2 pi)")
    parser.add_argument("--tested", type=int, default=1000, help="sequences of the test (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--data-dir", type=Path, help="the folder of MNIST, as in train.py")
    return parser.parse_args(argv)


def exercises(length: int | None, data_dir: Path | None, readout: Readout) -> Mapping[str, Exercise]:
    """Returns all tasks by name; MNIST is read once it is needed."""

    @functools.cache
    def mnist() -> Dataset:
        return load_dataset("mnist", data_dir)

    bits = length or 40
    synthetic = [
        make_synthetic("adding", adding, 2, 1, length=length or 100),
        make_synthetic("copying", copying, 10, 10, delay=length or 50),
        make_synthetic("selective-copying", selective_copying, 16, 16, length=length or 64),
        make_synthetic("associative-recall", associative_recall, 64, 64, length=length or 64, pairs=4, tokens=64),
        make_synthetic("parity", parity, 2, 2, {"length": 2 * bits, "first": bits + 1}, length=bits),
    ]
    images = [make_images(order, mnist, readout) for order in ORDERS]
    return {exercise.name: exercise for exercise in (*synthetic, *images)}


def make_synthetic(
    name: str,
    generate: Callable[..., Examples],
    input_size: int,
    num_outputs: int,
    of_test: Mapping[str, int] | None = None,
    **sizes: int,
) -> Exercise:
    """Makes an exercise of a generator, its sizes in training, and those of its test if they differ."""
    num_tokens, readout = (None, "final") if num_outputs == 1 else (input_size, "every_step")

    def task(encoder: Layer) -> Sequences:
        return Sequences(rnn.Classifier(encoder, num_outputs, readout=readout), input_size)

    def test(count: int) -> Examples:
        return generate(np.random.default_rng(1), count, **(of_test or sizes))

    return Exercise(name, functools.partial(generate, **sizes), test, num_tokens, task)


def make_images(order: str, mnist: Callable[[], Dataset], readout: Readout) -> Exercise:
    """Makes the classification of MNIST's images, read in one of `ORDERS`."""

    def draw(rng: np.random.Generator, count: int) -> Examples:
        rows = rng.integers(len(mnist().train.targets), size=count)
        return Examples(mnist().train.inputs[rows], mnist().train.targets[rows])

    def test(count: int) -> Examples:
        return Examples(mnist().test.inputs[:count], mnist().test.targets[:count])

    def task(encoder: Layer) -> Classification:
        info = mnist().info
        network = rnn.Classifier(encoder, info.num_classes, readout=readout)
        return Classification(network, step_size(info.image_shape, order), scale=info.max_pixel, order=order)

    return Exercise(f"mnist-{order}", draw, test, None, task)


def train_all(arguments: argparse.Namespace) -> dict[tuple[str, str], Run]:
    """Returns the runs by task and cell: all, or those before an interruption."""
    known, runs = exercises(arguments.length, arguments.data_dir, arguments.readout), {}
    options = {name: getattr(arguments, name) for name in ("seconds", "learning_rate", "batch_size", "tested", "seed")}
    r_min, r_max = arguments.radii
    cell_options = {"r_min": r_min, "r_max": r_max, "max_phase": arguments.max_phase}
    for name, cell in itertools.product(arguments.tasks, arguments.cells):
        num_tokens = known[name].num_tokens
        made = CELLS[cell].make(arguments.hidden_size, cell_options)
        encoder = make_encoder(made, arguments.layers, num_tokens)
        try:
            runs[name, cell] = run = train(known[name], encoder, **options)
        except KeyboardInterrupt:
            if runs:
                break
            raise
        print(f"{name}, {cell}: {run.summary(arguments.seconds)}, {run.steps} steps", flush=True)
    return runs


def train(
    exercise: Exercise,
    encoder: Layer,
    *,
    seconds: float,
    learning_rate: float,
    batch_size: int,
    tested: int,
    seed: int,
) -> Run:
    """Trains until the seconds are over, or all test sequences are predicted correctly.

    The learning rate follows the seconds: a linear warm-up, then a cosine to 0.
    """
    task, rng, test = exercise.task(encoder), np.random.default_rng((seed, 0)), exercise.test(tested)
    make_optimizer = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))
    )
    optimizer = make_optimizer(learning_rate=learning_rate)
    state = jax.jit(init_state, static_argnums=(0, 1))(task.init, optimizer, jax.random.key(seed))

    def draw() -> Examples:
        examples = exercise.draw(rng, STEPS_PER_CALL * batch_size)
        return jax.tree.map(lambda a: a.reshape(STEPS_PER_CALL, batch_size, *a.shape[1:]), examples)

    def take(state: Any, batches: Examples, rate: Array) -> Any:
        state.opt_state.hyperparams["learning_rate"] = rate
        return train_steps(task.loss, optimizer, state, batches, None, jnp.int32(STEPS_PER_CALL))[0]

    @jax.jit
    def accuracy(params: Params, test: Examples) -> Array:
        return evaluate(task.loss, params, test, batch_size=100).accuracy

    take_compiled = jax.jit(take).lower(state, draw(), jnp.float32(0)).compile()
    spent, done, course = 0.0, 0, []
    while not course or (spent < seconds and course[-1][1] < 1):
        while spent < seconds * (len(course) + 1) / EVALUATIONS:
            part = spent / seconds
            factor = (
                part / WARM_UP if part < WARM_UP else (1 + math.cos(math.pi * (part - WARM_UP) / (1 - WARM_UP))) / 2
            )
            batches, rate = draw(), jnp.float32(learning_rate * factor)
            began = time.process_time()
            state = jax.block_until_ready(take_compiled(state, batches, rate))
            spent, done = spent + time.process_time() - began, done + STEPS_PER_CALL
        course.append((spent, float(accuracy(state.params, test))))
        print(f"{spent:.0f} s, {done} steps: {course[-1][1]:.4f}", file=sys.stderr, flush=True)
    times, accuracies = zip(*course, strict=True)
    return Run(times, accuracies, done)


def describe(runs: Mapping[tuple[str, str], Run], arguments: argparse.Namespace, of_section: str = "") -> str:
    """Returns the introduction and the tables of accuracies and of updates."""

    def table(entry: Callable[[Run], str]) -> str:
        rows = [
            [cell, *(entry(runs[name, cell]) if (name, cell) in runs else EMPTY for name in arguments.tasks)]
            for cell in arguments.cells
        ]
        return make_table(["cell", *arguments.tasks], rows)

    introduction = INTRODUCTION.format(of_section=of_section, **vars(arguments))
    accuracies = table(lambda run: run.summary(arguments.seconds))
    return "\n\n".join([introduction, accuracies, table(lambda run: f"{run.steps:,}")])


if __name__ == "__main__":
    sys.exit(main())
