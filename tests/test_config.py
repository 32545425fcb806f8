"""From the command line to a configuration, and from there to a classifier."""

import contextlib
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import hypothesis
import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_jax as rnn
from rnn_jax.app.build import build_cell, build_task
from rnn_jax.app.command import parse, prepare
from rnn_jax.app.config import Config
from rnn_jax.app.recipes import RECIPES, SERIES, SERIES_FLAGS, TEXT_FLAGS
from rnn_jax.cells import CELLS
from rnn_jax.data import DataInfo

OWN_DATA = "data", "test", "task", "target", "sequence_column", "horizon", "window", "season", "missing"
TEXT = "tokens", "tied"


def test_no_flags_are_the_defaults():
    assert parse([]) == Config()


def test_every_flag_sets_its_field(tmp_path):
    argv = (
        "--cell gru --bidirectional --layers 2 --hidden-size 64 --dataset Digits --recipe tutorial --batch-size 32 "
        f"--steps 7 --learning-rate 0.5 --momentum 0.8 --seed 3 --data-dir {tmp_path} --output-dir {tmp_path}/run "
        "--precision bfloat16 --devices 2 --seeds 2 --checkpoint-every 100 --keep-checkpoints 1 --tensorboard --resume "
        "--data-on host --coordinator node:1234 --process-count 2 --process-id 1 --no-pictures "
        f"--init-from {tmp_path}/other --accept-data --order pixels --shift 0.1 --compilation-cache {tmp_path}/cache"
    )
    config = parse(argv.split())
    assert config == Config(
        cell="gru",
        bidirectional=True,
        layers=2,
        hidden_size=64,
        dataset="digits",
        recipe="tutorial",
        batch_size=32,
        steps=7,
        learning_rate=0.5,
        momentum=0.8,
        seed=3,
        data_dir=tmp_path,
        output_dir=tmp_path / "run",
        precision="bfloat16",
        devices=2,
        seeds=2,
        checkpoint_every=100,
        keep_checkpoints=1,
        tensorboard=True,
        resume=True,
        data_on="host",
        coordinator="node:1234",
        process_count=2,
        process_id=1,
        no_pictures=True,
        init_from=tmp_path / "other",
        accept_data=True,
        order="pixels",
        shift=0.1,
        compilation_cache=tmp_path / "cache",
    )
    others = [field for field in dataclasses.fields(Config) if field.name not in OWN_DATA + TEXT]
    assert all(getattr(config, field.name) != field.default for field in others)


def test_every_flag_about_own_data_sets_its_field():
    argv = (
        "--data a.csv --test b.csv --task forecast --target Sales --sequence-column shop --horizon 6 --window 24 "
        "--season 12 --missing fill --no-bidirectional"
    )
    config = parse(argv.split())
    assert config == Config(
        data=Path("a.csv").absolute(),
        test=Path("b.csv").absolute(),
        task="forecast",
        target="Sales",
        sequence_column="shop",
        horizon=6,
        window=24,
        season=12,
        missing="fill",
        **{**SERIES_FLAGS, "bidirectional": False},
    )
    assert all(getattr(config, name) != getattr(Config(), name) for name in OWN_DATA)
    saved = json.loads(config.to_json())
    assert (saved["data"], saved["test"]) == (str(Path("a.csv").absolute()), str(Path("b.csv").absolute()))


def test_every_flag_about_text_sets_its_field():
    config = parse(["--data", "a.txt", "--tokens", "bytes", "--tied", "--window", "64"])
    assert config == Config(
        data=Path("a.txt").absolute(), task="language", tokens="bytes", tied=True, window=64, **TEXT_FLAGS
    )
    assert all(getattr(config, name) != getattr(Config(), name) for name in TEXT)
    assert parse(["--dataset", "text"]) == Config(dataset="text", task="language", tokens="characters", **TEXT_FLAGS)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--cell lstn", f"--cell must be one of {', '.join(CELLS)}, not 'lstn'"),
        ("--dataset emnist", "--dataset must be one of auto, mnist, "),
        ("--order random", "--order must be one of rows, pixels, permuted, not 'random'"),
        ("--order pixels --data a.csv", "--order is about images: leave it out"),
        ("--order permuted --dataset text", "--order is about images: leave it out"),
        ("--shift 0 --data a.csv", "--shift is about images: leave it out"),
        ("--shift 1", "--shift must be at least 0 and below 1, not 1.0"),
        ("--recipe best", "--recipe must be one of default, tutorial"),
        ("--layers 0", "--layers must be a positive whole number, not 0"),
        ("--hidden-size -3", "--hidden-size must be a positive whole number, not -3"),
        ("--batch-size 0", "--batch-size must be a positive whole number, not 0"),
        ("--steps 0", "--steps must be a positive whole number, not 0"),
        ("--steps 1.5", "argument --steps: invalid int value: '1.5'"),
        ("--steps 99999999999", "--steps times --batch-size must be below"),
        ("--learning-rate 0", "--learning-rate must be positive and below 1e30, not 0"),
        ("--learning-rate 1e300", "--learning-rate must be positive and below 1e30, not 1e+300"),
        ("--hidden-size 1000000000", "--hidden-size must be at most 16384"),
        ("--learning-rate nan", "--learning-rate must be positive and below 1e30, not nan"),
        ("--momentum 1", "--momentum must be at least 0 and below 1"),
        ("--seed -1", "--seed must be from 0 to 4294967295"),
        ("--seed 4294967295 --seeds 2", "--seed plus --seeds must be at most 4294967296"),
        ("--seeds 0", "--seeds must be a positive whole number, not 0"),
        ("--checkpoint-every 0", "--checkpoint-every must be a positive whole number, not 0"),
        ("--keep-checkpoints 0", "--keep-checkpoints must be a positive whole number, not 0"),
        ("--data-on disk", "--data-on must be one of auto, device, host, not 'disk'"),
        ("--process-count 2", "--coordinator, --process-count and --process-id go together: give all three, or none"),
        ("--coordinator node --process-count 2 --process-id 0", "--coordinator must be HOST:PORT, not 'node'"),
        ("--coordinator node:1 --process-count 2 --process-id 2", "--process-id must be from 0 to 1, not 2"),
        ("--coordinator node:1 --process-count 0 --process-id 0", "--process-count must be a positive whole number"),
        ("--config nowhere.json", "cannot read nowhere.json: No such file or directory"),
        ("--hiden-size 3", "unknown argument --hiden-size, did you mean --hidden-size?"),
        ("--hidden 3", "unknown argument --hidden"),
        ("lstm", "unknown argument lstm; see --help"),
        ("--steps", "argument --steps: expected one argument"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(argv.split())
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.count("\n") == 1


FLAGS = ["--" + field.name.replace("_", "-") for field in dataclasses.fields(Config)]
GOOD = ["--bidirectional", "--hidden-size=2", "--batch-size=5", "--momentum=0.5"]
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MISTAKES = st.one_of(
    WORDS.filter(str.isidentifier).map("--zz".__add__),  # an unknown flag
    WORDS.filter(lambda word: not word.startswith("-")),  # no flag at all
    st.builds("{}={}".format, st.sampled_from(["--layers", "--steps", "--seed", "--seeds"]), st.floats()),
    st.builds("{}={}".format, st.sampled_from(["--cell", "--dataset", "--recipe"]), WORDS.map("x".__add__)),
    st.builds("--layers={}".format, st.integers(max_value=0)),
    st.builds("--learning-rate={}".format, st.sampled_from(["nan", "inf", "-1", "0", "one"])),
    st.builds("--bidirectional={}".format, WORDS),
    st.sampled_from(FLAGS).flatmap(lambda flag: st.sampled_from([flag[:-1] + "q", flag + "x", flag.upper()])),
)


@hypothesis.settings(max_examples=300)
@given(before=st.lists(st.sampled_from(GOOD)), mistake=MISTAKES, after=st.lists(st.sampled_from(GOOD)))
def test_any_mistake_is_one_line_and_status_2(before, mistake, after):
    stderr, stdout = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout), pytest.raises(SystemExit) as stop:
        parse([*before, mistake, *after])
    assert stop.value.code == 2
    assert stderr.getvalue().count("\n") == 1
    assert len(stderr.getvalue().splitlines()) == 1
    assert ": error: " in stderr.getvalue()
    assert not stdout.getvalue()


def write_run(folder, **options):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(Config(**options).to_json())
    return folder


def test_a_resumed_run_is_as_it_was(tmp_path):
    options = {"cell": "gru", "steps": 7, "learning_rate": 0.5, "dataset": "digits", "bidirectional": True}
    folder = write_run(tmp_path / "run", **options)
    expected = Config(**options, resume=True, output_dir=folder)
    argv = ["--resume", "--output-dir", str(folder)]
    assert parse(argv) == expected
    assert parse([*argv, "--cell", "gru", "--bidirectional", "--dataset", "auto"]) == expected
    elsewhere = dataclasses.replace(expected, data_dir=tmp_path, checkpoint_every=50)
    assert parse([*argv, "--data-dir", str(tmp_path), "--checkpoint-every", "50"]) == elsewhere


def test_resuming_without_a_folder_takes_the_newest_of_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        parse(["--resume"])
    assert "there is no run to resume in runs/: name one with --output-dir" in capsys.readouterr().err
    write_run(tmp_path / "runs" / "lstm-digits", seed=5)
    config = parse(["--resume"])
    assert (config.seed, config.output_dir) == (5, Path("runs/lstm-digits"))


def test_resuming_where_nothing_is_yet_begins_a_run(tmp_path):
    argv = ["--resume", "--cell", "gru", "--output-dir", str(tmp_path / "new")]
    assert parse(argv) == Config(cell="gru", resume=True, output_dir=tmp_path / "new")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--cell gru", "--cell is gru, but the run in "),
        ("--steps 6", "--steps is 6, but the run in "),
        ("--bidirectional", "--bidirectional is True, but the run in "),
        ("--dataset mnist", "--dataset is mnist, but the run in "),
        ("--seeds 2", "--seeds is 2, but the run in "),
    ],
)
def test_flags_that_differ_from_the_resumed_run_are_named(tmp_path, capsys, flag, message):
    folder = write_run(tmp_path / "run", steps=7, dataset="digits")
    with pytest.raises(SystemExit) as stop:
        parse(["--resume", "--output-dir", str(folder), *flag.split()])
    err = capsys.readouterr().err
    assert (stop.value.code, err.count("\n")) == (2, 1)
    assert message in err


def test_a_saved_configuration_runs_again_with_changes(tmp_path):
    file = write_run(tmp_path / "run", cell="gru", seed=4) / "config.json"
    assert parse(["--config", str(file)]) == Config(cell="gru", seed=4)
    assert parse(["--config", str(file), "--seed", "5"]) == Config(cell="gru", seed=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a configuration"),
        ("[]", "is not a configuration: expected an object"),
        ('{"cel": "gru"}', "unknown field 'cel', did you mean cell?"),
        ('{"layers": "2"}', "layers cannot be '2'"),
        ('{"layers": true}', "layers cannot be True"),
        ('{"bidirectional": 1}', "bidirectional cannot be 1"),
        ('{"seed": null}', "seed cannot be None"),
        ('{"layers": 0}', "--layers must be a positive whole number, not 0"),
    ],
)
def test_a_damaged_configuration_is_one_line(tmp_path, capsys, text, message):
    (tmp_path / "config.json").write_text(text)
    for argv in (["--config", str(tmp_path / "config.json")], ["--resume", "--output-dir", str(tmp_path)]):
        with pytest.raises(SystemExit) as stop:
            parse(argv)
        err = capsys.readouterr().err
        assert (stop.value.code, err.count("\n")) == (2, 1)
        assert message in err


def test_help_names_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for field in dataclasses.fields(Config):
        assert "--" + field.name.replace("_", "-") in out
    assert "(default: 128)" in out


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="--batch-size 1100 is larger than the training set, 1099 images"):
        prepare(Config(dataset="digits", batch_size=1100))


def test_home_is_found_where_the_shell_has_not_looked():
    assert parse(["--data-dir=~/data"]).data_dir == Path.home() / "data"


def test_saved_paths_mean_the_same_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(["--data-dir", "data"]).data_dir == tmp_path / "data"
    write_run(tmp_path / "run", data_dir=Path("data"), init_from=Path("other"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resumed = parse(["--resume", "--output-dir", "../run"])
    assert (resumed.data_dir, resumed.init_from) == (tmp_path / "data", tmp_path / "other")
    assert parse(["--resume", "--output-dir", "../run", "--init-from", "../other"]) == resumed


def test_a_resumed_run_may_become_longer(tmp_path):
    for name, steps in (("seven", 7), ("as the recipe says", None)):
        folder = write_run(tmp_path / name, steps=steps)
        assert parse(["--resume", "--output-dir", str(folder), "--steps", "8"]).steps == 8


def test_a_configuration_checks_itself_without_a_command_line():
    with pytest.raises(ValueError, match=r"--hidden-size must be a positive whole number, not 2\.5"):
        Config(hidden_size=2.5)  # type: ignore


def test_flags_override_the_recipe():
    assert Config().training_recipe() == RECIPES["default"]
    recipe = Config(recipe="tutorial", steps=5, momentum=0.5).training_recipe()
    assert recipe == dataclasses.replace(RECIPES["tutorial"], steps=5, momentum=0.5)


def test_small_data_is_not_shown_too_often():
    assert Config().training_recipe(num_examples=55_000).steps == RECIPES["default"].steps
    assert Config(batch_size=100).training_recipe(num_examples=1_000).steps == 1_000
    assert Config(steps=5_000).training_recipe(num_examples=1_000).steps == 5_000
    assert Config(recipe="tutorial").training_recipe(num_examples=1_000).steps == 10_000


def test_the_vanilla_cell_learns_at_a_rate_of_its_own():
    assert Config(cell="vanilla").training_recipe().learning_rate == CELLS["vanilla"].learning_rate == 0.03
    assert Config(cell="vanilla", recipe="tutorial").training_recipe().learning_rate == 0.001
    assert Config(cell="vanilla", learning_rate=0.5).training_recipe().learning_rate == 0.5


def test_networks_whose_steps_are_quick_or_slow_make_more_or_fewer_of_them():
    steps = RECIPES["default"].steps
    assert Config(cell="vanilla").training_recipe().steps > 2 * steps
    assert Config(bidirectional=True).training_recipe().steps == steps / 2
    assert Config(bidirectional=True, steps=7).training_recipe().steps == 7
    for cell in ("lstm", "vanilla"):
        assert Config(cell=cell, bidirectional=True, recipe="tutorial").training_recipe().steps == 10_000
        assert Config(cell=cell, bidirectional=True, data=Path("a.csv")).training_recipe().steps == SERIES.steps


def build_network(config) -> Any:
    return build_task(config, DataInfo("digits", "here", (8, 8), 16, 10)).network  # type: ignore


def test_the_tutorial_s_cells_are_tensorflow_s():
    cells = {name: build_cell(Config(cell=name, recipe="tutorial")) for name in CELLS}
    assert {name: cells[name] for name in list(cells)[:5]} == {
        "vanilla": rnn.VanillaRNN(128),
        "lstm": rnn.LSTM(128, forget_bias=1.0),
        "gru": rnn.GRU(128, reset_after=False),
        "lstm-peephole": rnn.LSTM(128, peepholes=True),
        "lstm-layernorm": rnn.LayerNormLSTM(128),
    }
    classifier = build_network(Config(recipe="tutorial", bidirectional=True))
    assert (classifier.readout, classifier.head) == ("last_step", "normal")


@pytest.mark.parametrize("bidirectional", [False, True])
def test_precision_is_that_of_every_layer(bidirectional):
    for flag, precision in [("float32", None), ("bfloat16", "bfloat16")]:
        encoder: Any = build_network(Config(precision=flag, bidirectional=bidirectional, layers=2)).encoder
        parts = [
            part for layer in encoder.layers for part in ((layer.forward, layer.backward) if bidirectional else [layer])
        ]
        assert [part.precision for part in parts] == [precision] * len(parts)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_cell_classifies(name, bidirectional):
    config = Config(cell=name, bidirectional=bidirectional, layers=2, hidden_size=5)
    classifier = build_network(config)
    params = classifier.init(jax.random.key(0), 8)
    assert len(params.encoder) == 2
    assert params.w.shape == (10 if bidirectional else 5, 10)
    assert classifier.apply(params, jax.numpy.ones((8, 3, 8))).shape == (3, 10)
