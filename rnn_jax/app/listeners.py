"""Writes a run's reports as events for TensorBoard, without TensorFlow."""

import contextlib
import importlib.util
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rnn_jax.tasks.task import Report


def check_tensorboard() -> None:
    """Raises `ValueError` if the writer of events is not installed."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("--tensorboard needs the package tensorboardX: pip install 'rnn_jax[tensorboard]'")


@contextlib.contextmanager
def event_writer(
    folder: Path | None, step: int, earlier: Sequence[Report], warn: Callable[[str], None]
) -> Iterator[Callable[[Sequence[Report]], None]]:
    """Opens a folder of events for the reports after `step`.

    Each report is flushed. Earlier reports that the folder lacks are written first.
    Events are optional: a failure to write them is a warning.

    Args:
      folder: the folder; None to write nothing.
      step: the last step whose existing events remain valid.
      earlier: the reports up to that step.
      warn: called with one line if events cannot be written.

    Yields:
      A function that writes reports, a curve for each quantity and seed.
    """
    if folder is None:
        yield lambda reports: None
        return
    from tensorboardX.proto import event_pb2, summary_pb2
    from tensorboardX.record_writer import RecordWriter

    with contextlib.ExitStack() as stack:

        def write_event(**fields: object) -> None:
            writer.write(event_pb2.Event(wall_time=time.time(), **fields).SerializeToString())  # type: ignore

        def write(reports: Sequence[Report]) -> None:
            nonlocal failed
            if failed:
                return
            try:
                for report in reports:
                    values = [
                        summary_pb2.Summary.Value(tag=f"{name}/seed_{report.seed}", simple_value=value)  # type: ignore
                        for name, value in report.values.items()
                        if value is not None
                    ]
                    write_event(step=report.step, summary=summary_pb2.Summary(value=values))  # type: ignore
                writer.flush()
            except OSError as error:
                failed = True
                warn(f"events for TensorBoard end here: {error.strerror}")

        failed = False
        try:
            folder.mkdir(exist_ok=True)
            written = steps_with_events(folder)
            name = f"events.out.tfevents.{time.time_ns() / 1e9:017.6f}.{socket.gethostname()}.{os.getpid()}"
            writer = RecordWriter(str(folder / name))
            stack.callback(_close, writer)
            write_event(file_version="brain.Event:2")
            # Makes TensorBoard discard the events after this step in earlier files.
            write_event(step=step + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))  # type: ignore
        except OSError as error:
            failed = True
            warn(f"no events for TensorBoard: {error.strerror}")
        else:
            write([report for report in earlier if report.step not in written])
        yield write


def steps_with_events(folder: Path) -> set[int]:
    """Returns the steps of the values in a folder of events; ignores the rest of a truncated or damaged file."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto import event_pb2

    steps = set()
    for file in folder.glob("events.out.tfevents.*"):
        content = file.read_bytes()
        while len(content) > 16:  # a record: length, checksum, the event, checksum
            length = int.from_bytes(content[:8], "little")
            if len(content) < 16 + length:
                break
            try:
                event = event_pb2.Event.FromString(content[12 : 12 + length])  # type: ignore
            except DecodeError:
                break
            if event.HasField("summary"):
                steps.add(event.step)
            content = content[16 + length :]
    return steps


def _close(writer: object) -> None:
    with contextlib.suppress(OSError):
        writer.close()  # type: ignore
