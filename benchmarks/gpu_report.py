"""Writes the section of RESULTS.md and the picture of `python -m benchmarks.gpu`."""

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.cases import LONG, TUTORIAL, Case, Shape
from benchmarks.report import EMPTY, Results, make_table, milliseconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMAND = "python -m benchmarks.gpu"

METHOD = """\
A training step is the forward pass, the backward pass of the mean square of all outputs, and the update of all
parameters by SGD; inference is the forward pass. A shape is batch, time, input, hidden. Peers are measured one after
the other, {rounds} times each: median and half the distance between the quartiles. On JAX, a compiled call takes as
many training steps as make 256 time steps, or one, and calls follow each other without waiting; the host's clock runs
from the first call to the last result. PyTorch is timed by CUDA events; "graph" replays a step that was recorded as a
CUDA graph. float32, float16 and bfloat16 are the dtype of everything; tf32 is float32 with products in TensorFloat-32,
mixed is float32 with products of bfloat16. Nothing of this library is timed that was not right at that shape."""

MARKERS = {"rnn_jax": "osD^", "PyTorch": "xX+P", "Flax": "v", "Haiku": "<"}


def failed_checks(results: Results) -> list[dict[str, Any]]:
    """The comparisons with the scan in float64 that were off by more than is allowed."""
    return [check for check in results["checks"] if max(check["outputs"], check["gradients"]) > check["limit"]]


def section(results: Results) -> str:
    """All tables, in Markdown."""
    return "\n\n".join(_parts(results))


def plot_times(results: Results) -> "Figure":
    """Time of an LSTM's training step of everyone, a column of marks for every shape."""
    from matplotlib.figure import Figure  # It takes a second to import.

    found = _cases(results, "lstm", "training")
    names = list(dict.fromkeys(name for result in found for name in result["seconds"]))
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(names):
        family = next((word for word in MARKERS if name.startswith(word)), "Haiku")
        kind = sum(other.startswith(family) for other in names[:number])
        at = [n for n, result in enumerate(found) if name in result["seconds"]]
        times = [1e3 * statistics.median(found[n]["seconds"][name]) for n in at]
        axes.plot(
            [n + 0.7 * (number / max(1, len(names) - 1) - 0.5) for n in at],
            times,
            MARKERS[family][kind % len(MARKERS[family])],
            color="black" if family == "rnn_jax" else "0.5",
            fillstyle="full" if kind < len(MARKERS[family]) else "none",
            label=name,
        )
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds")
    axes.set_xticks(range(len(found)), [str(Shape(*result["shape"])) for result in found])
    axes.set_xlabel("batch, time, input, hidden")
    axes.set_title(f"A training step of an LSTM (lower is faster)\n{_label(results)}", fontsize=10)
    axes.grid(axis="y", color="0.85")
    axes.set_axisbelow(True)
    if names:
        figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _label(results: Results) -> str:
    machine = results["machine"]
    return f"{machine['device']}, {machine['processor']}, {machine['system']}, {results['date']}"


def _parts(results: Results) -> Iterator[str]:
    yield "## On a GPU"
    yield f"**{_label(results)}**"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    yield f"`{results['command']}` with {versions}."
    yield METHOD.format(**results)
    yield "### Large products and copies"
    yield _ceilings(results)
    yield "### Distance from the scan in float64"
    yield _checks(results)
    yield "### The tutorial's training"
    yield _trainings(results)
    yield "### Against the others, LSTM, training step"
    yield from _comparisons(results)
    for mode, title in (("training", "Training step, ms"), ("inference", "Inference, ms")):
        yield f"### {title}"
        yield _times(results, mode)
    yield "### Part of the ceilings"
    yield (
        "Floating-point operations of the matrix products that a step needs over its time and the rate of large "
        "products of that precision; in parentheses, the bytes that it must at least move over its time and the rate "
        "of a large copy."
    )
    yield _efficiency(results)
    yield from _left_out(results)


def _ceilings(results: Results) -> str:
    medians = {name: statistics.median(rates) for name, rates in results["ceilings"].items()}
    rates = [f"{name}: {rate / 1e12:.3g} TFLOP/s" for name, rate in medians.items() if name != "copy"]
    copy = [f"copy: {medians['copy'] / 1e9:.4g} GB/s, read and written"] if "copy" in medians else []
    return "; ".join([*rates, *copy]) or EMPTY


def _checks(results: Results) -> str:
    """The worst of each peer over all cells and shapes."""
    worst: dict[str, list[Any]] = {}
    for check in results["checks"]:
        row = worst.setdefault(check["peer"], [0, 0.0, 0.0, check["limit"]])
        row[0] += 1
        row[1], row[2] = max(row[1], check["outputs"]), max(row[2], check["gradients"])
    failed = {check["peer"] for check in failed_checks(results)}
    rows = [
        [peer, count, f"{outputs:.1e}", f"{gradients:.1e}", f"{limit:g}", "WRONG" if peer in failed else "right"]
        for peer, (count, outputs, gradients, limit) in worst.items()
    ]
    return make_table(["peer", "cases", "outputs", "gradients", "allowed", ""], rows)


def _trainings(results: Results) -> str:
    rows = []
    for name, run in results["training"].items():
        numbers = [run["blank"], EMPTY] if "blank" in run else [f"{run['first']:.1f}", f"{run['others']:.2f}"]
        rows.append([name, f"{run['steps']:,}", *numbers])
    return make_table(
        ["peer", "steps", "seconds to the end of the first, with compilation", "seconds for the rest"], rows
    )


def _comparisons(results: Results) -> Iterator[str]:
    """At the key shapes, the fastest of ours over the fastest of each of theirs."""
    rows = []
    for shape, rivals in ((TUTORIAL, ("PyTorch", "Flax", "Haiku")), (LONG, ("PyTorch", "PyTorch, float16"))):
        found = [result for result in _cases(results, "lstm", "training") if Shape(*result["shape"]) == shape]
        for result in found:
            ours = _fastest(result, "rnn_jax")
            for rival in rivals:
                theirs = _fastest(result, rival)
                if ours and theirs:
                    seconds = result["seconds"]
                    ratio = statistics.median(seconds[ours]) / statistics.median(seconds[theirs])
                    rows.append([str(shape), ours, theirs, f"{ratio:.2f}"])
    yield make_table(["batch, time, input, hidden", "our fastest", "their fastest", "our time / theirs"], rows)


def _times(results: Results, mode: str) -> str:
    """A row for every cell and peer, a column for every shape."""
    found = [result for result in results["cases"] if result["mode"] == mode]
    shapes = list(dict.fromkeys(Shape(*result["shape"]) for result in found))
    rows: dict[tuple[str, str], dict[Shape, str]] = {}
    for result in found:
        for name, seconds in result["seconds"].items():
            rows.setdefault((result["cell"], name), {})[Shape(*result["shape"])] = milliseconds(seconds)
    return make_table(
        ["cell", "peer", *map(str, shapes)],
        [[*row, *(by_shape.get(shape, EMPTY) for shape in shapes)] for row, by_shape in rows.items()],
    )


def _efficiency(results: Results) -> str:
    """Of all cases of ours in training."""
    rows = []
    for result in results["cases"]:
        case = Case(result["cell"], Shape(*result["shape"]), result["mode"])
        for name, seconds in result["seconds"].items():
            precision = name.rsplit(", ", 1)[-1]
            ceiling = results["ceilings"].get("bfloat16" if precision == "mixed" else precision)
            copy = results["ceilings"].get("copy")
            if not name.startswith("rnn_jax") or case.mode != "training" or not ceiling or not copy:
                continue
            median = statistics.median(seconds)
            flops = case.flops / median / statistics.median(ceiling)
            moved = case.numbers_moved * (2 if precision == "bfloat16" else 4) / median / statistics.median(copy)
            rows.append([case.cell, name, str(case.shape), f"{flops:.3f} ({moved:.3f})"])
    return make_table(["cell", "peer", "batch, time, input, hidden", "part"], rows)


def _left_out(results: Results) -> Iterator[str]:
    lines = [f"- {name}: {reason}" for name, reason in results["left_out"].items()]
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results["cases"]:
        for name, reason in result["blanks"].items():
            if reason not in results["left_out"].values():
                where = f"{result['cell']} {Shape(*result['shape'])} {result['mode']}"
                reasons.setdefault((name, reason), []).append(where)
    lines += [f"- {name}: {reason} ({', '.join(where)})" for (name, reason), where in reasons.items()]
    if results["not_reached"]:
        lines.append(f"- not reached in {results['budget']:.0f} s: {'; '.join(results['not_reached'])}")
    if lines:
        yield "### Left out"
        yield "\n".join(lines)


def _cases(results: Results, cell: str, mode: str) -> list[dict[str, Any]]:
    return [result for result in results["cases"] if (result["cell"], result["mode"]) == (cell, mode)]


def _fastest(result: dict[str, Any], words: str) -> str | None:
    """The peer with the smallest median time of those whose name begins so."""
    medians = {name: statistics.median(s) for name, s in result["seconds"].items() if name.startswith(words)}
    return min(medians, key=lambda name: medians[name], default=None)
