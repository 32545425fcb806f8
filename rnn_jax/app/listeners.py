"""Listeners of a run's reports: events for TensorBoard, written without TensorFlow."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rnn_jax.tasks.task import Report


def check_tensorboard() -> None:
    """Raises `ValueError` if the writer of events is not installed."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("--tensorboard needs the package tensorboardX: pip install 'rnn_jax[tensorboard]'")


@contextlib.contextmanager
def event_writer(folder: Path | None, step: int) -> Iterator[Callable[[Sequence[Report]], None]]:
    """Opens a folder of events for the reports after `step`.

    Args:
      folder: the folder; None writes nothing.
      step: the last step whose events TensorBoard keeps of those in the folder.

    Yields:
      A function that writes reports, a curve for each quantity and seed.
    """
    if folder is None:
        yield lambda reports: None
        return
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def write(reports: Sequence[Report]) -> None:
            for report in reports:
                for name, value in report.values.items():
                    if value is not None:
                        writer.add_scalar(f"{name}/seed_{report.seed}", value, report.step)

        yield write
