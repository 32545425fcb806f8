"""From the command line to a configuration, and from there to a classifier."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

import rnn_jax as rnn
from rnn_jax.config import CELLS, Config, parse
from rnn_jax.data import Dataset, Split
from rnn_jax.recipes import RECIPES


def test_no_flags_are_the_defaults():
    assert parse([]) == Config()


def test_every_flag_sets_its_field(tmp_path):
    argv = (
        "--cell gru --bidirectional --layers 2 --hidden-size 64 --dataset digits --recipe tutorial --batch-size 32 "
        f"--steps 7 --learning-rate 0.5 --momentum 0.8 --seed 3 --data-dir {tmp_path} --output-dir {tmp_path}/run"
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
    )
    assert all(getattr(config, field.name) != field.default for field in dataclasses.fields(Config))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--cell lstn", "--cell must be one of vanilla, lstm, gru, lstm-peephole, lstm-layernorm, not 'lstn'"),
        ("--dataset emnist", "--dataset must be one of auto, mnist, fashion_mnist, kmnist, digits, not 'emnist'"),
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


def test_help_names_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for field in dataclasses.fields(Config):
        assert "--" + field.name.replace("_", "-") in out
    assert "(default: 128)" in out


def test_a_batch_larger_than_the_data_is_refused():
    split = Split(np.zeros((5, 8, 8), np.uint8), np.zeros(5, np.int32))
    data = Dataset("digits", split, split, split, max_pixel=16, num_classes=10, source="here")
    Config(batch_size=5).check_data(data)
    with pytest.raises(ValueError, match="--batch-size 6 is larger than the training set, 5 images"):
        Config(batch_size=6).check_data(data)


def test_home_is_found_where_the_shell_has_not_looked():
    assert parse(["--data-dir=~/data"]).data_dir == Path.home() / "data"


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
    assert Config(cell="vanilla").training_recipe().learning_rate == RECIPES["default"].vanilla_learning_rate
    assert Config(cell="vanilla", learning_rate=0.5).training_recipe().learning_rate == 0.5


def test_the_tutorial_s_cells_are_tensorflow_s():
    cells = {name: Config(cell=name, recipe="tutorial").build_cell() for name in CELLS}
    assert cells == {
        "vanilla": rnn.VanillaRNN(128),
        "lstm": rnn.LSTM(128, forget_bias=1.0),
        "gru": rnn.GRU(128, reset_after=False),
        "lstm-peephole": rnn.LSTM(128, peepholes=True),
        "lstm-layernorm": rnn.LayerNormLSTM(128),
    }
    classifier = Config(recipe="tutorial", bidirectional=True).build_classifier(10)
    assert (classifier.readout, classifier.head) == ("last_step", "normal")


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_cell_classifies(name, bidirectional):
    config = Config(cell=name, bidirectional=bidirectional, layers=2, hidden_size=5)
    classifier = config.build_classifier(10)
    params = classifier.init(jax.random.key(0), 8)
    assert len(params.encoder) == 2
    assert params.w.shape == (10 if bidirectional else 5, 10)
    assert classifier.apply(params, jax.numpy.ones((8, 3, 8))).shape == (3, 10)
