"""Every notebook runs from top to bottom, and shows in its file what it showed when it did."""

from pathlib import Path

import nbformat
import pytest
from helpers import QUICK_FLAGS

from notebooks.execute import HERE, execute

NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]

# What takes long there, made smaller: every line still runs, and shows what it is to show.
SMALLER = {
    "composing_cells": {
        "k_data, 200)": "k_data, 20)",
        "np.arange(10, 201, 10)": "np.arange(1, 21)",
        "(8, 20, 10)": "(8, 20, 1)",
        "(1, 2, 4, 8, 16, 32)": "(1, 2)",
    },
    "recurrent_networks": {
        "(100, 64), (400, 16), (1600, 2)": "(100, 4), (200, 2), (300, 2)",
        "STEPS = 200": "STEPS = 5",
    },
    "quickstart": {
        "hidden_size=64, dataset": "hidden_size=8, steps=100, dataset",
        "(64, 512)": "(64,)",
        "steps=40": "steps=21",
    },
    "own_data": {"--steps=100": "--steps=20"},
    "flax_models": {"range(400)": "range(20)", "np.arange(1, 401)": "np.arange(1, 21)"},
    "text": {"--steps=180": "--steps=2", "--hidden-size=128": "--hidden-size=4", "length=240": "length=20"},
}


def read(path: Path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds_of_outputs(cell):
    """What a cell shows, less what differs from run to run: text to which stream, pictures."""
    return {output.get("name") or tuple(sorted(output.data)) for output in cell.outputs}


def test_there_are_notebooks():
    assert NAMES == ["composing_cells", "flax_models", "own_data", "quickstart", "recurrent_networks", "text"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_runs_and_its_outputs_are_kept(path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", QUICK_FLAGS)
    notebook, cells = read(path)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in kind for cell in cells for kind in kinds_of_outputs(cell))

    again = [
        cell for cell in execute(path, SMALLER.get(path.stem)).cells if cell.cell_type == "code"
    ]  # raises if a cell does
    assert [kinds_of_outputs(cell) for cell in again] == [kinds_of_outputs(cell) for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_nothing_in_its_file_says_where_and_when_it_ran(path):
    notebook, _ = read(path)
    assert notebook.metadata.language_info == {"name": "python"}
    assert all(not set(cell.metadata) - {"cellView"} for cell in notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_its_first_cell_installs_where_the_library_is_missing(path):
    _, (first, *_) = read(path)
    _, (install, *_) = read(NOTEBOOKS[0])
    assert first.source == install.source
    names = {}
    source = first.source.replace('find_spec("rnn_jax")', 'find_spec("rnn_jax_that_is_missing")')
    asked = []
    source = source.replace('%pip install --quiet "{SOURCE}"', "asked.append(SOURCE)")
    with pytest.raises(ModuleNotFoundError, match="fill in SOURCE"):
        exec(source, names)
    exec(source.replace('SOURCE = ""', 'SOURCE = "a.whl"'), {"asked": asked})
    assert asked == ["a.whl"]
