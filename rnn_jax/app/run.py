"""A whole run: training with checkpoints and a progress bar, and at its end a test and pictures."""

import contextlib
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
from tqdm import tqdm

from rnn_jax.app.checkpoint import Checkpoints, newest_checkpoint
from rnn_jax.app.config import Config
from rnn_jax.app.devices import choose_data_on, choose_devices
from rnn_jax.app.folder import CHECKPOINTS, TENSORBOARD, Report, RunFolder
from rnn_jax.app.interruption import Interrupted, stop_requests
from rnn_jax.app.listeners import event_writer
from rnn_jax.app.model import predict_probabilities
from rnn_jax.app.processes import SharedEnd, agree_to_stop, from_first
from rnn_jax.app.reporting import accuracy_text, data_label, describe, step_line
from rnn_jax.base import Params
from rnn_jax.data import Dataset, Split
from rnn_jax.data.dataset import num_bytes, pieces
from rnn_jax.readout import Classifier, Metrics
from rnn_jax.tasks import plots as pictures
from rnn_jax.training.fit import TrainState, evaluate, fit, init_states
from rnn_jax.training.placement import on_one_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_EVERY = 200  # steps
STEPS_PER_CALL = 50  # so often moves the progress bar; REPORT_EVERY is a multiple of it
MOST_BETWEEN_CHECKPOINTS = 500  # steps, by default
NOTICE = "saving after the current steps; Ctrl-C stops at once"


class Diverged(SharedEnd):
    """The loss is no longer finite; the message is one line that names the step."""


def train(config: Config, data: Dataset, run: RunFolder | None) -> None:
    """Trains, reports on the way, and tests at the end. A run that is resumed goes on from its newest checkpoint.

    Args:
      config: what to train, and how.
      data: on what.
      run: the folder for everything that is kept; None in a process that only helps the first one.

    Raises:
      Interrupted: after SIGTERM or Ctrl-C, when the state is saved.
      Diverged: when the loss has become nan or infinite; the newest checkpoint is from before.
      CheckpointError: if a checkpoint cannot be written.
      OSError: if something else cannot be written.
      ValueError: if `config.devices` cannot share the batch, or `config.seeds` cannot read the data.
    """
    recipe, classifier = config.training_recipe(len(data.train.labels)), config.build_classifier(data.num_classes)
    optimizer = recipe.optimizer()
    devices = choose_devices(config.devices, config.batch_size)
    data_on = choose_data_on(config.data_on, num_bytes(data.train), config.seeds)
    # One compilation instead of one for each little operation.
    init = jax.jit(init_states, static_argnums=(0, 1, 3, 4))
    state = init(classifier, optimizer, np.uint32(config.seed), config.seeds, data.train.images.shape[-1])
    num_params = sum(leaf.size for leaf in jax.tree.leaves(state.params)) // config.seeds
    fit_from = functools.partial(
        fit_until_diverged,
        classifier,
        optimizer,
        data=data.train,
        max_pixel=data.max_pixel,
        steps=recipe.steps,
        batch_size=config.batch_size,
        steps_per_call=STEPS_PER_CALL,
        devices=devices,
        data_on=data_on,
    )
    if run is None:
        _help(fit_from(from_first(state) if config.resume else state))
        return

    print(describe(config, data, num_params, devices, data_on), f"Output: {run.path}", sep="\n", flush=True)
    checkpoints = Checkpoints(run.path / CHECKPOINTS, keep=config.keep_checkpoints, warn=_warn)
    if config.resume:
        state = from_first(checkpoints.restore(state) or state)
        print(f"Resuming after step {_step(state)} of {recipe.steps}", flush=True)
    checkpoint_every = config.checkpoint_every or min(math.ceil(recipe.steps / 10), MOST_BETWEEN_CHECKPOINTS)
    first_step = step = _step(state)
    hand_outs, history = fit_from(state), run.begin_metrics(first_step)
    evaluate_params = _evaluation(config, classifier, data.max_pixel)
    began = time.perf_counter()
    try:
        with (
            checkpoints,
            event_writer(run.path / TENSORBOARD if config.tensorboard else None, first_step) as write_events,
            stop_requests(NOTICE) as stop_requested,
            tqdm(total=recipe.steps, initial=first_step, unit=" steps", disable=None) as bar,
        ):
            for state, metrics in hand_outs:
                previous, step = step, _step(state)
                due = step == recipe.steps or step // checkpoint_every > previous // checkpoint_every
                validation = evaluate_params(state.params, data.validation) if due else None
                reports = _reports(config, step, metrics, validation)
                run.add_metrics(reports)
                write_events(reports)
                history += reports
                _advance(bar, step - previous, config.batch_size * config.seeds)
                if step == 1 or step % REPORT_EVERY == 0:
                    with bar.external_write_mode():
                        print(step_line(reports) + data_label(data.name), flush=True)
                if validation is not None:
                    checkpoints.save(step, on_one_device(state), float(np.mean(validation.accuracy)))
                if stop := agree_to_stop(stop_requested()):
                    if validation is None:
                        checkpoints.save(step, on_one_device(state))
                    checkpoints.wait()
                    resume = f"go on with python train.py --resume --output-dir {run.path}"
                    print(f"{stop.name}: saved step {step} in {checkpoints.folder}: {resume}", file=sys.stderr)
                    raise Interrupted(stop)
        seconds, steps = time.perf_counter() - began, step - first_step
    except Diverged as error:
        raise Diverged(f"{error}; {newest_checkpoint(checkpoints.folder)}") from error
    finally:
        if history:
            with contextlib.suppress(OSError):  # The disk may be full; what was first is told.
                _save_picture(run, "training_curve", pictures.training_curve(history, _title(config, data)))
    print(f"Optimization Finished!\n{steps} steps in {seconds:.1f} s, {steps / seconds:.0f} steps/s", flush=True)
    _test(config, data, run, classifier, state.params, evaluate_params)


def _help(hand_outs: Iterator[tuple[TrainState, Metrics]]) -> None:
    """Takes part in the steps of the first process, and ends as it does."""
    with stop_requests(NOTICE) as stop_requested:
        for _ in hand_outs:
            if stop := agree_to_stop(stop_requested()):
                raise Interrupted(stop)


def fit_until_diverged(
    classifier: Classifier, optimizer: optax.GradientTransformation, state: TrainState, data: Split, **options: Any
) -> Iterator[tuple[TrainState, Metrics]]:
    """`fit`, until the loss is no longer finite.

    Raises:
      Diverged: instead of handing out such a loss. The steps since the last hand-out are taken once more, one by one,
        to find at which it happened.
    """
    for next_state, metrics in fit(classifier, optimizer, state, data, **options):
        if not np.isfinite(metrics.loss).all():
            options |= {"steps_per_call": 1, "steps": _step(next_state)}
            one_by_one = fit(classifier, optimizer, state, data, **options)
            step, loss = next(
                (_step(state), metrics.loss) for state, metrics in one_by_one if not np.isfinite(metrics.loss).all()
            )
            bad = np.ravel(loss)[~np.isfinite(np.ravel(loss))][0]
            raise Diverged(f"the loss became {bad} at step {step}: try a lower --learning-rate")
        state = next_state
        yield state, metrics


def _evaluation(config: Config, classifier: Classifier, max_pixel: int) -> Callable[[Params, Split], Metrics]:
    """`evaluate`, compiled, of a piece of the split after another, and for each seed where there are several."""
    function = functools.partial(evaluate, classifier, max_pixel=max_pixel)
    function = jax.jit(function if config.seeds == 1 else jax.vmap(function, in_axes=(0, None)))
    # On one device: products of a thousand images are shared by the cores without being told.

    def evaluate_pieces(params: Params, data: Split) -> Metrics:
        metrics = [function(on_one_device(params), piece) for piece in pieces(data)]
        weights = [len(piece.labels) for piece in pieces(data)]
        return jax.tree.map(lambda *m: np.average(m, axis=0, weights=weights), *metrics) if metrics[1:] else metrics[0]

    return evaluate_pieces


def _reports(config: Config, step: int, metrics: Metrics, validation: Metrics | None) -> list[Report]:
    """A report for each seed."""
    columns = [np.ravel(value).tolist() for value in (*metrics, *(validation or ()))]
    return [Report(step, config.seed + i, *values) for i, values in enumerate(zip(*columns, strict=True))]


def _test(
    config: Config,
    data: Dataset,
    run: RunFolder,
    classifier: Classifier,
    params: Params,
    evaluate_params: Callable[[Params, Split], Metrics],
) -> None:
    """Says how good the classifier is, and draws where it is wrong."""
    first = on_one_device(params)
    if config.seeds > 1:
        first = jax.tree.map(lambda leaf: leaf[0], first)
    predict = jax.jit(functools.partial(predict_probabilities, classifier, max_pixel=data.max_pixel))
    probabilities = np.concatenate([predict(first, piece.images) for piece in pieces(data.test)])
    labels = data.test.labels
    title = f"{_title(config, data)}: test images" + (f", seed {config.seed}" if config.seeds > 1 else "")
    confusion = pictures.confusion_matrix(labels, probabilities.argmax(1), data.num_classes, title)
    _save_picture(run, "confusion_matrix", confusion)
    _save_picture(run, "worst_mistakes", pictures.worst_mistakes(data.test, probabilities, title))
    for name, split in (("Validation", data.validation), ("Testing", data.test)):
        accuracies = np.ravel(evaluate_params(params, split).accuracy).tolist()
        print(f"{name} Accuracy: {accuracy_text(accuracies)}{data_label(data.name)}")


def _save_picture(run: RunFolder, name: str, figure: "Figure") -> None:
    figure.savefig(run.path / f"{name}.png", dpi=150)


def _title(config: Config, data: Dataset) -> str:
    layers = f"{config.layers} layers of " if config.layers > 1 else ""
    ways = " both ways" if config.bidirectional else ""
    return f"{layers}{config.cell}, {config.hidden_size} units{ways}, on {data.name}, recipe {config.recipe}"


def _advance(bar: tqdm, steps: int, examples_per_step: int) -> None:
    bar.update(steps)
    if not bar.disable and (rate := bar.format_dict["rate"]):
        bar.set_postfix_str(f"{rate * examples_per_step:,.0f} examples/s")


def _step(state: TrainState) -> int:
    return int(np.max(np.asarray(state.step)))


def _warn(message: str) -> None:
    print(f"train.py: warning: {message}", file=sys.stderr, flush=True)
