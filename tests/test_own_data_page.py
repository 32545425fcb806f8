"""The commands of docs/own-data.md run as they stand, on files like those that it shows."""

import re
import shlex
from pathlib import Path

import jax
import pytest
from helpers import run_train
from sequences import draw_sequences, needs_series, write_records

from rnn_jax.__main__ import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-data.md"
QUICK = "--steps=1", "--hidden-size=2", "--layers=1", "--no-pictures"


def write_files(folder: Path) -> None:
    """Files with the names and columns of the page."""
    lines = [f"{1950 + m // 12}-{m % 12 + 1:02},{100 + 2 * m + 10 * ((5 * m) % 12)}" for m in range(120)]
    (folder / "sales.csv").write_text("Month,Sold\n" + "\n".join(lines) + "\n")
    rows = draw_sequences(0, N=30)
    sensors = [
        {"trial": i, "time": t, "x": x, "y": y, "activity": ["sitting", "walking"][i % 2]}
        for i, row in enumerate(rows)
        for t, (x, y) in enumerate(row.tolist())
    ]
    write_records(folder / "sensors.csv", sensors)
    lines = [f"{['up', 'down'][i % 2]},{i},{i + 1},{i - 1}" for i in range(20)]
    (folder / "rows.csv").write_text("kind,a,b,c\n" + "\n".join(lines) + "\n")
    for i, row in enumerate(rows):
        table = folder / "gestures" / ["circle", "square"][i % 2] / f"{i}.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        write_records(table, [{"x": x, "y": y} for x, y in row.tolist()])


def run_line(words: list[str]) -> int:
    if words[:2] == ["python", "train.py"]:
        return run_train(None, *words[2:], *QUICK)[0]
    assert words[:3] == ["python", "-m", "rnn_jax"], words
    return main(words[3:])


def test_every_command_and_every_block_of_python_runs(tmp_path, monkeypatch):
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    done = []
    with jax.numpy_dtype_promotion("standard"):
        for kind, text in re.findall(r"```(sh|python)\n(.*?)```", PAGE.read_text(), re.DOTALL):
            if kind == "python":
                exec(text, names)
                continue
            for line in text.splitlines():
                if "_TRAIN.ts" not in line:
                    assert run_line(shlex.split(line)) == 0, line
                    done.append(line)
        assert run_line(shlex.split("python train.py --data rows.csv --target kind")) == 0
    assert len(done) == 6
    assert names["probabilities"].shape == (2, 2)
    assert names["names"] == ("above", "below")


def test_the_errors_of_the_page_are_those_of_the_command(tmp_path, monkeypatch, capsys):
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    status, _, err = run_train(capsys, "--data", "sales.csv", "--target", "sold")
    assert status == 2
    assert "sales.csv has no column 'sold' for the target, did you mean 'Sold'?" in err
    assert "has no column 'sold' for the target, did you mean 'Sold'?" in PAGE.read_text()


@needs_series
@pytest.mark.parametrize("name", ["JapaneseVowels_TRAIN.ts"])
def test_the_archives_example_trains(name, tmp_path, capsys):
    from sequences import SERIES

    argv = "--data", SERIES / name, "--cell=gru", "--bidirectional", *QUICK, "--output-dir", tmp_path / "run"
    with jax.numpy_dtype_promotion("standard"):
        status, out, _ = run_train(capsys, *argv)
    assert status == 0
    assert out.startswith("Data: 270 training, 370 test sequences, 12 channels, 7 to 29 steps, 9 classes")
