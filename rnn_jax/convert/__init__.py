"""Weights from and to TensorFlow 1, Keras 3, PyTorch, Flax, Equinox and Haiku, as plain NumPy arrays.

No framework is imported.

| functions | classes | weights |
|---|---|---|
| `from_tf`, `to_tf` | `tf.nn.rnn_cell`, contrib's LayerNormBasicLSTMCell | a dict, variable name -> array |
| `from_keras`, `to_keras` | `keras.layers` | the list of `layer.get_weights()` |
| `from_torch`, `to_torch`, `from_torch_file` | `torch.nn` | a state dict, in memory or in a `.safetensors` file |
| `from_flax`, `to_flax` | `flax.linen`, `flax.nnx` | nested dicts |
| `from_equinox`, `to_equinox` | `eqx.nn` | the arrays of a module, or a list of those of several |
| `from_haiku`, `to_haiku` | `hk.VanillaRNN`, `hk.LSTM`, `hk.GRU` | a dict, module name -> dict |
| `to_onnx` | ONNX | a model, for onnxruntime and others; needs the package `onnx` |

>>> import jax, rnn_jax as rnn
>>> cell = rnn.GRU(4)
>>> weights = to_torch(cell, cell.init(jax.random.key(0), input_size=3))
>>> {name: w.shape for name, w in weights.items()}
{'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
>>> params = from_torch(cell, weights)

The first argument is a cell, or a layer built of cells by `bidirectional` and `stack`. It determines the names and
shapes of the weights; a mismatch is a `ValueError` that names it, and so is an option that the other framework lacks.
`from_x(net, to_x(net, params))` returns `params`. Weights do not tell everything about a layer: compare the activation
and the order of reading yourself, and wrappers such as `dropout`, `zoneout` and `residual`, which converters look
through. Parameters have the dtype of the weights, float64 only where JAX has it enabled, and share no memory with them.
"""

from rnn_jax.convert.equinox import from_equinox, to_equinox
from rnn_jax.convert.flax import from_flax, to_flax
from rnn_jax.convert.haiku import from_haiku, to_haiku
from rnn_jax.convert.keras import from_keras, to_keras
from rnn_jax.convert.onnx import to_onnx
from rnn_jax.convert.tensorflow import from_tf, to_tf
from rnn_jax.convert.torch import from_torch, from_torch_file, to_torch

__all__ = [
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_keras",
    "from_tf",
    "from_torch",
    "from_torch_file",
    "to_equinox",
    "to_flax",
    "to_haiku",
    "to_keras",
    "to_onnx",
    "to_tf",
    "to_torch",
]
