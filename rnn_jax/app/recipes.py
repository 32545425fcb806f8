"""Recipes: the hyperparameters of training, apart from the data and the cell's name."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import optax

from rnn_jax.readout import Readout


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The hyperparameters of training.

    Attributes:
      steps: updates.
      cell_steps: the updates of cells that need others, by the cell's name.
      bidirectional_steps: a bidirectional network makes this part of the updates, because each takes twice as long.
      max_epochs: limits the updates to this number of passes over the data; None for no limit.
      learning_rate: the highest learning rate.
      own_learning_rates: True to prefer a cell's own learning rate where `CELLS` has one.
      momentum: of SGD, from 0 (none) to below 1; b1 of AdamW.
      nesterov: True for Nesterov's momentum.
      schedule: "constant", or "cosine": a linear warm-up over `warmup` of the steps, then a cosine down to zero.
      warmup: fraction of the steps.
      clip_norm: gradients with a larger global norm are scaled down to it; None for no clipping.
      cell_options: the cells' options, by name; a cell ignores those that it does not have.
      head: the initializer of the output weights, see `Classifier`.
      readout: the outputs that the classifier reads, see `Classifier`.
      dropout: the fraction of outputs dropped between two layers.
      top_dropout: True to drop that fraction of the top layer's outputs, too.
      shift: the largest random shift of images in training, as a fraction of their size.
      noise: the standard deviation of the noise added to scaled sequences in training.
      patience: stops training after this number of checkpoints that are all worse than the best before them, and
        tests the best one, the newest of equals. None to train to the end and test the last state.
      optimizer_name: "sgd" or "adamw" (Loshchilov and Hutter, 2019, arXiv:1711.05101).
      b2: the decay of AdamW's mean of squared gradients.
      weight_decay: of AdamW.
      embedding_size: the size of the vector of a token.
      steps_per_call: updates between two updates of the progress bar.
      report_every: steps between two lines of the report, a multiple of `steps_per_call`.
    """

    steps: int
    max_epochs: int | None
    learning_rate: float
    own_learning_rates: bool
    momentum: float
    nesterov: bool
    schedule: Literal["constant", "cosine"]
    warmup: float
    clip_norm: float | None
    cell_options: Mapping[str, Any]
    head: Literal["glorot", "normal"]
    readout: Readout
    dropout: float = 0.0
    shift: float = 0.0
    noise: float = 0.0
    patience: int | None = None
    top_dropout: bool = False
    cell_steps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    bidirectional_steps: float = 1.0
    optimizer_name: Literal["sgd", "adamw"] = "sgd"
    b2: float = 0.999
    weight_decay: float = 0.0
    embedding_size: int | None = None
    steps_per_call: int = 50
    report_every: int = 200

    def learning_rates(self) -> float | optax.Schedule:
        """Returns the learning rate, or the schedule of learning rates over the steps."""
        if self.schedule == "constant":
            return self.learning_rate
        warmup_steps = max(1, round(self.warmup * self.steps))
        first = self.learning_rate / warmup_steps
        return optax.warmup_cosine_decay_schedule(first, self.learning_rate, warmup_steps, self.steps + 1)

    def optimizer(self) -> optax.GradientTransformation:
        """Returns the recipe's optimizer."""
        rates = self.learning_rates()
        if self.optimizer_name == "sgd":
            method = optax.sgd(rates, momentum=self.momentum or None, nesterov=self.nesterov)
        else:
            method = optax.adamw(rates, b1=self.momentum, b2=self.b2, weight_decay=self.weight_decay)
        return method if self.clip_norm is None else optax.chain(optax.clip_by_global_norm(self.clip_norm), method)


SGD = Recipe(
    steps=3000,
    max_epochs=100,
    learning_rate=0.3,
    own_learning_rates=True,
    momentum=0.9,
    nesterov=True,
    schedule="cosine",
    warmup=0.05,
    clip_norm=1.0,
    cell_options={"initializer": "orthogonal", "reset_after": True},
    head="glorot",
    readout="final",
)

RECIPES = {
    # For images. The steps take 40 to 55 seconds on two cores. The shifts are 2 of MNIST's 28 pixels, and none of 8: by
    # cross-validation, a shift of one helps the LSTM there and hurts the vanilla cell.
    "default": dataclasses.replace(SGD, steps=4000, cell_steps={"vanilla": 9000}, bidirectional_steps=0.5, shift=0.06),
    # The TensorFlow tutorial of 2019, to the letter: its bidirectional network reads `outputs[-1]`, where the
    # backward half has seen one row only, and its GRU resets before the product.
    "tutorial": Recipe(
        steps=10_000,
        max_epochs=None,
        learning_rate=0.001,
        own_learning_rates=False,
        momentum=0.0,
        nesterov=False,
        schedule="constant",
        warmup=0.0,
        clip_norm=None,
        cell_options={"initializer": "glorot", "reset_after": False},
        head="normal",
        readout="last_step",
    ),
}

# For the user's own sequences, which are few: one recipe for every data set. `python -m benchmarks.series_recipe`
# compares it with others by cross-validation on training files: noise of 0.4 is better than none, and no other dropout,
# learning rate or number of steps is better by more than the error of the comparison.
SERIES = dataclasses.replace(
    SGD,
    steps=1500,
    max_epochs=None,
    learning_rate=0.1,
    readout="mean",
    dropout=0.2,
    noise=0.4,
    patience=6,
)
SERIES_FLAGS = {"cell": "gru", "bidirectional": True, "layers": 2, "hidden_size": 64, "batch_size": 32}

# For a language model. AdamW, which the field uses for text, is much better here than SGD with momentum.
TEXT = dataclasses.replace(
    SGD,
    optimizer_name="adamw",
    steps=800,
    max_epochs=10,
    learning_rate=0.003,
    own_learning_rates=False,
    momentum=0.9,
    b2=0.99,
    nesterov=False,
    dropout=0.25,
    top_dropout=True,
    patience=6,
    embedding_size=128,
    steps_per_call=10,
    report_every=100,
)
TEXT_FLAGS = {"cell": "lstm", "layers": 2, "hidden_size": 512, "batch_size": 64}
# For texts with labels.
TEXTS = dataclasses.replace(SERIES, noise=0.0, embedding_size=64, steps_per_call=10, report_every=100)
TEXTS_FLAGS = {"cell": "gru", "bidirectional": True, "layers": 1, "hidden_size": 64, "batch_size": 32}


def own_recipe(task: str | None, tokens: str | None) -> tuple[Recipe, Mapping[str, Any]]:
    """Returns the recipe of own data, and the defaults of the flags that it changes; `tokens` is None for series."""
    if tokens is None:
        return SERIES, SERIES_FLAGS
    return (TEXT, TEXT_FLAGS) if task == "language" else (TEXTS, TEXTS_FLAGS)
