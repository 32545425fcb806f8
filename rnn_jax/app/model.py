"""Loads a trained model from a run's folder, for predictions and their probabilities.

model = rnn_jax.load_run("runs/lstm-mnist-2026-11-23-120000")
probabilities = model.predict(images)
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.app.build import build_task
from rnn_jax.app.checkpoint import DamagedError, best_first, check_encodable, restore, steps_in
from rnn_jax.app.config import Config, read_config
from rnn_jax.app.errors import CommandError
from rnn_jax.app.folder import CHECKPOINTS, CONFIG, read_data_info
from rnn_jax.app.generation import generate_text
from rnn_jax.app.series import predict_arrays
from rnn_jax.app.text import predict_texts
from rnn_jax.base import Array, Params, check_choice
from rnn_jax.data import DataInfo, Examples
from rnn_jax.data.series import SeriesInfo
from rnn_jax.data.text import TextInfo
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.images import check_pixels
from rnn_jax.tasks.task import Metrics, Task, predict_examples
from rnn_jax.training.step import evaluate


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model, of images, or of the user's own sequences or texts.

    Attributes:
      config: the run's configuration.
      data: the facts about its data, a `DataInfo`, a `SeriesInfo` or a `TextInfo`.
      step: the number of updates made.
      seed: the seed, one of the run's.
      task: the task, with its network.
      params: the network's parameters.
    """

    config: Config
    data: Any
    step: int
    seed: int
    task: Task
    params: Params

    def predict(self, images: Any) -> Any:
        """Classifies images, white on black like the training images, or predicts for sequences.

        Args:
          images: [N, rows, columns], or a single image [rows, columns]. Integers are pixels from 0 to
            `data.max_pixel`, floats are from 0 to 1. For a run on own sequences: a list of arrays [T, D] in the units
            of the data, nan for missing values. For a run on text: a list of `str` or `bytes`.

        Returns:
          float [N, C], or [C] for a single image: the probability of each class. For a run on sequences, see
          `rnn_jax.app.series.predict_arrays`; for a run on text, `rnn_jax.app.text.predict_texts`.

        Raises:
          ValueError: for images of another size, or pixels out of bounds; for sequences with other channels.
        """
        if isinstance(self.data, TextInfo):
            return predict_texts(self.task, self.params, self.data, images)
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

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = 1000,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> Iterator[Any]:
        """Continues a text, piece by piece, as a language model learned it.

        for piece in model.generate("ROMEO:", length=500, temperature=0.8):
            print(piece, end="", flush=True)

        Args:
          prompt: the beginning of the text, which is not repeated; of none, the text begins on a new line.
          length: the number of tokens, characters or bytes.
          temperature: below 1 for likelier tokens; 0 for the likeliest one, without chance.
          top_k: draws from the k likeliest tokens only; None for all.
          top_p: draws from the fewest likeliest tokens whose probabilities add up to top_p only; None for all.
          samples: the number of texts to generate at once; None for one.
          seed: of all chance: it and the number of a sample determine a text, up to rounding.

        Returns:
          The pieces as they are made, strings; with `samples`, tuples of a string for each text. Bytes that are no
          UTF-8 are replacement characters.

        Raises:
          ValueError: for a run of another task, a prompt with characters that training has not seen, or an option out
            of range.
        """
        if not isinstance(self.data, TextInfo) or self.data.task != "language":
            raise ValueError(f"a run on {self.data.name} cannot generate text: train one with --task language")
        task: Any = self.task
        options = dict(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        count = 1 if samples is None else samples
        pieces = generate_text(task.network, self.params, self.data, prompt, length, samples=count, **options)
        return pieces if samples is not None else (piece for (piece,) in pieces)

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
      folder: the run's folder.
      checkpoint: "newest", or "best" by the validation score; None for the one that the run tested, the newest for
        images and the best for own sequences. A damaged checkpoint is skipped, with a warning on stderr.
      seed: one of the run's seeds; None for the first.

    Raises:
      ValueError: in one line, if there is no run in the folder, no sound checkpoint, or no such seed, or the folder's
        path is not valid UTF-8.
    """
    check_choice("checkpoint", checkpoint, (None, "newest", "best"))
    folder = Path(folder)
    check_encodable(folder)
    try:
        config, data = Config(**read_config(folder / CONFIG)), read_data_info(folder)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is not the folder of a run: {error}") from error
    seed = config.seed if seed is None else seed
    checkpoint = checkpoint or ("newest" if config.training_recipe().patience is None else "best")
    if not config.seed <= seed < config.seed + config.seeds:
        raise ValueError(f"the run in {folder} has no seed {seed}, but {config.seeds} from {config.seed}")

    task = build_task(config, data)
    template = {"params": _shapes(task, config.seeds)}
    checkpoints = folder / CHECKPOINTS
    steps = best_first(checkpoints) if checkpoint == "best" else steps_in(checkpoints)
    for step in steps:
        path = checkpoints / str(step)
        try:
            params = restore(path, template)["params"]
        except DamagedError:
            print(f"the checkpoint {path} is damaged and passed over", file=sys.stderr)
            continue
        except CommandError as error:
            raise ValueError(str(error)) from error
        if config.seeds > 1:
            params = jax.tree.map(lambda leaf: leaf[seed - config.seed], params)
        return Model(config, data, step, seed, task, params)
    raise ValueError(f"there is no checkpoint in {checkpoints} yet")


def initial_params(config: Config, data: DataInfo | SeriesInfo | TextInfo) -> Params | None:
    """Reads the newest parameters of `config.init_from`, the run that a new run starts from.

    Returns:
      The parameters, with a leading axis of seeds if there are several; None without `config.init_from`, or if the run
      resumes from a checkpoint of its own.

    Raises:
      ValueError: in one line, if there is no such run, or its network, its number of seeds or its characters differ.
    """
    resumed = config.resume and config.output_dir is not None and steps_in(config.output_dir / CHECKPOINTS)
    if config.init_from is None or resumed:
        return None
    source = load_run(config.init_from)
    if source.config.seeds not in (1, config.seeds):
        raise ValueError(f"--init-from {config.init_from} has {source.config.seeds} seeds: ask for as many, or for one")
    if isinstance(data, TextInfo) and data.vocabulary != getattr(source.data, "vocabulary", data.vocabulary):
        raise ValueError(f"--init-from {config.init_from} knows other characters: train both with --tokens bytes")
    wanted = dict(_named_shapes(_shapes(build_task(config, data), 1)))
    found = dict(_named_shapes(source.params))
    if wanted != found:
        name = next(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
        raise ValueError(
            f"--init-from {config.init_from} has another network: its {name} has the shape "
            f"{found.get(name, 'of none')}, this run's {wanted.get(name, 'of none')}"
        )
    if config.seeds == 1:
        return source.params
    seeds = [source.seed + i * (source.config.seeds > 1) for i in range(config.seeds)]
    each = [load_run(config.init_from, seed=seed).params for seed in seeds]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)


def _shapes(task: Task, seeds: int) -> Params:
    """Returns the shapes of a task's parameters on the first device, with a leading axis of several seeds."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    lead = () if seeds == 1 else (seeds,)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype, sharding=sharding),
        jax.eval_shape(lambda: task.init(jax.random.key(0))),  # within, where nothing is compiled
    )


def _named_shapes(params: Params) -> list[tuple[str, tuple[int, ...]]]:
    return [(jax.tree_util.keystr(path).lstrip("."), leaf.shape) for path, leaf in jax.tree.leaves_with_path(params)]
