"""`python -m benchmarks.series FOLDER`: trains cells on every data set of a folder, beside published results.

Each run is the user's own command, `python train.py --data FILE --cell CELL --seed SEED`, in a process of its own.
"""

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure import ROOT
from benchmarks.report import make_table, write_section
from rnn_jax.app.config import CELLS

COMMAND = "python -m benchmarks.series"
PACKAGES = ("jax",)
FIGURES = ("Accuracy", "R2", "MASE")  # the first of these that a task reports
PUBLISHED = {
    "JapaneseVowels": "0.976 (MLSTM-FCN), 0.978 to 0.986 (signature kernels)",
    "BasicMotions": "1.000",
    "GunPoint": "1.000",
    "ItalyPowerDemand": "0.970 (HIVE-COTE 2), 0.966 (InceptionTime)",
    "ArrowHead": "0.869, 0.863",
}
INTRODUCTION = """\
## People's own sequences

Test figures of `python train.py --data FILE --cell CELL --seed SEED`, mean ± deviation over the seeds 0 to {last},
beside a baseline that needs no network and published results; seconds from the start of the command to its end, mean
over the seeds. The recipe was first chosen with a view of these figures, and then held against others on training files
alone, where none was better by more than the error of the comparison."""
FLAGS = {"Airline": ["--target", "Passengers", "--horizon", "12"], "seatbelts": ["--target", "KSI"]}


class Row(NamedTuple):
    """One row of the table.

    Attributes:
      data: the name of the data set.
      cell: the cell.
      figure: what is reported, one of `FIGURES`.
      ours: the mean and the deviation over the seeds.
      baseline: the best of the baselines; they differ between seeds where the test is drawn, this is of seed 0.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes it into RESULTS.md; returns the exit status."""
    arguments = _parser().parse_args(argv)
    return write_section(COMMAND, PACKAGES, argv, lambda: measure_all(arguments))


def measure_all(arguments: argparse.Namespace) -> str:
    """Trains every cell on every data set; returns the introduction and the table."""
    files = {file.stem.removesuffix("_TRAIN"): file for file in data_files(arguments.folder)}
    names = [name for name in files if not arguments.data or name in arguments.data]
    runs = list(itertools.product(arguments.cells, names))
    rows = []
    for i, (cell, name) in enumerate(runs, 1):
        rows.append(measure(files[name], name, cell, arguments.seeds, arguments.flags))
        print(f"{i} of {len(runs)}:", *rows[-1], sep="  ", flush=True)
    table = make_table([field.replace("_", " ") for field in Row._fields], rows)
    return f"{INTRODUCTION.format(last=arguments.seeds - 1)}\n\n{table}"


def data_files(folder: Path) -> list[Path]:
    """Finds the training files and the tables of a folder; of a data set in several formats, its `.ts` file."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".ts", ".arff", ".tsv", ".csv", ".npz")]
    training = [path for path in files if not path.stem.endswith("_TEST")]
    training.sort(key=lambda path: path.suffix != ".ts")
    return sorted({path.stem: path for path in reversed(training)}.values())


def measure(file: Path, name: str, cell: str, seeds: int, flags: Sequence[str]) -> Row:
    """Trains one cell with each seed, and reads the figures from the output.

    Raises:
      RuntimeError: if the command fails.
    """
    outputs = []
    began = time.perf_counter()
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "train.py", "--data", file.resolve(), "--cell", cell, "--seed", str(seed)]
            command += ["--no-pictures", *FLAGS.get(name, []), *flags, "--output-dir", f"{folder}/run"]
            process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(f"{name}, {cell}: {process.stderr.strip()}")
        outputs.append(process.stdout)
    return read_row(outputs, name, cell, (time.perf_counter() - began) / seeds)


def read_row(outputs: Sequence[str], name: str, cell: str, seconds: float) -> Row:
    """Reads the figures of runs from their outputs."""
    figure = next(figure for figure in FIGURES if f"Testing {figure}: " in outputs[0])
    ours = [float(re.findall(rf"^Testing {figure}: (\S+)", output, re.MULTILINE)[0]) for output in outputs]
    baselines = re.findall(rf"^Baseline, .*?\b{figure} (-?[\d.]+)", outputs[0], re.MULTILINE)
    best = (min if figure == "MASE" else max)(map(float, baselines))
    text = f"{np.mean(ours):.4f} ± {np.std(ours):.4f}"
    return Row(name, cell, figure, text, f"{best:.4f}", PUBLISHED.get(name, ""), f"{seconds:.0f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Trains cells on every data set of a folder.")
    parser.add_argument("folder", type=Path, help="the folder with the data sets")
    parser.add_argument("--cells", nargs="+", default=["gru", "lstm"], choices=CELLS, help="default: gru lstm")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="these data sets alone")
    parser.add_argument("--seeds", type=int, default=3, help="from 0 upwards (default: 3)")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="further flags of train.py, at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
