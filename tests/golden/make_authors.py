"""Writes authors.npz: the cells of papers, by their authors' own code. See record.py for what is in it.

pip install torch numpy flax einops jaxtyping "typeguard<3" sentencepiece
git clone https://github.com/lucidrains/minGRU-pytorch            (at 38b26e1; not an author's, but the usual one)
git clone https://github.com/NicolasZucchet/minimal-LRU           (at bbd71b1)
git clone https://github.com/google-deepmind/recurrentgemma       (at 2efa84d)
git clone https://github.com/NX-AI/xlstm                          (at 032a6fb)
export JAXTYPING_DISABLE=1  # float64 is not among the types that recurrentgemma declares
export PYTHONPATH=minGRU-pytorch:minimal-LRU:recurrentgemma:xlstm/xlstm/blocks/slstm/src
python tests/golden/make_authors.py
"""
# pyright: reportMissingImports=false

import jax
import jax.numpy as jnp
import torch
from lru.model import LRU
from minGRU_pytorch.minGRU import minGRU
from minGRU_pytorch.minLSTM import minLSTM
from record import draw, save
from recurrentgemma.common import ScanType
from recurrentgemma.jax.layers import RGLRU
from vanilla import slstm_forward, slstm_pointwise_function_registry

torch.set_default_dtype(torch.float64)
jax.config.update("jax_enable_x64", True)
T, B, D, H = 7, 3, 4, 4
POSITIVE = {"min_gru": {"state/0"}, "slstm_goes_on": {"state/2"}}  # of which logarithms are taken, or which divide


def record(case, shapes, apply, like, gradients):
    """One forward and one backward pass of apply, {"xs": ..., "weights/w": ...} -> {"ys": ..., "final/0": ...}."""
    arrays = {name: draw(f"{case}/{name}", *shape, scale=0.5) for name, shape in shapes.items()}
    for name in arrays.keys() & POSITIVE.get(case, set()):
        arrays[name] = abs(arrays[name]) + 0.5
    inputs = {name: like(array) for name, array in arrays.items()}
    outputs = apply(inputs)
    factors = {name: draw(f"{case}/loss/{name}", *output.shape) for name, output in outputs.items()}
    grads = gradients(apply, inputs, {name: like(factor) for name, factor in factors.items()})
    return {
        **arrays,
        **{name: output.detach() if isinstance(output, torch.Tensor) else output for name, output in outputs.items()},
        **{f"loss/{name}": factor for name, factor in factors.items()},
        **{f"grads/{name}": grad for name, grad in grads.items()},
    }


def by_torch(case, shapes, apply):
    """`record` for PyTorch."""

    def gradients(apply, inputs, factors):
        terms = [(factors[name] * output).sum() for name, output in apply(inputs).items()]
        return dict(zip(inputs, torch.autograd.grad(torch.stack(terms).sum(), list(inputs.values())), strict=True))

    return record(case, shapes, apply, lambda array: torch.tensor(array, requires_grad=True), gradients)


def by_jax(case, shapes, apply):
    """`record` for JAX."""

    def gradients(apply, inputs, factors):
        return jax.grad(lambda inputs: sum((factors[name] * y).sum() for name, y in apply(inputs).items()))(inputs)

    return record(case, shapes, apply, jnp.asarray, gradients)


def minimal(module, name):
    """The scan in logarithms of minGRU or minLSTM; of the latter without an initial state, which it changes first."""

    def apply(inputs):
        before = inputs["state/0"][:, None] if "state/0" in inputs else None
        xs = inputs["xs"].swapaxes(0, 1)
        weights = {name: inputs["weights/w"]}
        ys, final = torch.func.functional_call(module, weights, (xs, before), {"return_next_prev_hidden": True})
        return {"ys": ys.swapaxes(0, 1), "final/0": final[:, 0]}

    return apply


def lru(inputs):
    """The layer of minimal-LRU, a sequence at a time; it begins at zero and keeps no state."""
    layer = LRU(d_hidden=3, d_model=D)
    params = {name.removeprefix("weights/"): array for name, array in inputs.items() if name != "xs"}
    run = jax.vmap(lambda xs: layer.apply({"params": params}, xs), in_axes=1, out_axes=1)
    return {"ys": run(inputs["xs"])}


def rg_lru(inputs):
    """The layer of RecurrentGemma, in the middle of a document."""
    layer = RGLRU(width=H, num_heads=2, scan_type=ScanType.ASSOCIATIVE_NATIVE, dtype=jnp.float64)
    params = {"a_param": inputs["weights/a_param"]}
    for gate in ("input_gate", "a_gate"):
        params[gate] = {"w": inputs[f"weights/{gate}/w"], "b": inputs[f"weights/{gate}/b"]}
    before = inputs["state/0"].astype(jnp.float32)  # in which the sums are taken
    ys, final = layer.apply({"params": params}, inputs["xs"].swapaxes(0, 1), jnp.ones((B, T), int), before)
    return {"ys": ys.swapaxes(0, 1), "final/0": final}


def slstm(inputs):
    """The pure PyTorch version of sLSTM; `w` is the layer's linear input."""
    states = [inputs.get(f"state/{k}", torch.zeros(B, H)) for k in range(4)]
    pre = inputs["xs"] @ inputs["weights/w"]
    every, final, _ = slstm_forward(
        pre, torch.stack(states), inputs["weights/r"], inputs["weights/b"], slstm_pointwise_function_registry["slstm"]
    )
    return {"ys": every[0, 1:], **{f"final/{k}": leaf for k, leaf in enumerate(final)}}


state = {"state/0": (B, H)}
xs = {"xs": (T, B, D)}
gates = {
    f"weights/{gate}/{part}": shape
    for gate in ("input_gate", "a_gate")
    for part, shape in (("w", (2, H // 2, H // 2)), ("b", (2, H // 2)))
}
lru_shapes = {
    "B_re": (3, D),
    "B_im": (3, D),
    "C_re": (D, 3),
    "C_im": (D, 3),
    "D": (D,),
    "nu_log": (3,),
    "theta_log": (3,),
    "gamma_log": (3,),
}
slstm_shapes = {"weights/w": (D, 4 * H), "weights/r": (2, 4 * H // 2, H // 2), "weights/b": (4 * H,)}
hidden_and_gate, hidden_and_gates = "to_hidden_and_gate.weight", "to_hidden_and_f_i_gate.weight"
save(
    __file__,
    {
        "min_gru": by_torch("min_gru", xs | state | {"weights/w": (2 * H, D)}, minimal(minGRU(D), hidden_and_gate)),
        "min_gru_from_zero": by_torch(
            "min_gru_from_zero", xs | {"weights/w": (2 * H, D)}, minimal(minGRU(D), hidden_and_gate)
        ),
        "min_lstm": by_torch("min_lstm", xs | {"weights/w": (3 * H, D)}, minimal(minLSTM(D), hidden_and_gates)),
        "lru": by_jax("lru", xs | {f"weights/{name}": shape for name, shape in lru_shapes.items()}, lru),
        "rg_lru": by_jax("rg_lru", xs | state | {"weights/a_param": (H,)} | gates, rg_lru),
        "slstm": by_torch("slstm", xs | slstm_shapes, slstm),
        "slstm_goes_on": by_torch("slstm_goes_on", xs | {f"state/{k}": (B, H) for k in range(4)} | slstm_shapes, slstm),
    },
)
