"""A trained model as a file that needs nothing but JAX: StableHLO with the parameters in it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from rnn_jax.app.model import Model
from rnn_jax.base import Array

PLATFORMS = ("cpu", "cuda", "tpu")


def export_model(model: Model) -> bytearray:
    """Exports `model.predict` for whole-number pixels, for any number of images, on CPU, CUDA and TPU.

    The bytes are loaded and run by `jax.export.deserialize(data).call(images)`, images uint8 [N, rows, columns] ->
    float32 [N, C], also by versions of JAX up to half a year older or younger
    (https://docs.jax.dev/en/latest/export/export.html, "Compatibility guarantees").
    """

    def predict(images: Array) -> Array:
        return model.task.predict(model.params, images)

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *model.data.image_shape), "uint8")
    return export.export(jax.jit(predict), platforms=PLATFORMS)(images).serialize()


def export_series(model: Model) -> bytearray:
    """Exports a model of people's own sequences: from the units of the data to those of the target.

    The bytes are loaded and run by `jax.export.deserialize(data).call(inputs)`, or `.call(inputs, lengths)` where
    sequences are shorter than T: inputs float32 [N, T, D] with the channels of the training data, lengths int32 [N].
    It returns probabilities [N, C], numbers [N] or forecasts [N, horizon]; of every step, [N, T, C] or [N, T].
    """
    info = model.data
    mean, deviation = (np.array(values, np.float32) for values in info.scaling)

    def predict(inputs: Array, lengths: Array | None = None) -> Array:
        scaled = jnp.where(deviation > 0, (inputs - mean) / np.where(deviation > 0, deviation, 1), 0)
        outputs = model.task.predict(model.params, scaled, lengths)
        return outputs if info.form.classes else outputs * info.goal.deviation[0] + info.goal.mean[0]

    (batch,) = export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct((batch, info.steps, len(mean)), "float32")]
    if info.ragged:
        shapes.append(jax.ShapeDtypeStruct((batch,), "int32"))
    return export.export(jax.jit(predict), platforms=PLATFORMS)(*shapes).serialize()


def describe_export(model: Model, file: Path) -> str:
    """Says what an exported model takes and gives, and how to run it."""
    info, form = model.data, model.data.form
    lengths = ", int32 lengths [N]" if info.ragged else ""
    step = f"{info.steps}, " if form.per_step else ""
    what = {
        "classify": f"probabilities [N, {step}{len(form.classes)}] of {', '.join(form.classes)}",
        "regress": f"{form.target} [N{', ' + step[:-2] if step else ''}]",
        "forecast": f"{form.target} [N, {info.horizon}]",
    }[form.task]
    channels = form.channels if info.missing == "error" else (*form.channels, "missing")
    call = "inputs, lengths" if info.ragged else "inputs"
    return (
        f"{file}: float32 [N, {info.steps}, {len(channels)}]{lengths} -> {what}, for {', '.join(PLATFORMS)}\n"
        f"Channels: {', '.join(channels)}\n"
        f"To run it: jax.export.deserialize(open('{file}', 'rb').read()).call({call})"
    )
