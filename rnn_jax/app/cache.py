"""JAX's cache of compiled programs, in a folder that the user names.

It is off by default, because loading a compiled program is not as safe as compiling it. On many processors XLA 0.10
logs an error in several lines on stderr for each program that it loads (https://github.com/jax-ml/jax/issues/38445).
JAX writes its files in place and never replaces one: a process that is killed may leave half a file behind.
"""

import contextlib
import hashlib
import platform
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import jax

ZSTANDARD = b"\x28\xb5\x2f\xfd"  # begins JAX's files where Python has this compression, in place of zlib's


def use_compilation_cache(folder: Path | None, warn: Callable[[str], None]) -> None:
    """Makes JAX keep compiled programs in a folder, and load them from there. Call it before anything is compiled.

    Each kind of processor has a subfolder, so that machines can share the folder. Damaged files are deleted. A program
    that cannot be read or written is compiled, without a warning.

    Args:
      folder: the folder, made if it does not exist; None to leave JAX's settings as the environment has them.
      warn: called with one line if the folder cannot be used.
    """
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    if folder is None:
        return
    folder = folder / processor_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = list(folder.glob("*-cache"))
    except OSError as error:
        warn(f"--compilation-cache {error.filename} cannot be used: {error.strerror}")
        return
    for file in files:
        with contextlib.suppress(OSError):  # Another process may delete it, or nobody may.
            if not is_whole(file.read_bytes()):
                file.unlink()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def processor_name() -> str:
    """Returns a name for this processor and its instructions; programs for others may crash on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on Linux
        lines = []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    digest = hashlib.sha256("\n".join([platform.processor(), *sorted(told)]).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"


def is_whole(data: bytes) -> bool:
    """Returns True if the content of a file of the cache matches its checksum, or has none to match."""
    try:
        return data.startswith(ZSTANDARD) or bool(zlib.decompress(data))
    except zlib.error:
        return False
