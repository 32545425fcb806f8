"""Generates sequences of tokens, one step at a time: state in, state out.

A network here is anything with a `step` from a token to the logits of the next one, such as a `Classifier` of tokens:

    step(params, state, token [B]) -> (state, logits [B, V])
"""

import functools
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from rnn_jax.base import Array, Params, State, check_size

# A lower temperature is 0 in float32.
LOWEST_TEMPERATURE = float(jnp.finfo(jnp.float32).tiny)


class TokenNetwork(Protocol):
    """A network that reads a token and predicts the next one."""

    def step(self, params: Params, state: State, token: Array, /) -> tuple[State, Array]:
        """Reads one token of each sequence: token int [B] -> (state, logits [B, V])."""
        ...


def check_sampling(temperature: Any = 1.0, top_k: Any = None, top_p: Any = None) -> None:
    """Raises `ValueError` in one line for an option of `sample` that is out of range."""
    if isinstance(temperature, str) or not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be at least 0 and finite, not {temperature!r}")
    if top_k is not None:
        check_size("top_k", top_k)
    if top_p is not None and (isinstance(top_p, str) or not 0 < top_p <= 1):
        raise ValueError(f"top_p must be above 0 and at most 1, not {top_p!r}")


def sample(
    logits: Array, key: Array, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """Draws tokens from their logits.

        token ~ softmax(logits / temperature)

    Args:
      logits: [..., V].
      key: a key for all of them.
      temperature: below 1 for likelier tokens; 0 for the likeliest one, without chance.
      top_k: draws from the k likeliest tokens only; None for all. Tokens as likely as the k-th are among them.
      top_p: draws from the nucleus only, the fewest likeliest tokens whose probabilities add up to top_p (Holtzman et
        al., 2020, arXiv:1904.09751), of those that top_k leaves and at this temperature; None for all.

    Returns:
      int32 [...].

    Raises:
      ValueError: for a temperature below 0, a top_k below 1, or a top_p that is not above 0 and at most 1.
    """
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return _choose(logits, noise, temperature, top_k, top_p)


@functools.partial(jax.jit, static_argnames="net")
def read(
    net: TokenNetwork, params: Params, state: State, logits: Array, tokens: Array, count: Array | int | None = None
) -> tuple[State, Array]:
    """Reads tokens, such as a prompt.

    Args:
      net: the network, hashable.
      params: its parameters.
      state: its state before the tokens.
      logits: [B, V], those before the tokens, returned where there are none.
      tokens: int [T, B].
      count: the number of tokens to read, the first ones of T; None for all. One compiled function serves every count.

    Returns:
      (the state after them, the logits [B, V] of the next token).
    """

    def step(i: Any, carry: tuple[State, Array]) -> tuple[State, Array]:
        return net.step(params, carry[0], tokens[i])

    return lax.fori_loop(0, len(tokens) if count is None else count, step, (state, logits))


@functools.partial(jax.jit, static_argnames=("net", "num_steps", "temperature", "top_k", "top_p"))
def generate(
    net: TokenNetwork,
    params: Params,
    state: State,
    logits: Array,
    key: Array,
    num_steps: int,
    *,
    start: Array | int = 0,
    count: Array | int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> tuple[State, Array, Array]:
    """Generates tokens, each drawn by `sample` and read before the next one.

    The noise of a token is a function of the key, of the number of its sequence and of its position: generating 100
    tokens, or 60 and then 40 with `start=60`, gives the same ones.

    >>> import jax, jax.numpy as jnp, rnn_jax as rnn
    >>> net = rnn.Classifier(rnn.embed(rnn.GRU(16), 65), 65, readout="every_step")
    >>> params = net.init(jax.random.key(0), input_size=65)
    >>> state, logits = net.initial_state((3,)), jnp.zeros((3, 65))  # before the first token, all are as likely
    >>> state, logits, tokens = rnn.generate(net, params, state, logits, jax.random.key(1), 100)
    >>> tokens.shape
    (100, 3)

    Args:
      net: the network, hashable.
      params: its parameters.
      state: its state after the tokens so far.
      logits: [B, V], of the first token.
      key: the key of all tokens, also of those with another `start`.
      num_steps: T.
      start: the position of the first token.
      count: the number of tokens to generate, at most T, the rest are 0; None for T. One compiled function serves
        every count.
      temperature: see `sample`; as the other options, part of the compiled function.
      top_k: see `sample`.
      top_p: see `sample`.

    Returns:
      (the state after them, the logits [B, V] of the next token, tokens int32 [T, B]).

    Raises:
      ValueError: as `sample` does.
    """
    check_sampling(temperature, top_k, top_p)
    samples = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(logits)))

    def draw(position: Array) -> Array:
        keys = jax.vmap(jax.random.fold_in, (0, None))(samples, position)
        return jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:], logits.dtype))(keys)

    # The noise of all steps is drawn at once: random bits cost less in bulk than inside the loop.
    noise = jax.vmap(draw)(start + jnp.arange(num_steps))

    def step(i: Any, carry: tuple[State, Array, Array]) -> tuple[State, Array, Array]:
        state, logits, tokens = carry
        token = _choose(logits, noise[i], temperature, top_k, top_p)
        state, logits = net.step(params, state, token)
        return state, logits, tokens.at[i].set(token)

    tokens = jnp.zeros((num_steps, len(logits)), jnp.int32)
    return lax.fori_loop(0, num_steps if count is None else count, step, (state, logits, tokens))


def _choose(logits: Array, noise: Array, temperature: float, top_k: int | None, top_p: float | None) -> Array:
    """Draws tokens with given noise: argmax(logits + noise) has the distribution softmax(logits) (Gumbel, 1954)."""
    check_sampling(temperature, top_k, top_p)
    if temperature < LOWEST_TEMPERATURE:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = (logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature
    return jnp.argmax(_truncate(logits, top_k, top_p) + noise, axis=-1).astype(jnp.int32)


def _truncate(logits: Array, top_k: int | None, top_p: float | None) -> Array:
    """Sets the logits of tokens beyond top_k and top_p to -inf: [..., V] -> [..., V]."""
    if top_k is None and top_p is None:
        return logits
    ordered, _ = lax.top_k(logits, min(top_k or logits.shape[-1], logits.shape[-1]))
    lowest = ordered[..., -1:]
    if top_p is not None and top_p < 1:
        p = jax.nn.softmax(ordered, axis=-1)
        inside = jnp.cumsum(p, axis=-1) - p < top_p  # less than top_p is added up before this token
        lowest = jnp.min(jnp.where(inside, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits < lowest, -jnp.inf, logits)
