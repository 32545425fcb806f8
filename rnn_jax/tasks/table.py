"""The one table of tasks on people's own sequences."""

from collections.abc import Callable
from typing import NamedTuple

from rnn_jax.data.series import SeriesInfo
from rnn_jax.readout import Classifier, Readout
from rnn_jax.tasks.features import num_features
from rnn_jax.tasks.forecasting import Forecasting
from rnn_jax.tasks.regression import Regression
from rnn_jax.tasks.sequences import SequenceClassification
from rnn_jax.tasks.task import Task


class NamedTask(NamedTuple):
    """A row of `TASKS`.

    Attributes:
      make: (network, info, noise) -> the task.
      num_outputs: info -> the number of outputs of the network.
      readout: the readout of the network; None for the recipe's.
    """

    make: Callable[[Classifier, SeriesInfo, float], Task]
    num_outputs: Callable[[SeriesInfo], int]
    readout: Readout | None = None


TASKS = {
    "classify": NamedTask(
        lambda network, info, noise: SequenceClassification(network, num_features(info), info=info, noise=noise),
        lambda info: len(info.form.classes),
    ),
    "regress": NamedTask(
        lambda network, info, noise: Regression(network, num_features(info), info, noise),
        lambda info: 1,
    ),
    "forecast": NamedTask(
        lambda network, info, noise: Forecasting(network, len(info.scaling.mean), info),
        lambda info: info.horizon,
        readout="final",
    ),
}
