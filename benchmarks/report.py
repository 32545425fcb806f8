"""Formats measurements as tables, for the screen and for RESULTS.md."""

import datetime
import importlib.metadata
import math
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tabulate import tabulate

from benchmarks.cases import Case, Shape
from benchmarks.measure import HOME, describe_machine
from benchmarks.peers import OURS, on_devices

Results: TypeAlias = dict[str, Any]  # what `measure.measure` returns and results.json keeps
Ratios: TypeAlias = dict[tuple[str, str], dict[Shape, float]]  # by peer and cell, then by shape

WORDS = (
    *("cell", "peer", "against", "which is", "batch, time, input, hidden", "our fastest", "their fastest", "recipe"),
    *("job", "program", "longest", "data", "figure", "published", "unroll with"),
    *("order", "weights"),
)
EMPTY = "–"  # noqa: RUF001 - an en dash, for what was not measured

INTRODUCTION = """\
A training step is the forward pass, the backward pass of the mean square of all outputs, and the update of all
parameters by SGD; inference is the forward pass. Float32, on the CPU. A shape is batch, time, input, hidden. Each peer
runs in a process of its own, and the processes take turns, in {rounds} rounds, each time for about {min_seconds} s or
one step. On JAX one compiled call takes many steps; PyTorch and TensorFlow take one step after the other, as their
users do. "{devices} devices" divides the batch among {devices} CPU devices; all others run in their framework's default
way, which may use every core."""


def machine_label(results: Results) -> str:
    """Where and when, in a line."""
    machine = results["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, {machine['system']}, "
        f"{results['date']}"
    )


def milliseconds(seconds: Sequence[float]) -> str:
    """The median, and half the distance between the quartiles.

    >>> milliseconds([0.0202, 0.0200, 0.0210, 0.0201, 0.0199])
    '20.1 ±0.1'
    """
    median, spread = 1e3 * statistics.median(seconds), 0.0
    if len(seconds) > 1:
        low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
        spread = 1e3 * (high - low) / 2
    digits = max(0, 2 - math.floor(math.log10(median)))
    return f"{median:.{digits}f} ±{spread:.{digits}f}"


def our_seconds(result: Results, devices: int | None) -> float | None:
    """Our median time of a case on so many devices, on one where the batch cannot be divided; None for the faster."""
    times = {name: statistics.median(seconds) for name, seconds in result["seconds"].items() if name.startswith(OURS)}
    if devices is None:
        return min(times.values(), default=None)
    return times.get(on_devices(OURS, devices), times.get(OURS))


def compute_ratios(results: Results, mode: str, devices: int | None) -> Ratios:
    """Our time on so many devices (None for the faster) over theirs: below 1 where we are faster."""
    ratios: Ratios = {}
    for result in results["cases"]:
        ours = our_seconds(result, devices)
        if result["mode"] != mode or ours is None:
            continue
        for name, seconds in result["seconds"].items():
            if not name.startswith(OURS):
                by_shape = ratios.setdefault((name, result["cell"]), {})
                by_shape[Shape(*result["shape"])] = ours / statistics.median(seconds)
    return ratios


def product_rates(results: Results, scope: str) -> tuple[float, float]:
    """JAX's and the best framework's median rate of large products, in FLOP/s; scope is "all cores" or "one core"."""
    medians = {name: statistics.median(rates) for name, rates in results["product_rates"].items()}
    in_scope = {name: rate for name, rate in medians.items() if name.endswith(scope)}
    return in_scope[f"jax, {scope}"], max(in_scope.values())


def section(results: Results) -> str:
    """All tables, in Markdown."""
    return "\n\n".join(_parts(results))


def update_file(path: Path, text: str, command: str = "python -m benchmarks") -> None:
    """Puts the section that a command writes between its marks in a file, and leaves the rest of the file as it is."""
    begin, end = f"<!-- begin: written by {command} -->", f"<!-- end: written by {command} -->"
    old = path.read_text() if path.exists() else "# Benchmarks\n"
    before, _, rest = old.partition(begin)
    if end in rest:
        after = rest.split(end, 1)[1]
    else:  # not yet there
        before, after = old.rstrip("\n") + "\n\n", "\n"
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def show_command(command: str, argv: Sequence[str] | None) -> str:
    """Returns a command with its arguments, None for those of this process, without paths of this machine."""
    words = sys.argv[1:] if argv is None else argv
    shown = ["FOLDER" if Path(word).is_dir() else "PATH" if Path(word).is_file() else word for word in words]
    return shlex.join([*command.split(), *shown])


def write_section(command: str, packages: Sequence[str], argv: Sequence[str] | None, measure: Callable[[], str]) -> int:
    """Runs a benchmark that writes one section of RESULTS.md, and prints the section.

    Args:
      command: the command, without its arguments.
      packages: those that the benchmark needs; their versions are reported.
      argv: the command's arguments; None for those of this process. A folder is shown as FOLDER.
      measure: returns the introduction and the tables.

    Returns:
      The exit status: 2 for a missing package or a mistake in the arguments.
    """
    try:
        versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    except importlib.metadata.PackageNotFoundError as error:
        print(f"{command}: error: the package {error.name} is missing: pip install {error.name}", file=sys.stderr)
        return 2
    where = {"machine": describe_machine(), "date": datetime.date.today().isoformat()}
    try:
        measured = measure()
    except ValueError as error:
        print(f"{command}: error: {error}", file=sys.stderr)
        return 2
    text = f"{measured}\n\n{machine_label(where)}, load average before: {where['machine']['load']:.1f}, {versions}, "
    text += f"`{show_command(command, argv)}`."
    update_file(HOME / "RESULTS.md", text, command)
    print(text)
    return 0


def _parts(results: Results) -> Iterator[str]:
    devices = results["machine"]["cores"]
    yield f"**{machine_label(results)}**"
    yield (
        f"`{results['command']}` with "
        + ", ".join(f"{package} {version}" for package, version in sorted(results["versions"].items()))
        + f"; load average before: {results['machine']['load']:.1f}."
    )
    yield INTRODUCTION.format(rounds=results["rounds"], min_seconds=results["min_seconds"], devices=devices)
    yield from (f"**Left out**: {name}: {reason}." for name, reason in results["left_out"].items())

    for mode in _in_order(result["mode"] for result in results["cases"]):
        ways = {None: f"on one device or on {devices}, whichever is faster,"} if devices > 1 else {}
        for count, way in {
            **ways,
            devices: f"on {devices} devices (one, where the batch is 1)",
            1: "on one device",
        }.items():
            ratios = compute_ratios(results, mode, count)
            if ratios:
                yield f"## {mode.capitalize()}: time of {OURS} {way} over theirs"
                yield _summary_table(ratios)
                yield _ratio_table(ratios)
        yield f"## {mode.capitalize()}: milliseconds a step, median ± half the interquartile range"
        yield _by_shape(results, mode, lambda result, name: milliseconds(result["seconds"][name]))
    footnotes = _footnotes(results)
    if footnotes:
        yield "Not measured:\n\n" + "\n".join(footnotes)
    if any(result["mode"] == "training" for result in results["cases"]):
        yield from _product_parts(results)
        yield "## Memory for intermediate values of a training step, MB"
        yield "What XLA reserves beyond parameters, inputs and results; of other compilers it is not known."
        yield _by_shape(
            results, "training", lambda result, name: f"{result['temp_bytes'][name] / 1e6:.1f}", key="temp_bytes"
        )
    if results["compile_seconds"]:
        yield "## Compilation of a training step"
        yield _compilation(results["compile_seconds"])


def _product_parts(results: Results) -> Iterator[str]:
    """Rates of large products, and what part of them the training step reaches."""
    if not results["product_rates"]:
        return  # interrupted before
    yield "## Part of the machine's large-product rate"
    yield "Products of large square float32 matrices, before and after the cases, GFLOP/s: " + "; ".join(
        f"{name}: {statistics.median(rates) / 1e9:.0f}" for name, rates in results["product_rates"].items()
    )
    yield (
        "The parts below are the FLOPs of the matrix products that a training step needs, divided by its time and by "
        "the rate of JAX's large products (in parentheses: by the best of these rates): of all cores for rows on "
        "several devices, of one core for rows on one device, which may exceed 1 where XLA divides a product among "
        "cores. Not needed, and so not counted, is the gradient with respect to the data."
    )
    one_core = "one core" if "jax, one core" in results["product_rates"] else "all cores"

    def part(result: Results, name: str) -> str:
        case = Case(result["cell"], Shape(*result["shape"]), result["mode"])
        rate = case.flops / statistics.median(result["seconds"][name])
        jax_rate, best_rate = product_rates(results, "all cores" if "devices" in name else one_core)
        return f"{rate / jax_rate:.2f} ({rate / best_rate:.2f})"

    yield _by_shape(results, "training", part, only="rnn_jax")


def _summary_table(ratios: Ratios) -> str:
    """Every peer over all its cells and shapes."""
    rows = []
    for name in _in_order(name for name, _ in ratios):
        mine = {
            (cell, shape): ratio
            for (peer, cell), by_shape in ratios.items()
            if peer == name
            for shape, ratio in by_shape.items()
        }
        worst = max(mine, key=lambda key: mine[key])
        mean = statistics.geometric_mean(mine.values())
        rows.append([name, len(mine), f"{mean:.2f}", f"{mine[worst]:.2f}", f"{worst[0]} {worst[1]}"])
    return make_table(["against", "cases", "geometric mean", "highest", "which is"], rows)


def _ratio_table(ratios: Ratios) -> str:
    """Every peer and cell, shape by shape."""
    shapes = _in_order(shape for by_shape in ratios.values() for shape in by_shape)
    rows = [
        [cell, name]
        + [f"{by_shape[shape]:.2f}" if shape in by_shape else EMPTY for shape in shapes]
        + [f"{statistics.geometric_mean(by_shape.values()):.2f}"]
        for (name, cell), by_shape in sorted(ratios.items(), key=lambda item: item[0][1])
    ]
    return make_table(["cell", "against", *map(str, shapes), "geometric mean"], rows)


def _by_shape(results: Results, mode: str, entry: Any, key: str = "seconds", only: str = "") -> str:
    """A row for every cell and peer, a column for every shape: entry(result, peer's name)."""
    cases = [result for result in results["cases"] if result["mode"] == mode]
    shapes = _in_order(Shape(*result["shape"]) for result in cases)
    rows: dict[tuple[str, str], dict[Shape, str]] = {}
    for result in cases:
        for name in result[key]:
            if name.startswith(only) and name in result["seconds"]:
                rows.setdefault((result["cell"], name), {})[Shape(*result["shape"])] = entry(result, name)
    return make_table(
        ["cell", "peer", *map(str, shapes)],
        [[*row, *(by_shape.get(shape, EMPTY) for shape in shapes)] for row, by_shape in rows.items()],
    )


def _footnotes(results: Results) -> list[str]:
    """Why there are blanks: a line for every peer and reason, with the cells or cases it holds for."""
    cases: dict[tuple[str, str], list[str]] = {}
    for result in results["cases"]:
        for name, reason in result["blanks"].items():
            cases.setdefault((name, reason), []).append(f"{result['cell']} {Shape(*result['shape'])}")
    return [f"- {name}: {reason} ({', '.join(_in_order(where))})" for (name, reason), where in cases.items()]


def _compilation(seconds: dict[str, list[float]]) -> str:
    medians = {length: statistics.median(times) for length, times in seconds.items()}
    (short, first), (long, last) = medians.items()
    return (
        f"Seconds from Python to machine code for the LSTM's training step with batch 128, input 28, hidden 128, "
        f"median of {len(seconds[short])}, nothing cached: {first:.2f} at T = {short}, {last:.2f} at T = {int(long):,} "
        f"({last / first:.2f} times)."
    )


def _in_order(items: Iterable[Any]) -> list[Any]:
    """Without repetitions, in the order of first appearance."""
    return list(dict.fromkeys(items))


def make_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown, words to the left and numbers to the right; a dash if there are no rows."""
    alignment = ["left" if name in WORDS else "right" for name in header]
    return tabulate(rows, header, tablefmt="github", colalign=alignment, disable_numparse=True) if rows else EMPTY
