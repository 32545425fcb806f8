"""The cells of papers against numbers that their authors' code computed: golden/make_authors.py says which.

Outputs, final states and all gradients must agree to 1e-5.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax as rnn

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "authors.npz").items())
H = 4


def min_params(make):
    return lambda w: make(w_x=w["w"].T, b=np.zeros(len(w["w"]), np.float32))


def lru_params(w):
    matrices = (w[name].T for name in ("B_re", "B_im", "C_re", "C_im"))
    return rnn.LRUParams(*matrices, d=jnp.diag(w["D"]), nu=w["nu_log"], theta=w["theta_log"], gamma=w["gamma_log"])


def rg_lru_params(w):
    gates = {f"{kind}_{gate[0]}": w[f"{gate}/{kind}"] for gate in ("a_gate", "input_gate") for kind in "wb"}
    biases = {name: gates[name].reshape(H) for name in ("b_a", "b_i")}
    return rnn.RGLRUParams(jnp.eye(H), jnp.zeros(H), **gates | biases, lam=w["a_param"])


def slstm_params(w):
    return rnn.SLSTMParams(w["w"], w["r"].swapaxes(1, 2), w["b"])


CASES = {
    "min_gru": (rnn.MinGRU(H), min_params(rnn.MinGRUParams)),
    "min_gru_from_zero": (rnn.MinGRU(H), min_params(rnn.MinGRUParams)),
    "min_lstm": (rnn.MinLSTM(H), min_params(rnn.MinLSTMParams)),
    "lru": (rnn.LRU(3, projection_size=4), lru_params),
    "rg_lru": (rnn.RGLRU(H, blocks=2), rg_lru_params),
    "slstm": (rnn.SLSTM(H, heads=2), slstm_params),
    "slstm_goes_on": (rnn.SLSTM(H, heads=2), slstm_params),
}
LEARNED_HERE_ONLY = {"min_gru": ["b"], "min_gru_from_zero": ["b"], "min_lstm": ["b"], "rg_lru": ["w_x", "b"]}


def below(prefix, arrays):
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@pytest.mark.parametrize("implementation", ["scan", "parallel"])
@pytest.mark.parametrize("case", list(CASES))
def test_agrees_with_the_authors_code(case, implementation):
    cell, convert = CASES[case]
    golden = below(f"{case}/", GOLDEN)
    zeros = cell.initial_state(golden["xs"].shape[1:-1])
    inputs = {
        "params": convert(below("weights/", golden)),
        "xs": golden["xs"],
        "state": type(zeros)(*below("state/", golden).values()) if "state/0" in golden else zeros,
    }

    def loss(inputs):
        params, xs, state = (inputs[name] for name in ("params", "xs", "state"))
        final, ys = rnn.unroll(cell, params, xs, state, implementation=implementation)
        terms = [jnp.sum(golden["loss/ys"] * ys)]
        terms += [jnp.sum(golden[f"loss/final/{k}"] * h) for k, h in enumerate(final) if f"loss/final/{k}" in golden]
        return sum(terms), (final, ys)

    with jax.default_matmul_precision("highest"):
        grads, (final, ys) = jax.jit(jax.grad(loss, has_aux=True))(inputs)
    compare = {"ys": (ys, golden["ys"]), "grads/xs": (grads["xs"], golden["grads/xs"])}
    for name, leaf in below("final/", golden).items():
        compare[f"final/{name}"] = (final[int(name)], leaf)
    for name, grad in below("grads/state/", golden).items():
        compare[f"grads/state/{name}"] = (grads["state"][int(name)], grad)
    for name, grad in convert(below("grads/weights/", golden))._asdict().items():
        if name not in LEARNED_HERE_ONLY.get(case, []):
            ours = grads["params"]._asdict()[name]
            compare[name] = (np.diag(np.diag(ours)) if name == "d" else ours, grad)
    for name, (actual, expected) in compare.items():
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_every_golden_case_is_compared():
    assert {name.split("/")[0] for name in GOLDEN} == set(CASES)
