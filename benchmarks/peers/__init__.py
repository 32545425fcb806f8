"""Who is measured. Each is a module here, which only its own worker process imports.

A module has `PACKAGES`, whose versions are reported, and `prepare`, which compiles and returns a `Program`. It raises
`Unsupported` for what its framework does not offer.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Unsupported(Exception):
    """What a framework does not offer, in words for a footnote."""


class Program(NamedTuple):
    """A case, ready to run.

    run(n) takes n times `steps_per_run` steps, waits for the last, and returns its loss (training) or one of its
    outputs (inference). temp_bytes is what the compiler reserves for intermediate values, None if nobody knows.
    device_seconds(n) is the same with the device's own clock, from the start of the first to the end of the last; None
    for the host's clock. If `rounds`, numbers have so few digits that a step may leave the loss as it was.
    """

    run: Callable[[int], float]
    output_shape: tuple[int, ...]
    temp_bytes: int | None = None
    steps_per_run: int = 1
    device_seconds: Callable[[int], float] | None = None
    rounds: bool = False


@dataclasses.dataclass(frozen=True)
class Peer:
    """A way to run the cases, in a process of its own.

    Args:
      name: what the tables call it.
      module: of this package.
      options: keyword arguments of its `prepare`.
      devices: into how many CPU devices JAX divides the machine.
      cores: how many cores the process may use; None for all.
      python: the interpreter; None for the one that runs the benchmark.
    """

    name: str
    module: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    devices: int = 1
    cores: int | None = None
    python: str | None = None


OURS = "rnn_jax fused"


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_cores() -> str:
    """Returns the number of cores that this process may use, in words."""
    return "one core" if available_cores() == 1 else f"{available_cores()} cores"


def on_devices(name: str, devices: int) -> str:
    """What the tables call a peer on several devices."""
    return name if devices == 1 else f"{name}, {devices} devices"


def find_peers(cores: int, tensorflow_python: str | None) -> list[Peer]:
    """Everyone, this library first."""
    peers = []
    for devices in (1, cores) if cores > 1 else (1,):
        for implementation in ("fused", "scan"):
            name = on_devices(f"rnn_jax {implementation}", devices)
            peers.append(Peer(name, "ours", {"implementation": implementation}, devices=devices))
    peers += [
        Peer("Flax linen", "flax_linen"),
        Peer("Flax nnx", "flax_nnx"),
        Peer("Haiku", "dm_haiku"),
        Peer("Equinox", "equinox_cells"),
        Peer("Keras on JAX", "keras_on_jax"),
        Peer("PyTorch", "pytorch"),
    ]
    if tensorflow_python is not None:
        peers.append(Peer("TensorFlow 1 graph", "tensorflow_graph", python=tensorflow_python))
    return peers


def find_product_peers(cores: int) -> list[Peer]:
    """Who multiplies large matrices, on all cores and, where a process can be held to it, on one."""
    can_limit = cores > 1 and hasattr(os, "sched_setaffinity")
    return [
        Peer(f"{framework}, {'all cores' if limit is None else 'one core'}", f"{framework}_product", cores=limit)
        for framework in ("jax", "torch")
        for limit in ((None, 1) if can_limit else (None,))
    ]
