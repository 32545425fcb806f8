"""Runs notebooks from top to bottom and keeps their outputs: `python notebooks/execute.py [NOTEBOOK ...]`.

Without arguments it runs all that lie beside it. What differs from run to run or from machine to machine and says
nothing (times, versions) is left out of the files.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def execute(path: Path, changes: Mapping[str, str] | None = None) -> nbformat.NotebookNode:
    """Runs a notebook, in a folder that is gone afterwards; the file stays as it is.

    Args:
      path: the notebook.
      changes: replacements in the source of its cells, {text: other text}, to run less than a reader would.

    Returns:
      The notebook with its outputs.

    Raises:
      ValueError: if a text of `changes` is in no cell.
      nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    for text, other in (changes or {}).items():
        if not any(text in cell.source for cell in notebook.cells):
            raise ValueError(f"no cell of {path.name} has {text!r}")
        for cell in notebook.cells:
            cell.source = cell.source.replace(text, other)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
        )
        client.execute()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    return notebook


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(HERE.glob("*.ipynb"))):
        notebook = execute(path)
        nbformat.write(notebook, path)
        print(path)
