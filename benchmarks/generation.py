"""`python -m benchmarks.generation`: characters a second of a language model, batch 1, beside loops of single steps."""

import argparse
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax as rnn
from benchmarks.peers import available_cores
from benchmarks.report import make_table, write_section
from rnn_jax.app.generation import generate_tokens

COMMAND = "python -m benchmarks.generation"
NUM_TOKENS = 65  # the characters of tiny Shakespeare
SIZES = ((1, 128, 5000), (2, 512, 400))  # layers, units, characters in a measurement
OURS, STEPS, PYTORCH = "rnn_jax generate", "jitted step", "PyTorch LSTMCell"
PACKAGES = ("jax", "torch")

INTRODUCTION = f"""\
## Generation

Characters a second of LSTMs in float32 on the CPU, one text at a time, {NUM_TOKENS} characters, vectors as large as the
state, temperature 1. "{OURS}" is `load_run(RUN).generate`, from the prompt to the last character. "{STEPS}" is the
same network in a loop of Python, one jitted call for each character. "{PYTORCH}" is such a loop of
`Embedding`, `LSTMCell`, `Linear`, `softmax` and `multinomial` under `inference_mode`. All have the same weights, and
make the same text at temperature 0. Median of {{rounds}} interleaved rounds, in parentheses the time over ours."""

Generate: TypeAlias = Callable[[int, float], list[int]]  # (number of characters, temperature) -> tokens


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes it into RESULTS.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Measures generation, for benchmarks/RESULTS.md.")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: 7)")
    parser.add_argument("--cores", type=int, help="only measure on so many cores, and print the seconds as JSON")
    arguments = parser.parse_args(argv)
    if arguments.cores:
        if hasattr(os, "sched_setaffinity"):  # before JAX and PyTorch start their threads
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
        print(json.dumps([measure_size(*size, arguments.rounds) for size in SIZES]))
        return 0

    def measure_sizes() -> str:
        rows = []
        for cores in sorted({1, available_cores()}):
            options = ["--cores", str(cores), "--rounds", str(arguments.rounds)]
            process = subprocess.run(
                [sys.executable, "-m", "benchmarks.generation", *options], stdout=subprocess.PIPE, check=True
            )
            measured = zip(SIZES, json.loads(process.stdout), strict=True)
            rows += [make_row(num_layers, size, cores, seconds) for (num_layers, size, _), seconds in measured]
        introduction = INTRODUCTION.format(rounds=arguments.rounds)
        return f"{introduction}\n\n{make_table(['LSTM', 'cores', OURS, STEPS, PYTORCH], rows)}"

    return write_section(COMMAND, PACKAGES, argv, measure_sizes)


def make_row(num_layers: int, hidden_size: int, cores: int, seconds: dict[str, list[float]]) -> list[Any]:
    """Makes a row of the table from the seconds a character by name."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    entries = [f"{1 / median:,.0f} ({median / medians[OURS]:.2f})" for median in medians.values()]
    return [f"{num_layers} x {hidden_size}", cores, *entries]


def measure_size(
    num_layers: int, hidden_size: int, num_chars: int, rounds: int, names: Sequence[str] = (OURS, STEPS, PYTORCH)
) -> dict[str, list[float]]:
    """Returns the seconds a character by name, one number for each round."""
    layers = rnn.stack(*[rnn.LSTM(hidden_size)] * num_layers)
    net = rnn.Classifier(rnn.embed(layers, NUM_TOKENS), NUM_TOKENS, readout="every_step")
    params = net.init(jax.random.key(0), NUM_TOKENS)
    functions = {name: MAKERS[name](net, params) for name in names}
    texts = [function(min(num_chars, 100), 0) for function in functions.values()]
    assert all(text == texts[0] for text in texts), texts
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _, (name, function) in itertools.product(range(1 + rounds), functions.items()):
        began = time.perf_counter()
        function(num_chars, 1)
        seconds[name].append((time.perf_counter() - began) / num_chars)
    return {name: values[1:] for name, values in seconds.items()}  # the first round compiles


def make_ours(net: Any, params: Any) -> Generate:
    """Generates as `load_run(RUN).generate` does."""

    def generate(num_chars: int, temperature: float) -> list[int]:
        prompt = np.zeros(1, np.int32)
        chunks = generate_tokens(net, params, prompt, num_chars, temperature=temperature)
        return np.concatenate(list(chunks))[:, 0].tolist()

    return generate


def make_steps(net: Any, params: Any) -> Generate:
    """Calls a jitted step for each character."""

    @functools.partial(jax.jit, static_argnames="temperature")
    def step(params: Any, state: Any, token: jax.Array, key: jax.Array, temperature: float) -> Any:
        state, logits = net.step(params, state, token)
        key, k_token = jax.random.split(key)
        return state, rnn.sample(logits, k_token, temperature=temperature), key

    def generate(num_chars: int, temperature: float) -> list[int]:
        state, token, key, tokens = net.initial_state((1,)), jnp.zeros(1, jnp.int32), jax.random.key(0), []
        for _ in range(num_chars):
            state, token, key = step(params, state, token, key, temperature)
            tokens.append(int(token[0]))
        return tokens

    return generate


def make_pytorch(net: Any, params: Any) -> Generate:
    """Calls PyTorch's cells for each character."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(available_cores())

    def tensor(array: Any) -> Any:
        return torch.tensor(np.asarray(array))

    embedding = torch.nn.Embedding.from_pretrained(tensor(params.encoder.embedding))
    cells, head = [], torch.nn.Linear(*params.w.shape)
    for layer in params.encoder.layer:
        cell = torch.nn.LSTMCell(layer.w_x.shape[0], layer.w_h.shape[0])  # with gates in the order of ours
        weights = {"weight_ih": layer.w_x.T, "weight_hh": layer.w_h.T, "bias_ih": layer.b, "bias_hh": 0 * layer.b}
        cell.load_state_dict({name: tensor(array) for name, array in weights.items()})
        cells.append(cell)
    head.load_state_dict({"weight": tensor(params.w.T), "bias": tensor(params.b)})

    @torch.inference_mode()
    def generate(num_chars: int, temperature: float) -> list[int]:
        states = [tuple(torch.zeros(2, 1, cell.hidden_size)) for cell in cells]
        token, tokens = torch.zeros(1, dtype=torch.long), []
        for _ in range(num_chars):
            y = embedding(token)
            for n, cell in enumerate(cells):
                states[n] = cell(y, states[n])
                y = states[n][0]
            logits = head(y)
            if temperature:
                token = torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1)[:, 0]
            else:
                token = logits.argmax(-1)
            tokens.append(token.item())
        return tokens

    return generate


MAKERS = {OURS: make_ours, STEPS: make_steps, PYTORCH: make_pytorch}

if __name__ == "__main__":
    sys.exit(main())
