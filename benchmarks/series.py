"""`python -m benchmarks.series FOLDER`: trains every cell on every data set of a folder, beside published results.

Each run is the user's own command, `python train.py --data FILE --cell CELL --seeds N`, in a process of its own.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from benchmarks.report import update_file
from rnn_jax.app.config import CELLS

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python -m benchmarks.series"
FIGURES = ("Accuracy", "R2", "MASE")  # the first of these that a task reports
PUBLISHED = {
    "JapaneseVowels": "0.976 (MLSTM-FCN), 0.978 to 0.986 (signature kernels)",
    "BasicMotions": "1.000",
    "GunPoint": "1.000",
    "ItalyPowerDemand": "0.970 (HIVE-COTE 2), 0.966 (InceptionTime)",
    "ArrowHead": "0.869, 0.863",
}
FLAGS = {"Airline": ["--target", "Passengers", "--horizon", "12"], "seatbelts": ["--target", "KSI"]}


class Row(NamedTuple):
    """One row of the table.

    Attributes:
      data: the name of the data set.
      cell: the cell.
      figure: what is reported, one of `FIGURES`.
      ours: the mean and the deviation over the seeds.
      baseline: the best of the baselines.
      published: other people's test results.
      seconds: what a seed took.
    """

    data: str
    cell: str
    figure: str
    ours: str
    baseline: str
    published: str
    seconds: str


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes it into RESULTS.md."""
    arguments = _parser().parse_args(argv)
    rows = []
    for file in data_files(arguments.folder):
        name = file.stem.removesuffix("_TRAIN")
        if arguments.data and name not in arguments.data:
            continue
        for cell in arguments.cells:
            rows.append(measure(file, name, cell, arguments.seeds, arguments.flags))
            print(*rows[-1], sep="  ", flush=True)
    table = tabulate(rows, [field.replace("_", " ") for field in Row._fields], tablefmt="github", disable_numparse=True)
    options = f" --seeds {arguments.seeds}"
    text = (
        "## People's own sequences\n\nTest figures of `python train.py --data FILE --cell CELL`, mean ± deviation over "
        f"the seeds 0 to {arguments.seeds - 1}, beside a baseline that needs no network and published results.\n\n"
        f"{table}\n\n{time.strftime('%Y-%m-%d')}, `{COMMAND} FOLDER{options}`.\n"
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    update_file(arguments.output / "RESULTS.md", text, COMMAND)


def data_files(folder: Path) -> list[Path]:
    """Finds the training files and the tables of a folder; of a data set in several formats, its `.ts` file."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".ts", ".arff", ".tsv", ".csv", ".npz")]
    training = [path for path in files if not path.stem.endswith("_TEST")]
    training.sort(key=lambda path: path.suffix != ".ts")
    return sorted({path.stem: path for path in reversed(training)}.values())


def measure(file: Path, name: str, cell: str, seeds: int, flags: Sequence[str]) -> Row:
    """Trains all seeds of one cell at once, and reads the figures from what is printed.

    Raises:
      RuntimeError: if the command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "--data", file, "--cell", cell, "--seeds", str(seeds), "--no-pictures"]
        command += [*FLAGS.get(name, []), *flags, "--output-dir", f"{folder}/run"]
        began = time.perf_counter()
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        seconds = (time.perf_counter() - began) / seeds
    if process.returncode:
        raise RuntimeError(f"{name}, {cell}: {process.stderr.strip()}")
    return read_row(process.stdout, name, cell, seconds)


def read_row(output: str, name: str, cell: str, seconds: float) -> Row:
    """Reads the figures of a run from its output."""
    figure = next(figure for figure in FIGURES if f"Testing {figure}: " in output)
    ours = re.search(rf"^Testing {figure}: (-?[\d.]+)(?: (± [\d.]+))?", output, re.MULTILINE)
    assert ours
    baselines = [float(value) for value in re.findall(rf"^Baseline, .*?\b{figure} (-?[\d.]+)", output, re.MULTILINE)]
    best = (min if figure == "MASE" else max)(baselines)
    text = " ".join(part for part in ours.groups() if part)
    return Row(name, cell, figure, text, f"{best:.4f}", PUBLISHED.get(name, ""), f"{seconds:.0f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Trains every cell on every data set of a folder.")
    parser.add_argument("folder", type=Path, help="the folder with the data sets")
    parser.add_argument("--cells", nargs="+", default=["gru", "lstm"], choices=CELLS, help="default: gru lstm")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="these data sets alone")
    parser.add_argument("--seeds", type=int, default=3, help="from 0 upwards (default: 3)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", help="the folder of RESULTS.md")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="further flags of train.py, at the end")
    return parser


if __name__ == "__main__":
    main()
