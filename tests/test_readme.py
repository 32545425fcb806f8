"""The README's Python runs as it stands."""

import re
from pathlib import Path

import numpy as np
from helpers import run_train

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_examples_run(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    run_train(None, "--dataset=digits", "--recipe=tutorial", "--steps=1", "--output-dir=runs/my-run")
    names = {"images": np.zeros((5, 8, 8), np.uint8)}
    exec(blocks[0], names)
    assert names["probabilities"].shape == (5, 10)
    names = {}
    exec(blocks[1], names)
    assert names["ys"].shape == (28, 32, 64)
    exec(blocks[2], names)
    assert names["ys"].shape == (28, 32, 32)
    assert not names["ys"][20:].any()


def test_what_it_links_to_exists():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
