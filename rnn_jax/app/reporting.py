"""What a run tells on the way: the lines of the tutorial, and what is about to be trained."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnn_jax.app.config import Config
from rnn_jax.app.folder import Report
from rnn_jax.data import Dataset


def data_label(name: str) -> str:
    """What every report appends to name data other than MNIST; nothing for MNIST itself.

    >>> data_label("digits"), data_label("mnist")
    (' (digits)', '')
    """
    return "" if name == "mnist" else f" ({name})"


def step_line(reports: Sequence[Report]) -> str:
    """The tutorial's report: one seed's, or the mean of several.

    >>> step_line([Report(200, seed=0, loss=2.07221, accuracy=0.328125)])
    'Step 200, Minibatch Loss= 2.0722, Training Accuracy= 0.328'
    """
    loss, accuracy = (float(np.mean(values)) for values in list(zip(*reports, strict=True))[2:4])
    many = f" (mean of {len(reports)} seeds)" if len(reports) > 1 else ""
    return f"Step {reports[0].step}, Minibatch Loss= {loss:.4f}, Training Accuracy= {accuracy:.3f}{many}"


def accuracy_text(accuracies: Sequence[float]) -> str:
    """One seed's accuracy as a fraction, or the mean and the standard deviation of several.

    >>> accuracy_text([0.9871])
    '0.9871'
    >>> accuracy_text([0.98, 0.99])
    '0.9850 ± 0.0071 (mean and standard deviation of 2 seeds, from 0.9800 to 0.9900)'
    """
    if len(accuracies) == 1:
        return f"{accuracies[0]:.4f}"
    return (
        f"{np.mean(accuracies):.4f} ± {np.std(accuracies, ddof=1):.4f} (mean and standard deviation of "
        f"{len(accuracies)} seeds, from {min(accuracies):.4f} to {max(accuracies):.4f})"
    )


def describe(config: Config, data: Dataset, num_params: int, devices: Sequence[Any], data_on: str) -> str:
    """What is about to be trained on what, and where."""
    rows, columns = data.train.images.shape[1:]
    seeds = f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {config.seed + config.seeds - 1}"
    return (
        f"Data: {data.source}: {len(data.train.labels):,} training, {len(data.validation.labels):,} validation and "
        f"{len(data.test.labels):,} test images of {rows}x{columns} pixels\n"
        f"Model: {config.layers} x {config.build_cell()}{', both ways' if config.bidirectional else ''}, "
        f"{num_params:,} parameters\n"
        f"Recipe: {config.recipe}, {seeds}, on {len(devices)} x {devices[0].device_kind}"
        f"{', with the training images on the host' if data_on == 'host' else ''}"
    )
