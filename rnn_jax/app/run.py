"""A whole run: training with checkpoints and a progress bar, then a test and pictures."""

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from rnn_jax.app import reporting
from rnn_jax.app.ahead import compile_ahead, import_ahead
from rnn_jax.app.build import build_cell, build_task
from rnn_jax.app.checkpoint import Checkpoints, DamagedError, best_first, newest_checkpoint, restore
from rnn_jax.app.config import Config
from rnn_jax.app.devices import Placement
from rnn_jax.app.errors import Interrupted, Mistake, SharedEnd, mistakes
from rnn_jax.app.folder import CHECKPOINTS, METRICS, TENSORBOARD, RunFolder
from rnn_jax.app.interruption import stop_requests
from rnn_jax.app.listeners import event_writer
from rnn_jax.app.metrics import MetricsTable, has_stopped
from rnn_jax.app.pictures import PICTURE_MODULES, save_picture
from rnn_jax.app.processes import agree_to_stop, from_first
from rnn_jax.app.program import started
from rnn_jax.app.streams import tell
from rnn_jax.base import Params
from rnn_jax.data import DataInfo, Dataset, Examples
from rnn_jax.data.examples import pieces
from rnn_jax.data.text import TextInfo
from rnn_jax.tasks.plots import training_curve
from rnn_jax.tasks.task import VALIDATION, Metrics, Report, Task, initial_carry, predict_examples
from rnn_jax.training.fit import fit
from rnn_jax.training.placement import on_one_device
from rnn_jax.training.step import TrainState, evaluate, init_states

MOST_BETWEEN_CHECKPOINTS = 500  # steps, by default
PREDICTED_AT_ONCE = 1000  # examples
NOTICE = "saving after the current steps; Ctrl-C stops at once"


class Diverged(SharedEnd):
    """The loss is no longer finite."""


def train(
    config: Config, data: Dataset, placement: Placement, run: RunFolder | None, initial: Params | None = None
) -> None:
    """Trains with regular reports, and tests at the end. A resumed run continues from its newest checkpoint.

    Args:
      config: the configuration.
      data: the data.
      placement: the devices, and the place of the training data.
      run: the run's folder; None in all processes but the first.
      initial: the initial parameters; None to draw them. All processes use the first one's.

    Raises:
      Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
      Diverged: if the loss becomes nan or infinite; the newest checkpoint is from before.
      CheckpointError: if a checkpoint cannot be written.
      OSError: if another file cannot be written.
    """
    config = dataclasses.replace(config, batch_size=config.batch_size_for(len(data.train.targets)))
    recipe, task = config.training_recipe(len(data.train.targets)), build_task(config, data.info)
    optimizer = recipe.optimizer()
    # One compilation instead of one for each small operation.
    init = jax.jit(init_states, static_argnums=(0, 1, 3), compiler_options=_options_to_run_once())
    arguments = task.init, optimizer, np.uint32(config.seed), config.seeds, initial_carry(task, config.batch_size)
    params = _on_device(init.eval_shape(*arguments).params, placement.devices[0])
    num_params = sum(leaf.size for leaf in jax.tree.leaves(params)) // config.seeds
    if run is not None:
        import_ahead("orbax.checkpoint")
        evaluate_params = _evaluation(task, config.seeds, params, data.validation)
    state = init(*arguments)
    fit_from = functools.partial(
        fit_until_diverged,
        task.loss,
        optimizer,
        examples=data.train,
        steps=recipe.steps,
        batch_size=config.batch_size,
        steps_per_call=recipe.steps_per_call,
        devices=placement.devices,
        data_on=placement.data_on,
    )
    is_given = config.resume or config.init_from is not None
    if run is None:
        _help(fit_from(from_first(state) if is_given else state))
        return

    description = reporting.describe(config, build_cell(config), data, num_params, placement)
    print(description, f"Output: {run.path}", sep="\n", flush=True)
    checkpoints = Checkpoints(run.path / CHECKPOINTS, keep=config.keep_checkpoints, warn=_warn)
    if initial is not None:
        state = state._replace(params=initial)  # The optimizer's state begins at zero, whatever the parameters.
    if is_given:
        state = from_first((checkpoints.restore(state) if config.resume else None) or state)
    if config.resume:
        print(f"Resuming after step {_step(state)} of {recipe.steps}", flush=True)
        if _step(state) > recipe.steps:
            raise Mistake(f"--steps {recipe.steps} are fewer than the {_step(state)} that the run has made")
    checkpoint_every = config.checkpoint_every or min(math.ceil(recipe.steps / 10), MOST_BETWEEN_CHECKPOINTS)
    label, title = reporting.data_label(data.info.name), reporting.title(config, data.info.name)
    first_step = step = _step(state)
    with mistakes():
        table = MetricsTable(run.path / METRICS, list(task.quantities), first_step)
    hand_outs = fit_from(state)
    if has_stopped(table.reports, task, recipe.patience):
        hand_outs = iter(())

    def draw_curve(warn: Callable[[str], None]) -> None:
        if table.reports and not config.no_pictures:
            draw = functools.partial(training_curve, table.reports, task.quantities, title)
            save_picture(run, "training_curve", draw, warn)

    is_text = isinstance(data.info, TextInfo) and data.info.task == "language"
    items, noun = (config.batch_size * data.info.window, data.info.noun) if is_text else (config.batch_size, "examples")
    began = time.perf_counter()
    try:
        with (
            contextlib.closing(table),
            checkpoints,
            event_writer(
                run.path / TENSORBOARD if config.tensorboard else None, first_step, table.reports, _warn
            ) as write_events,
            stop_requests(NOTICE) as stop_requested,
            tqdm(total=recipe.steps, initial=first_step, unit=" steps", disable=None) as bar,
        ):
            first = list(itertools.islice(hand_outs, 1))  # compiles the training step, which needs every core
            started()
            if not config.no_pictures:
                import_ahead(*PICTURE_MODULES)
            predict = _prediction(task, config.seeds, params, (data.validation, data.test))
            for state, metrics in itertools.chain(first, hand_outs):
                previous, step = step, _step(state)
                due = step == recipe.steps or step // checkpoint_every > previous // checkpoint_every
                validation = evaluate_params(state.params, data.validation) if due else None
                reports = _reports(config, step, metrics, validation)
                table.add(reports)
                write_events(reports)
                _advance(bar, step - previous, items * config.seeds, noun)
                if step == 1 or step % recipe.report_every == 0:
                    with bar.external_write_mode():
                        print(reporting.step_line(reports, task.quantities) + label, flush=True)
                if validation is not None:
                    checkpoints.save(step, on_one_device(state), _merit(task, validation))
                if stop := agree_to_stop(stop_requested()):
                    if validation is None:
                        checkpoints.save(step, on_one_device(state))
                    checkpoints.wait()
                    resume = f"go on with python train.py --resume --output-dir {run.path}"
                    tell(f"{stop.name}: saved step {step} in {checkpoints.folder}: {resume}")
                    raise Interrupted(stop)
                if validation is not None and has_stopped(table.reports, task, recipe.patience):
                    print(f"Stopping at step {step}: {recipe.patience} checkpoints are worse on the validation data")
                    break
        seconds, steps = time.perf_counter() - began, step - first_step
    except BaseException as error:
        draw_curve(lambda message: None)  # The first error is the one to report.
        if isinstance(error, Diverged):
            raise Diverged(f"{error}; {newest_checkpoint(checkpoints.folder)}") from error
        raise
    print(
        f"Optimization Finished!\n{steps} steps in {seconds:.1f} s, {_speed(steps / seconds, items, noun)}", flush=True
    )
    if recipe.patience is not None:
        state = _best_state(checkpoints.folder, state)
        print(f"Testing the checkpoint of step {_step(state)}, the best on the validation data")
    draw_curve(_warn)  # while the predictions are still being compiled, after a short training
    _test(config, data, run, task, state.params, predict)


def _options_to_run_once() -> dict[str, Any] | None:
    """Returns XLA's options for a function that runs once.

    LLVM's first level of optimization compiles in half the time of the default. XLA's older emitters, which JAX 0.11 no
    longer has, are faster again. Both compute the same bits.
    """
    if jax.default_backend() != "cpu":
        return None
    older = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}
    return {"xla_backend_optimization_level": 1, **older}


def _best_state(folder: Path, state: TrainState) -> TrainState:
    """Restores the checkpoint with the best score; returns `state` if that is the newest, or damaged."""
    best = best_first(folder)[0]
    if best == _step(state):
        return state
    try:
        return restore(folder / str(best), jax.tree.map(jnp.asarray, on_one_device(state)))
    except DamagedError:
        return state


def _help(hand_outs: Iterator[tuple[TrainState, Metrics]]) -> None:
    """Takes part in the steps of the first process, and ends with it."""
    started()
    with stop_requests(NOTICE) as stop_requested:
        for _ in hand_outs:
            if stop := agree_to_stop(stop_requested()):
                raise Interrupted(stop)


def fit_until_diverged(
    loss: Callable[..., Any], optimizer: Any, state: TrainState, examples: Any, **options: Any
) -> Iterator[tuple[TrainState, Metrics]]:
    """Runs `fit` until the loss is no longer finite.

    Raises:
      Diverged: instead of yielding such a loss. The steps since the last yield are repeated one by one, to find the
        first bad one.
    """
    for next_state, metrics in fit(loss, optimizer, state, examples, **options):
        if not np.isfinite(metrics.loss).all():
            options |= {"steps_per_call": 1, "steps": _step(next_state)}
            one_by_one = fit(loss, optimizer, state, examples, **options)
            step, values = next(
                (_step(state), metrics.loss) for state, metrics in one_by_one if not np.isfinite(metrics.loss).all()
            )
            bad = np.ravel(values)[~np.isfinite(np.ravel(values))][0]
            raise Diverged(f"the loss became {bad} at step {step}: try a lower --learning-rate")
        state = next_state
        yield state, metrics


def _evaluation(task: Task, seeds: int, params: Params, validation: Examples) -> Callable[[Params, Examples], Metrics]:
    """Compiles `evaluate` for pieces of the validation data, and for each seed where there are several.

    Args:
      task: the task.
      seeds: the number of seeds.
      params: the shapes of the parameters, see `_on_device`.
      validation: the validation data.
    """
    function = functools.partial(evaluate, task.loss)
    function = jax.jit(function if seeds == 1 else jax.vmap(function, in_axes=(0, None)))
    function = compile_ahead(function, params, pieces(validation)[0])

    def evaluate_pieces(params: Params, examples: Examples) -> Metrics:
        # One device is enough: XLA parallelizes the products of a thousand examples over the cores.
        metrics = [function(on_one_device(params), piece) for piece in pieces(examples)]
        weights = [len(piece.targets) for piece in pieces(examples)]
        return jax.tree.map(lambda *m: np.average(m, axis=0, weights=weights), *metrics) if metrics[1:] else metrics[0]

    return evaluate_pieces


def _prediction(
    task: Task, seeds: int, params: Params, splits: Sequence[Examples]
) -> Callable[[Params, Examples], np.ndarray]:
    """Compiles predictions for all examples of any of some splits, once: in batches of one size.

    Args:
      task: the task.
      seeds: the number of seeds, which lead the arrays of `params` if there are several.
      params: the shapes of the parameters, see `_on_device`.
      splits: the splits.

    Returns:
      (the parameters of one seed, one of the splits) -> the predictions.
    """
    size = min(PREDICTED_AT_ONCE, max(len(split.targets) for split in splits))

    def batches(examples: Examples) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for start in range(0, len(examples.targets), size):
            rows = np.arange(start, start + size).clip(max=len(examples.targets) - 1)  # The last example fills up.
            yield examples.inputs[rows], None if examples.lengths is None else examples.lengths[rows]

    one = params if seeds == 1 else jax.tree.map(lambda leaf: leaf.update(shape=leaf.shape[1:]), params)
    function = jax.jit(functools.partial(predict_examples, task))
    function = compile_ahead(function, one, *next(batches(splits[0])))

    def predict(params: Params, examples: Examples) -> np.ndarray:
        return np.concatenate([function(params, *batch) for batch in batches(examples)])[: len(examples.targets)]

    return predict


def _on_device(params: Params, device: Any) -> Params:
    """Returns the shapes of parameters that lie on a device."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), params)


def _reports(config: Config, step: int, metrics: Metrics, validation: Metrics | None) -> list[Report]:
    """Makes a report for each seed."""
    columns = {name: np.ravel(value).tolist() for name, value in metrics._asdict().items()}
    if validation is not None:
        columns |= {VALIDATION + name: np.ravel(value).tolist() for name, value in validation._asdict().items()}
    return [
        Report(step, config.seed + i, {name: values[i] for name, values in columns.items()})
        for i in range(config.seeds)
    ]


def _merit(task: Task, validation: Metrics) -> float:
    """Computes the score of a checkpoint; the highest is the best."""
    score = float(np.mean(np.asarray(getattr(validation, task.score))))  # on the host
    return score if task.quantities[task.score].better == "higher" else -score


def _test(
    config: Config,
    data: Dataset,
    run: RunFolder,
    task: Task,
    params: Params,
    predict: Callable[[Params, Examples], np.ndarray],
) -> None:
    """Prints the final figures of every seed, and draws the pictures of the first."""
    each = on_one_device(params)
    seeds = (
        [each] if config.seeds == 1 else [jax.tree.map(lambda leaf, i=i: leaf[i], each) for i in range(config.seeds)]
    )
    predictions: list[np.ndarray] = []
    label = reporting.data_label(data.info.name)
    for name, examples in (("Validation", data.validation), ("Testing", data.test)):
        predictions = [predict(seed, examples) for seed in seeds]
        figures = [task.measure(examples, prediction) for prediction in predictions]
        guesses = task.baselines(examples) if name == "Testing" else {}
        baselines = {what: task.measure(examples, guess) for what, guess in guesses.items()}
        for line in reporting.figure_lines(name, figures, baselines, label):
            print(line, flush=True)
    if not config.no_pictures:
        seed = f", seed {config.seed}" if config.seeds > 1 else ""
        noun = "images" if isinstance(data.info, DataInfo) else "data"
        title = f"{reporting.title(config, data.info.name)}: test {noun}{seed}"
        for name, draw in task.pictures(data.test, predictions[0], title).items():
            save_picture(run, name, draw, _warn)


def _advance(bar: tqdm, steps: int, items_per_step: int, noun: str) -> None:
    bar.update(steps)
    if not bar.disable and (rate := bar.format_dict["rate"]):
        bar.set_postfix_str(f"{rate * items_per_step:,.0f} {noun}/s")


def _speed(steps_per_second: float, items: int, noun: str) -> str:
    """Describes the speed of training: in steps, and for text also in tokens."""
    if noun == "examples":
        return f"{steps_per_second:.0f} steps/s"
    return f"{steps_per_second:.2g} steps/s, {steps_per_second * items:,.0f} {noun}/s"


def _step(state: TrainState) -> int:
    return int(np.max(np.asarray(state.step)))


def _warn(message: str) -> None:
    tell(f"train.py: warning: {message}")
