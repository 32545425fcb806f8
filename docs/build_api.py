"""Builds the API reference from the docstrings: `python docs/build_api.py [FOLDER]`, by default build/api.

Every module has a page; `index.html` is the library's own. What pdoc would only warn of, such as an annotation that it
cannot read, is an error.
"""

import inspect
import pkgutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pdoc
import pdoc.doc
import pdoc.extract
import pdoc.render
from jax import Array
from jax.typing import ArrayLike

import rnn_jax

HERE = Path(__file__).resolve().parent

format_annotation = inspect.formatannotation


def short_annotation(annotation: Any, *others: Any) -> str:
    """An annotation as the sources have it; the names of array types would be spelled out at every argument."""
    text = format_annotation(annotation, *others)
    for name, kind in {"ArrayLike | None": ArrayLike | None, "ArrayLike": ArrayLike, "Array": Array}.items():
        text = text.replace(format_annotation(kind), name)
    return text


def build(folder: Path) -> None:
    """Writes the reference, as HTML, into a folder, which is made if need be."""
    modules = {module.name for module in pkgutil.walk_packages(rnn_jax.__path__, "rnn_jax.")}
    pdoc.render.configure(docformat="google", template_directory=HERE / "pdoc")
    inspect.formatannotation = pdoc.doc.formatannotation = short_annotation  # type: ignore
    for name in rnn_jax.__all__:  # pdoc does not ask a module for names that it has on demand.
        setattr(rnn_jax, name, getattr(rnn_jax, name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Not a fault: the sources lie in the working folder, and the library may be installed elsewhere.
        warnings.filterwarnings("ignore", message="'rnn_jax.*may refer to either the installed Python module")
        # pdoc adds the public modules of a package by itself, and warns of a module that it is given as well.
        specs, covered = [], set()
        for name in ["rnn_jax", *sorted(modules)]:
            if name not in covered:
                specs.append(name)
                covered |= set(pdoc.extract.walk_specs([name]))
        pdoc.pdoc(*specs, output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "build" / "api")
