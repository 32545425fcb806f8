"""Writes flax.npz: the cells of flax.linen and flax.nnx. See record.py for what is in it.

pip install "flax>=0.12" numpy
python tests/golden/make_flax.py
"""
# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false

import jax
import jax.numpy as jnp
from flax import linen, nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from record import draw, save

jax.config.update("jax_enable_x64", True)
T, B, D, H = 7, 3, 5, 4


def linen_module(make_cell, bidirectional):
    """The shapes of a module's parameters, and its function of parameters, xs and initial carry."""
    rnns = [linen.RNN(make_cell(), time_major=True, return_carry=True) for _ in range(1 + bidirectional)]
    module = linen.Bidirectional(*rnns, time_major=True, return_carry=True) if bidirectional else rnns[0]
    params = module.init(jax.random.key(0), jnp.zeros((T, B, D)))["params"]
    return params, lambda params, xs, carry: module.apply({"params": params}, xs, initial_carry=carry)


def nnx_module(make_cell, bidirectional):
    """As `linen_module`, for nnx."""
    rnns = [nnx.RNN(make_cell(), time_major=True, return_carry=True) for _ in range(1 + bidirectional)]
    module = nnx.Bidirectional(*rnns, time_major=True, return_carry=True) if bidirectional else rnns[0]
    graphdef, state, rest = nnx.split(module, nnx.Param, ...)

    def apply(params, xs, carry):
        new_state = jax.tree.map(lambda array: array, state)
        nnx.replace_by_pure_dict(new_state, params)
        return nnx.merge(graphdef, new_state, rest)(xs, initial_carry=carry)

    return nnx.to_pure_dict(state), apply


def run(case, module, make_cell, bidirectional=False):
    """One forward and one backward pass."""
    params, apply = module(make_cell, bidirectional)
    lstm = "LSTM" in type(make_cell()).__name__

    def h_first(leaves):
        """Flax's carry of an LSTM is (c, h)."""
        return [leaves[k ^ 1] for k in range(len(leaves))] if lstm else leaves

    carry = (jnp.zeros((B, H)),) * 2 if lstm else jnp.zeros((B, H))
    carry = (carry, carry) if bidirectional else carry
    leaves, structure = jax.tree.flatten(carry)
    arrays = {"xs": draw(f"{case}/xs", T, B, D)}
    arrays |= {f"state/{k}": draw(f"{case}/state/{k}", B, H) for k in range(len(leaves))}
    for name, weight in flatten_dict(params, sep="/").items():
        arrays[f"weights/{name}"] = draw(f"{case}/weights/{name}", *weight.shape, scale=0.6)

    def outputs(arrays):
        weights = {name.removeprefix("weights/"): a for name, a in arrays.items() if name.startswith("weights/")}
        state = [array for name, array in arrays.items() if name.startswith("state/")]
        carry = jax.tree.unflatten(structure, h_first(state))
        carry, ys = apply(unflatten_dict(weights, sep="/"), arrays["xs"], carry)
        return {"ys": ys, **{f"final/{k}": leaf for k, leaf in enumerate(h_first(jax.tree.leaves(carry)))}}

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


linen_cells = {
    "linen_lstm": lambda: linen.LSTMCell(H, param_dtype=jnp.float64),
    "linen_optimized_lstm": lambda: linen.OptimizedLSTMCell(H, param_dtype=jnp.float64),
    "linen_gru": lambda: linen.GRUCell(H, param_dtype=jnp.float64),
    "linen_simple": lambda: linen.SimpleCell(H, param_dtype=jnp.float64),
}
nnx_options = {"dtype": jnp.float64, "param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
nnx_cells = {
    "nnx_lstm": lambda: nnx.LSTMCell(D, H, **nnx_options),
    "nnx_optimized_lstm": lambda: nnx.OptimizedLSTMCell(D, H, **nnx_options),
    "nnx_gru": lambda: nnx.GRUCell(D, H, **nnx_options),
    "nnx_simple": lambda: nnx.SimpleCell(D, H, **nnx_options),
}
cases = {name: run(name, linen_module, make_cell) for name, make_cell in linen_cells.items()}
cases |= {name: run(name, nnx_module, make_cell) for name, make_cell in nnx_cells.items()}
for name in ("linen_lstm", "linen_gru"):
    both = f"{name}_bidirectional"
    cases[both] = run(both, linen_module, linen_cells[name], bidirectional=True)
for name in ("nnx_optimized_lstm", "nnx_gru"):
    both = f"{name}_bidirectional"
    cases[both] = run(both, nnx_module, nnx_cells[name], bidirectional=True)
save(__file__, cases)
