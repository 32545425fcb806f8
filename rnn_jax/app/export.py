"""Exports a trained model for other programs: as StableHLO, as ONNX, or its network alone as safetensors."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from rnn_jax.app.errors import Mistake
from rnn_jax.app.files import write_bytes
from rnn_jax.app.model import Model
from rnn_jax.base import Array, Params
from rnn_jax.convert.onnx import WithParams, function_to_onnx
from rnn_jax.data import DataInfo
from rnn_jax.data.series import SeriesInfo
from rnn_jax.data.text import TextInfo
from rnn_jax.saving import name_arrays, save
from rnn_jax.tasks.features import features, steps_at_once
from rnn_jax.tasks.table import TASKS

PLATFORMS = ("cpu", "cuda", "tpu")
FORMATS = ("stablehlo", "safetensors", "onnx")


def write_export(model: Model, file: Path, format: str = "stablehlo", *, step: bool = False) -> None:
    """Writes a model.

    Args:
      model: the model.
      file: the file's path.
      format: one of `FORMATS`. "safetensors" is the network alone, for `rnn_jax.load`.
      step: True for one step of the model, see `export_step`.

    Raises:
      Mistake: for a format that needs a missing package.
      ValueError: for a step in another format than StableHLO, or of a model that needs the whole sequence; for all of a
        language model but its step and its network.
    """
    if step and format != "stablehlo":
        raise ValueError(f"--step is written as StableHLO only, not as {format}")
    if getattr(model.data, "task", "") == "language" and not step and format != "safetensors":
        raise ValueError("a language model is exported by --step, or as --format safetensors")
    if format == "safetensors":
        save(file, _task(model).network, model.params)
    elif format == "onnx":
        if isinstance(model.data, TextInfo):
            raise ValueError("--format onnx needs a model of images or sequences, not of text")
        write_bytes(file, export_onnx(model))
    else:
        write_bytes(file, export_step(model) if step else export_model(model))


def export_model(model: Model) -> bytearray:
    """Exports a model as StableHLO, for any number of images or sequences, on CPU, CUDA and TPU.

    `jax.export.deserialize(data).call(images)` runs the bytes: images uint8 [N, rows, columns] -> float32 [N, C].
    Versions of JAX up to half a year older or newer can run them
    (https://docs.jax.dev/en/latest/export/export.html, "Compatibility guarantees").

    For the user's own sequences, the call is `call(inputs)`, or `call(inputs, lengths)` if sequences may be shorter
    than T: inputs float32 [N, T, D] with the channels and in the units of the training data, lengths int32 [N]. The
    result is probabilities [N, C], numbers [N] or forecasts [N, horizon] in units of the target; with a target for
    each step, [N, T, C] or [N, T].
    """
    function, inputs = _whole(model, _task(model), model.params)
    return export.export(jax.jit(function), platforms=PLATFORMS)(*inputs.values()).serialize()


def export_onnx(model: Model) -> bytes:
    """Exports a model as ONNX, with the arguments and the result of `export_model` by name."""
    task, params = _task(model), model.params
    encoder = WithParams(task.network.encoder, params.encoder)
    task = dataclasses.replace(task, network=dataclasses.replace(task.network, encoder=encoder))
    function, inputs = _whole(model, task, params._replace(encoder=()))
    try:
        return function_to_onnx(function, inputs, _output(model)).SerializeToString()
    except ImportError as error:
        raise Mistake("--format onnx needs the package onnx: pip install 'rnn_jax[onnx]'") from error


class StepState(NamedTuple):
    """State of a model between two steps; for sequences also the scaled previous step, and 1 if there is one."""

    network: Any
    before: Any = None
    started: Any = None


def export_step(model: Model) -> bytearray:
    """Exports one step of a model as StableHLO, for streams: `call(state, x) -> (state, outputs)`.

    The state is a dict of arrays [N, ...] by name, zeros before the first step. x is a row of pixels uint8
    [N, columns], or one pixel [N, 1] of a model that reads them one by one; a step of a sequence float32 [N, D] in the
    units of the data; or the tokens of texts int32 [N]. The outputs are those of the sequence so far, or of this step
    if the model has an output for each: of a language model, the probabilities of the next token.

    Raises:
      ValueError: for a model that needs the whole sequence.
    """
    task, info = _task(model), model.data
    if model.config.bidirectional:
        raise ValueError("--step needs a network that reads forwards only: this run reads from both ends")
    if isinstance(info, SeriesInfo) and info.form.task == "forecast":
        raise ValueError("--step needs a model of single steps: a forecast reads a whole window")
    if isinstance(info, SeriesInfo) and steps_at_once(info) > 1:
        raise ValueError(f"--step needs a model of single steps: this one reads {steps_at_once(info)} at once")

    def step(state: StepState, x: Array) -> tuple[StepState, Array]:
        if not isinstance(info, SeriesInfo):
            network, logits = task.network.step(
                model.params, state.network, x if isinstance(info, TextInfo) else x.astype(float) / task.scale
            )
            return StepState(network), jax.nn.softmax(logits)
        x = _scale(info, x)
        before = jnp.where(state.started[:, None] > 0, state.before, x)
        (_, row), _ = features(info, jnp.stack([before, x], axis=1))
        network, ys = task.network.step(model.params, state.network, row)
        outputs = jax.nn.softmax(ys) if info.form.classes else _to_units(info, ys[..., 0])
        return StepState(network, x, jnp.ones_like(state.started)), outputs

    def named_step(named: dict[str, Array], x: Array) -> tuple[dict[str, Array], Array]:
        state = jax.tree.unflatten(jax.tree.structure(like), [named[name] for name in name_arrays(like)])
        state, outputs = step(state, x)
        return name_arrays(state), outputs

    (batch,) = export.symbolic_shape("N")
    like, x = _step_inputs(model, batch)
    return export.export(jax.jit(named_step), platforms=PLATFORMS)(name_arrays(like), x).serialize()


def describe_export(model: Model, file: Path, format: str = "stablehlo", *, step: bool = False) -> str:
    """Describes the inputs and outputs of an exported model, and the call that runs it."""
    info = model.data
    if format == "safetensors":
        if isinstance(info, DataInfo):
            shapes = {"rows": "rows, N, columns", "pixels": "pixels, N, 1", "permuted": "permuted pixels, N, 1"}
            xs = f"images / {info.max_pixel}, [{shapes[model.config.order]}]"
        elif isinstance(info, TextInfo):
            xs = f"{info.noun} as numbers, [T, N]"
        else:
            xs = f"features [T, N, {_task(model).input_size}], as the run's task computes them from scaled inputs"
        return (
            f"{file}: the network and its parameters, without scaling\n"
            f"To run it: net, params = rnn_jax.load('{file}'); net.apply(params, xs), xs {xs}"
        )
    load = f"jax.export.deserialize(open('{file}', 'rb').read())"
    if step:
        (N,) = export.symbolic_shape("N")
        state, x = _step_inputs(model, N)
        parts = ", ".join(f"{name} {_describe_shape(a.shape)}" for name, a in name_arrays(state).items())
        takes, run = f"state, {x.dtype} {_describe_shape(x.shape)}", f"{load}.call(state, x)"
        lines = [f"State, zeros at first: {parts}"]
    else:
        _, inputs = _whole(model, model.task, model.params)
        names = ", ".join(inputs)
        takes = ", ".join(
            f"{a.dtype} {'lengths ' if name == 'lengths' else ''}{_describe_shape(a.shape)}"
            for name, a in inputs.items()
        )
        feeds = ", ".join(f"'{name}': {name}" for name in inputs)
        onnx = f"onnxruntime.InferenceSession('{file}').run(None, {{{feeds}}})"
        run, lines = (onnx if format == "onnx" else f"{load}.call({names})"), []
    if isinstance(info, SeriesInfo):
        channels = info.form.channels if info.missing == "error" else (*info.form.channels, "missing")
        lines.append(f"Channels: {', '.join(channels)}")
    elif isinstance(info, TextInfo) and info.tokens == "characters":
        lines.append(f"Characters, by number: {ascii(info.vocabulary)[1:-1]}, and one for all others")
    where = "onnxruntime and others" if format == "onnx" else ", ".join(PLATFORMS)
    gives = ("state, " if step else "") + _describe_output(model, step)
    return "\n".join([f"{file}: {takes} -> {gives}, for {where}", *lines, f"To run it: {run}"])


def _task(model: Model) -> Any:
    """Returns the task, typed so that its network is accessible."""
    return model.task


def _whole(model: Model, task: Any, params: Params) -> tuple[Callable[..., Array], Mapping[str, Any]]:
    """Returns the function from raw inputs to outputs in units, and the shapes of its arguments by name."""
    info, (batch,) = model.data, export.symbolic_shape("N")
    if isinstance(info, TextInfo):
        texts = jax.ShapeDtypeStruct((batch, info.window), "int32")
        lengths = jax.ShapeDtypeStruct((batch,), "int32")
        return functools.partial(task.predict, params), {"inputs": texts, "lengths": lengths}
    if not isinstance(info, SeriesInfo):
        images = jax.ShapeDtypeStruct((batch, *info.image_shape), "uint8")
        return functools.partial(task.predict, params), {"images": images}

    def predict(inputs: Array, lengths: Array | None = None) -> Array:
        return _to_units(info, task.predict(params, _scale(info, inputs), lengths))

    inputs = {"inputs": jax.ShapeDtypeStruct((batch, info.steps, len(info.scaling.mean)), "float32")}
    lengths = {"lengths": jax.ShapeDtypeStruct((batch,), "int32")} if info.ragged else {}
    return predict, inputs | lengths


def _scale(info: SeriesInfo, inputs: Array) -> Array:
    """Scales channels in units of the data."""
    mean, deviation = (np.array(values, np.float32) for values in info.scaling)
    return jnp.where(deviation > 0, (inputs - mean) / np.where(deviation > 0, deviation, 1), 0)


def _to_units(info: SeriesInfo, outputs: Array) -> Array:
    """Returns predictions in units of the target; probabilities have none."""
    return outputs if info.form.classes else outputs * info.goal.deviation[0] + info.goal.mean[0]


def _step_inputs(model: Model, N: Any) -> tuple[StepState, Any]:
    """Returns the shapes of the state and of x of `export_step`, for N sequences."""
    info = model.data
    like = jax.eval_shape(lambda: _task(model).network.initial_state((1,)))
    network = jax.tree.map(lambda a: jax.ShapeDtypeStruct((N, *a.shape[1:]), a.dtype), like)
    if isinstance(info, TextInfo):
        return StepState(network), jax.ShapeDtypeStruct((N,), "int32")
    if not isinstance(info, SeriesInfo):
        return StepState(network), jax.ShapeDtypeStruct((N, _task(model).input_size), "uint8")
    x = jax.ShapeDtypeStruct((N, len(info.scaling.mean)), "float32")
    return StepState(network, x, jax.ShapeDtypeStruct((N,), "float32")), x


def _describe_shape(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _output(model: Model) -> str:
    """Names the output of a model."""
    form = getattr(model.data, "form", None)
    return (
        "forecast"
        if form and form.task == "forecast"
        else "predicted"
        if form and not form.classes
        else "probabilities"
    )


def _describe_output(model: Model, step: bool) -> str:
    """Describes the output of a model, with its shape."""
    info = model.data
    if isinstance(info, TextInfo):
        language = info.task == "language"
        num, what = (info.num_tokens, info.noun) if language else (len(info.classes), ", ".join(info.classes))
        return f"probabilities [N, {num}] of {'the next of the ' if language else ''}{what}"
    if not isinstance(info, SeriesInfo):
        return f"probabilities [N, {info.num_classes}]"
    form = info.form
    sizes = ["N", *([info.steps] if form.per_step and not step else [])]
    if form.task != "regress":
        sizes.append(TASKS[form.task].num_outputs(info))
    shape = _describe_shape(sizes)
    return f"probabilities {shape} of {', '.join(form.classes)}" if form.classes else f"{form.target} {shape}"
