"""`python -m benchmarks.gpu`: on a GPU, checks and times all implementations and the peers, within a time budget."""

import argparse
import contextlib
import datetime
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from benchmarks.__main__ import HOME, parse_count, parse_shape
from benchmarks.cases import GPU_SHAPES, LONG, TUTORIAL, Case, Shape
from benchmarks.gpu_report import COMMAND, failed_checks, plot_times, section
from benchmarks.measure import RemoteWorker, WorkerError, WorkerFailed, describe_machine
from benchmarks.peers import Peer
from benchmarks.report import Results, update_file
from rnn_jax.implementations.table import IMPLEMENTATIONS

# The largest |ours - reference| / |reference| that passes; a wrong result is off by about 1.
LIMITS = {"float32": 1e-4, "tf32": 1e-2, "mixed": 2e-2, "bfloat16": 1e-1}
KEY_SHAPES = (TUTORIAL, LONG)  # where everyone is measured, and first
PRODUCT_SIZE = 8192  # rows and columns of the large matrices
COPY_SIZE = 16_384  # of the matrix that is copied, in float32: 1 GiB
CEILINGS = ("float32", "tf32", "bfloat16", "copy")
TRAININGS = {
    f"rnn_jax {implementation or 'as chosen'}, {precision}": {"implementation": implementation, "precision": precision}
    for implementation, precision in ((None, "tf32"), ("pallas", "tf32"), ("pallas", "mixed"))
}
ANSWER_LIMIT = 60.0  # seconds; who takes longer to answer is ended
ENVIRONMENTS = {
    "gpu": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # the peers share the memory
    "cpu": {"JAX_PLATFORMS": "cpu"},
}


class Job(NamedTuple):
    """A case and who is to be measured at it."""

    case: Case
    peer: Peer


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0; 1 if an implementation was wrong; 2 for a mistake or no GPU; 130 if interrupted."""
    arguments = build_parser().parse_args(argv)
    typed = " ".join([COMMAND, *(sys.argv[1:] if argv is None else argv)])
    try:
        results, finished = measure(arguments, typed)
        folder = arguments.output_dir
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        update_file(folder / "RESULTS.md", section(results), COMMAND)
        plot_times(results).savefig(folder / "gpu.png", dpi=120)
    except KeyboardInterrupt:
        return 130  # before anything was measured
    except (OSError, WorkerError) as error:
        print(f"benchmarks.gpu: error: {error}", file=sys.stderr)
        return 2
    print(section(results))
    print(f"\nWritten to {folder}", file=sys.stderr)
    return 130 if not finished else 1 if failed_checks(results) else 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Compares every implementation with the scan in float64, then times it, PyTorch, Flax and Haiku, "
        "and the tutorial's whole training. Who is not installed is left out, and so is what does not fit into the "
        "time; what matters most comes first.",
    )
    parser.add_argument(
        "--budget", type=float, default=420.0, metavar="S", help="time to spend, seconds (default: 420)"
    )
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=parse_shape,
        default=GPU_SHAPES,
        metavar="B,T,D,H",
        help=f"batch, time, input and hidden sizes (default: {' '.join(map(str, GPU_SHAPES))})",
    )
    parser.add_argument("--rounds", type=parse_count, default=5, help="measurements of each (default: 5)")
    parser.add_argument(
        "--min-seconds", type=float, default=0.1, metavar="S", help="of one measurement, seconds (default: 0.1)"
    )
    parser.add_argument(
        "--training-steps", type=parse_count, default=10_000, metavar="N", help="of the training (default: 10,000)"
    )
    parser.add_argument(
        "--platform",
        choices=list(ENVIRONMENTS),
        default="gpu",
        help="cpu: a rehearsal where there is no GPU (default: gpu)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=HOME,
        metavar="DIR",
        help="for RESULTS.md, gpu.json and gpu.png (default: benchmarks)",
    )
    return parser


def find_peers(platform: str) -> list[Peer]:
    """Everyone, this library first; the options are those of `prepare` for one case."""
    peers = [
        Peer(f"rnn_jax {implementation}, {precision}", "ours", dict(implementation=implementation, precision=precision))
        for implementation in IMPLEMENTATIONS
        for precision in (("float32", "tf32") if implementation == "cudnn" else LIMITS)
    ]
    device = "cuda" if platform == "gpu" else "cpu"
    for precision in ("float32", "tf32", "float16", "bfloat16"):
        for graph in (False, True):
            name = f"PyTorch, {precision}{', graph' if graph else ''}"
            peers.append(Peer(name, "pytorch", dict(device=device, precision=precision, graph=graph)))
    return [
        *peers,
        Peer("Flax linen, tf32", "flax_linen", {"on_gpu": True}),
        Peer("Haiku, tf32", "dm_haiku", {"on_gpu": True}),
    ]


def plan(shapes: Sequence[Shape], peers: Sequence[Peer]) -> list[Job]:
    """What to measure, the most important first: everyone at the key shapes, elsewhere who may be the fastest."""

    def may_be_fastest(peer: Peer) -> bool:
        options = peer.options
        if peer.module == "pytorch":
            return options["graph"] and options["precision"] in ("tf32", "float16")
        if peer.module == "ours":
            return options["precision"] == "tf32" or (
                options["precision"] == "mixed" and options["implementation"] != "scan"
            )
        return peer.module == "flax_linen"

    keys = [shape for shape in shapes if shape in KEY_SHAPES]
    others = [shape for shape in shapes if shape not in KEY_SHAPES]
    fast = [peer for peer in peers if may_be_fastest(peer)]
    first = TUTORIAL if TUTORIAL in shapes else shapes[0]
    groups = [
        ("lstm", keys, "training", peers),
        ("lstm", keys, "inference", peers),
        ("lstm", others, "training", fast),
        ("gru", [first], "training", fast),
        ("vanilla", [first], "training", fast),
        ("lstm", others, "inference", fast),
    ]
    return [
        Job(Case(cell, shape, mode), peer)
        for cell, some_shapes, mode, some_peers in groups
        for shape in some_shapes
        for peer in some_peers
        if cell == "lstm" or peer.options.get("implementation") != "cudnn"
    ]


class Crew:
    """The processes, one for each module of peers: started when first asked, and anew after a failure.

    One kernel that goes out of bounds leaves a process unable to use the GPU.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._workers: dict[str, RemoteWorker] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def ask(self, module: str, do: str, **arguments: Any) -> Any:
        """Calls a method of `benchmarks.worker.Worker`; raises `WorkerError` if it fails, or its peer is missing."""
        if module in self.missing:
            raise WorkerError(self.missing[module])
        if module not in self._workers:
            worker = RemoteWorker(Peer(module, module), self._environment)
            self._workers[module] = worker
            try:
                self.versions |= worker.started()
            except WorkerError as error:
                self.missing[module] = str(error)
                raise
        try:
            return self._workers[module].ask_within(ANSWER_LIMIT, do, **arguments)
        except WorkerFailed:
            self._workers.pop(module).end()
            raise

    def end(self) -> None:
        """Ends all processes."""
        for worker in self._workers.values():
            worker.end()


def measure(arguments: argparse.Namespace, command: str) -> tuple[Results, bool]:
    """Measures everything within the budget, with a progress bar -> (results, whether it was not interrupted).

    Raises:
      WorkerError: if there is no GPU that JAX can use.
    """
    deadline = time.monotonic() + arguments.budget
    crew = Crew(ENVIRONMENTS[arguments.platform])
    try:
        device = crew.ask("ours", "call", function="find_device")
        if arguments.platform == "gpu" and device["platform"] not in ("cuda", "rocm"):
            raise WorkerError(
                f"there is no GPU that JAX can use, only {device['name']}: install jax[cuda13] where there is one"
            )
        results: Results = {
            "date": datetime.date.today().isoformat(),
            "command": command,
            "machine": describe_machine() | {"device": device["name"]},
            "rounds": arguments.rounds,
            "budget": arguments.budget,
            "limits": LIMITS,
            "ceilings": {},
            "training": {},
            "checks": [],
            "cases": [],
            "not_reached": [],
        }
        finished = True
        with contextlib.suppress(KeyboardInterrupt):
            finished = False
            measure_all(results, crew, arguments, deadline)
            finished = True
        results["versions"] = {"Python": platform.python_version(), **crew.versions}
        results["left_out"] = crew.missing
        return results, finished
    finally:
        crew.end()


def measure_all(results: Results, crew: Crew, arguments: argparse.Namespace, deadline: float) -> None:
    """Fills the results, until the deadline."""
    jobs = plan(arguments.shapes, find_peers(arguments.platform))
    ceilings = [(f"ceiling {name}", measure_ceiling, (name,)) for name in CEILINGS]
    trainings = [(f"training: {name}", train, (name, options)) for name, options in TRAININGS.items()]
    tasks = [(f"{job.case}: {job.peer.name}", measure_job, (job,)) for job in jobs]
    first_inference = next(n for n, job in enumerate(jobs) if job.case.mode == "inference")
    tasks = [*ceilings, *tasks[:first_inference], *trainings, *tasks[first_inference:]]
    with tqdm(tasks, unit=" tasks", disable=None) as bar:
        for name, function, details in bar:
            if time.monotonic() > deadline:
                results["not_reached"].append(name)
                continue
            bar.set_description(name)
            function(results, crew, arguments, *details)


def measure_ceiling(results: Results, crew: Crew, arguments: argparse.Namespace, ceiling: str) -> None:
    """The rate of large products in FLOP/s, or of copying in bytes read and written a second."""
    size, work = (COPY_SIZE, 2 * 4 * COPY_SIZE**2) if ceiling == "copy" else (PRODUCT_SIZE, 2 * PRODUCT_SIZE**3)
    with contextlib.suppress(WorkerError):
        crew.ask("jax_product", "prepare_product", size=size, precision=ceiling)
        results["ceilings"][ceiling] = [work / seconds for seconds in time_prepared(crew, "jax_product", arguments)]


def measure_job(results: Results, crew: Crew, arguments: argparse.Namespace, job: Job) -> None:
    """Checks a peer if it is this library's, and times it if it is right; else says why not."""
    case, peer = job
    result = find_result(results, case)
    try:
        if peer.module == "ours":
            check(results, crew, case, peer)
        crew.ask(peer.module, "prepare_case", cell=case.cell, shape=list(case.shape), mode=case.mode, **peer.options)
        result["seconds"][peer.name] = time_prepared(crew, peer.module, arguments)
    except WorkerError as error:
        result["blanks"][peer.name] = str(error)


def find_result(results: Results, case: Case) -> dict[str, Any]:
    """The entry of a case, made if there is none."""
    labels = {"cell": case.cell, "shape": list(case.shape), "mode": case.mode}
    for result in results["cases"]:
        if labels.items() <= result.items():
            return result
    results["cases"].append({**labels, "seconds": {}, "blanks": {}})
    return results["cases"][-1]


def check(results: Results, crew: Crew, case: Case, peer: Peer) -> None:
    """Compares with the scan in float64, once for a cell and a shape; raises `WorkerError` if it is wrong.

    Sequences of unequal lengths, read backwards, are compared at the first shape of each cell.
    """
    labels = {"cell": case.cell, "shape": list(case.shape), "peer": peer.name}
    done = [entry for entry in results["checks"] if labels.items() <= entry.items()]
    if not done:
        seen = any(entry["cell"] == case.cell and entry["peer"] == peer.name for entry in results["checks"])
        for ragged in (False,) if seen else (False, True):
            errors = crew.ask(
                "ours", "call", function="check", cell=case.cell, shape=list(case.shape), ragged=ragged, **peer.options
            )
            done.append({**labels, "ragged": ragged, "limit": LIMITS[peer.options["precision"]], **errors})
        results["checks"] += done
    for entry in done:
        if max(entry["outputs"], entry["gradients"]) > entry["limit"]:
            raise WorkerError(
                f"wrong{' for unequal lengths' if entry['ragged'] else ''}: outputs are off by {entry['outputs']:.1g}, "
                f"gradients by {entry['gradients']:.1g}, of {entry['limit']:g} allowed"
            )


def train(results: Results, crew: Crew, arguments: argparse.Namespace, name: str, options: dict[str, Any]) -> None:
    """The tutorial's whole training."""
    steps = arguments.training_steps
    try:
        seconds = crew.ask("ours", "call", function="train", num_steps=steps, **options)
        results["training"][name] = {"steps": steps, **seconds}
    except WorkerError as error:
        results["training"][name] = {"steps": steps, "blank": str(error)}


def time_prepared(crew: Crew, module: str, arguments: argparse.Namespace) -> list[float]:
    """Seconds a step in each round of what was prepared."""
    crew.ask(module, "calibrate", min_seconds=arguments.min_seconds)
    return [crew.ask(module, "measure") for _ in range(arguments.rounds)]


if __name__ == "__main__":
    sys.exit(main())
