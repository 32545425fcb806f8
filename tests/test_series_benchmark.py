"""The benchmark of people's own sequences: which files it takes, and what it reads from the command's output."""

from benchmarks.series import Row, data_files, read_row

OUTPUT = """\
Baseline, the last value: MAE 77.8397, MASE 2.6588 (Airline)
Baseline, the value 12 steps before: MAE 51.4615, MASE 1.7578 (Airline)
Testing MAE: 19.0 ± 2.0 (mean and standard deviation of 3 seeds, from 17 to 21) (Airline)
Testing MASE: 0.6500 ± 0.0100 (mean and standard deviation of 3 seeds, from 0.64 to 0.66) (Airline)
"""


def test_the_figures_are_read_beside_the_best_baseline():
    assert read_row(OUTPUT, "Airline", "gru", 12.4) == Row(
        "Airline", "gru", "MASE", "0.6500 ± 0.0100", "1.7578", "", "12"
    )
    output = "Baseline, always the mean, 17.5: R2 -0.0042, MAE 10.7 (x)\nTesting R2: -0.5000 (x)\n"
    assert read_row(output, "x", "lstm", 1)[2:5] == ("R2", "-0.5000", "-0.0042")


def test_each_data_set_is_taken_once_and_tests_are_not_data(tmp_path):
    for name in ("a_TRAIN.ts", "a_TEST.ts", "a_TRAIN.tsv", "b.csv", "README.md"):
        (tmp_path / name).touch()
    assert [path.name for path in data_files(tmp_path)] == ["a_TRAIN.ts", "b.csv"]
