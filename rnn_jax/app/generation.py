"""Text from a trained language model, in pieces as it is made."""

import functools
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Params
from rnn_jax.folding import fold_embedding
from rnn_jax.generate import generate, read

CHUNK = 256  # the most tokens in a piece
FIRST_CHUNK = 8
SECONDS = 0.05  # the longest time between two pieces, about

_fold = jax.jit(fold_embedding, static_argnums=0)


def generate_tokens(
    net: Any,
    params: Params,
    num_tokens: int,
    prompt: np.ndarray,
    length: int,
    *,
    samples: int = 1,
    seed: int = 0,
    **options: Any,
) -> Iterator[np.ndarray]:
    """Reads a prompt, and generates tokens.

    Chunks are small at first, and then as large as `SECONDS` allow. One compiled function makes all of them.

    Args:
      net: the network, see `generate.TokenNetwork`.
      params: its parameters.
      num_tokens: V.
      prompt: int [T]; of none, the first token is any with equal probability.
      length: the number of tokens.
      samples: N, the number of sequences, each with its own chance.
      seed: of all chance.
      **options: see `generate.sample`.

    Yields:
      The next tokens, int32 [·, N].
    """
    net, params = _fold(net, params)
    state, logits = _read_prompt(net, params, num_tokens, prompt)
    state, logits = jax.tree.map(lambda a: jnp.repeat(a, samples, axis=0), (state, logits))
    run = functools.partial(generate, net, params, key=jax.random.key(seed), num_steps=CHUNK, **options)
    done, count = 0, FIRST_CHUNK
    while done < length:
        count, began = min(count, length - done), time.perf_counter()
        state, logits, tokens = run(state, logits, start=done, count=count)
        tokens = np.asarray(tokens)[:count]
        elapsed = time.perf_counter() - began
        yield tokens
        done += count
        count = max(count // 2, 1) if elapsed > SECONDS else min(2 * count, CHUNK) if elapsed < SECONDS / 2 else count


def _read_prompt(net: Any, params: Params, num_tokens: int, prompt: np.ndarray) -> tuple[Any, Any]:
    """Reads a prompt of any length by one compiled function -> (state, logits [1, V])."""
    state, logits = net.initial_state((1,)), jnp.zeros((1, num_tokens))
    for start in range(0, len(prompt), CHUNK):
        part = prompt[start : start + CHUNK]
        tokens = np.zeros((CHUNK, 1), np.int32)
        tokens[: len(part), 0] = part
        state, logits = read(net, params, state, logits, tokens, len(part))
    return state, logits
