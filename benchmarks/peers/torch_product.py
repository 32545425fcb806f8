"""PyTorch's product of large float32 matrices."""
# pyright: reportMissingImports=false

import torch

from benchmarks.peers import Program, available_cores

PACKAGES = ("torch",)


def prepare(size: int) -> Program:
    """Draws two square matrices, each step's product being a factor of the next."""
    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    a = torch.randn(size, size) / size**0.5  # so that products neither grow nor vanish

    def run(n: int) -> float:
        b = a
        for _ in range(n):
            b = a @ b
        return b[0, 0].item()

    return Program(run, (size, size))
