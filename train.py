"""Trains a recurrent network to classify handwritten digits: `python train.py --cell lstm`."""

import dataclasses
import os
import signal
import sys

from rnn_jax.checkpoint import CheckpointError
from rnn_jax.config import parse
from rnn_jax.data import DataError, load_dataset
from rnn_jax.devices import choose_devices, use_every_core
from rnn_jax.interruption import Interrupted
from rnn_jax.run_folder import RunFolder
from rnn_jax.tensorboard import check_tensorboard
from rnn_jax.trainer import Diverged, train


def main() -> int:
    """Runs the command.

    Returns:
      The exit status: 0; 1 if the loss diverges or something cannot be written; 2 for a mistake of the user's; 130
      and 143 if interrupted by Ctrl-C and SIGTERM; 141 if nobody reads the output.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    config = parse()
    try:
        try:
            data = load_dataset(config.dataset, config.data_dir)
            config.check_data(data)
            choose_devices(config.devices, config.batch_size)  # a mistake is told before anything is written
            if config.tensorboard:
                check_tensorboard()
            # What --dataset auto has found is what a resumed run asks for by name.
            run = RunFolder(dataclasses.replace(config, dataset=data.name), data)
        except (DataError, ValueError) as error:
            return fail(2, str(error))
        with run:
            train(config, data, run)
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


def fail(status: int, message: str, *, kind: str = "error: ") -> int:
    """Says in one line why the command ends with this status."""
    print(f"train.py: {kind}{message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    use_every_core()
    sys.exit(main())
