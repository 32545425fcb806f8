"""`python -m benchmarks.text`: characters a second of a language model in training, beside PyTorch."""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from benchmarks.peers import available_cores
from benchmarks.report import make_table, write_section
from rnn_jax.app.build import build_task
from rnn_jax.app.config import Config
from rnn_jax.app.recipes import TEXT, TEXT_FLAGS
from rnn_jax.data import Examples
from rnn_jax.data.text import TextInfo, make_windows
from rnn_jax.training.fit import fit
from rnn_jax.training.step import init_state

COMMAND = "python -m benchmarks.text"
NUM_TOKENS = 66  # the characters of tiny Shakespeare, and one for all others
BATCH_SIZE, WINDOW, EMBEDDING_SIZE = TEXT_FLAGS["batch_size"], 128, TEXT.embedding_size or 0
SIZES = ((1, 128, 20), (2, 512, 10))  # layers, units, steps in a measurement
OURS, PYTORCH = "rnn_jax", "PyTorch nn.LSTM"
PACKAGES = ("jax", "torch")

INTRODUCTION = f"""\
## Training on text

Characters a second of LSTMs in float32 on the CPU, in training by the recipe for text: {BATCH_SIZE} streams, windows of
{WINDOW} characters whose state goes on, vectors of {EMBEDDING_SIZE}, dropout of {TEXT.dropout}, clipping, AdamW.
"{OURS}" is `fit` on as many devices as cores. "{PYTORCH}" is `Embedding`, `LSTM`, `Linear`, `cross_entropy`,
`clip_grad_norm_` and `AdamW` with all cores, in a loop. Median of {{rounds}} interleaved rounds; the ratio is our time
over theirs."""

Train: TypeAlias = Callable[[], float]  # takes the steps of one measurement, and returns the loss


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes it into RESULTS.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Measures training on text, for benchmarks/RESULTS.md.")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default: 5)")
    arguments = parser.parse_args(argv)
    jax.config.update("jax_num_cpu_devices", available_cores())

    def measure_sizes() -> str:
        rows = [make_row(*size, measure_size(*size, arguments.rounds)) for size in SIZES]
        introduction = INTRODUCTION.format(rounds=arguments.rounds)
        return f"{introduction}\n\n{make_table(['LSTM', OURS, PYTORCH, 'ratio'], rows)}"

    return write_section(COMMAND, PACKAGES, argv, measure_sizes)


def make_row(num_layers: int, hidden_size: int, num_steps: int, seconds: dict[str, list[float]]) -> list[str]:
    """Makes a row of the table from the seconds a measurement by name."""
    medians = [statistics.median(values) for values in seconds.values()]
    rates = [f"{num_steps * BATCH_SIZE * WINDOW / median:,.0f}" for median in medians]
    return [f"{num_layers} x {hidden_size}", *rates, f"{medians[0] / medians[-1]:.2f}"]


def measure_size(
    num_layers: int, hidden_size: int, num_steps: int, rounds: int, names: Sequence[str] = (OURS, PYTORCH)
) -> dict[str, list[float]]:
    """Returns the seconds of `num_steps` steps by name, one number for each round."""
    tokens = np.random.default_rng(0).integers(NUM_TOKENS, size=BATCH_SIZE * WINDOW * 10 + 1)
    windows = make_windows(tokens, BATCH_SIZE, WINDOW)
    functions = {name: MAKERS[name](num_layers, hidden_size, num_steps, rounds, windows) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _, (name, train) in itertools.product(range(1 + rounds), functions.items()):
        began = time.perf_counter()
        assert np.isfinite(train())
        seconds[name].append(time.perf_counter() - began)
    return {name: values[1:] for name, values in seconds.items()}  # the first round compiles


def make_ours(num_layers: int, hidden_size: int, num_steps: int, rounds: int, windows: Examples) -> Train:
    """Trains as `python train.py --data FILE` does."""
    characters = "".join(map(chr, range(NUM_TOKENS - 1)))
    info = TextInfo("random", "", "", "language", "characters", characters, WINDOW, (1,) * NUM_TOKENS)
    task: Any = build_task(Config(data=Path("random.txt"), layers=num_layers, hidden_size=hidden_size), info)
    optimizer = TEXT.optimizer()
    supply = fit(
        task.loss,
        optimizer,
        init_state(task.init, optimizer, jax.random.key(0), task.carry(BATCH_SIZE)),
        windows,
        steps=(2 + rounds) * num_steps,
        batch_size=BATCH_SIZE,
        steps_per_call=num_steps,
        devices=jax.devices(),
    )
    next(supply)  # the first step
    return lambda: float(next(supply)[1].loss)


def make_pytorch(num_layers: int, hidden_size: int, num_steps: int, rounds: int, windows: Examples) -> Train:
    """Trains as users of PyTorch do."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(available_cores())

    class Model(nn.Module):
        """Logits of the next characters."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(NUM_TOKENS, EMBEDDING_SIZE)
            dropout = TEXT.dropout if num_layers > 1 else 0.0  # between layers
            self.lstm = nn.LSTM(EMBEDDING_SIZE, hidden_size, num_layers, dropout=dropout)
            self.dropout, self.head = nn.Dropout(TEXT.dropout), nn.Linear(hidden_size, NUM_TOKENS)

        def forward(self, xs: Any, state: Any) -> tuple[Any, Any]:
            ys, state = self.lstm(self.embedding(xs), state)
            return self.head(self.dropout(ys)), state

    model, state = Model(), None
    optimizer = torch.optim.AdamW(model.parameters(), lr=TEXT.learning_rate, betas=(TEXT.momentum, TEXT.b2))
    streams = windows.inputs.reshape(BATCH_SIZE, -1, WINDOW + 1)
    supply = itertools.cycle(torch.tensor(streams.transpose(1, 2, 0)))  # windows [W + 1, B]

    def train() -> float:
        nonlocal state
        loss = torch.zeros(())
        for window in itertools.islice(supply, num_steps):
            xs, targets = window[:-1], window[1:]
            logits, state = model(xs, state)
            state = tuple(part.detach() for part in state)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), TEXT.clip_norm or 1.0)
            optimizer.step()
        return loss.item()

    return train


MAKERS = {OURS: make_ours, PYTORCH: make_pytorch}

if __name__ == "__main__":
    sys.exit(main())
