"""Weights from and to TensorFlow 1, Keras 3, PyTorch and Flax, as plain NumPy arrays: no framework is imported.

| functions | exchange | in the form of |
|---|---|---|
| `from_tf`, `to_tf` | `tf.nn.rnn_cell`, contrib's LayerNormBasicLSTMCell | a dict, variable name -> array |
| `from_keras`, `to_keras` | `keras.layers` | the list of `layer.get_weights()` |
| `from_torch`, `to_torch` | `torch.nn` | a state dict |
| `from_flax`, `to_flax` | `flax.linen`, `flax.nnx` | nested dicts |

>>> import jax, rnn_jax as rnn
>>> cell = rnn.GRU(4)
>>> weights = to_torch(cell, cell.init(jax.random.key(0), input_size=3))
>>> {name: w.shape for name, w in weights.items()}
{'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
>>> params = from_torch(cell, weights)

The first argument is a cell, or a layer built of cells: `bidirectional` and `stack` of them. It decides what the
weights must be, and a mismatch is a `ValueError` that names it. So is everything that one side has and the other lacks.
`from_x(net, to_x(net, params))` gives `params` back. What leaves no trace in a layer's weights is the caller's to
compare: the activation, the order of reading, and wrappers such as `dropout`, `zoneout` and `residual`, which are
looked through. Parameters come in the dtype of the weights, float64 only where JAX has it enabled, and share no memory
with them.
"""

from rnn_jax.convert.flax import from_flax, to_flax
from rnn_jax.convert.keras import from_keras, to_keras
from rnn_jax.convert.tensorflow import from_tf, to_tf
from rnn_jax.convert.torch import from_torch, to_torch

__all__ = [
    "from_flax",
    "from_keras",
    "from_tf",
    "from_torch",
    "to_flax",
    "to_keras",
    "to_tf",
    "to_torch",
]
