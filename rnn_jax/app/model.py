"""A trained model, read from a run's folder: predictions and their probabilities.

model = rnn_jax.load_run("runs/lstm-mnist-2026-11-23-120000")
probabilities = model.predict(images)
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from rnn_jax.app.build import build_task
from rnn_jax.app.checkpoint import is_sound, restore, steps_in, without_keys
from rnn_jax.app.config import Config, read_config
from rnn_jax.app.errors import CommandError
from rnn_jax.app.folder import CHECKPOINTS, CONFIG, METRICS, read_data_info
from rnn_jax.app.metrics import by_merit, read_metrics
from rnn_jax.app.series import predict_arrays
from rnn_jax.base import Array, Params, check_choice
from rnn_jax.data import Examples
from rnn_jax.data.series import SeriesInfo
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.images import check_pixels
from rnn_jax.tasks.task import Metrics, Task, predict_examples
from rnn_jax.training.step import evaluate, init_states


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained classifier of images.

    Attributes:
      config: the run's configuration.
      data: the facts about its data, a `DataInfo` or a `SeriesInfo`.
      step: the number of updates made.
      seed: the seed, of a run that may have several.
      task: the functions.
      params: their parameters.
    """

    config: Config
    data: Any
    step: int
    seed: int
    task: Task
    params: Params

    def predict(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Classifies images, white on black as those that the model was trained on; or predicts for sequences.

        Args:
          images: [N, rows, columns], or a single image [rows, columns]. Whole numbers are pixels from 0 to
            `data.max_pixel`; fractions are from 0 to 1. Of a run on people's own sequences: a list of arrays [T, D]
            in the units of the data, nan for missing values.

        Returns:
          float [N, C], or [C] for a single image: the probability of each class. Of a run on sequences, see
          `rnn_jax.app.series.predict_arrays`.

        Raises:
          ValueError: for images of another size, or pixels out of bounds; for sequences with other channels.
        """
        if isinstance(self.data, SeriesInfo):
            return predict_arrays(self.task, self.params, self.data, images)
        images, shape = np.asarray(images), self.data.image_shape
        if images.ndim not in (2, 3) or images.shape[-2:] != shape:
            expected = f"[{shape[0]}, {shape[1]}]"
            raise ValueError(f"images must have the shape {expected} or [N, {expected[1:]}, not {list(images.shape)}")
        white = check_pixels(images, self.data.max_pixel)
        batch = images.astype(float).reshape(-1, *shape)
        return np.asarray(self._predict(batch, scale=white)).reshape(*images.shape[:-2], self.data.num_classes)

    def evaluate(self, examples: Examples) -> Metrics:
        """Computes the mean metrics of examples with targets."""
        return self._evaluate(self.params, examples)

    # Compiled once, not at every call.
    @functools.cached_property
    def _predict(self) -> Callable[..., Array]:
        def predict(images: Array, scale: float) -> Array:
            assert isinstance(self.task, Classification)
            return predict_examples(dataclasses.replace(self.task, scale=scale), self.params, images)

        return jax.jit(predict, static_argnames="scale")

    @functools.cached_property
    def _evaluate(self) -> Callable[..., Metrics]:
        return jax.jit(functools.partial(evaluate, self.task.loss))


def load_run(
    folder: str | Path, *, checkpoint: Literal["newest", "best"] | None = None, seed: int | None = None
) -> Model:
    """Loads the trained model of a run.

    Args:
      folder: the run's.
      checkpoint: the newest, or the one with the best validation score; None for the one that the run has tested,
        the newest of images and the best of people's own sequences. A damaged one is passed over, with a warning on
        stderr.
      seed: one of the seeds of a run that has several; None for the first.

    Raises:
      ValueError: in one line, if there is no run in the folder, no sound checkpoint, or no such seed.
    """
    check_choice("checkpoint", checkpoint, (None, "newest", "best"))
    folder = Path(folder)
    try:
        config, data = Config(**read_config(folder / CONFIG)), read_data_info(folder)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is not the folder of a run: {error}") from error
    seed = config.seed if seed is None else seed
    checkpoint = checkpoint or ("newest" if config.training_recipe().patience is None else "best")
    if not config.seed <= seed < config.seed + config.seeds:
        raise ValueError(f"the run in {folder} has no seed {seed}, but {config.seeds} from {config.seed}")

    task, optimizer = build_task(config, data), config.training_recipe().optimizer()
    first_seed = jax.ShapeDtypeStruct((), "uint32")
    template = jax.eval_shape(
        lambda seed: without_keys(init_states(task.init, optimizer, seed, config.seeds)),
        first_seed,
    )
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), template)
    steps = steps_in(folder / CHECKPOINTS)
    if checkpoint == "best":
        steps = by_merit(steps, read_metrics(folder / METRICS), task)
    for step in steps:
        path = folder / CHECKPOINTS / str(step)
        if is_sound(path):
            try:
                params = restore(path, template).params
            except CommandError as error:
                raise ValueError(str(error)) from error
            if config.seeds > 1:
                params = jax.tree.map(lambda leaf: leaf[seed - config.seed], params)
            return Model(config, data, step, seed, task, params)
        print(f"the checkpoint {path} is damaged and passed over", file=sys.stderr)
    raise ValueError(f"there is no checkpoint in {folder / CHECKPOINTS} yet")
