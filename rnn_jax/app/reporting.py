"""The lines that a run prints: the tutorial's reports, and the description of the run."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rnn_jax.app.config import Config
from rnn_jax.app.devices import Placement
from rnn_jax.base import Cell
from rnn_jax.data import DataInfo, Dataset
from rnn_jax.tasks.task import Quantity, Report

BY_ORDER = {"rows": "", "pixels": " by pixels", "permuted": " by permuted pixels"}


def data_label(name: str) -> str:
    """Returns the end of every report about data other than MNIST; nothing for MNIST.

    >>> data_label("digits"), data_label("mnist")
    (' (digits)', '')
    """
    return "" if name == "mnist" else f" ({name})"


def step_line(reports: Sequence[Report], quantities: Mapping[str, Quantity]) -> str:
    """Formats the tutorial's report of one seed, or of the mean of several.

    >>> quantities = {"loss": Quantity("Loss", "loss [nats]"), "accuracy": Quantity("Accuracy", "accuracy [%]")}
    >>> step_line([Report(200, 0, {"loss": 2.07221, "accuracy": 0.328125})], quantities)
    'Step 200, Minibatch Loss= 2.0722, Training Accuracy= 0.328'
    """

    def mean(name: str) -> float:
        return float(np.mean([report.values[name] for report in reports]))  # type: ignore

    others = [f", Training {quantities[name].name}= {mean(name):.3f}" for name in quantities if name != "loss"]
    many = f" (mean of {len(reports)} seeds)" if len(reports) > 1 else ""
    return f"Step {reports[0].step}, Minibatch Loss= {mean('loss'):.4f}{''.join(others)}{many}"


def decimal(value: float) -> str:
    """Formats a figure with four decimals, or with four digits if those are few.

    >>> decimal(0.9871), decimal(0.0), decimal(0.00001234)
    ('0.9871', '0.0000', '1.234e-05')
    """
    return f"{value:.4f}" if not value or abs(value) >= 0.001 else f"{value:.4g}"


def figure_text(values: Sequence[float]) -> str:
    """Formats the figure of one seed, or the mean and the standard deviation of several.

    >>> figure_text([0.9871])
    '0.9871'
    >>> figure_text([0.98, 0.99])
    '0.9850 ± 0.0071 (mean and standard deviation of 2 seeds, from 0.9800 to 0.9900)'
    """
    if len(values) == 1:
        return decimal(values[0])
    return (
        f"{decimal(float(np.mean(values)))} ± {decimal(float(np.std(values, ddof=1)))} (mean and standard deviation of "
        f"{len(values)} seeds, from {decimal(min(values))} to {decimal(max(values))})"
    )


def figure_lines(
    split: str, figures: Sequence[Mapping[str, float]], baselines: Mapping[str, Mapping[str, float]], label: str
) -> Iterator[str]:
    """Yields the lines about a split.

    >>> list(figure_lines("Testing", [{"MAE": 2.0}], {"the last value": {"MAE": 1.5}}, " (sales)"))[:2]
    ['Baseline, the last value: MAE 1.5000 (sales)', 'Testing MAE: 2.0000 (sales)']

    Args:
      split: its name, such as "Testing".
      figures: the figures of each seed.
      baselines: the figures of each baseline, by its description. If one is as good as the mean of the seeds by their
        first figure, the last line says so.
      label: the end of each line, see `data_label`.
    """
    for what, values in baselines.items():
        yield f"Baseline, {what}: {', '.join(f'{name} {decimal(value)}' for name, value in values.items())}{label}"
    for name in figures[0]:
        unit = " nats" if name == "Loss" else ""
        yield f"{split} {name}: {figure_text([values[name] for values in figures])}{unit}{label}"
    for what, values in baselines.items():
        name, value = next(iter(values.items()))
        mean = float(np.mean([each[name] for each in figures]))
        is_error = name not in ("Accuracy", "R2")
        if not (mean < value if is_error else mean > value):
            yield f"The model does not beat its baseline: {name} {decimal(mean)}, {what} {decimal(value)}{label}"
            return


def describe(config: Config, cell: Cell, data: Dataset, num_params: int, placement: Placement) -> str:
    """Describes the data, the model, the recipe and the devices of a run."""
    seeds = f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {config.seed + config.seeds - 1}"
    noun = "images" if isinstance(data.info, DataInfo) else "data"
    by = BY_ORDER[config.order]
    return (
        f"Data: {describe_data(data)}{', read' if by else ''}{by}\n"
        f"Model: {config.layers} x {cell}{', both ways' if config.bidirectional else ''}, {num_params:,} parameters\n"
        f"Recipe: {config.recipe}, {seeds}, on {len(placement.devices)} x {placement.devices[0].device_kind}"
        f"{f', with the training {noun} on the host' if placement.data_on == 'host' else ''}"
    )


def describe_data(data: Dataset) -> str:
    """Describes the data set."""
    if not isinstance(data.info, DataInfo):
        return f"{data.info.summary}\nFiles: {data.info.source}"
    rows, columns = data.info.image_shape
    train, validation, test = (len(part.targets) for part in (data.train, data.validation, data.test))
    return (
        f"{data.info.source}: {train:,} training, {validation:,} validation and {test:,} test images of "
        f"{rows}x{columns} pixels"
    )


def title(config: Config, data_name: str) -> str:
    """Returns the title of a run's pictures."""
    layers = f"{config.layers} layers of " if config.layers > 1 else ""
    ways = " both ways" if config.bidirectional else ""
    data = data_name + BY_ORDER[config.order]
    return f"{layers}{config.cell}, {config.hidden_size} units{ways}, on {data}, recipe {config.recipe}"
