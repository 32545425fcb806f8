"""The README's Python runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names = {}
    exec(blocks[0], names)
    assert names["ys"].shape == (28, 32, 64)
    exec(blocks[1], names)
    assert names["ys"].shape == (28, 32, 32)
    assert not names["ys"][20:].any()


def test_what_it_links_to_exists():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
