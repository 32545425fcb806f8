"""The command `train.py`: parses its arguments, prepares a run and trains."""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rnn_jax.app.cache import use_compilation_cache
from rnn_jax.app.checkpoint import check_encodable
from rnn_jax.app.config import Config, read_config
from rnn_jax.app.devices import Placement, check_devices, choose_placement, use_every_core, use_own_settings
from rnn_jax.app.digest import digest
from rnn_jax.app.errors import mistakes, run_command
from rnn_jax.app.flags import Parser, flag, path, rule
from rnn_jax.app.folder import CONFIG, RUNS, RunFolder, check_owner, new_run, newest_run
from rnn_jax.app.interruption import unwinding
from rnn_jax.app.listeners import check_tensorboard
from rnn_jax.app.model import initial_params
from rnn_jax.app.processes import check_same, first_process_first, is_first, joined
from rnn_jax.app.program import begin, leave
from rnn_jax.app.recipes import own_recipe
from rnn_jax.app.run import train
from rnn_jax.app.runtime import quiet_libraries
from rnn_jax.app.series import load_own
from rnn_jax.app.streams import tell
from rnn_jax.base import Params
from rnn_jax.data import Dataset, load_dataset
from rnn_jax.data.examples import num_bytes
from rnn_jax.data.named import full_name
from rnn_jax.data.text import find_text_task

PROGRAM = "train.py"


def main() -> int:
    """Runs the command with this process's arguments.

    Returns:
      The exit status: 0; 1 if the loss diverges or something cannot be written; 2 for a mistake of the user's; 130
      and 143 if interrupted by Ctrl-C and SIGTERM; 141 for a broken pipe.
    """
    config = parse()
    quiet_libraries()
    return run_command(PROGRAM, lambda: run(config))


def start() -> NoReturn:
    """Runs the command on every core and ends the process."""
    begin(PROGRAM)
    use_every_core()
    use_own_settings(warn)
    leave(main)


def run(config: Config) -> None:
    """Trains a configuration, as one of several processes if it asks for them."""
    with joined(config.coordinator, config.process_count, config.process_id):
        with mistakes():
            data, placement, folder, initial = prepare(config)
        with folder or contextlib.nullcontext():
            train(config, data, placement, folder, initial)


def warn(message: str) -> None:
    """Prints a warning on stderr."""
    tell(f"{PROGRAM}: warning: {message}")


def prepare(config: Config) -> tuple[Dataset, Placement, RunFolder | None, Params | None]:
    """Loads the data, chooses the devices and, in the first process, makes the run's folder.

    Returns:
      (the data, the devices, the folder, the parameters of `--init-from`); the last two are None in other processes.

    Raises:
      ValueError, DataError: for a mistake of the user's, before anything is written.
    """
    use_compilation_cache(config.compilation_cache, warn)
    check_devices()
    check_encodable(config.output_dir or RUNS)
    if is_first() and config.output_dir is not None:
        check_owner(config.output_dir, resume=config.resume)
    with first_process_first(), unwinding(PROGRAM):
        data = load_dataset(config.dataset, config.data_dir) if config.is_images else load_own(config)
    examples = len(data.train.targets)
    config = dataclasses.replace(config, batch_size=config.batch_size_for(examples))
    placement = choose_placement(config, num_bytes(data.train))
    if config.tensorboard:
        check_tensorboard()
    if config.is_images:  # Save the name that --dataset auto resolved to, for resuming.
        config = dataclasses.replace(config, dataset=data.info.name)
    fingerprint = digest(data)
    check_same(config.decisions(), config.resume, len(placement.devices), placement.data_on, fingerprint)
    if not is_first():
        return data, placement, None, None
    initial = initial_params(config, data.info)
    folder = config.output_dir or new_run(config.cell, data.info.name)
    options = {"resume": config.resume, "accept_data": config.accept_data, "warn": warn}
    run = RunFolder(folder, config.to_json(), data.info, fingerprint, **options)
    run.keep_steps(config.steps)
    return data, placement, run, initial


def parse(argv: Sequence[str] | None = None) -> Config:
    """Makes a `Config` from command-line arguments.

    `--config FILE` supplies the missing flags. `--resume` takes them from the resumed run, whose folder becomes
    `output_dir`; if `--output-dir` holds no run yet, they take their defaults.

    Args:
      argv: the arguments; None for those of this process.

    Raises:
      SystemExit: with status 2 after one line on stderr for a mistake; with status 0 after `--help`.
    """
    parser = Parser(description="Trains a recurrent network on images of handwritten digits, or on your own --data.")
    parser.add_argument("--config", type=path, metavar="FILE", help=f"a run's {CONFIG}: the same run again")
    parser.add_fields(dataclasses.fields(Config))
    given = vars(parser.parse_args(argv))
    try:
        file = given.pop("config")
        if file is not None:
            given = {**read_config(file), **given}
        if "dataset" in given:
            given["dataset"] = full_name(given["dataset"])
        if given.get("resume"):
            given = _resumed(given)
        return Config(**{**_defaults(given), **given})
    except ValueError as error:
        parser.error(str(error))


def _defaults(given: dict[str, Any]) -> Mapping[str, Any]:
    """Returns the defaults of flags that depend on the data; for text, also its task."""
    data, task, tokens = given.get("data"), given.get("task"), given.get("tokens")
    if data is None and given.get("dataset") != "text":
        return {}
    found = "language" if data is None else find_text_task(data, task) or (tokens and (task or "language"))
    if found is not None:
        given |= {"task": found, "tokens": tokens or "characters"}
    return own_recipe(given.get("task"), given.get("tokens"))[1]


def _resumed(given: dict[str, Any]) -> dict[str, Any]:
    """Fills in missing flags from the resumed run; raises `ValueError` if they contradict it."""
    folder = given.get("output_dir") or newest_run()
    if not (folder / CONFIG).exists():
        return given
    saved = read_config(folder / CONFIG)
    run = Config(**saved)
    for field in dataclasses.fields(Config):
        told, saved_value = given.get(field.name), getattr(run, field.name)
        anything = told is None or (field.name, told) == ("dataset", "auto")
        longer = field.name == "steps" and told is not None and (saved_value is None or told > saved_value)
        told = Path(os.path.abspath(told)) if field.name in ("data", "test") and told else told
        if rule(field).decides and not anything and not longer and told != saved_value:
            raise ValueError(
                f"{flag(field.name)} is {told}, but the run in {folder} has {saved_value}: leave it out to resume that "
                "run, or begin a new one without --resume"
            )
    return {**saved, **given, "dataset": run.dataset, "output_dir": folder}
