"""Which platform there is, and which devices share the work."""

import os
from typing import Any

import jax


def use_every_core() -> None:
    """Makes a CPU device of every core that this process may use; to be called before JAX is used for anything else.

    XLA takes a recurrent network's step on one core. Batches shared by several CPU devices keep all of them busy.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)


def default_platform() -> str:
    """What JAX computes on unless told otherwise: cpu, cuda, rocm or tpu, the names of `lax.platform_dependent`."""
    backend = jax.default_backend()
    if backend != "gpu":
        return backend
    return "rocm" if "rocm" in jax.devices()[0].client.platform_version else "cuda"


def choose_devices(count: int | None, batch_size: int) -> list[Any]:
    """The devices that share a batch equally.

    Args:
      count: how many; None for as many as can.
      batch_size: examples in a batch.

    Raises:
      ValueError: for more devices than there are, or a number that does not divide the batch.
    """
    found = jax.devices()
    if count is None:
        count = next(n for n in range(len(found), 0, -1) if batch_size % n == 0)
    if count > len(found):
        raise ValueError(f"--devices {count} is more than the {len(found)} found")
    if batch_size % count:
        raise ValueError(f"--batch-size {batch_size} cannot be shared equally by --devices {count}")
    return found[:count]
