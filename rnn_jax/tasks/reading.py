"""Follows a trained network through one sequence: its answer after each step, its states, gates and gradients."""

import dataclasses
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Layer, Params, State
from rnn_jax.cells.gates import gates
from rnn_jax.embedding import Embed
from rnn_jax.layers import Bidirectional, Recurrent, Stack
from rnn_jax.readout import Classifier, ClassifierParams
from rnn_jax.states import with_states
from rnn_jax.tasks.language import LanguageModel
from rnn_jax.wrappers import within


class Pass(NamedTuple):
    """One cell's way through a sequence. Backward passes keep the places of their inputs.

    Attributes:
      states: the state after each step, every array [T, ...].
      gates: the NamedTuple of gates of each step, [T, H] each; None for a cell without gates.
    """

    states: State
    gates: Any


class Reading(NamedTuple):
    """A network's way through a sequence.

    Attributes:
      answers: the prediction after each step, [T, ...]; the last is the task's own. See `after_each_step`.
      passes: those of `list_passes`.
    """

    answers: Array
    passes: tuple[Pass, ...]


class PassInfo(NamedTuple):
    """The place of a pass in the network.

    Attributes:
      name: such as "layer 1, forward".
      cell: its cell.
      reverse: True if it reads from the end.
    """

    name: str
    cell: Any
    reverse: bool


def read(task: Any, params: Params, inputs: Array) -> Reading:
    """Follows the network of a task through one sequence.

    Args:
      task: any task.
      params: its parameters.
      inputs: [T, D] as `task.predict` takes them, or tokens int [T]. The answers of a language model are the
        probabilities of the next token after each.
    """
    if isinstance(task, LanguageModel):
        logits = after_each_step(task.network, params, inputs)
        return Reading(jax.nn.softmax(logits), trace(task.network.encoder, params.encoder, inputs))
    passes: list[Pass] = []

    def apply(params: ClassifierParams, xs: Array, *, lengths: Array | None = None, key: Array | None = None) -> Array:
        passes.extend(trace(task.network.encoder, params.encoder, xs))
        return after_each_step(task.network, params, xs)

    # The task prepares the inputs and interprets the outputs of this network as it does those of its own.
    observed = dataclasses.replace(task, network=types.SimpleNamespace(apply=apply))
    answers = observed.predict(params, inputs)
    return Reading(answers, tuple(passes))


def after_each_step(network: Classifier, params: ClassifierParams, xs: Array) -> Array:
    """Computes the logits as if the encoder's top layer had taken t steps, for every t: xs [T, D] -> [T, C].

    The last row is the network's own answer. After t steps, the forward half of a bidirectional layer has read the
    first t of its inputs, and the backward half the last t. The readout "last_step" takes the backward half after its
    first step in any case. The readout "every_step" answers each step by itself: row t is the answer for step t.
    """
    _, ys = network.encoder.apply(params.encoder, xs)
    w = network.head_matrix(params)
    if network.readout == "every_step":
        return ys @ w + params.b
    top = _parts(network.encoder)[-1]
    forward_size = top.forward.output_size if isinstance(top, Bidirectional) else ys.shape[-1]
    forward, backward = jnp.split(ys, [forward_size], axis=-1)
    one_step = network.readout == "last_step"
    backward = jnp.broadcast_to(backward[-1], backward.shape) if one_step else backward[::-1]
    y = jnp.concatenate([forward, backward], axis=-1)
    if network.readout == "mean":
        y = jnp.cumsum(y, axis=0) / jnp.arange(1, len(y) + 1, dtype=y.dtype)[:, None]
    return y @ w + params.b


def trace(layer: Layer, params: Params, xs: Array) -> tuple[Pass, ...]:
    """Records the states and the gates of every cell of a layer: xs [T, D] -> the passes of `list_passes`."""
    match layer:
        case Stack():
            passes = ()
            for part, part_params in zip(layer.layers, params, strict=True):
                passes += trace(part, part_params, xs)
                _, xs = part.apply(part_params, xs)
            return passes
        case Bidirectional():
            return trace(layer.forward, params.forward, xs) + trace(layer.backward, params.backward, xs)
        case Recurrent():
            cell = with_states(layer.cell)
            _, ys = dataclasses.replace(layer, cell=cell).apply(params, xs)
            _, states = cell.split(ys)
            initial = cell.initial_state((), xs.dtype)
            before = jax.tree.map(lambda first, after: _before(first, after, layer.reverse), initial, states)
            return (Pass(states, gates(layer.cell, params, before, xs, precision=layer.precision)),)
        case Embed():
            return trace(layer.layer, params.layer, params.embedding[xs])
        case _:
            return trace(within(layer), params, xs)


def _before(first: Array, after: Array, reverse: bool) -> Array:
    """Returns the states before each step, from the first of all and those after each step [T, ...]."""
    if reverse:
        return jnp.concatenate([after[1:], first[None]])
    return jnp.concatenate([first[None], after[:-1]])


def list_passes(encoder: Any) -> list[PassInfo]:
    """Lists the passes that `trace` records, bottom first, forward before backward."""
    passes = []
    for i, part in enumerate(_parts(encoder), 1):
        if isinstance(part, Bidirectional):
            passes.append(PassInfo(f"layer {i}, forward", part.forward.cell, False))
            passes.append(PassInfo(f"layer {i}, backward", part.backward.cell, True))
        else:
            passes.append(PassInfo(f"layer {i}", part.cell, part.reverse))
    return passes


def _parts(encoder: Any) -> list[Any]:
    """Lists the layers of an encoder without their wrappers, bottom first."""
    while not isinstance(encoder, Stack | Bidirectional | Recurrent):
        encoder = within(encoder)
    return [part for layer in encoder.layers for part in _parts(layer)] if isinstance(encoder, Stack) else [encoder]


def explain_answers(network: Classifier, step: str = "step") -> str:
    """Says in words which inputs the answers of `after_each_step` depend on; `step` is the word for a step."""
    depth = len(_parts(network.encoder))
    both = any(info.reverse for info in list_passes(network.encoder))
    if network.readout == "every_step":
        return f"Each {step} has an answer of its own" + (f", from all {step}s before and after it." if both else ".")
    if not both:
        text = f"The answer after {step} t has seen {step}s 1 to t."
    elif network.readout == "last_step":
        text = f"After {step} t the forward half has read {step}s 1 to t; the backward half only ever the last {step}."
    else:
        text = f"After t {step}s the forward half has read the first t {step}s, the backward half the last t."
    if both and depth > 1:
        text += f" The layers below have read every {step} by then, so the first answer has already seen all of them."
    if network.readout == "mean":
        text += " It is taken from the mean of the outputs so far."
    return text


def input_gradient(task: Any, params: Params, inputs: Array, index: Array) -> Array:
    """Computes the gradient of a class's logit with respect to the inputs [T, D] of one sequence.

    Args:
      task: a classification with one answer for the whole sequence.
      params: its parameters.
      inputs: the sequence.
      index: the class.
    """
    return jax.grad(lambda x: task.logits(params, x)[index])(inputs)
