"""The benchmark of people's own sequences: which files it takes, what it reads from the command's output, its folds."""

import numpy as np
from sequences import draw_sequences, write_ts

from benchmarks import report, series
from benchmarks.series import Row, data_files, read_row
from benchmarks.series_recipe import load_folds, make_comparison, skill
from rnn_jax.data import Examples

OUTPUT = """\
Baseline, the last value: MAE 77.8397, MASE 2.6588 (Airline)
Baseline, the value 12 steps before: MAE 51.4615, MASE 1.7578 (Airline)
Testing MAE: 19.0000 (Airline)
Testing MASE: 0.6500 (Airline)
"""


def test_the_figures_are_read_beside_the_best_baseline():
    outputs = [OUTPUT, OUTPUT.replace("0.6500", "0.6300")]
    assert read_row(outputs, "Airline", "gru", 12.4) == Row(
        "Airline", "gru", "MASE", "0.6400 ± 0.0100", "1.7578", "", "12"
    )
    output = "Baseline, always the mean, 17.5: R2 -0.0042, MAE 10.7 (x)\nTesting R2: -0.5000 (x)\n"
    assert read_row([output], "x", "lstm", 1)[2:5] == ("R2", "-0.5000 ± 0.0000", "-0.0042")


def test_each_data_set_is_taken_once_and_tests_are_not_data(tmp_path):
    for name in ("a_TRAIN.ts", "a_TEST.ts", "a_TRAIN.tsv", "b.csv", "README.md"):
        (tmp_path / name).touch()
    assert [path.name for path in data_files(tmp_path)] == ["a_TRAIN.ts", "b.csv"]


def test_the_table_has_a_row_for_each_cell_and_data_set(tmp_path, monkeypatch):
    for name in ("a_TRAIN.ts", "b.csv"):
        (tmp_path / name).touch()
    row = Row("", "", "Accuracy", "0.9000 ± 0.0100", "0.5000", "0.950 (others)", "12")
    monkeypatch.setattr(series, "measure", lambda file, name, cell, *_: row._replace(data=name, cell=cell))
    monkeypatch.setattr(report, "HOME", tmp_path)
    assert series.main([str(tmp_path), "--cells", "gru", "lstm", "--seeds", "2"]) == 0
    lines = (tmp_path / "RESULTS.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "0.9000" in line]
    assert [row[:2] for row in rows] == [["a", "gru"], ["b", "gru"], ["a", "lstm"], ["b", "lstm"]]
    assert rows[0][2:] == ["Accuracy", "0.9000 ± 0.0100", "0.5000", "0.950 (others)", "12"]
    assert any("over the seeds 0 to 1," in line for line in lines)
    assert "`python -m benchmarks.series FOLDER --cells gru lstm --seeds 2`." in lines[-3]


def test_folds_test_every_sequence_once_and_leave_the_test_file_alone(tmp_path):
    file = write_ts(tmp_path / "a_TRAIN.ts", draw_sequences(0, N=31), ["up", "up", "down"] * 10 + ["down"])
    (tmp_path / "a_TEST.ts").write_text("is not read")
    data, folds = load_folds(file, "a", 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(31))
    for fold in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate(fold)), np.arange(31))
        assert np.bincount(data.train.targets[fold.test]).min() >= 3


def test_folds_of_a_forecast_follow_each_other_in_time(tmp_path):
    lines = [f"{1950 + m // 12}-{m % 12 + 1:02},{m}" for m in range(120)]
    (tmp_path / "a.csv").write_text("Month,Sold\n" + "\n".join(lines) + "\n")
    data, (fold, _) = load_folds(tmp_path / "a.csv", "a", 2)
    first, last = data.train.targets[..., 0], data.train.targets[..., -1]
    assert last[fold.train].max() < first[fold.validation].min()
    assert last[fold.validation].max() < first[fold.test].min()


class Guess:
    """A task whose figure is an error."""

    def measure(self, examples, predictions):
        return {"MAE": float(np.abs(examples.targets - predictions).mean())}

    def baselines(self, examples):
        return {"two": np.full_like(examples.targets, 2), "one": np.full_like(examples.targets, 1)}


def test_skill_is_the_part_of_the_best_baselines_error_that_is_avoided():
    examples, rows = Examples(np.zeros((3, 1, 1)), np.zeros(3)), np.array([0, 2])
    for prediction, expected in ((0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (9.0, -1.0)):
        assert skill(Guess(), examples, rows, np.full(3, prediction)) == expected


def test_recipes_are_compared_with_the_first_one():
    skills = np.array([[[0.5, 0.7], [0.6, 1.0]], [[0.4, 0.6], [0.5, 0.7]]])  # best and last, of two recipes
    *_, first, second = make_comparison(["the recipe", "another"], ["a", "b"], skills).splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in (first, second)]
    assert cells[0] == ["the recipe", "0.500", "0.700", "0.600", "0.500", "0.000", "0.000"]
    assert cells[1] == ["another", "0.600", "1.000", "0.800", "0.600", "0.200", "0.100"]
