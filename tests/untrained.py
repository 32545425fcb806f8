"""Runs without training, for tests that need a model of one's own data and no good one."""

import json

import jax

from rnn_jax.app.build import build_task
from rnn_jax.app.config import Config
from rnn_jax.app.model import Model
from rnn_jax.app.series import load_own

TEXT = "the cat sat on the mat, and the dog ran to the cat.\n" * 30


def untrained(folder, **options) -> Model:
    """A model with parameters at random, and in the folder the facts about its data."""
    config = Config(**{"cell": "gru", "hidden_size": 6, "layers": 1, **options})
    data = load_own(config, quiet=True)
    (folder / "data.json").write_text(json.dumps(data.info.to_json()))
    task = build_task(config, data.info)
    params = jax.tree.map(lambda leaf: leaf + 0.3, task.init(jax.random.key(0)))
    return Model(config, data.info, 0, 0, task, params)


def untrained_text(folder, **options) -> Model:
    """A language model of a few words."""
    file = folder / "words.txt"
    file.write_text(TEXT)
    return untrained(folder, data=file, task="language", tokens="characters", window=16, batch_size=8, **options)


def untrained_forecast(folder) -> Model:
    """A forecast of four steps from eight."""
    rows = "".join(f"2020-01-{1 + day:02},{(day % 4) * 1.5 + day / 8:.3f}\n" for day in range(31))
    file = folder / "sales.csv"
    file.write_text("day,sales\n" + rows)
    return untrained(folder, data=file, task="forecast", horizon=4, window=8, season=4, batch_size=4)
