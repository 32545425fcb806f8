"""What the make_*.py scripts share. NumPy only.

Each script writes one .npz file of float32 arrays, computed in float64 where the framework can. An array's name is
`case/what`:

    case/xs                 [T, B, D]
    case/lengths            [B], or absent
    case/state/0, 1, ...    the initial state: of each layer, bottom first, and of each direction, forward first: h
                            and, for an LSTM, c. [B, .]; absent if it is zero
    case/weights/...        the framework's own names
    case/ys                 the outputs, [T, B, .]
    case/final/0, 1, ...    the final state, as the initial one
    case/loss/...           random weights, by the same names, of ys and final/...
    case/grads/...          gradients of the loss, sum(loss/ys ys) + sum(loss/final/0 final/0) + ..., with respect to
                            xs, state/... and weights/...
"""

import zlib
from pathlib import Path

import numpy as np


def draw(name, *shape, scale=1.0):
    """Normal numbers, the same for the same name on every machine; float64 with a float32's value."""
    numbers = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape) * scale
    return numbers.astype(np.float32).astype(np.float64)


def save(script, cases):
    """Writes the cases, {case: {what: array}}, beside the script that made them: make_torch.py -> torch.npz."""
    path = Path(script).with_name(Path(script).stem.removeprefix("make_") + ".npz")
    arrays = {
        f"{case}/{what}": np.asarray(array, np.int32 if what == "lengths" else np.float32)
        for case, whats in cases.items()
        for what, array in whats.items()
    }
    np.savez_compressed(path, **arrays)  # type: ignore
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size / 1e3:.0f} kB")
