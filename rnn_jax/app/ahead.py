"""Work ahead of its use, in a thread: imports of large packages, and compilation.

XLA compiles without Python's lock, so a second core imports and compiles while the first one waits for XLA. A single
thread works in the order of the calls. An error is raised where the result is used, not here.
"""

import concurrent.futures
import importlib
from collections.abc import Callable
from typing import Any

_worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")


def import_ahead(*modules: str) -> None:
    """Starts to import modules."""
    for module in modules:
        _worker.submit(importlib.import_module, module)


def compile_ahead(function: Any, *args: Any) -> Callable[..., Any]:
    """Starts to compile a jitted function.

    Args:
      function: returned by `jax.jit`.
      *args: arguments like those of the first call, or their shapes, dtypes and shardings.

    Returns:
      The function; its calls wait for the compilation.
    """
    compiled = _worker.submit(lambda: function.lower(*args).compile())

    def call(*args: Any) -> Any:
        concurrent.futures.wait([compiled])
        return function(*args)

    return call
