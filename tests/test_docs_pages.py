"""The README and every page of docs/: their Python runs, their commands parse, their links and paths lead somewhere."""

import functools
import importlib.util
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import run_train

from rnn_jax.__main__ import _parser
from rnn_jax.app.command import parse
from rnn_jax.app.config import Config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
# The Python of this page runs among its commands, in test_own_data_page.py.
ALONE = [page for page in PAGES if page.stem != "own-data"]

# The runs that the pages load, as small as they can be.
RUNS = {
    "runs/my-run": ("--dataset=digits", "--recipe=tutorial"),
    "runs/shakespeare": ("--data=shakespeare.txt", "--cell=gru", "--layers=1", "--hidden-size=8"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder that the pages speak of; what needs no training is there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python_blocks(page: Path) -> list[str]:
    """The Python of a page, each block on the lines that it has there, for tracebacks to name them."""
    text = page.read_text()
    matches = re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return ["\n" * text.count("\n", 0, match.start(1)) + match[1] for match in matches]


@functools.cache
def run_examples(page: Path) -> tuple[dict, list[str]]:
    """Runs a page's Python from top to bottom, in the working folder.

    A block whose first line is `# needs: PACKAGE` is passed over where that package is not installed.

    Returns:
      The names that the page has defined, and the packages that are missing.
    """
    sources = python_blocks(page)
    for run, options in RUNS.items():
        if any(f'load_run("{run}")' in source for source in sources):
            Path("shakespeare.txt").write_text(200 * "ROMEO: It is my lady, O, it is my love!\n")
            with jax.numpy_dtype_promotion("standard"):
                assert run_train(None, *options, "--steps=1", "--no-pictures", "--output-dir", run)[0] == 0
    names, missing = {"__name__": page.stem}, []
    for source in sources:
        needs = re.match(r"# needs: (\S+)", source.lstrip())
        if needs and importlib.util.find_spec(needs[1]) is None:
            missing.append(needs[1])
        else:
            with jax.numpy_dtype_promotion("standard"):  # as users have it; some optimizers need it
                exec(compile(source, str(page), "exec"), names)
    return names, missing


@pytest.mark.parametrize("page", ALONE, ids=[page.stem for page in ALONE])
def test_its_python_runs_as_it_stands(page, folder):
    _, missing = run_examples(page)
    if missing:
        pytest.skip(f"the rest ran; not installed: {', '.join(missing)}")


def test_a_trained_run_predicts(folder):
    names, _ = run_examples(ROOT / "docs" / "command.md")
    assert names["probabilities"].shape == (len(names["images"]), 10)
    np.testing.assert_allclose(names["probabilities"].sum(1), 1, rtol=1e-5)


def test_a_cell_of_one_s_own_is_a_full_member(folder):
    names, _ = run_examples(ROOT / "docs" / "library.md")
    assert names["mgu_ys"].shape == (28, 32, 32)
    assert not names["mgu_ys"][20:].any()


@every_page
def test_its_commands_parse(page, folder):
    (folder / "runs" / "my-run").mkdir(parents=True)
    (folder / "runs" / "my-run" / "config.json").write_text(Config().to_json())
    # A command ends with its line, the closing backtick of inline code, or a comment.
    for program, line in re.findall(r"\bpython (train\.py|-m rnn_jax)\b([^\n`]*)", page.read_text()):
        arguments = shlex.split(line, comments=True)
        if program == "train.py" and arguments != ["--help"]:
            assert isinstance(parse(arguments), Config)
        elif program == "-m rnn_jax" and arguments:
            assert _parser().parse_args(arguments).run == Path(arguments[1])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_what_it_links_to_exists(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@every_page
def test_the_files_that_it_names_exist(page):
    names = re.findall(r"`((?:rnn_jax|benchmarks|docs|notebooks|tests)/[\w./-]*)`", page.read_text())
    assert all((ROOT / name).exists() for name in names), names


@every_page
def test_it_is_reached_from_the_readme(page):
    reached, more = set(), {ROOT / "README.md"}
    while more:
        here = more.pop()
        reached.add(here)
        links = re.findall(r"\]\((?!https?:)([^)#]+\.md)", here.read_text())
        more |= {(here.parent / link).resolve() for link in links} - reached
    assert page in reached
