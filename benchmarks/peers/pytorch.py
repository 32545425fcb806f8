"""PyTorch, step by step as its users run it, on all cores."""
# pyright: reportMissingImports=false

import torch
from torch import nn

from benchmarks.cases import LEARNING_RATE, Case, draw_inputs
from benchmarks.peers import Program, Unsupported, available_cores

PACKAGES = ("torch",)


def prepare(case: Case) -> Program:
    """Makes a module and its optimizer."""
    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    xs = torch.from_numpy(draw_inputs(case.shape))
    module = build(case.cell, case.shape.input_size, case.shape.hidden_size)
    optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE)

    def train(n: int) -> float:
        loss = torch.zeros(())
        for _ in range(n):
            optimizer.zero_grad()
            loss = module(xs)[0].square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    @torch.no_grad()
    def infer(n: int) -> float:
        ys = torch.zeros(1, 1, 1)
        for _ in range(n):
            ys = module(xs)[0]
        return ys[-1, 0, 0].item()

    with torch.no_grad():
        output_shape = tuple(module(xs)[0].shape)
    return Program(train if case.mode == "training" else infer, output_shape)


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
