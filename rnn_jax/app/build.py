"""Builds the cell, the network and the task of a run from its configuration."""

from rnn_jax.app.config import Config
from rnn_jax.base import Cell, Layer
from rnn_jax.cells import CELLS
from rnn_jax.data import DataInfo
from rnn_jax.data.series import SeriesInfo
from rnn_jax.data.text import TextInfo
from rnn_jax.embedding import embed
from rnn_jax.layers import Recurrent, bidirectional, stack
from rnn_jax.readout import Classifier
from rnn_jax.regularization import dropout
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.image_order import step_size
from rnn_jax.tasks.table import TASKS, TEXT_TASKS
from rnn_jax.tasks.task import Task


def build_cell(config: Config) -> Cell:
    """Makes the cell that the configuration names, with the recipe's options."""
    return CELLS[config.cell].make(config.hidden_size, config.training_recipe().cell_options)


def build_encoder(config: Config) -> Layer:
    """Makes the stack of layers that the configuration describes, with the recipe's dropout."""
    recipe = config.training_recipe()
    rate = recipe.dropout
    precision = None if config.precision == "float32" else "bfloat16"
    layer = (bidirectional if config.bidirectional else Recurrent)(build_cell(config), precision=precision)
    dropped = dropout(layer, rate) if rate else layer
    return stack(*[dropped] * (config.layers - 1), dropped if recipe.top_dropout else layer)


def build_task(config: Config, info: DataInfo | SeriesInfo | TextInfo) -> Task:
    """Makes the task that the configuration and the data describe."""
    recipe, encoder = config.training_recipe(), build_encoder(config)
    if isinstance(info, DataInfo):
        network = Classifier(encoder, info.num_classes, readout=recipe.readout, head=recipe.head)
        size = step_size(info.image_shape, config.order)
        shift = round(recipe.shift * min(info.image_shape))
        return Classification(network, size, scale=info.max_pixel, order=config.order, shift=shift)
    if isinstance(info, TextInfo):
        row = TEXT_TASKS[info.task]
        encoder = embed(encoder, info.num_tokens, None if config.tied else recipe.embedding_size)
        readout = row.readout or recipe.readout
        network = Classifier(encoder, row.num_outputs(info), readout=readout, head=recipe.head, tied=config.tied)
        return row.make(network, info, recipe.noise)
    row = TASKS[info.form.task]
    readout = "every_step" if info.form.per_step else row.readout or recipe.readout
    network = Classifier(encoder, row.num_outputs(info), readout=readout, head=recipe.head)
    return row.make(network, info, recipe.noise)
