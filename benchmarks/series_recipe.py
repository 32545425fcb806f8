"""`python -m benchmarks.series_recipe FOLDER`: compares recipes for own sequences by cross-validation.

Reads training files only. Each is divided into folds; a network is trained without each fold, its checkpoint is chosen
on a validation part of the others, and the fold is its test. Forecasts are tested on the end of the training steps.
"""

import argparse
import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import make_table, write_section
from benchmarks.series import FLAGS, data_files
from rnn_jax.app.build import build_task
from rnn_jax.app.config import Config
from rnn_jax.app.recipes import SERIES, SERIES_FLAGS
from rnn_jax.data import Dataset, Examples
from rnn_jax.data.series import load_series
from rnn_jax.data.series.load import VALIDATION
from rnn_jax.data.series.split import hold_out
from rnn_jax.tasks.task import predict_examples
from rnn_jax.training.order import ExampleOrder
from rnn_jax.training.step import init_state, train_steps

COMMAND = "python -m benchmarks.series_recipe"
CHECKPOINTS = 10
CANDIDATES: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "noise 0": {"noise": 0.0},
    "noise 0.2": {"noise": 0.2},
    "noise 0.8": {"noise": 0.8},
    "dropout 0": {"dropout": 0.0},
    "dropout 0.4": {"dropout": 0.4},
    "final readout": {"readout": "final"},
    "learning rate 0.03": {"learning_rate": 0.03},
    "learning rate 0.3": {"learning_rate": 0.3},
    "750 steps": {"steps": 750},
    "3000 steps": {"steps": 3000},
}

INTRODUCTION = """\
## The recipe for own sequences

The part of the best baseline's error that is avoided (1 is perfect, 0 like the baseline, least -1), on folds of the
training files: the mean of {folds} folds, or of as many seeds for forecasts. The test files are not read. The
checkpoint is chosen on a validation part, as `patience` does, one column excepted."""


class Fold(NamedTuple):
    """The rows of the examples that train a network, choose its checkpoint, and test it."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the skill of each candidate on each data set, and writes the table into RESULTS.md."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Compares recipes for own sequences.")
    parser.add_argument("folder", type=Path, help="the folder with the data sets")
    parser.add_argument("--folds", type=int, default=3, help="default: 3")
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--data", nargs="+", metavar="NAME", help="these data sets alone")
    arguments = parser.parse_args(argv)
    files = {file.stem.removesuffix("_TRAIN"): file for file in data_files(arguments.folder)}
    files = {name: file for name, file in files.items() if not arguments.data or name in arguments.data}

    def compare() -> str:
        skills = np.empty((2, len(arguments.candidates), len(files)))
        for i, (name, file) in enumerate(files.items()):
            data, folds = load_folds(file, name, arguments.folds)
            for j, candidate in enumerate(arguments.candidates):
                began = time.perf_counter()
                skills[:, j, i] = cross_validate(data, folds, CANDIDATES[candidate])
                print(
                    f"{name:18} {candidate:20} {skills[:, j, i].round(3)} {time.perf_counter() - began:.0f} s",
                    flush=True,
                )
        table = make_comparison(arguments.candidates, list(files), skills)
        return f"{INTRODUCTION.format(folds=arguments.folds)}\n\n{table}"

    return write_section(COMMAND, ("jax",), argv, compare)


def make_comparison(candidates: Sequence[str], names: Sequence[str], skills: np.ndarray) -> str:
    """Makes the table of the skills [2, candidates, data sets], of the best checkpoint and the last one.

    The last two columns are the mean of the differences from the first candidate and its standard error, over the data
    sets.
    """
    rows = []
    for candidate, best, last in zip(candidates, *skills, strict=True):
        more = best - skills[0, 0]
        error = more.std(ddof=1) / np.sqrt(len(more)) if len(more) > 1 else np.nan
        numbers = [*best, best.mean(), last.mean(), more.mean(), error]
        rows.append([candidate, *(f"{number:.3f}" for number in numbers)])
    header = ["recipe", *names, "mean", "last checkpoint", "over the first", "± error"]
    return make_table(header, rows)


def load_folds(file: Path, name: str, count: int) -> tuple[Dataset, list[Fold]]:
    """Loads all training examples of a file, as `train`, and divides them."""
    flags = FLAGS.get(name, [])
    options: dict[str, Any] = {
        flag.removeprefix("--"): int(value) if value.isdigit() else value
        for flag, value in zip(flags[::2], flags[1::2], strict=True)
    }
    # The training file stands in for the test file, which is not read.
    data = load_series(file, None if file.suffix == ".csv" else file, notify=lambda message: None, **options)
    n, held = len(data.train.targets), len(data.validation.targets)
    examples: Examples = jax.tree.map(lambda *parts: np.concatenate(parts), data.train, data.validation)
    data = data._replace(train=examples)
    if data.info.form.task == "forecast":
        first = n - min(held, n // 4)
        fold = Fold(np.arange(first - data.info.horizon + 1), np.arange(first, n), np.arange(n, n + held))
        return data, [fold] * count
    classes = examples.targets if data.info.form.task == "classify" else np.zeros(n + held, int)
    rng = np.random.default_rng(0)
    number = np.empty(n + held, int)  # of the fold
    for c in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == c))
        number[members] = (np.arange(len(members)) + rng.integers(count)) % count
    folds = []
    for i in range(count):
        others = np.flatnonzero(number != i)
        kept, validation = hold_out(classes[others], len(others), VALIDATION, seed=i)
        folds.append(Fold(others[kept], others[validation], np.flatnonzero(number == i)))
    return data, folds


def cross_validate(data: Dataset, folds: Sequence[Fold], changes: Mapping[str, Any]) -> np.ndarray:
    """Trains all folds at once; returns the mean skill of the best checkpoint, and of the last one."""
    recipe = dataclasses.replace(SERIES, **changes)
    with mock.patch("rnn_jax.app.config.SERIES", recipe):
        task = build_task(Config(data=Path(data.info.name), **SERIES_FLAGS), data.info)
    batch_size = min(SERIES_FLAGS["batch_size"], *(len(fold.train) for fold in folds))
    examples = jax.tree.map(jnp.asarray, data.train)
    optimizer = recipe.optimizer()
    # One after the other: a core multiplies small matrices faster than batches of them.
    keys = [jax.random.key(seed) for seed in range(len(folds))]
    init = jax.jit(init_state, static_argnums=(0, 1))
    states = [init(task.init, optimizer, key) for key in keys]
    train = jax.jit(functools.partial(train_steps, task.loss, optimizer))
    predict = jax.jit(functools.partial(predict_examples, task))
    orders = [ExampleOrder(key, len(fold.train), batch_size) for key, fold in zip(keys, folds, strict=True)]
    goals = np.linspace(0, recipe.steps, CHECKPOINTS + 1).astype(int)
    history = np.empty((2, CHECKPOINTS, len(folds)))
    for i, steps in enumerate(itertools.starmap(range, itertools.pairwise(goals))):
        for f, fold in enumerate(folds):
            orders[f].prepare(steps)
            states[f], _ = train(states[f], examples, fold.train[orders[f].read(steps)], len(steps))
            predictions = np.asarray(predict(states[f].params, examples.inputs, examples.lengths))
            history[:, i, f] = [skill(task, data.train, rows, predictions) for rows in (fold.validation, fold.test)]
    validation, test = history
    best = CHECKPOINTS - 1 - validation[::-1].argmax(0)  # the newest of equals
    return np.array([test[best, np.arange(len(folds))].mean(), test[-1].mean()])


def skill(task: Any, examples: Examples, rows: np.ndarray, predictions: np.ndarray) -> float:
    """Computes the part of the best baseline's error that is avoided: 1 if perfect, 0 like the baseline, least -1."""
    part = jax.tree.map(lambda array: array[rows], examples)
    figures = [task.measure(part, guess) for guess in (predictions[rows], *task.baselines(part).values())]
    ours, *baselines = (next(iter(figure.items())) for figure in figures)
    errors = [value if name == "MAE" else 1 - value for name, value in (ours, *baselines)]
    return max(-1.0, 1 - errors[0] / max(min(errors[1:]), 1e-9))


if __name__ == "__main__":
    sys.exit(main())
