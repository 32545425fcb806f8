"""The configuration of a run: one frozen dataclass, the command line made from it, and the file it is kept in."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_jax.app.flags import Parser, flag, kind, nearest, option, path
from rnn_jax.app.folder import CONFIG, RUNS, newest_run
from rnn_jax.app.recipes import RECIPES, Recipe
from rnn_jax.base import Cell, check_size
from rnn_jax.cells import CELLS
from rnn_jax.data import Dataset
from rnn_jax.data.named import NAMES as DATASET_NAMES
from rnn_jax.layers import Recurrent, bidirectional, stack
from rnn_jax.readout import Classifier

MAX_HIDDEN_SIZE = 16384  # An LSTM's recurrent kernel of this size is 4 GB.


@dataclasses.dataclass(frozen=True)
class Config:
    """What `train.py` can be told; each field is a flag of the same name, described by its help text.

    Raises:
      ValueError: in one line, for a value that makes no sense.
    """

    cell: str = option("lstm", "the recurrent cell", tuple(CELLS))
    bidirectional: bool = option(False, "read each image from both ends")
    layers: int = option(1, "recurrent layers on top of each other")
    hidden_size: int = option(128, "units of each cell, in each direction")
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
    recipe: str = option(
        "default",
        "how to train: tutorial is the TensorFlow tutorial of 2019 to the letter, default the best SGD recipe we know",
        tuple(RECIPES),
    )
    batch_size: int = option(128, "images in a batch")
    steps: int | None = option(None, "updates; default: the recipe's")
    learning_rate: float | None = option(None, "highest learning rate; default: the recipe's")
    momentum: float | None = option(None, "of SGD, from 0 to below 1; default: the recipe's")
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
        decides=False,
    )
    process_count: int | None = option(None, "how many processes meet at --coordinator", decides=False)
    process_id: int | None = option(
        None, "which of them this is, from 0; process 0 alone writes and prints", decides=False
    )
    seed: int = option(0, "of everything random in the run")
    seeds: int = option(1, "train so many at once, from --seed upwards, and report their mean and standard deviation")
    output_dir: Path | None = option(
        None,
        f"the run's folder, for configuration, metrics, checkpoints and pictures; must be new or empty, unless "
        f"resumed; default: {RUNS}/ and the cell, the data and the time",
        decides=False,
    )
    checkpoint_every: int | None = option(
        None,
        "steps between two checkpoints, each with a look at the validation images; a call takes 50 steps, at whose "
        "end it is saved; default: a tenth of all steps, at most 500",
        decides=False,
    )
    keep_checkpoints: int = option(
        3, "so many of the newest checkpoints are kept, and the one with the best validation accuracy", decides=False
    )
    tensorboard: bool = option(False, "write events for TensorBoard into the run's folder, too", decides=False)
    resume: bool = option(
        False,
        f"go on from the newest checkpoint in --output-dir, or, without that, in the newest folder of {RUNS}/; other "
        "flags may be left out",
        decides=False,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"{flag(field.name)} must be one of {', '.join(choices)}, not {value!r}")
        for name in (
            "layers",
            "hidden_size",
            "batch_size",
            "steps",
            "devices",
            "process_count",
            "seeds",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            value = getattr(self, name)
            if value is not None:
                check_size(flag(name), value)
        if self.hidden_size > MAX_HIDDEN_SIZE:
            raise ValueError(f"--hidden-size must be at most {MAX_HIDDEN_SIZE}, not {self.hidden_size}")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1e30:
            raise ValueError(f"--learning-rate must be positive and below 1e30, not {self.learning_rate}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum must be at least 0 and below 1, not {self.momentum}")
        if len({value is None for value in (self.coordinator, self.process_count, self.process_id)}) > 1:
            raise ValueError("--coordinator, --process-count and --process-id go together: give all three, or none")
        if self.coordinator is not None and not re.fullmatch(r".+:\d{1,5}", self.coordinator):
            raise ValueError(f"--coordinator must be HOST:PORT, not {self.coordinator!r}")
        if self.process_id is not None and not 0 <= self.process_id < (self.process_count or 0):
            raise ValueError(f"--process-id must be from 0 to {(self.process_count or 0) - 1}, not {self.process_id}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be from 0 to {2**32 - 1}, not {self.seed}")
        if self.seed + self.seeds > 2**32:
            raise ValueError(f"--seed plus --seeds must be at most {2**32}")
        if self.training_recipe().steps * self.batch_size >= 2**31:
            raise ValueError("--steps times --batch-size must be below 2147483648")

    def training_recipe(self, num_examples: int | None = None) -> Recipe:
        """The recipe, with what the flags say in place of its own; `num_examples` to train on may limit its steps."""
        recipe = RECIPES[self.recipe]
        if num_examples is not None and recipe.max_epochs is not None:
            most = max(1, recipe.max_epochs * num_examples // self.batch_size)
            recipe = dataclasses.replace(recipe, steps=min(recipe.steps, most))
        own_rate = CELLS[self.cell].learning_rate
        if recipe.own_learning_rates and own_rate is not None:
            recipe = dataclasses.replace(recipe, learning_rate=own_rate)
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
        return CELLS[self.cell].make(self.hidden_size, self.training_recipe().cell_options)

    def build_classifier(self, num_classes: int) -> Classifier:
        """The classifier that the configuration describes."""
        recipe, cell = self.training_recipe(), self.build_cell()
        precision = None if self.precision == "float32" else "bfloat16"
        layer = (bidirectional if self.bidirectional else Recurrent)(cell, precision=precision)
        encoder = stack(*[layer] * self.layers)
        return Classifier(encoder, num_classes, readout=recipe.readout, head=recipe.head)

    def to_json(self) -> str:
        """The configuration as `read_config` reads it: all but where it runs, and whether it was resumed."""
        values = dataclasses.asdict(self)
        for name in ("output_dir", "resume", "coordinator", "process_count", "process_id"):
            del values[name]
        return json.dumps(values, indent=2, default=str) + "\n"

    def decisions(self) -> list[Any]:
        """The values of all that has a part in what is computed."""
        return [getattr(self, field.name) for field in dataclasses.fields(self) if field.metadata["decides"]]


def parse(argv: Sequence[str] | None = None) -> Config:
    """Makes a `Config` of command-line arguments.

    With `--config FILE`, flags that are not given are as in that file; with `--resume`, as in the resumed run, whose
    folder becomes `output_dir`. Where there is nothing to resume in `--output-dir` yet, they are the defaults.

    Args:
      argv: the arguments; None for those of this process.

    Raises:
      SystemExit: with status 2 after one line on stderr that says what is wrong; with status 0 after `--help`.
    """
    parser = Parser(description="Trains a recurrent network to classify images of handwritten digits, read row by row.")
    parser.add_argument("--config", type=path, metavar="FILE", help=f"a run's {CONFIG}: the same run again")
    parser.add_fields(dataclasses.fields(Config))
    given = vars(parser.parse_args(argv))
    try:
        file = given.pop("config")
        if file is not None:
            given = {**read_config(file), **given}
        if given.get("resume"):
            given = _resumed(given)
        return Config(**given)
    except ValueError as error:
        parser.error(str(error))


def _resumed(given: dict[str, Any]) -> dict[str, Any]:
    """Completes flags by those of the run that they resume, if there is one; raises `ValueError` if they differ."""
    folder = given.get("output_dir") or newest_run()
    if not (folder / CONFIG).exists():
        return given
    saved = read_config(folder / CONFIG)
    run = Config(**saved)
    for field in dataclasses.fields(Config):
        told, is_so = given.get(field.name), getattr(run, field.name)
        anything = told is None or (field.name, told) == ("dataset", "auto")
        if field.metadata["decides"] and not anything and told != is_so:
            raise ValueError(
                f"{flag(field.name)} is {told}, but the run in {folder} has {is_so}: leave it out to resume that run, "
                "or begin a new one without --resume"
            )
    return {**saved, **given, "dataset": run.dataset, "output_dir": folder}


def read_config(file: Path) -> dict[str, Any]:
    """Reads what `Config.to_json` wrote, as arguments of `Config`.

    Raises:
      ValueError: in one line, if the file cannot be read or is not a configuration.
    """
    try:
        values = json.loads(file.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{file} is not a configuration: {error}") from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{file} is not a configuration: expected an object")
    fields = {field.name: field for field in dataclasses.fields(Config)}
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"{file}: unknown field {name!r}{nearest(name, fields)}")
        expected = {Path: str, float: (int, float)}.get(kind(fields[name]), kind(fields[name]))
        is_bool = isinstance(value, bool)  # which Python counts among the integers
        may_be_none = fields[name].default is None and value is None
        if not may_be_none and (not isinstance(value, expected) or is_bool != (expected is bool)):
            raise ValueError(f"{file}: {name} cannot be {value!r}")
    return {
        name: path(value) if kind(fields[name]) is Path and value is not None else value
        for name, value in values.items()
    }
