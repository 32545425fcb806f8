"""Writes torch.npz: torch.nn's recurrent modules. See record.py for what is in it.

pip install torch numpy
python tests/golden/make_torch.py
"""
# pyright: reportMissingImports=false

import torch
from record import draw, save
from torch import nn

torch.set_default_dtype(torch.float64)


def tensors(arrays):
    """Leaf tensors to differentiate with respect to."""
    return {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}


def run(case, module, T, B, lengths=None, initial=True):
    """One forward and one backward pass of a module."""
    for name, weight in module.named_parameters():
        weight.data = torch.tensor(draw(f"{case}/{name}", *weight.shape, scale=0.5))
    directions = 2 if module.bidirectional else 1
    slots = module.num_layers * directions  # of each state: layer after layer, forward before backward
    sizes = {"h": getattr(module, "proj_size", 0) or module.hidden_size}
    if isinstance(module, nn.LSTM):
        sizes["c"] = module.hidden_size

    arrays = {"xs": draw(f"{case}/xs", T, B, module.input_size)}
    if initial:
        for k, size in enumerate(list(sizes.values()) * slots):
            arrays[f"state/{k}"] = draw(f"{case}/state/{k}", B, size)
    inputs = tensors(arrays)

    states = [inputs[name] for name in inputs if name.startswith("state/")]
    stacked = [torch.stack(states[k :: len(sizes)]) for k in range(len(sizes))] if initial else [None]
    state = tuple(stacked) if isinstance(module, nn.LSTM) and initial else stacked[0]
    xs = inputs["xs"]
    if lengths is not None:
        xs = nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False)
    ys, final = module(xs, state)
    if lengths is not None:
        ys, _ = nn.utils.rnn.pad_packed_sequence(ys, total_length=T)
    final = final if isinstance(module, nn.LSTM) else (final,)

    finals = [s[slot] for slot in range(slots) for s in final]
    outputs = {"ys": ys, **{f"final/{k}": leaf for k, leaf in enumerate(finals)}}
    factors = {name: draw(f"{case}/loss/{name}", *output.shape) for name, output in outputs.items()}
    torch.stack([(torch.tensor(factors[name]) * output).sum() for name, output in outputs.items()]).sum().backward()

    weights = dict(module.named_parameters())
    return {
        **arrays,
        **({} if lengths is None else {"lengths": lengths}),
        **{f"weights/{name}": weight.detach() for name, weight in weights.items()},
        **{name: output.detach() for name, output in outputs.items()},
        **{f"loss/{name}": factor for name, factor in factors.items()},
        **{f"grads/{name}": tensor.grad for name, tensor in inputs.items()},
        **{f"grads/weights/{name}": weight.grad for name, weight in weights.items()},
    }


modules = {
    "lstm": (nn.LSTM, {}),
    "lstm_projection": (nn.LSTM, {"proj_size": 3}),
    "gru": (nn.GRU, {}),
    "rnn_tanh": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
}
cases = {}
for name, (module, options) in modules.items():
    cases[name] = run(name, module(5, 4, **options), T=7, B=3)
for name in ("lstm", "gru", "rnn_tanh"):
    module, options = modules[name]
    one = f"{name}_one_step"
    cases[one] = run(one, module(1, 6, **options), T=1, B=1, initial=False)
for name in ("lstm_projection", "gru", "rnn_tanh"):
    module, options = modules[name]
    deep = f"{name}_deep"
    cases[deep] = run(deep, module(3, 4, num_layers=2, bidirectional=True, **options), T=5, B=3, lengths=[3, 5, 1])
cases["lstm_bidirectional"] = run("lstm_bidirectional", nn.LSTM(5, 4, bidirectional=True), T=7, B=3)
cases["lstm_no_bias"] = run("lstm_no_bias", nn.LSTM(3, 4, bias=False), T=3, B=2)
save(__file__, cases)
