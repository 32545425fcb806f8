"""Trains a recurrent network to classify handwritten digits: `python train.py --cell lstm`."""

import functools
import os
import sys
import time

import jax
from tqdm import tqdm

from rnn_jax.config import Config, parse
from rnn_jax.data import DataError, Dataset, load_dataset
from rnn_jax.reporting import Report, data_label, save_history, step_line
from rnn_jax.training import evaluate, fit, init_state

REPORT_EVERY = 200  # steps
STEPS_PER_CALL = 50  # so often moves the progress bar; REPORT_EVERY is a multiple of it


def main() -> int:
    """Returns the exit status: 0; 2 for a mistake of the user's; 130 if interrupted; 141 if nobody reads the output."""
    config = parse()
    try:
        try:
            data = load_dataset(config.dataset, config.data_dir)
            config.check_data(data)
            make_output_dir(config)
        except (DataError, ValueError) as error:
            print(f"train.py: error: {error}", file=sys.stderr)
            return 2
        train(config, data)
    except KeyboardInterrupt:
        print("train.py: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # Whoever read the output has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def make_output_dir(config: Config) -> None:
    """Makes the folder for the output, if one is asked for; raises `ValueError` if that cannot be."""
    if config.output_dir is not None:
        try:
            config.output_dir.mkdir(parents=True)
        except OSError as error:
            raise ValueError(
                f"cannot make --output-dir {error.filename}: {error.strerror}: choose a new folder"
            ) from error


def train(config: Config, data: Dataset) -> None:
    """Trains, reports on the way, and tests at the end."""
    recipe, classifier = config.training_recipe(len(data.train.labels)), config.build_classifier(data.num_classes)
    about = data_label(data)
    optimizer = recipe.optimizer()
    # One compilation instead of one for each little operation.
    init = jax.jit(init_state, static_argnums=(0, 1, 3))
    state = init(classifier, optimizer, jax.random.key(config.seed), data.train.images.shape[-1])
    print(describe(config, data, sum(leaf.size for leaf in jax.tree.leaves(state.params))), flush=True)

    history: list[Report] = []
    steps = fit(
        classifier,
        optimizer,
        state,
        data.train,
        max_pixel=data.max_pixel,
        steps=recipe.steps,
        batch_size=config.batch_size,
        steps_per_call=STEPS_PER_CALL,
    )
    began = time.perf_counter()
    try:
        with tqdm(total=recipe.steps, unit=" steps", disable=None) as bar:
            for state, metrics in steps:
                report = Report(int(state.step), float(metrics.loss), float(metrics.accuracy))
                history.append(report)
                bar.update(report.step - bar.n)
                if report.step == 1 or report.step % REPORT_EVERY == 0:
                    with bar.external_write_mode():
                        print(step_line(report) + about, flush=True)
    finally:
        if config.output_dir is not None:
            save_history(config.output_dir, history, f"{config.cell} on {data.name}, recipe {config.recipe}")
    seconds = time.perf_counter() - began
    print(f"Optimization Finished!\n{recipe.steps} steps in {seconds:.1f} s, {recipe.steps / seconds:.0f} steps/s")

    test = jax.jit(functools.partial(evaluate, classifier, max_pixel=data.max_pixel))
    print(f"Validation Accuracy: {test(state.params, data.validation).accuracy:.4f}{about}")
    print(f"Testing Accuracy: {test(state.params, data.test).accuracy:.4f}{about}")


def describe(config: Config, data: Dataset, num_params: int) -> str:
    """What is about to be trained on what, and where."""
    rows, columns = data.train.images.shape[1:]
    return (
        f"Data: {data.source}: {len(data.train.labels):,} training, {len(data.validation.labels):,} validation and "
        f"{len(data.test.labels):,} test images of {rows}x{columns} pixels\n"
        f"Model: {config.layers} x {config.build_cell()}{', both ways' if config.bidirectional else ''}, "
        f"{num_params:,} parameters\n"
        f"Recipe: {config.recipe}, seed {config.seed}, on {jax.devices()[0].device_kind}"
    )


if __name__ == "__main__":
    sys.exit(main())
