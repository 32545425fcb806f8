"""Language modelling: each token of a text, predicted from those before it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from rnn_jax.base import Array, Params
from rnn_jax.data import Examples
from rnn_jax.data.text import TextInfo
from rnn_jax.readout import Classifier, ClassifierState
from rnn_jax.tasks import text_plots
from rnn_jax.tasks.task import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHUNK = 1000  # tokens whose logits are in memory at once, where nothing is learned


class LanguageMetrics(NamedTuple):
    """Means over a batch: the cross-entropy of a token in nats, and the same in bits."""

    loss: Array
    bits: Array


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Predicts the next token of a text.

        loss = mean over t of -ln p(token_{t+1} | token_0, ..., token_t)

    In training the state goes on from window to window of a stream, and the gradient does not (truncated
    backpropagation through time; Williams and Peng, 1990).

    Args:
      network: computes the logits of the next token at every step.
      info: the facts about the text.
    """

    network: Classifier
    info: TextInfo

    score: ClassVar[str] = "loss"
    quantities: ClassVar[Mapping[str, Quantity]] = {
        "loss": Quantity("Loss", "loss [nats]"),
        "bits": Quantity("Bits", "bits per token"),
    }

    def init(self, key: Array) -> Params:
        """Draws the network's parameters. Consumes `key`."""
        return self.network.init(key, self.info.num_tokens)

    def carry(self, batch_size: int) -> ClassifierState:
        """Returns the state before the first windows of a batch."""
        return self.network.initial_state((batch_size,))

    def loss(
        self, params: Params, batch: Examples, key: Array | None = None, carry: ClassifierState | None = None
    ) -> tuple[Array, Any]:
        """Computes the mean cross-entropy of the windows int [B, W + 1], each of which tells its first token.

        Args:
          params: the parameters.
          batch: the windows, and which of them start a stream.
          key: drives dropout.
          carry: the state after each row's window before; None where each window stands for itself.

        Returns:
          (loss, metrics); with a carry, (loss, (metrics, the next carry)).
        """
        state = None if carry is None else self._restarted(carry, jnp.asarray(batch.starts))
        state, nats = self.surprisals(params, jnp.asarray(batch.inputs), state, key)
        value = jnp.mean(nats)
        metrics = LanguageMetrics(value, value / math.log(2))
        return value, metrics if carry is None else (metrics, state)

    def surprisals(
        self, params: Params, tokens: Array, state: ClassifierState | None = None, key: Array | None = None
    ) -> tuple[ClassifierState, Array]:
        """Computes -ln p of each token after the first, in parts if nothing is dropped: [B, T + 1] -> [B, T]."""
        tokens = jnp.moveaxis(tokens, -1, 0)
        xs, targets = tokens[:-1], tokens[1:]
        before: Any = self.network.initial_state(xs.shape[1:]) if state is None else state

        def read(state: Any, part: tuple[Array, Array], key: Array | None = None) -> tuple[Any, Array]:
            state, logits = self.network.read(params, part[0], state, key=key)
            return state, optax.softmax_cross_entropy_with_integer_labels(logits, part[1].astype(jnp.int32))

        count = 0 if key is not None else len(xs) // CHUNK
        done = count * CHUNK
        parts = []
        if count > 1:
            chunks = jax.tree.map(lambda a: a[:done].reshape(count, CHUNK, *a.shape[1:]), (xs, targets))
            before, nats = lax.scan(read, before, chunks)
            parts, xs, targets = [nats.reshape(done, *nats.shape[2:])], xs[done:], targets[done:]
        if len(xs):
            before, nats = read(before, (xs, targets), key)
            parts.append(nats)
        return before, jnp.moveaxis(jnp.concatenate(parts), 0, -1)

    def predict(self, params: Params, inputs: Array, lengths: Array | None = None) -> Array:
        """Computes -ln p of each token after the first, in nats: [B, T + 1] -> [B, T]."""
        return self.surprisals(params, inputs)[1]

    def measure(self, examples: Examples, predictions: np.ndarray) -> Mapping[str, float]:
        """Computes the mean of surprisals [N, T], in nats and in bits."""
        nats = float(np.mean(predictions, dtype=np.float64))
        return {"Loss": nats, f"Bits per {self.info.noun.title().removesuffix('s')}": nats / math.log(2)}

    def baselines(self, examples: Examples) -> Mapping[str, np.ndarray]:
        """Predicts each token by how often it occurs in the training text, and by the size of a compressed file."""
        counts = np.array(self.info.counts) + 1.0
        nats = -np.log(counts / counts.sum())[examples.targets]
        compressed = self.info.compressed * math.log(2)
        return {
            f"the frequency of each of the {self.info.noun}": nats,
            "the size of the text in a file of bzip2": np.full(nats.shape, compressed),
        }

    def pictures(self, examples: Examples, predictions: np.ndarray, title: str) -> "Mapping[str, Callable[[], Figure]]":
        """Returns the functions that draw a text shaded by its surprisal, and the surprisal of each token."""
        return {
            "surprisal": lambda: text_plots.shaded_text(self.info, examples.targets[0], predictions[0], title),
            "surprisal_by_token": lambda: text_plots.by_token(self.info, examples.targets, predictions, title),
        }

    def _restarted(self, carry: ClassifierState, starts: Array) -> ClassifierState:
        """Returns the initial state for the rows [B] that start a stream, and the carry for all others."""
        first = self.network.initial_state(starts.shape)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(starts.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

        return jax.tree.map(choose, first, carry)
