"""Work ahead of its use, in two threads: imports of large packages, and compilation.

XLA compiles without Python's lock, so one thread imports while others wait for XLA. An error is raised where the result
is used, not here.
"""

import concurrent.futures
import importlib
from collections.abc import Callable
from typing import Any

_workers = concurrent.futures.ThreadPoolExecutor(max_workers=2, thread_name_prefix="ahead")


def import_ahead(*modules: str) -> None:
    """Starts to import modules, one after the other."""
    _workers.submit(lambda: [importlib.import_module(module) for module in modules])


def compile_ahead(function: Any, *args: Any) -> Callable[..., Any]:
    """Starts to compile a jitted function.

    Args:
      function: returned by `jax.jit`.
      *args: arguments like those of the first call, or their shapes, dtypes and shardings.

    Returns:
      The function; its calls wait for the compilation.
    """
    compiled = _workers.submit(lambda: function.lower(*args).compile())

    def call(*args: Any) -> Any:
        concurrent.futures.wait([compiled])
        return function(*args)

    return call
