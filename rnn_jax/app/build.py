"""From the configuration of a run to its cell, its network and its task."""

from rnn_jax.app.config import Config
from rnn_jax.base import Cell
from rnn_jax.cells import CELLS
from rnn_jax.data import DataInfo
from rnn_jax.layers import Recurrent, bidirectional, stack
from rnn_jax.readout import Classifier
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.task import Task


def build_cell(config: Config) -> Cell:
    """Makes the cell that the configuration names, with the recipe's options."""
    return CELLS[config.cell].make(config.hidden_size, config.training_recipe().cell_options)


def build_task(config: Config, info: DataInfo) -> Task:
    """Makes the task that the configuration and the data describe."""
    recipe = config.training_recipe()
    precision = None if config.precision == "float32" else "bfloat16"
    layer = (bidirectional if config.bidirectional else Recurrent)(build_cell(config), precision=precision)
    network = Classifier(stack(*[layer] * config.layers), info.num_classes, readout=recipe.readout, head=recipe.head)
    return Classification(network, info.image_shape[1], scale=info.max_pixel)
