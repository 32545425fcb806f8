"""The configuration of a run: one frozen dataclass, and the file that keeps it."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_jax.app.flags import check_fields, flag, kind, nearest, option, path, rule
from rnn_jax.app.folder import RUNS
from rnn_jax.app.recipes import RECIPES, Recipe, own_recipe
from rnn_jax.base import check_rate, check_size
from rnn_jax.cells import CELLS
from rnn_jax.data.named import NAMES as DATASET_NAMES
from rnn_jax.data.series.sequences import TASKS
from rnn_jax.data.text.info import TOKENS
from rnn_jax.tasks.image_order import ORDERS

MAX_HIDDEN_SIZE = 16384  # An LSTM's recurrent kernel of this size is 4 GB.


def _check_hidden_size(name: str, value: Any) -> None:
    check_size(name, value)
    if value > MAX_HIDDEN_SIZE:
        raise ValueError(f"{name} must be at most {MAX_HIDDEN_SIZE}, not {value}")


def _check_learning_rate(name: str, value: Any) -> None:
    if not 0 < value < 1e30:
        raise ValueError(f"{name} must be positive and below 1e30, not {value}")


def _check_seed(name: str, value: Any) -> None:
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be from 0 to {2**32 - 1}, not {value}")


def _check_coordinator(name: str, value: Any) -> None:
    if not re.fullmatch(r".+:\d{1,5}", value):
        raise ValueError(f"{name} must be HOST:PORT, not {value!r}")


@dataclasses.dataclass(frozen=True)
class Config:
    """The configuration of `train.py`. Each field is a flag of the same name, described by its help text.

    Raises:
      ValueError: in one line, for an invalid value.
    """

    cell: str = option("lstm", "the recurrent cell", tuple(CELLS))
    bidirectional: bool = option(False, "read each sequence from both ends", negatable=True)
    layers: int = option(1, "recurrent layers on top of each other", check=check_size)
    hidden_size: int = option(128, "units of each cell, in each direction", check=_check_hidden_size)
    dataset: str = option(
        "auto",
        "what to classify; auto is mnist if it is in --data-dir or can be downloaded, else the handwritten digits "
        "that come with scikit-learn",
        DATASET_NAMES,
    )
    data_dir: Path | None = option(
        None,
        "folder with the four IDX archives, or where tensorflow-datasets keeps its data; default: $TFDS_DATA_DIR, "
        "else ~/tensorflow_datasets",
        decides=False,
    )
    order: str = option(
        "rows",
        "how an image is read: a row of pixels in each step, one pixel in each step, or one pixel after a fixed "
        "permutation",
        ORDERS,
    )
    data: Path | None = option(
        None,
        "your own sequences, in place of --dataset: a .ts, .arff or .tsv file of the UCR and UEA archives, a table "
        "(.csv, .parquet, .jsonl), a .npz file, or a folder with a table for each sequence and a subfolder for each "
        "class; or a text (.txt, or a folder of them); docs/own-data.md and docs/text.md explain this and the "
        "following flags",
        metavar="FILE",
    )
    test: Path | None = option(
        None,
        "test data like --data; default: the file beside it with TEST in place of TRAIN in its name, else a part of "
        "--data",
        metavar="FILE",
    )
    task: str | None = option(None, "what to learn from --data; default: found from the data", (*TASKS, "language"))
    tokens: str | None = option(None, "read text as characters of UTF-8, or as bytes; default: characters", TOKENS)
    target: str | None = option(None, "the column of a table to predict")
    sequence_column: str | None = option(
        None, "the column of a table that tells sequences apart, if each row is a step of one"
    )
    horizon: int | None = option(None, "steps to forecast; default: one season", check=check_size)
    window: int | None = option(
        None,
        "steps that a forecast is made from; default: two seasons, or two horizons if they are longer; of text, the "
        "tokens that gradients go back over, 128 by default",
        check=check_size,
    )
    season: int | None = option(
        None,
        "steps after which a series resembles itself, 1 for none; default: found from the times: a year of months, a "
        "week of days, a day of hours",
        check=check_size,
    )
    missing: str = option(
        "error", "missing values are refused, or the last value before them takes their place", ("error", "fill")
    )
    tied: bool = option(False, "of a language model: the vectors of the tokens are the output's matrix, too")
    recipe: str = option(
        "default",
        "how to train: tutorial is the TensorFlow tutorial of 2019 to the letter, default the best SGD recipe we know",
        tuple(RECIPES),
    )
    batch_size: int = option(128, "images in a batch", check=check_size)
    steps: int | None = option(
        None,
        "updates; default: the recipe's; with --resume a larger number than the run's makes it longer, by the learning "
        "rates of a run of that length",
        check=check_size,
        overrides=True,
    )
    learning_rate: float | None = option(
        None, "highest learning rate; default: the recipe's", check=_check_learning_rate, overrides=True
    )
    momentum: float | None = option(
        None, "of SGD, from 0 to below 1; default: the recipe's", check=check_rate, overrides=True
    )
    shift: float | None = option(
        None,
        "the largest random shift of a training image along each axis, as a fraction of its size, from 0 for none to "
        "below 1; default: the recipe's",
        check=check_rate,
        overrides=True,
    )
    precision: str = option(
        "float32",
        "bfloat16: the factors of products with the cells' matrices are rounded to it; parameters, sums and all else "
        "stay float32",
        ("float32", "bfloat16"),
    )
    devices: int | None = option(
        None,
        "devices that share each batch; default: as many of those found as can share it equally (all CPU cores, where "
        "there is no accelerator); of several processes, as many of each",
        check=check_size,
        decides=False,
    )
    data_on: str = option(
        "auto",
        "where the training images lie: on the device, or on the host, which reads batches ahead of it; auto is the "
        "device if they take no more than a quarter of its memory (of one that does not tell, 1 GiB)",
        ("auto", "device", "host"),
        decides=False,
    )
    coordinator: str | None = option(
        None,
        "HOST:PORT where the first of several processes listens, which train together; each is started with the same "
        "flags but for --process-id; default: as Cloud TPU or SLURM has it, else this process is the only one",
        check=_check_coordinator,
        decides=False,
        saved=False,
    )
    process_count: int | None = option(
        None, "how many processes meet at --coordinator", check=check_size, decides=False, saved=False
    )
    process_id: int | None = option(
        None, "which of them this is, from 0; process 0 alone writes and prints", decides=False, saved=False
    )
    init_from: Path | None = option(
        None,
        "folder of a run whose newest weights this run begins with; of the same network, and of as many seeds or one",
    )
    accept_data: bool = option(
        False, "with --resume, go on with other data than the run began with", decides=False, saved=False
    )
    seed: int = option(0, "of everything random in the run", check=_check_seed)
    seeds: int = option(
        1, "train so many at once, from --seed upwards, and report their mean and standard deviation", check=check_size
    )
    output_dir: Path | None = option(
        None,
        f"the run's folder, for configuration, metrics, checkpoints and pictures; must be new or empty, unless "
        f"resumed; default: {RUNS}/ and the cell, the data and the time",
        decides=False,
        saved=False,
    )
    checkpoint_every: int | None = option(
        None,
        "steps between two checkpoints, each with a look at the validation images; a call takes 50 steps, at whose "
        "end it is saved; default: a tenth of all steps, at most 500",
        check=check_size,
        decides=False,
    )
    keep_checkpoints: int = option(
        3,
        "so many of the newest checkpoints are kept, and the one with the best validation accuracy",
        check=check_size,
        decides=False,
    )
    no_pictures: bool = option(False, "draw no pictures into the run's folder", decides=False)
    tensorboard: bool = option(False, "write events for TensorBoard into the run's folder, too", decides=False)
    compilation_cache: Path | None = option(
        None,
        "folder to keep compiled programs in, with which later runs start sooner; default: none, unless "
        "$JAX_COMPILATION_CACHE_DIR names one",
        decides=False,
        saved=False,
    )
    resume: bool = option(
        False,
        f"go on from the newest checkpoint in --output-dir, or, without that, in the newest folder of {RUNS}/; other "
        "flags may be left out",
        decides=False,
        saved=False,
    )

    def __post_init__(self) -> None:
        if self.dataset == "text" or self.task == "language" or self.tokens is not None:
            object.__setattr__(self, "task", self.task or "language")
            object.__setattr__(self, "tokens", self.tokens or "characters")
        check_fields(self)
        if len({value is None for value in (self.coordinator, self.process_count, self.process_id)}) > 1:
            raise ValueError("--coordinator, --process-count and --process-id go together: give all three, or none")
        if self.process_id is not None and not 0 <= self.process_id < (self.process_count or 0):
            raise ValueError(f"--process-id must be from 0 to {(self.process_count or 0) - 1}, not {self.process_id}")
        is_own = self.data is not None or self.dataset == "text"
        for name in ("test", "task", "tokens", "target", "sequence_column", "horizon", "window", "season"):
            if not is_own and getattr(self, name) is not None:
                raise ValueError(f"{flag(name)} is about your own data: name it with --data FILE")
        for name, default in (("order", "rows"), ("shift", None)):
            if not self.is_images and getattr(self, name) != default:
                raise ValueError(f"{flag(name)} is about images: leave it out")
        if self.data is not None and (self.dataset, self.recipe) != ("auto", "default"):
            raise ValueError("--data stands for itself: leave --dataset and --recipe out")
        self._check_text()
        if self.seed + self.seeds > 2**32:
            raise ValueError(f"--seed plus --seeds must be at most {2**32}")
        if self.training_recipe().steps * self.batch_size >= 2**31:
            raise ValueError("--steps times --batch-size must be below 2147483648")

    def _check_text(self) -> None:
        """Raises `ValueError` for flags that text has no use for, and for flags of text without one."""
        if self.tied and self.task != "language":
            raise ValueError("--tied is of a language model: leave it out")
        if self.tokens is None:
            return
        if self.task not in ("language", "classify") or (self.dataset == "text" and self.task != "language"):
            raise ValueError(f"text is to model or to classify, its --task cannot be {self.task}")
        for name in ("target", "sequence_column", "horizon", "season", "window"):
            if getattr(self, name) is not None and (name, self.task) != ("window", "language"):
                raise ValueError(f"{flag(name)} is not for text: leave it out")
        if self.task == "language" and self.bidirectional:
            raise ValueError("--bidirectional reads the tokens that a language model is to predict: leave it out")
        if self.recipe != "default":
            raise ValueError("text has a recipe of its own: leave --recipe out")

    @property
    def is_images(self) -> bool:
        """True for a named data set of images."""
        return self.data is None and self.tokens is None

    def training_recipe(self, num_examples: int | None = None) -> Recipe:
        """Returns the recipe, with the values of flags that override it.

        Args:
          num_examples: the size of the training set, which may limit the steps; None for no limit.
        """
        recipe = RECIPES[self.recipe] if self.is_images else own_recipe(self.task, self.tokens)[0]
        steps = recipe.cell_steps.get(self.cell, recipe.steps)
        if self.bidirectional:
            steps = round(steps * recipe.bidirectional_steps)
        recipe = dataclasses.replace(recipe, steps=steps)
        if num_examples is not None and recipe.max_epochs is not None:
            most = max(1, recipe.max_epochs * num_examples // self.batch_size)
            recipe = dataclasses.replace(recipe, steps=min(recipe.steps, most))
        own_rate = CELLS[self.cell].learning_rate
        if recipe.own_learning_rates and own_rate is not None:
            recipe = dataclasses.replace(recipe, learning_rate=own_rate)
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if rule(field).overrides}
        return dataclasses.replace(recipe, **{name: value for name, value in given.items() if value is not None})

    def batch_size_for(self, num_examples: int) -> int:
        """Returns the batch size for a training set: `batch_size`, or less for a small set of own sequences.

        Raises:
          ValueError: if the batch would be larger than the training set.
        """
        if self.batch_size <= num_examples:
            return self.batch_size
        if not self.is_images and self.batch_size == own_recipe(self.task, self.tokens)[1]["batch_size"]:
            return max(1, num_examples - num_examples % 2)  # Even, so that two devices can share it.
        noun = "images" if self.is_images else "windows" if self.task == "language" else "sequences"
        raise ValueError(f"--batch-size {self.batch_size} is larger than the training set, {num_examples} {noun}")

    def to_json(self) -> str:
        """Serializes the configuration for `read_config`, without the values that `Rule.saved` excludes."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if rule(field).saved}
        return json.dumps(values, indent=2, default=os.path.abspath) + "\n"

    def decisions(self) -> list[Any]:
        """Returns the values that can change the trained parameters."""
        return [getattr(self, field.name) for field in dataclasses.fields(self) if rule(field).decides]


def read_config(file: Path) -> dict[str, Any]:
    """Reads a file written by `Config.to_json` as arguments of `Config`.

    Raises:
      ValueError: in one line, if the file cannot be read or is not a configuration.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{file} is not a configuration: {error}") from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{file} is not a configuration: expected an object")
    fields = {field.name: field for field in dataclasses.fields(Config)}
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"{file}: unknown field {name!r}{nearest(name, fields)}")
        expected = {Path: str, float: (int, float)}.get(kind(fields[name]), kind(fields[name]))
        is_bool = isinstance(value, bool)  # a subclass of int in Python
        may_be_none = fields[name].default is None and value is None
        if not may_be_none and (not isinstance(value, expected) or is_bool != (expected is bool)):
            raise ValueError(f"{file}: {name} cannot be {value!r}")
    return {
        name: path(value) if kind(fields[name]) is Path and value is not None else value
        for name, value in values.items()
    }
