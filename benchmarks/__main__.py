"""`python -m benchmarks`: measures, prints the tables, writes RESULTS.md, results.json and results.png."""

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.cases import GATES, SHAPES, Case, Shape, all_cases, default_cases
from benchmarks.measure import HOME, ROOT, measure
from benchmarks.peers import Peer, available_cores, find_peers
from benchmarks.plot import plot_ratios
from benchmarks.report import Results, section, show_command, update_file


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0; 2 for a mistake of the user's; 130 if interrupted, with what was measured written."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        cases, peers = choose_cases(arguments), choose_peers(arguments)
        selected = arguments.cells or arguments.shapes or arguments.modes or arguments.peers
        folder = arguments.output_dir or (ROOT / "runs" / "benchmarks" if selected else HOME)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.render:
            results = json.loads((folder / "results.json").read_text())
            write(results, folder)
            print(section(results))
            return 0
        if (load := os.getloadavg()[0]) > 0.5:
            print(f"benchmarks: warning: others keep {load:.1f} cores busy, so the times will mislead", file=sys.stderr)
        command = show_command("python -m benchmarks", argv)
        results, finished = measure(cases, peers, arguments.rounds, arguments.min_seconds, command)
        if not results["cases"]:
            print("benchmarks: nothing was measured", file=sys.stderr)
            return 130 if not finished else 2
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        write(results, folder)
    except (OSError, ValueError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    print(section(results))
    print(f"\nWritten to {folder}", file=sys.stderr)
    return 0 if finished else 130


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times training steps and inference of this library and of its peers, which run in turn in "
        "processes of their own. By default: lstm, gru and vanilla at six shapes, the other cells at the first of "
        "them, about 15 minutes on two cores. The peers come with: pip install '.[bench]'; whoever is not installed is "
        "left out.",
    )
    parser.add_argument("--full", action="store_true", help="every cell at every shape, about an hour on two cores")
    parser.add_argument("--cells", nargs="+", choices=list(GATES), metavar="CELL", help=f"some of: {', '.join(GATES)}")
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=parse_shape,
        metavar="B,T,D,H",
        help=f"batch, time, input and hidden sizes (the six: {' '.join(map(str, SHAPES))})",
    )
    parser.add_argument("--modes", nargs="+", choices=["training", "inference"], help="one or both (default: both)")
    parser.add_argument("--peers", nargs="+", metavar="WORD", help="only peers with such a word in their names")
    parser.add_argument("--rounds", type=parse_count, default=7, help="measurements of each peer (default: 7)")
    parser.add_argument(
        "--min-seconds", type=float, default=0.1, metavar="S", help="of one measurement, in seconds (default: 0.1)"
    )
    parser.add_argument(
        "--tensorflow-python",
        metavar="PATH",
        help="an interpreter with TensorFlow 2.15, to measure TensorFlow 1's cells in an unrolled graph as well",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="for RESULTS.md, results.json and results.png (default: benchmarks, or runs/benchmarks if cells, shapes, "
        "modes or peers are chosen)",
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing, but make tables and plot of results.json anew"
    )
    return parser


def parse_shape(text: str) -> Shape:
    """Reads "128,28,28,128"; raises `argparse.ArgumentTypeError`."""
    try:
        shape = Shape(*map(int, text.split(",")))
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers with commas between") from error
    if min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} has a number below 1")
    return shape


def parse_count(text: str) -> int:
    """Reads a positive whole number; raises `argparse.ArgumentTypeError`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def choose_cases(arguments: argparse.Namespace) -> list[Case]:
    """What the arguments ask for; chosen cells meet all shapes, and chosen shapes all cells."""
    cells, shapes, modes = arguments.cells, arguments.shapes, arguments.modes
    if cells or shapes or arguments.full:
        return all_cases(tuple(cells or GATES), tuple(shapes or SHAPES), tuple(modes or ("training", "inference")))
    return [case for case in default_cases() if not modes or case.mode in modes]


def choose_peers(arguments: argparse.Namespace) -> list[Peer]:
    """Those that have one of the words in their names; raises `ValueError` for a word that nobody has."""
    peers = find_peers(available_cores(), arguments.tensorflow_python)
    words = [word.lower() for word in arguments.peers or [""]]
    for word in words:
        if not any(word in peer.name.lower() for peer in peers):
            raise ValueError(f"no peer has {word!r} in its name: choose from {', '.join(peer.name for peer in peers)}")
    return [peer for peer in peers if any(word in peer.name.lower() for word in words)]


def write(results: Results, folder: Path) -> None:
    """Makes the tables and the picture."""
    update_file(folder / "RESULTS.md", section(results))
    if any(result["mode"] == "training" for result in results["cases"]):
        plot_ratios(results).savefig(folder / "results.png", dpi=120)


if __name__ == "__main__":
    sys.exit(main())
