"""The README is short; tests/test_docs_pages.py runs its examples."""

from pathlib import Path

from test_docs_pages import run_examples

README = Path(__file__).resolve().parents[1] / "README.md"


def test_it_is_read_in_minutes():
    assert len(README.read_text().splitlines()) < 150


def test_its_tour_gives_the_shapes_that_it_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, missing = run_examples(README)
    assert not missing
    assert names["state"].h.shape == names["state"].c.shape == (32, 128)
    assert names["y"].shape == (32, 128)
    assert names["ys"].shape == (28, 32, 64)
    assert not names["short_ys"][20:].any()
