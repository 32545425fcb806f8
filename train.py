"""Trains a recurrent network to classify handwritten digits: `python train.py --cell lstm`."""

import contextlib
import dataclasses
import os
import signal
import sys
import zlib

from rnn_jax.app.checkpoint import CheckpointError
from rnn_jax.app.config import Config, parse
from rnn_jax.app.devices import choose_data_on, choose_devices, use_every_core
from rnn_jax.app.folder import RunFolder
from rnn_jax.app.interruption import Interrupted
from rnn_jax.app.listeners import check_tensorboard
from rnn_jax.app.processes import MeetingError, check_same, first_process_first, is_first, joined, leave
from rnn_jax.app.run import Diverged, train
from rnn_jax.data import DataError, Dataset, load_dataset
from rnn_jax.data.dataset import num_bytes


def main() -> int:
    """Runs the command.

    Returns:
      The exit status: 0; 1 if the loss diverges or something cannot be written; 2 for a mistake of the user's; 130
      and 143 if interrupted by Ctrl-C and SIGTERM; 141 if nobody reads the output.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    config = parse()
    try:
        with joined(config.coordinator, config.process_count, config.process_id):
            data, run = prepare(config)
            with run or contextlib.nullcontext():
                train(config, data, run)
    except (Mistake, MeetingError) as mistake:
        return fail(2, str(mistake))
    except Interrupted as interruption:
        return interruption.status
    except KeyboardInterrupt:
        return fail(128 + signal.SIGINT, "interrupted", kind="")
    except BrokenPipeError:  # Whoever read the output has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (Diverged, CheckpointError) as error:
        return fail(1, str(error))
    except OSError as error:
        return fail(1, f"cannot write {error.filename or 'to the output folder'}: {error.strerror}")
    return 0


class Mistake(Exception):
    """What the user can put right; the message is one line."""


def prepare(config: Config) -> tuple[Dataset, RunFolder | None]:
    """Loads the data and makes the run's folder, in the first process; raises `Mistake` before anything is written."""
    try:
        with first_process_first():
            data = load_dataset(config.dataset, config.data_dir)
        config.check_data(data)
        devices = choose_devices(config.devices, config.batch_size)
        data_on = choose_data_on(config.data_on, num_bytes(data.train), config.seeds)
        if config.tensorboard:
            check_tensorboard()
        # What --dataset auto has found is what a resumed run asks for by name.
        config = dataclasses.replace(config, dataset=data.name)
        check_same(config.decisions(), config.resume, len(devices), data_on, zlib.crc32(data.train.labels.tobytes()))
        return data, RunFolder(config, data) if is_first() else None
    except (DataError, ValueError) as error:
        raise Mistake(str(error)) from error


def fail(status: int, message: str, *, kind: str = "error: ") -> int:
    """Says in one line why the command ends with this status."""
    print(f"train.py: {kind}{message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    use_every_core()
    leave(main)
