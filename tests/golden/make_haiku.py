"""Writes haiku.npz: the recurrent cores of Haiku. See record.py for what is in it.

pip install "dm-haiku>=0.0.14" numpy
python tests/golden/make_haiku.py
"""
# pyright: reportMissingImports=false

import haiku as hk
import jax
import jax.numpy as jnp
from record import draw, save

jax.config.update("jax_enable_x64", True)
T, B, D, H = 7, 3, 5, 4


def run(case, make_core):
    """One forward and one backward pass."""
    unroll = hk.without_apply_rng(hk.transform(lambda xs, state: hk.dynamic_unroll(make_core(), xs, state)))
    # An LSTM's state has the fields hidden and cell, in that order.
    state = hk.transform(lambda: make_core().initial_state(B)).apply({}, None)
    leaves, structure = jax.tree.flatten(state)
    arrays = {"xs": draw(f"{case}/xs", T, B, D)}
    arrays |= {f"state/{k}": draw(f"{case}/state/{k}", B, leaf.shape[-1]) for k, leaf in enumerate(leaves)}
    like = unroll.init(jax.random.key(0), jnp.zeros((T, B, D)), state)
    for module, weights in like.items():
        for name, weight in weights.items():
            path = f"weights/{module}/{name}"
            arrays[path] = draw(f"{case}/{path}", *weight.shape, scale=0.6)

    def outputs(arrays):
        params = {
            module: {name: arrays[f"weights/{module}/{name}"] for name in weights} for module, weights in like.items()
        }
        state = jax.tree.unflatten(structure, [array for name, array in arrays.items() if name.startswith("state/")])
        ys, final = unroll.apply(params, arrays["xs"], state)
        return {"ys": ys, **{f"final/{k}": leaf for k, leaf in enumerate(jax.tree.leaves(final))}}

    out = outputs(arrays)
    factors = {name: draw(f"{case}/loss/{name}", *output.shape) for name, output in out.items()}

    def loss(arrays):
        return sum(jnp.sum(factors[name] * output) for name, output in outputs(arrays).items())

    return {
        **arrays,
        **out,
        **{f"loss/{name}": factor for name, factor in factors.items()},
        **{f"grads/{name}": grad for name, grad in jax.grad(loss)(arrays).items()},
    }


cores = {
    "lstm": lambda: hk.LSTM(H),
    "gru": lambda: hk.GRU(H),
    "vanilla_rnn": lambda: hk.VanillaRNN(H),
    "vanilla_rnn_one_bias": lambda: hk.VanillaRNN(H, double_bias=False),
    "deep": lambda: hk.DeepRNN([hk.LSTM(H), hk.GRU(3), hk.LSTM(2)]),
}
save(__file__, {case: run(case, make_core) for case, make_core in cores.items()})
