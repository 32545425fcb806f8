"""Chooses devices and the location of the training data, and fixes JAX's settings."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

from rnn_jax.app.config import Config

DATA_SHARE = 0.25  # The fraction of a device's memory that training data may take by default.
UNKNOWN_MEMORY = 4 << 30  # bytes, of devices that do not report it, such as CPUs


class Placement(NamedTuple):
    """The devices of a run and the location of its training data.

    Attributes:
      devices: the devices that share each batch.
      data_on: the location of the training data.
    """

    devices: list[Any]
    data_on: Literal["device", "host"]


# JAX's settings that change results. The program fixes them, whatever the environment, because a run may be resumed and
# evaluated in another shell or on another machine. True: warn that the environment's value has no effect.
SETTINGS = {
    "jax_default_prng_impl": ("threefry2x32", False),
    "jax_threefry_partitionable": (True, False),
    "jax_numpy_dtype_promotion": ("standard", False),
    "jax_numpy_rank_promotion": ("allow", False),
    "jax_enable_x64": (False, True),
    "jax_disable_jit": (False, True),
    "jax_no_tracing": (False, True),
    "jax_no_execution": (False, True),
    **{
        f"jax_transfer_guard{direction}": (None, False)  # the program copies between host and device on purpose
        for direction in ("", "_host_to_device", "_device_to_host", "_device_to_device")
    },
}


def use_own_settings(warn: Callable[[str], None]) -> None:
    """Fixes the settings of JAX that change results. A program calls it before it uses JAX.

    Args:
      warn: called with one line for each overridden setting of the environment whose effect would be missed.
    """
    for name, (value, is_missed) in SETTINGS.items():
        if getattr(jax.config, name) != value:
            jax.config.update(name, value)
            if is_missed:
                warn(f"{name.upper()} has no effect here")


def check_devices() -> None:
    """Starts JAX's backend; raises `ValueError`, in one line, if there is none of the kind that JAX_PLATFORMS names."""
    _check_xla_flags()
    logger = logging.getLogger("jax._src.xla_bridge")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # JAX logs in many lines the error that it also raises.
    try:
        jax.devices()
    except Exception as error:  # AssertionErrors among them
        if asked := jax.config.jax_platforms:  # type: ignore
            raise ValueError(f"JAX_PLATFORMS is {asked}, but JAX finds no such device here") from error
        raise ValueError(f"JAX finds no device: {' '.join(str(error).split()[:30])}") from error
    finally:
        logger.setLevel(level)


def _check_xla_flags() -> None:
    """Tries XLA_FLAGS in another process, because XLA ends its own at an unknown flag without an exception."""
    flags = os.environ.get("XLA_FLAGS")
    if not flags:
        return
    trial = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if b"in XLA_FLAGS" in trial.stderr:
        raise ValueError(f"XLA_FLAGS has a flag that XLA does not know: {flags}")


def choose_placement(config: Config, num_bytes: int) -> Placement:
    """Chooses devices, and a place for training data of `num_bytes`, as the configuration asks.

    Raises:
      ValueError: see `choose_devices` and `choose_data_on`.
    """
    devices = choose_devices(config.devices, config.batch_size)
    return Placement(devices, choose_data_on(config.data_on, num_bytes, config.seeds))


def use_every_core() -> None:
    """Makes one CPU device for each core available to this process. Call it before JAX is used.

    XLA runs a recurrent network's step on one core. Sharding the batch over several CPU devices keeps all cores busy.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)


def choose_devices(count: int | None, batch_size: int) -> list[Any]:
    """Chooses the devices that share a batch equally, the same number in every process.

    Args:
      count: their number over all processes; None for as many as possible.
      batch_size: examples in a batch.

    Raises:
      ValueError: for more devices than there are, a number that does not divide the batch, or one that the processes
        cannot share equally.
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
    """Chooses the location of the training data: every device, or the host.

    Args:
      asked: "device", "host", or "auto": on the device if they take at most `DATA_SHARE` of its memory.
      num_bytes: the size of the data.
      seeds: the number of states trained at once.

    Raises:
      ValueError: for data on the host with several seeds, each of which draws its own batches.
    """
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", UNKNOWN_MEMORY)
    fits = num_bytes <= DATA_SHARE * memory
    if asked == "device" or (asked == "auto" and fits):
        return "device"
    if seeds > 1:
        raise ValueError(f"--seeds {seeds} needs the training images on the device: ask for --data-on device")
    return "host"
