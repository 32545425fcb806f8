"""Writes equinox.npz: the cells of eqx.nn. See record.py for what is in it.

pip install "equinox>=0.13" numpy
python tests/golden/make_equinox.py
"""
# pyright: reportMissingImports=false

import equinox as eqx
import jax
import jax.numpy as jnp
from record import draw, save

jax.config.update("jax_enable_x64", True)
T, B, D, H = 7, 3, 5, 4


def run(case, make_cell):
    """One forward and one backward pass."""
    cell = make_cell(D, H, key=jax.random.key(0))
    lstm = isinstance(cell, eqx.nn.LSTMCell)
    names = [name for name in ("weight_ih", "weight_hh", "bias", "bias_n") if getattr(cell, name, None) is not None]
    arrays = {"xs": draw(f"{case}/xs", T, B, D)}
    arrays |= {f"state/{k}": draw(f"{case}/state/{k}", B, H) for k in range(1 + lstm)}
    for name in names:
        arrays[f"weights/{name}"] = draw(f"{case}/weights/{name}", *getattr(cell, name).shape, scale=0.6)

    def outputs(arrays):
        weights = [arrays[f"weights/{name}"] for name in names]
        module = eqx.tree_at(lambda cell: [getattr(cell, name) for name in names], cell, weights)

        def step(state, x):
            state = jax.vmap(module)(x, state)
            return state, state[0] if lstm else state

        state = (arrays["state/0"], arrays["state/1"]) if lstm else arrays["state/0"]
        final, ys = jax.lax.scan(step, jax.tree.map(jnp.asarray, state), jnp.asarray(arrays["xs"]))
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


cells = {
    "lstm": eqx.nn.LSTMCell,
    "lstm_no_bias": lambda *sizes, key: eqx.nn.LSTMCell(*sizes, use_bias=False, key=key),
    "gru": eqx.nn.GRUCell,
    "gru_no_bias": lambda *sizes, key: eqx.nn.GRUCell(*sizes, use_bias=False, key=key),
}
save(__file__, {case: run(case, make_cell) for case, make_cell in cells.items()})
