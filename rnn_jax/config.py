"""The configuration of a run: one frozen dataclass, and the command line made from it."""

import argparse
import dataclasses
import difflib
import os
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rnn_jax.base import Cell, check_size
from rnn_jax.cells import GRU, LSTM, LayerNormLSTM, VanillaRNN
from rnn_jax.classifier import Classifier
from rnn_jax.data import Dataset
from rnn_jax.data.load import NAMES as DATASET_NAMES
from rnn_jax.layers import Recurrent, bidirectional, stack
from rnn_jax.recipes import RECIPES, Recipe

MAX_HIDDEN_SIZE = 16384  # An LSTM's recurrent kernel of this size is 4 GB.
CELLS = ("vanilla", "lstm", "gru", "lstm-peephole", "lstm-layernorm")


def _option(default: Any, help: str, choices: Sequence[str] | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


@dataclasses.dataclass(frozen=True)
class Config:
    """What `train.py` can be told; each field is a flag of the same name, described by its help text.

    Raises:
      ValueError: in one line, for a value that makes no sense.
    """

    cell: str = _option("lstm", "the recurrent cell", CELLS)
    bidirectional: bool = _option(False, "read each image from both ends")
    layers: int = _option(1, "recurrent layers on top of each other")
    hidden_size: int = _option(128, "units of each cell, in each direction")
    dataset: str = _option(
        "auto",
        "what to classify; auto is mnist if it is in --data-dir or can be downloaded, else the handwritten digits "
        "that come with scikit-learn",
        DATASET_NAMES,
    )
    data_dir: Path | None = _option(
        None,
        "folder with the four IDX archives, or where tensorflow-datasets keeps its data; default: $TFDS_DATA_DIR, "
        "else ~/tensorflow_datasets",
    )
    recipe: str = _option(
        "default",
        "how to train: tutorial is the TensorFlow tutorial of 2019 to the letter, default the best SGD recipe we know",
        tuple(RECIPES),
    )
    batch_size: int = _option(128, "images in a batch")
    steps: int | None = _option(None, "updates; default: the recipe's")
    learning_rate: float | None = _option(None, "highest learning rate; default: the recipe's")
    momentum: float | None = _option(None, "of SGD, from 0 to below 1; default: the recipe's")
    seed: int = _option(0, "of everything random in the run")
    output_dir: Path | None = _option(
        None, "new folder for metrics.csv and training_curve.png; default: nothing is written"
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"{_flag(field.name)} must be one of {', '.join(choices)}, not {value!r}")
        for name in ("layers", "hidden_size", "batch_size", "steps"):
            value = getattr(self, name)
            if value is not None:
                check_size(_flag(name), value)
        if self.hidden_size > MAX_HIDDEN_SIZE:
            raise ValueError(f"--hidden-size must be at most {MAX_HIDDEN_SIZE}, not {self.hidden_size}")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1e30:
            raise ValueError(f"--learning-rate must be positive and below 1e30, not {self.learning_rate}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum must be at least 0 and below 1, not {self.momentum}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be from 0 to {2**32 - 1}, not {self.seed}")
        if self.training_recipe().steps * self.batch_size >= 2**31:
            raise ValueError("--steps times --batch-size must be below 2147483648")

    def training_recipe(self, num_examples: int | None = None) -> Recipe:
        """The recipe, with what the flags say in place of its own; `num_examples` to train on may limit its steps."""
        recipe = RECIPES[self.recipe]
        if num_examples is not None and recipe.max_epochs is not None:
            most = max(1, recipe.max_epochs * num_examples // self.batch_size)
            recipe = dataclasses.replace(recipe, steps=min(recipe.steps, most))
        if self.cell == "vanilla":
            recipe = dataclasses.replace(recipe, learning_rate=recipe.vanilla_learning_rate)
        told = {name: getattr(self, name) for name in ("steps", "learning_rate", "momentum")}
        return dataclasses.replace(recipe, **{name: value for name, value in told.items() if value is not None})

    def check_data(self, data: Dataset) -> None:
        """Raises `ValueError` if a batch would be larger than the training set."""
        if self.batch_size > len(data.train.labels):
            raise ValueError(
                f"--batch-size {self.batch_size} is larger than the training set, {len(data.train.labels)} images"
            )

    def build_cell(self) -> Cell:
        """The cell that `cell` names, as the recipe initializes it."""
        recipe = self.training_recipe()
        match self.cell:
            case "vanilla":
                return VanillaRNN(self.hidden_size, initializer=recipe.initializer)
            case "gru":
                return GRU(self.hidden_size, reset_after=recipe.reset_after, initializer=recipe.initializer)
            case "lstm-layernorm":
                return LayerNormLSTM(self.hidden_size, initializer=recipe.initializer)
            case _:
                peepholes = self.cell == "lstm-peephole"
                return LSTM(self.hidden_size, peepholes=peepholes, initializer=recipe.initializer)

    def build_classifier(self, num_classes: int) -> Classifier:
        """The classifier that the configuration describes."""
        recipe, cell = self.training_recipe(), self.build_cell()
        layer = bidirectional(cell) if self.bidirectional else Recurrent(cell)
        encoder = stack(*[layer] * self.layers)
        return Classifier(encoder, num_classes, readout=recipe.readout, head=recipe.head)


def parse(argv: Sequence[str] | None = None) -> Config:
    """Makes a `Config` of command-line arguments.

    Args:
      argv: the arguments; None for those of this process.

    Raises:
      SystemExit: with status 2 after one line on stderr that says what is wrong; with status 0 after `--help`.
    """
    parser = _Parser(
        description="Trains a recurrent network to classify images of handwritten digits, read row by row.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=100),
        allow_abbrev=False,
    )
    for field in dataclasses.fields(Config):
        help, choices = field.metadata["help"], field.metadata["choices"]
        if field.type is bool:
            parser.add_argument(_flag(field.name), action="store_true", help=help)
            continue
        kind = next(t for t in (*typing.get_args(field.type), field.type) if t is not type(None))
        metavar = {int: "N", float: "X", str: "NAME", Path: "DIR"}[kind]
        default = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            _flag(field.name),
            type=_path if kind is Path else kind,
            default=field.default,
            help=help + default,
            metavar="{" + ",".join(choices) + "}" if choices else metavar,
        )
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        word = unknown[0].split("=")[0]
        guess = difflib.get_close_matches(word, [_flag(f.name) for f in dataclasses.fields(Config)], n=1)
        parser.error(f"unknown argument {word}" + (f", did you mean {guess[0]}?" if guess else "; see --help"))
    try:
        return Config(**vars(arguments))
    except ValueError as error:
        parser.error(str(error))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def _path(text: str) -> Path:
    """A path, with ~ for the home folder also where the shell has left it: `--data-dir=~/data`."""
    return Path(os.path.expanduser(text))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
