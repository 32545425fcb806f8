"""The API reference builds without a warning, and says what a reader looks for."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def text_of(page: Path) -> str:
    return html.unescape(re.sub("<[^>]+>", "", page.read_text()))


def test_the_reference_builds(tmp_path):
    build = [sys.executable, ROOT / "docs" / "build_api.py", tmp_path]
    sources = {**os.environ, "PYTHONPATH": str(ROOT)}  # Another version may be installed.
    result = subprocess.run(build, cwd=ROOT, env=sources, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")

    pages = {str(page.relative_to(tmp_path)) for page in tmp_path.rglob("*.html")}
    modules = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "rnn_jax").rglob("*.py")}
    modules = {module.parent if module.name == "__init__" else module for module in modules}
    assert pages == {"index.html", *(f"{module}.html" for module in modules)}

    overview = text_of(tmp_path / "rnn_jax.html")
    assert "c' = s(f) c + s(i) tanh(g)" in overview
    assert "Runs a cell over whole sequences." in overview
    signatures = text_of(tmp_path / "rnn_jax" / "hopfield.html")
    assert "store_hebbian(patterns: ArrayLike) -> Array:" in signatures
    assert "Alias for field number" not in overview
