"""`python -m benchmarks.start`: seconds from the command to the first step, to the end, and to one prediction."""

import argparse
import collections
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from tqdm import tqdm

from benchmarks.measure import ROOT
from benchmarks.report import EMPTY, make_table, write_section

COMMAND = "python -m benchmarks.start"
PACKAGES = ("jax", "torch")
TRAIN = ("train.py", "--dataset=digits", "--steps=1")
PREDICT = ("-m", "rnn_jax", "predict")
PYTORCH = "benchmarks/start_pytorch.py"
SHOWN = 6  # packages
FIRST_STEP = "Step 1,"  # begins the line of the first step

INTRODUCTION = f"""\
## Start

Seconds from the command to the line of the first step and to the end of the process: one step of an LSTM with 128
units on the digits, validation, test and a saved model (rnn_jax also draws three pictures, where it is not told
`--no-pictures`); and the prediction for one picture. PyTorch's script is `{PYTORCH}`: `nn.LSTM`,
`DataLoader`, `SGD` and scikit-learn's digits. "Cached" has a `--compilation-cache` from an earlier run. Every file has
been read before. Median of {{rounds}} interleaved rounds, in parentheses the time over PyTorch's."""

Jobs: TypeAlias = Mapping[tuple[str, str], Sequence[str]]  # (job, program) -> arguments of Python; FOLDER is replaced


class Times(NamedTuple):
    """Seconds of a process: to the first step, None if it makes none, and to the end."""

    first_step: float | None
    end: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the tables and writes them into RESULTS.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Measures the start, for benchmarks/RESULTS.md.")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: 7)")
    arguments = parser.parse_args(argv)

    def measure_jobs() -> str:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            jobs = make_jobs(folder)
            times = measure(jobs, folder, arguments.rounds)
            imports = {names: import_seconds(prepare(job, folder)) for names, job in jobs.items()}
        introduction = INTRODUCTION.format(rounds=arguments.rounds)
        text = "Seconds in the imports of these, by package, as `python -X importtime` tells:"
        return f"{introduction}\n\n{times_table(times)}\n\n{text}\n\n{imports_table(imports)}"

    return write_section(COMMAND, PACKAGES, argv, measure_jobs)


def make_jobs(folder: Path) -> Jobs:
    """Returns the commands, after making the models and the picture that they need, and filling the cache."""
    from PIL import Image

    picture, ours, theirs = folder / "digit.png", str(folder / "ours"), str(folder / "theirs")
    Image.fromarray(np.tri(28, dtype=np.uint8) * 255).save(picture)
    cache = f"--compilation-cache={folder / 'cache'}"
    jobs = {
        ("train", "rnn_jax"): [*TRAIN, "--output-dir=FOLDER"],
        ("train", "rnn_jax, cached"): [*TRAIN, "--output-dir=FOLDER", cache],
        ("train", "rnn_jax, no pictures"): [*TRAIN, "--output-dir=FOLDER", "--no-pictures"],
        ("train", "rnn_jax, no pictures, cached"): [*TRAIN, "--output-dir=FOLDER", "--no-pictures", cache],
        ("train", "PyTorch"): [PYTORCH, "train", "FOLDER"],
        ("predict", "rnn_jax"): [*PREDICT, ours, str(picture)],
        ("predict", "rnn_jax, cached"): [*PREDICT, ours, str(picture), cache],
        ("predict", "PyTorch"): [PYTORCH, "predict", theirs, str(picture)],
    }
    for names, output in ((("train", "rnn_jax, cached"), ours), (("train", "PyTorch"), theirs)):
        time_process([word.replace("FOLDER", output) for word in jobs[names]])
    return jobs


def prepare(job: Sequence[str], folder: Path) -> list[str]:
    """Replaces FOLDER in a job by a new folder."""
    return [word.replace("FOLDER", tempfile.mkdtemp(dir=folder)) for word in job]


def measure(jobs: Jobs, folder: Path, rounds: int) -> dict[tuple[str, str], Times]:
    """Returns the medians of whole processes, which take turns; a round before them is not counted."""
    results: dict[tuple[str, str], list[Times]] = {names: [] for names in jobs}
    turns = list(itertools.product(range(1 + rounds), jobs.items()))
    for number, (names, job) in tqdm(turns, unit=" processes", disable=None):
        times = time_process(prepare(job, folder))
        if number:
            results[names].append(times)
    return {
        names: Times(
            statistics.median([t.first_step for t in times if t.first_step]) if times[0].first_step else None,
            statistics.median([t.end for t in times]),
        )
        for names, times in results.items()
    }


def time_process(arguments: Sequence[str]) -> Times:
    """Runs Python with arguments; raises `CalledProcessError` if it fails."""
    began, first_step = time.perf_counter(), None
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(FIRST_STEP):
                first_step = time.perf_counter() - began
        _, errors = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    return Times(first_step, time.perf_counter() - began)


def import_seconds(arguments: Sequence[str]) -> dict[str, float]:
    """Returns the seconds in the imports of a process, by top-level package."""
    command = [sys.executable, "-X", "importtime", *arguments]
    errors = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    seconds: dict[str, float] = collections.defaultdict(float)
    for line in errors.splitlines():
        kind, _, rest = line.partition("import time:")
        own, _, module = rest.partition("|")
        if not kind and own.strip().isdecimal():
            seconds[module.rpartition("|")[2].strip().partition(".")[0]] += int(own) / 1e6
    return dict(seconds)


def times_table(times: Mapping[tuple[str, str], Times]) -> str:
    """Makes the table of the processes, the time over PyTorch's in parentheses."""

    def entry(value: float | None, theirs: float | None) -> str:
        return EMPTY if value is None or theirs is None else f"{value:.2f} ({value / theirs:.2f})"

    rows = []
    for (job, program), values in times.items():
        theirs = times[job, "PyTorch"]
        rows.append([job, program, *map(entry, values, theirs)])
    return make_table(["job", "program", "first step", "end"], rows)


def imports_table(imports: Mapping[tuple[str, str], Mapping[str, float]]) -> str:
    """Makes the table of the imports: all of them, and the packages that take the longest."""
    rows = []
    for (job, program), seconds in imports.items():
        longest = sorted(seconds, key=lambda name: -seconds[name])[:SHOWN]
        rows.append(
            [job, program, f"{sum(seconds.values()):.2f}", ", ".join(f"{name} {seconds[name]:.2f}" for name in longest)]
        )
    return make_table(["job", "program", "all", "longest"], rows)


if __name__ == "__main__":
    sys.exit(main())
