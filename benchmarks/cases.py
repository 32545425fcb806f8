"""The cases of the benchmark: cells, shapes and modes, with their data and their minimal work."""

import dataclasses
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

Mode: TypeAlias = Literal["training", "inference"]
LEARNING_RATE = 0.1  # of the SGD update in a training step

# Columns of the fused kernel, in units of H: what a cell computes from its input and its state.
GATES = {
    "lstm": 4,
    "gru": 3,
    "gru-reset-before": 3,
    "vanilla": 1,
    "bidirectional-lstm": 4,
    "two-layer-lstm": 4,
    "layer-norm-lstm": 4,
}


class Shape(NamedTuple):
    """Sizes of a case: B sequences of T steps of D features, and H units."""

    batch: int
    time: int
    input_size: int
    hidden_size: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


TUTORIAL = Shape(128, 28, 28, 128)
SHAPES = (
    TUTORIAL,
    Shape(32, 100, 64, 64),
    Shape(256, 50, 512, 128),
    Shape(1, 1000, 64, 128),
    Shape(64, 200, 256, 512),
    Shape(16, 64, 1024, 1024),
)


LONG = Shape(16, 1024, 768, 768)
GPU_SHAPES = (TUTORIAL, LONG, *SHAPES[1:], Shape(64, 512, 512, 512))


@dataclasses.dataclass(frozen=True)
class Case:
    """A cell at a shape; in float32 on the CPU.

    training: a step is the forward pass, the backward pass of mean(ys**2) over all outputs with respect to all
    parameters, and their update by SGD. inference: a step is the forward pass. The initial state is zero.
    """

    cell: str
    shape: Shape
    mode: Mode

    def __str__(self) -> str:
        return f"{self.cell} {self.shape} {self.mode}"

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Of ys: [T, B, H], or [T, B, 2H] both ways."""
        directions = 2 if self.cell == "bidirectional-lstm" else 1
        return self.shape.time, self.shape.batch, directions * self.shape.hidden_size

    @property
    def flops(self) -> int:
        """Floating-point operations in the matrix products that a step cannot do without.

        Forward, one product of [x, h] [T B, D + H] and the kernel [D + H, gates]. Backward, as much again for the
        kernel's gradient, and the gradients of h [T B, H]; also those of x for an upper layer, but not for the lowest,
        whose x is data. A multiplication and an addition are two operations. Pointwise work is not counted.
        """
        B, T, D, H = self.shape
        columns = GATES[self.cell] * H
        layers = [(D, False), (H, True)] if self.cell == "two-layer-lstm" else [(D, False)]
        rows = 0
        for size, needs_x_gradient in layers:
            rows += size + H
            if self.mode == "training":
                rows += (size + H) + H + (size if needs_x_gradient else 0)
        directions = 2 if self.cell == "bidirectional-lstm" else 1
        return directions * 2 * T * B * rows * columns

    @property
    def numbers_moved(self) -> int:
        """Numbers that a step of one layer in one direction must at least read from memory or write to it.

        Forward: x, the parameters, and the outputs. Backward, x, the parameters and the outputs once more, and the
        updated parameters.
        """
        B, T, D, H = self.shape
        columns = GATES[self.cell] * H
        parameters, sequences = (D + H + 1) * columns, T * B * (D + H)
        return parameters + sequences if self.mode == "inference" else 3 * parameters + 2 * sequences


def draw_inputs(shape: Shape) -> np.ndarray:
    """The same standard-normal xs [T, B, D] for everyone, float32."""
    random = np.random.default_rng(0)
    return random.standard_normal((shape.time, shape.batch, shape.input_size), dtype=np.float32)


def default_cases() -> list[Case]:
    """The three basic cells at every shape, the others at the tutorial's: in each, training and inference."""
    pairs = [(cell, shape) for cell in ("lstm", "gru", "vanilla") for shape in SHAPES]
    pairs += [(cell, TUTORIAL) for cell in GATES if (cell, TUTORIAL) not in pairs]
    return [Case(cell, shape, mode) for mode in ("training", "inference") for cell, shape in pairs]


def all_cases(
    cells: tuple[str, ...] = tuple(GATES),
    shapes: tuple[Shape, ...] = SHAPES,
    modes: tuple[Mode, ...] = ("training", "inference"),
) -> list[Case]:
    """Every cell at every shape in every mode."""
    return [Case(cell, shape, mode) for mode in modes for cell in cells for shape in shapes]
