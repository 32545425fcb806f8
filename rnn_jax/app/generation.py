"""Text from a trained language model, in pieces as it is made."""

import codecs
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Params, check_size
from rnn_jax.data.text import TextInfo, decode, encode
from rnn_jax.folding import fold_embedding
from rnn_jax.generate import check_sampling, generate, read

CHUNK = 256  # the most tokens in a piece
FIRST_CHUNK = 8
SECONDS = 0.05  # the longest time between two pieces, about
MOST_NAMED = 10  # characters in an error


def generate_text(
    net: Any, params: Params, info: TextInfo, prompt: str, length: int, *, samples: int = 1, **options: Any
) -> Iterator[tuple[str, ...]]:
    """Continues a prompt, see `Model.generate`.

    Args:
      net: the network, a `Classifier` of tokens.
      params: its parameters.
      info: the facts about its tokens.
      prompt: the prompt; of none, the network reads the end of a line.
      length: the number of tokens of each text.
      samples: N, the number of texts.
      **options: see `generate_tokens`.

    Returns:
      The next pieces of all texts, again and again.

    Raises:
      ValueError: for a prompt with characters that training has not seen, and for options out of range.
    """
    check_sampling(**{name: value for name, value in options.items() if name != "seed"})
    check_size("samples", samples)
    if length < 0:
        raise ValueError(f"length must be at least 0, not {length}")
    tokens = encode_prompt(info, prompt or "\n" * (info.tokens == "bytes" or "\n" in info.vocabulary))
    if info.tokens == "characters":  # The last token stands for unseen characters: it is no text.
        params = params._replace(b=jnp.asarray(params.b).at[len(info.vocabulary)].set(-jnp.inf))
    chunks = generate_tokens(net, params, tokens, length, samples=samples, **options)
    decoders = [make_decoder(info) for _ in range(samples)]

    def pieces() -> Iterator[tuple[str, ...]]:
        for chunk in chunks:
            yield tuple(to_text(column, False) for to_text, column in zip(decoders, chunk.T, strict=True))
        yield tuple(to_text(np.zeros(0), True) for to_text in decoders)

    return (piece for piece in pieces() if any(piece))


def generate_tokens(
    net: Any, params: Params, prompt: np.ndarray, length: int, *, samples: int = 1, seed: int = 0, **options: Any
) -> Iterator[np.ndarray]:
    """Reads a prompt, and generates tokens.

    Chunks are small at first, and then as large as `SECONDS` allow. One compiled function makes all of them.

    Args:
      net: the network, a `Classifier` of tokens.
      params: its parameters.
      prompt: int [T]; of none, the first token is drawn by the bias of the head.
      length: the number of tokens.
      samples: N, the number of sequences, each with its own chance.
      seed: of all chance.
      **options: see `generate.sample`.

    Yields:
      The next tokens, int32 [·, N].
    """
    net, params = _fold(net, params)
    state, logits = _read_prompt(net, params, prompt)
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


def encode_prompt(info: TextInfo, prompt: str) -> np.ndarray:
    """Numbers the tokens of a prompt.

    Raises:
      ValueError: naming the characters that training has not seen.
    """
    unseen = sorted(set(prompt) - set(info.vocabulary)) if info.tokens == "characters" else []
    if unseen:
        named = ", ".join(map(ascii, unseen[:MOST_NAMED])) + ", ..." * (len(unseen) > MOST_NAMED)
        raise ValueError(f"the prompt has characters that training has not seen: {named}")
    return encode(info, prompt.encode("utf-8", "surrogateescape"))


def make_decoder(info: TextInfo) -> Callable[[np.ndarray, bool], str]:
    """Returns a function from the next tokens, and whether they are the last ones, to their text.

    Bytes of a character are held back until it is complete.
    """
    if info.tokens == "characters":
        return lambda tokens, final: decode(info, tokens)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return lambda tokens, final: decoder.decode(bytes(tokens.astype(np.uint8)), final)


_fold = jax.jit(fold_embedding, static_argnums=0)


def _read_prompt(net: Any, params: Params, prompt: np.ndarray) -> tuple[Any, Any]:
    """Reads a prompt of any length by one compiled function -> (state, logits [1, V])."""
    state, logits = net.initial_state((1,)), params.b[None]
    for start in range(0, len(prompt), CHUNK):
        part = prompt[start : start + CHUNK]
        tokens = np.zeros((CHUNK, 1), np.int32)
        tokens[: len(part), 0] = part
        state, logits = read(net, params, state, logits, tokens, len(part))
    return state, logits
