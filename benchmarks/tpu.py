"""`python -m benchmarks.tpu`: compiles the training step for TPUs without having one, and writes docs/tpu.md.

It needs the TPU's compiler, `pip install libtpu`, but no TPU.
"""

import argparse
import datetime
import os
import re
import sys
from importlib.metadata import version
from typing import Any, NamedTuple, TypeAlias
from unittest import mock

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from tqdm import tqdm

import rnn_jax as rnn
from benchmarks.cases import Case, Shape
from benchmarks.experiments import make_table
from benchmarks.measure import ROOT
from rnn_jax.app.recipes import RECIPES
from rnn_jax.base import Layer
from rnn_jax.cells.equations import Precision
from rnn_jax.data import Examples
from rnn_jax.readout import Classifier
from rnn_jax.tasks.classification import Classification
from rnn_jax.training.fit import jit_train_steps
from rnn_jax.training.step import init_state

IMAGES, ROWS, COLUMNS = 55_000, 28, 28  # of MNIST, to train on
STEPS_PER_CALL = RECIPES["default"].steps_per_call
FEW_IMAGES = 500  # their order is compiled in a fraction of the time
Network: TypeAlias = tuple[str, Precision]  # a cell of `benchmarks.cases`, and the precision of its products
NETWORKS: dict[Network, Layer] = {
    ("lstm", None): rnn.Recurrent(rnn.LSTM(128)),
    ("lstm", "bfloat16"): rnn.Recurrent(rnn.LSTM(128), precision="bfloat16"),
    ("gru", None): rnn.Recurrent(rnn.GRU(128)),
    ("gru", "bfloat16"): rnn.Recurrent(rnn.GRU(128), precision="bfloat16"),
    ("bidirectional-lstm", None): rnn.bidirectional(rnn.LSTM(128)),
    ("bidirectional-lstm", "bfloat16"): rnn.bidirectional(rnn.LSTM(128), precision="bfloat16"),
}
WIDE = rnn.Recurrent(rnn.LSTM(1024))
LARGE = rnn.stack(*2 * [rnn.tensor_parallel(rnn.LSTM(4096))])
# By their number of chips: all the slices that there are.
TOPOLOGIES = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
BATCH_PER_CHIP, BATCH_OF_ALL = 128, 4096

# Of a v5e chip: https://cloud.google.com/tpu/docs/v5e
FLOPS = 197e12  # a second, in bfloat16
MULTIPLIERS = 4 * 128 * 128  # four units of so many, each a multiplication and an addition in a cycle
CYCLES = FLOPS / (2 * MULTIPLIERS)  # a second
HBM = 16e9  # bytes of memory
LINKS = 200e9  # bytes a second, each way: four links of 400 Gbit/s
WRAPS = 16  # chips in a row whose ends are joined; shorter rows are lines
HOP = 1e-6  # seconds from chip to chip: https://jax-ml.github.io/scaling-book/sharding

# What the compiler would ask the network about its TPU; and another process may use the compiler, as there is no TPU.
NO_TPU = {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

COLLECTIVES = r"(all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast)(?:-start)?\("


DOCUMENT = """\
<!-- written by python -m benchmarks.tpu -->

# TPUs

`python train.py` takes the TPU that JAX finds (`pip install 'jax[tpu]'`), and shares each batch among all of its chips.

**The figures below are estimates, not measurements.** They come from the TPU's own compiler, which runs without a TPU
(`pip install libtpu`), and from the arithmetic at the end. What is compiled is the function that training calls: {call}
training steps, with MNIST on every chip; with {few} images for the later tables, which are compiled sooner, and where
the compiler, which places arrays differently then, expects a few per cent more of a step.

## The training step

For TPU v5e, {batch} images a chip. Between the chips there is one all-reduce in a step, of all gradients, and none in
the loops over time; a second one, of loss and accuracy, comes after all steps of a call.

{steps}

"µs a step in time" is one row of the images: forwards, then backwards, for each direction. That the products reach so
little of the peak lies in the nature of the thing: {rows} steps must follow each other, and in each of them the
compiler counts about a microsecond for every operation, however small. A network of this size leaves a chip idle for
the most part, and a larger batch costs little.

## From 1 to 256 chips

`--cell lstm --hidden-size 128`, {batch} images a chip:

{small_per_chip}

The same, {batch_of_all:,} images in all:

{small_of_all}

`--cell lstm --hidden-size 1024`, {batch} images a chip:

{wide_per_chip}

The same, {batch_of_all:,} images in all:

{wide_of_all}

Efficiency is what a chip does, compared with one alone. Whether training gains by so large a batch is another matter.
On each of 256 chips, {batch} images are 60% of MNIST.

## Networks too large for one chip

`rnn_jax.tensor_parallel` shares the units of a cell among chips, and with them the rows of its matrices. Two layers of
`tensor_parallel(LSTM(4096))`, {large_params:.0f} million numbers and as many of the optimizer's, in batches of {batch}:

{sharing}

## What is assumed

- Computation: the cycles that the compiler notes beside the operations of the program, times the turns of the loops,
  at {ghz:.1f} GHz, which is {tflops:.0f} TFLOP/s divided by two operations of four units of 128 x 128 multipliers. It
  notes none for copies between memories that run beside the rest, for gathering the images of a batch, and for
  all-reduces.
- All-reduce: along both sides of the slice and back, {hop:.0f} µs from chip to chip, and {links:.0f} GB/s each way for
  a chip with its four links at work; half of that where a side is shorter than {wraps} chips, and no link closes its
  rings. Nothing runs beside it.
- Not counted: the time between two calls, and drawing the order of the examples, once an epoch.
- On a TPU, JAX rounds the factors of float32 products to bfloat16, unless it is told otherwise.

Sources: [TPU v5e](https://cloud.google.com/tpu/docs/v5e) for a chip's {tflops:.0f} TFLOP/s, its four links of 400
Gbit/s and the slices; [How to scale your model](https://jax-ml.github.io/scaling-book/sharding) for rings and hops.

<sub>`python -m benchmarks.tpu`, {versions}.</sub>
"""


class Computation(NamedTuple):
    """A part of a compiled program, such as the body of a loop.

    Attributes:
      cycles: the compiler's estimate for its operations, those of its loops left out.
      loops: the names of the bodies of its loops.
      collectives: for each operation between devices, its name and how many numbers it hands out.
    """

    cycles: int
    loops: list[str]
    collectives: list[tuple[str, int]]


class Program(NamedTuple):
    """A compiled call of `train_steps`: what is not in a loop, one training step, and the loops over time in that."""

    call: Computation
    step: Computation
    time_loops: list[Computation]

    @property
    def step_seconds(self) -> float:
        """What the compiler expects of a step on one chip, the operations between chips left out."""
        return (self.step.cycles + ROWS * sum(loop.cycles for loop in self.time_loops)) / CYCLES


def compile_steps(
    encoder: Layer, topology: str, batch_size: int, num_images: int = IMAGES, model_devices: int = 1
) -> Any:
    """Compiles the function that `fit` calls, for MNIST on every chip of a slice.

    Args:
      encoder: of the classifier that is trained.
      topology: of the v5e slice, such as "2x2".
      batch_size: examples in a batch, of all chips together.
      num_images: training images.
      model_devices: how many chips share each matrix.
    """
    with mock.patch.dict(os.environ, NO_TPU):
        devices = topologies.get_topology_desc(platform="tpu", topology_name=f"v5e:{topology}").devices
    task = Classification(Classifier(encoder, num_classes=10), COLUMNS, scale=255)
    optimizer = RECIPES["default"].optimizer()
    sizes: dict[str, Any] = {"batch_size": batch_size, "model_devices": model_devices}
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix integers and floats
        state = jax.eval_shape(lambda: init_state(task.init, optimizer, jax.random.key(0)))
        take_steps, *places = jit_train_steps(task.loss, optimizer, state, devices, **sizes)
        state_places, data_place, examples_place = places
        state = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, state_places
        )
        images = jax.ShapeDtypeStruct((num_images, ROWS, COLUMNS), jnp.uint8, sharding=data_place)
        labels = jax.ShapeDtypeStruct((num_images,), jnp.int32, sharding=data_place)
        examples = jax.ShapeDtypeStruct((STEPS_PER_CALL, batch_size), jnp.int32, sharding=examples_place)
        return take_steps.lower(state, Examples(images, labels), examples, STEPS_PER_CALL).compile()  # type: ignore


def num_params(encoder: Layer) -> int:
    """How many numbers a classifier with this encoder learns."""
    params = jax.eval_shape(lambda: Classifier(encoder, num_classes=10).init(jax.random.key(0), COLUMNS))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def read_program(text: str) -> Program:
    """Finds the loops in the text of a compiled call of `train_steps`.

    Raises:
      ValueError: if there is not one loop over the steps, with loops over time in it.
    """
    computations, entry = {}, ""
    for header, body in re.findall(r"^((?:ENTRY )?%\S+) \([^\n]*\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        name = header.removeprefix("ENTRY ")
        entry = name if name != header else entry
        computations[name] = read_computation(body)
    call = computations[entry]
    steps = [computations[name] for name in call.loops if computations[name].loops]
    if len(steps) != 1:
        raise ValueError(f"expected one loop over steps, not {len(steps)}")
    return Program(call, steps[0], [computations[name] for name in steps[0].loops])


def read_computation(body: str) -> Computation:
    """Reads the text between the braces."""
    collectives = []
    for line in body.splitlines():
        if found := re.match(rf"\s*(?:ROOT )?%\S+ = (.*?) {COLLECTIVES}", line):
            shapes = re.findall(r"\w+\[([\d,]*)\]", found[1])
            collectives.append((found[2], sum(size_of(shape) for shape in shapes)))
    cycles = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', body)))
    return Computation(cycles, re.findall(r" while\(.*?body=(%[^\s,]+)", body), collectives)


def size_of(shape: str) -> int:
    """How many numbers there are in an array.

    >>> size_of("28,512"), size_of("")
    (14336, 1)
    """
    size = 1
    for length in filter(None, shape.split(",")):
        size *= int(length)
    return size


def all_reduce_seconds(topology: str, num_bytes: int) -> float:
    """The time of an all-reduce: sums go along every row and every column of chips, and back.

    >>> f"{all_reduce_seconds('16x16', 0):.0e}"
    '3e-05'
    >>> all_reduce_seconds("1x1", 10**6)
    0.0
    """
    sides = [int(side) for side in topology.split("x")]
    num_chips = sides[0] * sides[1]
    lines = min(sides) < WRAPS
    hops = 2 * sum(side // 2 if side >= WRAPS else side - 1 for side in sides)
    # All links at work; without the links that close the rings, half of them.
    transfer = 2 * num_bytes * (1 - 1 / num_chips) / (LINKS / 2 if lines else LINKS)
    return hops * HOP + transfer


def bytes_per_chip(compiled: Any) -> int:
    """All the memory that a compiled program needs: the data set, the state, intermediate values and its own code."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def step_table(bar: tqdm) -> str:
    """The training step of every network, on a small slice and on the largest."""
    rows = []
    for (name, precision), encoder in NETWORKS.items():
        flops = Case(name, Shape(BATCH_PER_CHIP, ROWS, COLUMNS, 128), "training").flops
        for chips in (4, 256):
            compiled = compile_steps(encoder, TOPOLOGIES[chips], BATCH_PER_CHIP * chips)
            program = read_program(compiled.as_text())
            rows.append(
                [
                    name,
                    precision or "float32",
                    str(chips),
                    ", ".join(f"{kind} of {numbers:,}" for kind, numbers in program.step.collectives),
                    f"{bytes_per_chip(compiled) / 1e6:.0f}",
                    " + ".join(f"{1e6 * loop.cycles / CYCLES:.1f}" for loop in program.time_loops),
                    f"{1e6 * program.step_seconds:.0f}",
                    f"{100 * flops / program.step_seconds / FLOPS:.1f}%",
                ]
            )
            bar.update()
    header = [
        "network",
        "precision",
        "chips",
        "sent",
        "MB a chip",
        "a step in time, µs",
        "a training step, µs",
        "of peak",
    ]
    return make_table(header, rows)


def scaling_table(encoder: Layer, bar: tqdm, batch_size: int | None = None) -> str:
    """From 1 to 256 chips, with so many examples in all, or on each chip without that; and where it stops scaling."""
    rows, alone, scales_to = [], 0.0, 1
    for chips, topology in TOPOLOGIES.items():
        total = batch_size or BATCH_PER_CHIP * chips
        seconds = read_program(compile_steps(encoder, topology, total, FEW_IMAGES).as_text()).step_seconds
        exchange = all_reduce_seconds(topology, 4 * num_params(encoder))
        rate = total / (seconds + exchange)
        alone = alone or rate
        efficiency = rate / chips / alone
        scales_to = chips if efficiency >= 0.5 else scales_to
        rows.append(
            [
                str(chips),
                topology,
                str(total // chips),
                f"{1e6 * seconds:.0f}",
                f"{1e6 * exchange:.0f}",
                f"{100 * exchange / (seconds + exchange):.1f}%",
                f"{rate:,.0f}",
                f"{100 * efficiency:.0f}%",
            ]
        )
        bar.update()
    header = ["chips", "slice", "batch a chip", "step, µs", "all-reduce, µs", "its share", "examples/s", "efficiency"]
    return (
        f"{make_table(header, rows)}\n\nA chip does at least half as much as one alone in slices of up to {scales_to}."
    )


def sharing_table(bar: tqdm) -> str:
    """A network whose matrices are shared by all chips of a slice."""
    rows = []
    for chips in (1, 4, 8):
        compiled = compile_steps(LARGE, TOPOLOGIES[chips], BATCH_PER_CHIP, FEW_IMAGES, model_devices=chips)
        program = read_program(compiled.as_text())
        sent = sum(numbers for loop in program.time_loops for _, numbers in loop.collectives)
        rows.append(
            [
                str(chips),
                f"{bytes_per_chip(compiled) / 1e9:.2f}",
                f"{4e-6 * sent:.1f}",
                f"{1e3 * program.step_seconds:.1f}",
            ]
        )
        bar.update()
    return make_table(
        ["chips", "GB a chip", "MB handed out in a step in time", "a training step but for that, ms"], rows
    )


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tpu",
        description="Compiles the training step for slices of 1 to 256 TPU v5e chips, without a TPU, and writes "
        "docs/tpu.md, in about 10 minutes on two cores. It needs the TPU's compiler: pip install libtpu.",
    )
    parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    small = NETWORKS["lstm", None]
    with tqdm(total=2 * len(NETWORKS) + 4 * len(TOPOLOGIES) + 3, unit=" programs") as bar:
        text = DOCUMENT.format(
            steps=step_table(bar),
            small_per_chip=scaling_table(small, bar),
            small_of_all=scaling_table(small, bar, BATCH_OF_ALL),
            wide_per_chip=scaling_table(WIDE, bar),
            wide_of_all=scaling_table(WIDE, bar, BATCH_OF_ALL),
            sharing=sharing_table(bar),
            large_params=num_params(LARGE) / 1e6,
            call=STEPS_PER_CALL,
            few=FEW_IMAGES,
            rows=ROWS,
            hop=1e6 * HOP,
            links=LINKS / 1e9,
            wraps=WRAPS,
            tflops=FLOPS / 1e12,
            batch=BATCH_PER_CHIP,
            batch_of_all=BATCH_OF_ALL,
            ghz=CYCLES / 1e9,
            versions=f"jax {jax.__version__}, libtpu {version('libtpu')}, {datetime.date.today()}",
        )
    (ROOT / "docs" / "tpu.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
