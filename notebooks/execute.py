"""Runs notebooks from top to bottom and keeps their outputs: `python notebooks/execute.py [NOTEBOOK ...]`.

Without arguments it runs all that lie beside it. What differs from run to run or from machine to machine and says
nothing (times, versions) is left out of the files.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def execute(path: Path) -> nbformat.NotebookNode:
    """Runs a notebook, in a folder that is gone afterwards; the file stays as it is.

    Args:
      path: the notebook.

    Returns:
      The notebook with its outputs.

    Raises:
      nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
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
