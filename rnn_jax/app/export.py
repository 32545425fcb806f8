"""A trained model as a file that needs nothing but JAX: StableHLO with the parameters in it."""

import jax
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
