"""Writes keras.npz: Keras 3's recurrent layers. See record.py for what is in it.

    pip install "keras>=3.15" jax numpy
    python tests/golden/make_keras.py

Computed in float32: some of Keras's operations, such as `add`, round float64 to it.
"""
# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false

import os

os.environ["KERAS_BACKEND"] = "jax"
import jax
import jax.numpy as jnp
import keras
from record import draw, save

layers = keras.layers


def leaves(states):
    """One layer's states, each direction's in turn; Keras's order is h before c."""
    return {f"final/{k}": state for k, state in enumerate(states)}


def run(case, layer, T, B, D, lengths=None, initial=True):
    """One forward and one backward pass of a layer with return_sequences and return_state."""
    arrays = {"xs": draw(f"{case}/xs", T, B, D)}
    batch_first = (B, T, D)
    layer.build(batch_first)
    _, *states = layer(jnp.zeros(batch_first))
    if initial:
        arrays |= {f"state/{k}": draw(f"{case}/state/{k}", *s.shape) for k, s in enumerate(states)}
    arrays |= {
        f"weights/{k}": draw(f"{case}/weights/{k}", *w.shape, scale=0.6) for k, w in enumerate(layer.get_weights())
    }
    layer.set_weights([array for name, array in arrays.items() if name.startswith("weights/")])
    mask = None if lengths is None else jnp.arange(T) < jnp.array(lengths)[:, None]

    def outputs(arrays):
        state = [array for name, array in arrays.items() if name.startswith("state/")]
        weights = [array for name, array in arrays.items() if name.startswith("weights/")]
        (ys, *final), _ = layer.stateless_call(
            weights,
            [v.value for v in layer.non_trainable_variables],
            arrays["xs"].swapaxes(0, 1),
            initial_state=state or None,
            mask=mask,
        )
        return {"ys": ys.swapaxes(0, 1), **leaves(final)}

    out = outputs(arrays)
    factors = {name: draw(f"{case}/loss/{name}", *output.shape) for name, output in out.items()}

    def loss(arrays):
        return sum(jnp.sum(factors[name] * output) for name, output in outputs(arrays).items())

    return {
        **arrays,
        **({} if lengths is None else {"lengths": lengths}),
        **out,
        **{f"loss/{name}": factor for name, factor in factors.items()},
        **{f"grads/{name}": grad for name, grad in jax.grad(loss)(arrays).items()},
    }


full = {"return_sequences": True, "return_state": True}
makers = {
    "lstm": lambda: layers.LSTM(4, **full),
    "gru_reset_after": lambda: layers.GRU(4, reset_after=True, **full),
    "gru_reset_before": lambda: layers.GRU(4, reset_after=False, **full),
    "simple_rnn": lambda: layers.SimpleRNN(4, **full),
    "simple_rnn_relu": lambda: layers.SimpleRNN(4, activation="relu", **full),
    "lstm_bidirectional": lambda: layers.Bidirectional(layers.LSTM(4, **full)),
    "gru_bidirectional": lambda: layers.Bidirectional(layers.GRU(4, **full)),
}
cases = {}
for name, make in makers.items():
    cases[name] = run(name, make(), T=7, B=3, D=5)
for name in ("lstm", "gru_reset_after", "gru_reset_before", "simple_rnn"):
    one = f"{name}_one_step"
    cases[one] = run(one, makers[name](), T=1, B=1, D=1, initial=False)
for name in ("lstm_bidirectional", "gru_bidirectional"):
    masked = f"{name}_masked"
    cases[masked] = run(masked, makers[name](), T=5, B=3, D=3, lengths=[3, 5, 1])
name = "gru_no_bias"
cases[name] = run(name, layers.GRU(4, use_bias=False, **full), T=3, B=2, D=3)
save(__file__, cases)
