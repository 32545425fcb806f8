"""Measures all peers in turn, round after round, so that disturbances of the machine affect all of them alike."""

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.cases import TUTORIAL, Case
from benchmarks.peers import OURS, Peer, available_cores, find_product_peers

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "benchmarks"
PAUSE = 0.02  # seconds between two measurements, in which the threads of the last one cease to spin
PRODUCT_SIZE = 3072  # rows and columns of the large matrices
COMPILED_LENGTHS = (28, 10_000)  # steps
COMPILE_REPEATS = 3


CPU_ONLY = {"JAX_PLATFORMS": "cpu"}


class WorkerError(Exception):
    """What kept a peer from being measured, in words for a footnote."""


class WorkerFailed(WorkerError):
    """The same, where it was no refusal: its process has ended, or may be in no state to go on."""


class RemoteWorker:
    """A peer's process, seen from here; `environment` is added to that of this one."""

    def __init__(self, peer: Peer, environment: Mapping[str, str] = CPU_ONLY) -> None:
        self.peer = peer
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        command = [peer.python or sys.executable, "-m", "benchmarks.worker", peer.module]
        command += ["--options", json.dumps(dict(peer.options))]
        if peer.cores is not None:
            command += ["--cores", str(peer.cores)]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": str(peer.devices), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def started(self) -> dict[str, str]:
        """Waits for the process; returns the versions of its packages, or raises `WorkerError`."""
        return self._reply()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Calls a method of `benchmarks.worker.Worker` there; raises `WorkerError` if it fails."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # Then there is no reply either.
            print(json.dumps({"do": do, "arguments": arguments}), file=self._process.stdin, flush=True)
        return self._reply()

    def ask_within(self, limit: float, do: str, **arguments: Any) -> Any:
        """The same, but ends the process after `limit` seconds without an answer."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(limit, expire)
        timer.start()
        try:
            return self.ask(do, **arguments)
        except WorkerError:
            if expired.is_set():
                raise WorkerFailed(f"no answer within {limit:.0f} s") from None
            raise
        finally:
            timer.cancel()

    def _reply(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            last_words = self._errors.read().strip().splitlines() or ["no message"]
            raise WorkerFailed(f"its process ended with status {self._process.wait()}: {last_words[-1]}")
        reply = json.loads(line)
        if "value" in reply:
            return reply["value"]
        raise WorkerFailed(reply["failed"]) if "failed" in reply else WorkerError(next(iter(reply.values())))

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


@dataclasses.dataclass
class Team:
    """The peers at work: their processes, the versions they run, and why others were left out."""

    workers: list[RemoteWorker]
    versions: dict[str, str]
    left_out: dict[str, str]


@contextlib.contextmanager
def team(peers: Sequence[Peer]) -> Iterator[Team]:
    """Starts a process for each peer that can be imported; ends them all."""
    workers = []
    try:
        workers.extend(map(RemoteWorker, peers))
        at_work = Team([], {}, {})
        for worker in workers:
            try:
                at_work.versions |= worker.started()
                at_work.workers.append(worker)
            except WorkerError as error:
                at_work.left_out[worker.peer.name] = str(error)
        yield at_work
    finally:
        for worker in workers:
            worker.end()


def interleave(
    workers: list[RemoteWorker], rounds: int, min_seconds: float, bar: tqdm
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Measures prepared workers in turn, in another order in each round.

    Returns:
      (seconds a step in each round by peer, why peers failed on the way).
    """
    seconds: dict[str, list[float]] = {worker.peer.name: [] for worker in workers}
    failures: dict[str, str] = {}

    def ask(worker: RemoteWorker, do: str, **arguments: Any) -> Any:
        bar.update()
        name = worker.peer.name
        if name in failures:
            return None
        time.sleep(PAUSE)
        try:
            return worker.ask(do, **arguments)
        except WorkerError as error:
            failures[name] = str(error)
            del seconds[name]

    for worker in workers:
        ask(worker, "calibrate", min_seconds=min_seconds)
    order = random.Random(0)
    for _ in range(rounds):
        for worker in order.sample(workers, len(workers)):
            measured = ask(worker, "measure")
            if measured is not None:
                seconds[worker.peer.name].append(measured)
    return seconds, failures


def measure_case(workers: list[RemoteWorker], case: Case, rounds: int, min_seconds: float, bar: tqdm) -> dict[str, Any]:
    """One case for all workers, as `results.json` has it; of what cannot be measured it says why."""
    bar.set_description(str(case))
    temp_bytes: dict[str, int] = {}
    blanks: dict[str, str] = {}
    prepared = []

    def prepare(worker: RemoteWorker) -> dict[str, Any] | WorkerError:
        try:
            return worker.ask("prepare_case", cell=case.cell, shape=list(case.shape), mode=case.mode)
        except WorkerError as error:
            return error

    # Preparation is not timed, so the cores may share it.
    with ThreadPoolExecutor(available_cores()) as pool:
        for worker, reply in zip(workers, pool.map(prepare, workers), strict=True):
            bar.update()
            if isinstance(reply, WorkerError):
                blanks[worker.peer.name] = str(reply)
                continue
            prepared.append(worker)
            if reply["temp_bytes"] is not None:
                temp_bytes[worker.peer.name] = reply["temp_bytes"]
    bar.update((rounds + 1) * (len(workers) - len(prepared)))
    seconds, failures = interleave(prepared, rounds, min_seconds, bar)
    return {
        "cell": case.cell,
        "shape": list(case.shape),
        "mode": case.mode,
        "seconds": seconds,
        "temp_bytes": temp_bytes,
        "blanks": blanks | failures,
    }


def measure_products(workers: list[RemoteWorker], rounds: int, min_seconds: float, bar: tqdm) -> dict[str, list[float]]:
    """FLOP/s of large float32 matrix products in each round."""
    bar.set_description(f"product of {PRODUCT_SIZE} x {PRODUCT_SIZE} matrices")
    for worker in workers:
        worker.ask("prepare_product", size=PRODUCT_SIZE)
    seconds, _ = interleave(workers, rounds, min_seconds, bar)
    return {name: [2 * PRODUCT_SIZE**3 / s for s in times] for name, times in seconds.items()}


def measure_compilation(peers: Sequence[Peer], bar: tqdm) -> dict[str, list[float]]:
    """Seconds to compile the tutorial's training step anew, by sequence length, in a process that does only that."""
    bar.set_description("compilation")
    seconds: dict[str, list[float]] = {str(length): [] for length in COMPILED_LENGTHS}
    with team([peer for peer in peers if peer.name == OURS]) as ours:
        for worker in ours.workers:
            worker.ask("call", function="compile_seconds", shape=list(TUTORIAL))  # loads the compiler
            for _ in range(COMPILE_REPEATS):
                for length in COMPILED_LENGTHS:
                    shape = TUTORIAL._replace(time=length)
                    compiled = worker.ask("call", function="compile_seconds", shape=list(shape))
                    seconds[str(length)].append(compiled)
    return {length: times for length, times in seconds.items() if times}


def measure(
    cases: Sequence[Case], peers: Sequence[Peer], rounds: int, min_seconds: float, command: str
) -> tuple[dict[str, Any], bool]:
    """Measures everything, with a progress bar.

    Args:
      cases: what.
      peers: who; those that cannot be imported are left out.
      rounds: how often each is measured.
      min_seconds: the time of one measurement, unless a single step takes longer.
      command: what the user typed, for the record.

    Returns:
      (results, whether they are complete): an interruption by Ctrl-C ends it early and keeps the cases that are done.
    """
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "machine": describe_machine(),
        "rounds": rounds,
        "min_seconds": min_seconds,
        "versions": {"Python": platform.python_version()},
        "left_out": {},
        "product_rates": {},
        "compile_seconds": {},
        "cases": [],
    }
    product_peers = find_product_peers(available_cores())
    try:
        with (
            team(peers) as at_work,
            team(product_peers) as multipliers,
            tqdm(unit=" runs", smoothing=0, disable=None) as bar,
        ):
            results["versions"] |= at_work.versions
            results["left_out"] |= at_work.left_out | multipliers.left_out
            bar.total = (rounds + 2) * len(cases) * len(at_work.workers) + 2 * (rounds + 1) * len(multipliers.workers)
            results["product_rates"] = measure_products(multipliers.workers, rounds, min_seconds, bar)
            results["compile_seconds"] = measure_compilation(peers, bar)
            for case in cases:
                results["cases"].append(measure_case(at_work.workers, case, rounds, min_seconds, bar))
            for name, rates in measure_products(multipliers.workers, rounds, min_seconds, bar).items():
                results["product_rates"][name] += rates
    except KeyboardInterrupt:
        return results, False
    return results, True


def describe_machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory in GiB, operating system, load average of the last minute."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(FileNotFoundError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor,
        "cores": available_cores(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "system": f"{platform.system()} {platform.machine()}",
        "load": os.getloadavg()[0],
    }
