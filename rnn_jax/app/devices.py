"""Which devices share the work, and where the training data lie."""

import os
from typing import Any, Literal

import jax

DATA_SHARE = 0.25  # The fraction of a device's memory that training data may take by default.
UNKNOWN_MEMORY = 4 << 30  # bytes, of devices that do not tell, as CPUs


def use_every_core() -> None:
    """Makes a CPU device of every core that this process may use; to be called before JAX is used for anything else.

    XLA takes a recurrent network's step on one core. Batches shared by several CPU devices keep all of them busy.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)


def choose_devices(count: int | None, batch_size: int) -> list[Any]:
    """The devices that share a batch equally, as many of every process.

    Args:
      count: how many in all processes; None for as many as can.
      batch_size: examples in a batch.

    Raises:
      ValueError: for more devices than there are, or a number that does not divide the batch, or that the processes
        cannot share.
    """
    processes = jax.process_count()
    own = [[device for device in jax.devices() if device.process_index == i] for i in range(processes)]
    most = processes * min(map(len, own))
    if batch_size % processes:
        raise ValueError(f"--batch-size {batch_size} cannot be shared equally by {processes} processes")
    if count is None:
        count = next(n for n in range(most, 0, -processes) if batch_size % n == 0)
    if count > most:
        raise ValueError(f"--devices {count} is more than the {most} found")
    if count % processes:
        raise ValueError(f"--devices {count} cannot be shared equally by {processes} processes")
    if batch_size % count:
        raise ValueError(f"--batch-size {batch_size} cannot be shared equally by --devices {count}")
    return [device for devices in own for device in devices[: count // processes]]


def choose_data_on(asked: str, num_bytes: int, seeds: int) -> Literal["device", "host"]:
    """Where the training data lie: on every device, or on the host.

    Args:
      asked: "device", "host", or "auto": on the device if they take at most `DATA_SHARE` of its memory.
      num_bytes: their size.
      seeds: how many are trained at once.

    Raises:
      ValueError: for data on the host and several seeds, each of which has batches of its own.
    """
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", UNKNOWN_MEMORY)
    fits = num_bytes <= DATA_SHARE * memory
    if asked == "device" or (asked == "auto" and fits):
        return "device"
    if seeds > 1:
        raise ValueError(f"--seeds {seeds} needs the training images on the device: ask for --data-on device")
    return "host"
