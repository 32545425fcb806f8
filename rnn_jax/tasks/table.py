"""The tables of tasks on people's own sequences and texts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from rnn_jax.readout import Classifier, Readout
from rnn_jax.tasks.features import num_features
from rnn_jax.tasks.forecasting import Forecasting
from rnn_jax.tasks.language import LanguageModel
from rnn_jax.tasks.regression import Regression
from rnn_jax.tasks.sequences import SequenceClassification
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.texts import TextClassification


class NamedTask(NamedTuple):
    """A row of `TASKS` or `TEXT_TASKS`.

    Attributes:
      make: (network, info, noise) -> the task; info is a `SeriesInfo` or a `TextInfo`.
      num_outputs: info -> the number of outputs of the network.
      readout: the readout of the network; None for the recipe's.
    """

    make: Callable[[Classifier, Any, float], Task]
    num_outputs: Callable[[Any], int]
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

# Networks of these tasks read tokens, and begin with an embedding.
TEXT_TASKS = {
    "language": NamedTask(
        lambda network, info, noise: LanguageModel(network, info),
        lambda info: info.num_tokens,
        readout="every_step",
    ),
    "classify": NamedTask(
        lambda network, info, noise: TextClassification(network, info.num_tokens, info=info),
        lambda info: len(info.classes),
    ),
}
