"""PyTorch, step by step as its users run it: on all cores, or on a GPU, there also with steps recorded as a graph."""
# pyright: reportMissingImports=false

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.cases import LEARNING_RATE, Case, draw_inputs
from benchmarks.peers import Program, Unsupported, available_cores

PACKAGES = ("torch",)


def prepare(case: Case, device: str = "cpu", precision: str = "float32", graph: bool = False) -> Program:
    """Makes a module and its optimizer.

    Args:
      case: what.
      device: where, "cpu" or "cuda".
      precision: "float32", "float16" or "bfloat16", of everything; "tf32" is float32 with products in TensorFloat-32.
      graph: whether a step is recorded once as a CUDA graph, and replayed.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise Unsupported("finds no CUDA device")
    if graph and device != "cuda":
        raise Unsupported("CUDA graphs need CUDA")
    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    xs = torch.from_numpy(draw_inputs(case.shape)).to(device, dtype)
    module = build(case.cell, case.shape.input_size, case.shape.hidden_size).to(device, dtype)
    optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE)

    def train() -> torch.Tensor:
        optimizer.zero_grad()
        loss = module(xs)[0].float().square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def infer() -> torch.Tensor:
        return module(xs)[0][-1, 0, 0]

    step = train if case.mode == "training" else infer
    if graph:
        step = record(step)

    def run(n: int) -> float:
        result = torch.zeros(())
        for _ in range(n):
            result = step()
        return result.item()

    def device_seconds(n: int) -> float:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        for _ in range(n):
            step()
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended) / 1e3

    with torch.no_grad():
        output_shape = tuple(module(xs)[0].shape)
    on_device = device_seconds if device == "cuda" else None
    return Program(run, output_shape, device_seconds=on_device, rounds=dtype.itemsize < 4)


def record(step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The step as a CUDA graph, which starts all its kernels at once; after three steps that settle what it uses."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


def build(cell: str, input_size: int, hidden_size: int) -> nn.RNNBase:
    """The module of that name."""
    match cell:
        case "lstm":
            return nn.LSTM(input_size, hidden_size)
        case "gru":
            return nn.GRU(input_size, hidden_size)
        case "vanilla":
            return nn.RNN(input_size, hidden_size)
        case "bidirectional-lstm":
            return nn.LSTM(input_size, hidden_size, bidirectional=True)
        case "two-layer-lstm":
            return nn.LSTM(input_size, hidden_size, num_layers=2)
        case "gru-reset-before":
            raise Unsupported("its GRU resets after the product")
        case _:
            raise Unsupported("has no such cell")
