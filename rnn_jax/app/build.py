"""Builds the cell, the network and the task of a run from its configuration."""

from rnn_jax.app.config import Config
from rnn_jax.base import Cell, Layer
from rnn_jax.cells import CELLS
from rnn_jax.data import DataInfo
from rnn_jax.data.series import SeriesInfo
from rnn_jax.layers import Recurrent, bidirectional, stack
from rnn_jax.readout import Classifier
from rnn_jax.regularization import dropout
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.features import num_features
from rnn_jax.tasks.forecasting import Forecasting
from rnn_jax.tasks.regression import Regression
from rnn_jax.tasks.sequences import SequenceClassification
from rnn_jax.tasks.task import Task


def build_cell(config: Config) -> Cell:
    """Makes the cell that the configuration names, with the recipe's options."""
    return CELLS[config.cell].make(config.hidden_size, config.training_recipe().cell_options)


def build_encoder(config: Config) -> Layer:
    """Makes the stack of layers that the configuration describes, with the recipe's dropout between them."""
    rate = config.training_recipe().dropout
    precision = None if config.precision == "float32" else "bfloat16"
    layer = (bidirectional if config.bidirectional else Recurrent)(build_cell(config), precision=precision)
    return stack(*[dropout(layer, rate) if rate else layer] * (config.layers - 1), layer)


def build_task(config: Config, info: DataInfo | SeriesInfo) -> Task:
    """Makes the task that the configuration and the data describe."""
    recipe, encoder = config.training_recipe(), build_encoder(config)
    if isinstance(info, DataInfo):
        network = Classifier(encoder, info.num_classes, readout=recipe.readout, head=recipe.head)
        return Classification(network, info.image_shape[1], scale=info.max_pixel)
    form = info.form
    outputs = {"classify": len(form.classes), "regress": 1, "forecast": info.horizon}[form.task]
    readout = "every_step" if form.per_step else "final" if form.task == "forecast" else recipe.readout
    network = Classifier(encoder, outputs, readout=readout, head=recipe.head)
    if form.task == "forecast":
        return Forecasting(network, len(info.scaling.mean), info)
    if form.task == "regress":
        return Regression(network, num_features(info), info, recipe.noise)
    return SequenceClassification(network, num_features(info), info=info, noise=recipe.noise)
