"""The process of one peer: reads requests from stdin, one JSON object a line, and answers each with one on stdout.

Every peer has its own process, because the thread pools of several frameworks in one process disturb each other.
"""

import argparse
import json
import math
import os
import signal
import sys
import time
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

from benchmarks.cases import Case, Shape
from benchmarks.peers import Program, Unsupported


class Worker:
    """Answers requests; the public methods are what can be asked for."""

    def __init__(self, module: ModuleType, options: dict[str, Any]) -> None:
        self._module = module
        self._options = options
        self._program: Program | None = None
        self._runs = 1

    def versions(self) -> dict[str, str]:
        """Of the packages that are measured."""
        found = {}
        for package in self._module.PACKAGES:
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue  # TensorFlow goes by two names.
        return found

    def prepare_case(self, cell: str, shape: list[int], mode: str, **options: Any) -> dict[str, Any]:
        """Compiles a case and takes a first step. Returns the bytes of intermediate values, or None."""
        self._program = None  # frees the memory of the case before
        case = Case(cell, Shape(*shape), mode)  # type: ignore
        program = self._module.prepare(case, **self._options, **options)
        if tuple(program.output_shape) != case.output_shape:
            raise ValueError(f"outputs have shape {program.output_shape}, not {case.output_shape}")
        first, second = program.run(1), program.run(1)
        falls = second < first or (program.rounds and second == first)
        if not math.isfinite(second) or (mode == "training" and not falls):
            raise ValueError(f"the first two steps gave {first} and {second}")
        self._program = program
        return {"temp_bytes": program.temp_bytes}

    def prepare_product(self, size: int, **options: Any) -> None:
        """Prepares a product of square matrices."""
        self._program = self._module.prepare(size, **self._options, **options)

    def calibrate(self, min_seconds: float) -> None:
        """Learns how many runs take `min_seconds`; at least one."""
        assert self._program is not None
        self._runs = 1
        while (seconds := self.measure() * self._runs * self._program.steps_per_run) < min_seconds / 2:
            self._runs = math.ceil(self._runs * min(10, min_seconds / seconds))
        self._runs = max(1, round(self._runs * min_seconds / seconds))

    def measure(self) -> float:
        """Seconds a step. One run beforehand, where runs are short, brings memory and caches back after idling."""
        program = self._program
        assert program is not None
        if self._runs > 1:
            program.run(1)
        if program.device_seconds is not None:
            seconds = program.device_seconds(self._runs)
        else:
            began = time.perf_counter()
            program.run(self._runs)
            seconds = time.perf_counter() - began
        return seconds / self._runs / program.steps_per_run

    def call(self, function: str, **arguments: Any) -> Any:
        """Calls another function of the peer's module."""
        return getattr(self._module, function)(**self._options, **arguments)


def main() -> None:
    """Serves until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="the peer's module in benchmarks.peers")
    parser.add_argument("--options", type=json.loads, default={}, help="arguments of its prepare, as JSON")
    parser.add_argument("--cores", type=int, help="how many cores to use (default: all)")
    arguments = parser.parse_args()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # What frameworks print is no reply.
    if arguments.cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])

    def reply(**values: Any) -> None:
        print(json.dumps(values), file=replies, flush=True)

    try:
        worker = Worker(import_module(f"benchmarks.peers.{arguments.module}"), arguments.options)
    except ImportError as error:
        reply(missing=str(error))
        return
    reply(value=worker.versions())
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply(value=getattr(worker, request["do"])(**request["arguments"]))
        except Unsupported as reason:
            reply(unsupported=str(reason))
        except Exception as error:  # whatever a framework raises: it is reported, and the others go on
            reply(failed=f"{type(error).__name__}: {error}".splitlines()[0])


if __name__ == "__main__":
    main()
