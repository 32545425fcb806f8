"""Training, validation and test; scaling, missing values, windows and times."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequences import draw_sequences, read, write_ts

from rnn_jax.data import DataError, Dataset
from rnn_jax.data.series import (
    SeriesInfo,
    fill_missing,
    fit_scaling,
    load_series,
    pad,
    refuse_missing,
    scale,
    unscale,
)
from rnn_jax.data.series.split import TooShort, cut_in_time, hold_out, window_starts
from rnn_jax.data.series.times import extend_times, season_of_times, time_text

LABELS = ["up", "up", "down"]


def load(path, *args, **options) -> Dataset:
    return load_series(path, *args, notify=lambda _: None, **options)


@pytest.fixture
def train_file(tmp_path):
    return write_ts(tmp_path / "a_TRAIN.ts", draw_sequences(0, N=30), LABELS * 10)


def test_the_test_file_beside_the_training_file_is_found(train_file, tmp_path):
    header = "@equalLength false\n@classLabel true down up\n"
    test = write_ts(tmp_path / "a_TEST.ts", draw_sequences(1, N=6), ["down", "up"] * 3, header)
    data = load(train_file)
    assert [len(part.targets) for part in data[1:4]] == [27, 3, 6]
    assert data.info.source == f"{train_file}, tested on {test}"
    assert data.info.summary == (
        "30 training, 6 test sequences, 2 channels, 1 to 5 steps, 2 classes; 3 of the training sequences are for "
        "validation"
    )
    assert [data.info.form.classes[i] for i in data.test.targets] == ["down", "up"] * 3
    other = write_ts(tmp_path / "other.ts", draw_sequences(1, N=3), LABELS)
    assert len(load(train_file, other).test.targets) == 3


def test_without_a_test_file_a_part_of_each_class_is_held_out(train_file):
    data = load(train_file, seed=3)
    assert [np.bincount(part.targets).tolist() for part in data[1:4]] == [[14, 7], [2, 1], [4, 2]]
    assert "a part held out by class, drawn with seed 3" in data.info.source
    again, other = load(train_file, seed=3), load(train_file, seed=4)
    np.testing.assert_array_equal(again.test.inputs, data.test.inputs)
    assert other.test.inputs.shape != data.test.inputs.shape or not np.array_equal(other.test.inputs, data.test.inputs)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("@classLabel true up down left\n@equalLength false\n", r"line 4: 3 channels, but the training data has 2"),
        ("@equalLength false\n@classLabel true left right\n", "line 4: unknown class 'left': the classes are up, down"),
    ],
)
def test_a_test_file_that_does_not_match_is_refused(train_file, tmp_path, header, message):
    channels = 3 if "channels" in message else 2
    labels = ["left", "right", "left"] if "unknown" in message else LABELS
    write_ts(tmp_path / "a_TEST.ts", draw_sequences(1, N=3, D=channels), labels, header)
    with pytest.raises(DataError, match=message):
        load(train_file)


def test_one_class_only_is_refused(tmp_path):
    path = write_ts(tmp_path / "a.ts", draw_sequences(0, N=3), ["up"] * 3)
    with pytest.raises(DataError, match="all sequences are of one class, 'up'"):
        load(path)


def test_too_few_sequences_are_refused(tmp_path):
    path = write_ts(tmp_path / "a.ts", draw_sequences(0, N=2), ["up", "down"])
    with pytest.raises(DataError, match="2 sequences are too few to hold some out for the test, as each is of a class"):
        load(path)


def test_targets_that_are_numbers_are_scaled_on_the_training_part(tmp_path):
    path = tmp_path / "a.ts"
    lines = [f"{i},{i + 1}:{100.0 + i}" for i in range(20)]
    path.write_text("@targetLabel true\n@data\n" + "\n".join(lines) + "\n")
    data = load(path)
    np.testing.assert_allclose(data.train.targets.mean(), 0, atol=1e-6)
    units = np.concatenate([unscale(data.info.goal, part.targets) for part in data[1:4]])
    np.testing.assert_allclose(sorted(units), 100 + np.arange(20), rtol=1e-6)


def test_the_facts_about_the_data_are_written_and_read_as_json(train_file):
    info = load(train_file).info
    assert SeriesInfo.from_json(json.loads(json.dumps(info.to_json()))) == info
    assert hash(info) == hash(load(train_file).info)


@given(
    classes=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 9),
)
def test_a_hold_out_keeps_every_class_and_loses_no_sequence(classes, fraction, seed):
    classes = np.array(classes)
    kept, held = hold_out(classes, len(classes), fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(classes)))
    assert set(classes[kept]) == set(classes)
    counts = np.bincount(classes)
    held_counts = np.bincount(classes[held], minlength=len(counts))
    assert (held_counts[counts > 1] >= 1).all()
    assert (np.abs(held_counts - fraction * counts) <= 1).all()


def test_scaling_is_fitted_on_the_training_part_alone(train_file):
    data = load(train_file)
    assert data.train.lengths is not None
    valid = np.arange(data.info.steps) < data.train.lengths[:, None]
    np.testing.assert_allclose(data.train.inputs[valid].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.inputs[valid].std(0), 1, atol=1e-6)
    assert not data.train.inputs[~valid].any()


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_a_channel_that_is_constant_in_training_becomes_zero_everywhere(constant):
    values = np.stack([np.full(7, constant), np.arange(7)], axis=1)
    scaling = fit_scaling(values)
    np.testing.assert_array_equal(scale(scaling, values)[:, 0], 0)
    np.testing.assert_array_equal(scale(scaling, values + 5)[:, 0], 0)
    np.testing.assert_allclose(unscale(scaling, scale(scaling, values)), values, rtol=1e-6)


def test_missing_values_are_refused_with_their_number_and_the_first(tmp_path):
    path = tmp_path / "a.ts"
    path.write_text("@equalLength false\n@classLabel true a b\n@data\n1,2:3,4:a\n" + "1,?,?:5,6,?:b\n1,2:3,4:a\n" * 4)
    message = r"a\.ts, line 5: 12 values are missing, the first of 'channel 1' at step 2: .*missing=\"fill\""
    with pytest.raises(DataError, match=message):
        refuse_missing(read(path))
    with pytest.raises(DataError, match="missing"):
        load(path)
    data = load(path, missing="fill")
    assert data.info.missing == "fill"
    assert data.train.inputs.shape[-1] == 3
    assert not any(np.isnan(part.inputs).any() for part in data[1:4])


def test_the_last_value_is_carried_forward_within_a_sequence(tmp_path):
    path = tmp_path / "a.ts"
    path.write_text("@equalLength false\n@classLabel true a b\n@data\n?,2,?,?,5:a\n?,1,?:b\n")
    filled = fill_missing(read(path), [9.0])
    np.testing.assert_array_equal(filled.values[:, 0], [9, 2, 2, 2, 5, 9, 1, 1])
    np.testing.assert_array_equal(filled.values[:, 1], [1, 0, 1, 1, 0, 1, 0, 1])


def test_sequences_are_padded_with_zeros_at_their_end():
    padded = pad(np.arange(6.0).reshape(3, 2), np.array([1, 2]))
    np.testing.assert_array_equal(padded, [[[0, 1], [0, 0]], [[2, 3], [4, 5]]])


@given(length=st.integers(1, 300), window=st.integers(1, 40), horizon=st.integers(1, 30))
def test_no_window_of_one_part_has_a_target_in_another(length, window, horizon):
    try:
        validation, test = cut_in_time(length, window, horizon)
    except TooShort:
        assert length < 2 * (window + 4 * horizon)
        return
    bounds = [(0, validation), (validation, test), (test, length)]
    for first, end in bounds:
        starts = window_starts(first, end, window, horizon)
        assert len(starts) >= 1
        assert starts.min() >= 0
        assert starts.min() + window >= first
        assert starts.max() + window + horizon == end
    assert length - test >= 2 * horizon


def test_twelve_years_of_months_are_tested_on_the_last_two():
    assert cut_in_time(144, window=24, horizon=12)[1] == 120


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["1960-11", "1960-12"], "1961-01"),
        (["1984-11-01", "1984-12-01"], "1985-01-01"),
        (["2021-05-06T23:30", "2021-05-07T00:00"], "2021-05-07 00:30"),
        (["2020-11-30", "2020-12-31"], "2021-01-31"),
        (["2020-01-01", "2020-01-03", "2020-01-05", "2020-01-08"], "2020-01-10"),
    ],
)
def test_times_go_on_at_their_distance(times, expected):
    assert time_text(extend_times(np.array(times, "datetime64"), 1)[0]) == expected


def test_the_last_days_of_months_have_the_season_of_months():
    ends = np.arange("2020-02", "2022-02", dtype="datetime64[M]")
    assert season_of_times(ends.astype("datetime64[D]") - np.timedelta64(1, "D")) == 12


def test_large_numbers_of_times_stay_apart():
    assert time_text(1577836800.0) == "1577836800"


@pytest.mark.parametrize("unit", [1e300, 1e-300])
def test_scaling_takes_units_whose_squares_leave_float64(unit):
    scaling = fit_scaling(unit * np.array([[1.0], [2.0], [3.0]]))
    np.testing.assert_allclose(scaling.deviation, [unit * np.sqrt(2 / 3)])


def test_numbers_are_times_as_well():
    np.testing.assert_array_equal(extend_times(np.array([1.0, 3.0, 5.0]), 2), [7, 9])


SALES = "Date,Sales,Price\n" + "".join(
    f"{1950 + m // 12}-{m % 12 + 1:02},{100 + 3 * m + 10 * (m % 12)},{m % 7}\n" for m in range(120)
)


def test_a_table_in_time_is_cut_into_windows_without_a_look_into_the_future(tmp_path):
    path = tmp_path / "sales.csv"
    path.write_text(SALES)
    data = load(path, target="Price", horizon=6)
    info = data.info
    assert (info.season, info.steps, info.horizon, info.form.channels) == (12, 24, 6, ("Price", "Sales"))
    assert info.summary.startswith("83 training, 17 validation and 20 test steps of Price from 1950-01 to 1959-12")
    months = np.arange(120)
    for part, first, end in ((data.train, 0, 83), (data.validation, 83, 100), (data.test, 100, 120)):
        starts = window_starts(first, end, 24, 6)
        assert len(part.inputs) == len(starts)
        known = unscale(info.scaling, part.inputs)[..., 0]
        np.testing.assert_allclose(known, [months[w : w + 24] % 7 for w in starts], atol=1e-5)
        targets = unscale(info.goal, part.targets)
        np.testing.assert_allclose(targets, [months[w + 24 : w + 30] % 7 for w in starts], atol=1e-5)
    path.write_text(SALES.replace("1959-12,", "1959-12,9"))
    assert load(path, target="Price", horizon=6).info.scaling == info.scaling
    np.testing.assert_allclose(info.naive_error, np.abs(months[12:83] % 7 - months[:71] % 7).mean())


def test_a_series_of_its_own_may_be_the_test(tmp_path):
    path, test = tmp_path / "sales.csv", tmp_path / "later.csv"
    path.write_text(SALES)
    test.write_text(SALES.replace(",1\n", ",2\n"))
    data = load(path, test, target="Price", horizon=6)
    assert len(data.test.inputs) == 120 - 24 - 6 + 1
    assert data.info.source == f"{path}, tested on {test}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 40}, "120 steps are too few for window 1 and horizon 40, at least 161 are needed"),
        ({"window": 6}, "a window of 6 steps is shorter than a season of 12: widen it"),
    ],
)
def test_windows_that_do_not_fit_are_refused(tmp_path, options, message):
    path = tmp_path / "sales.csv"
    path.write_text(SALES)
    with pytest.raises(DataError, match=message):
        load(path, target="Price", **{"season": 12 if "window" in options else 1} | options)


def test_windows_whose_targets_were_missing_are_left_out(tmp_path):
    path = tmp_path / "sales.csv"
    path.write_text(SALES)
    whole = load(path, target="Sales", horizon=6)
    path.write_text(SALES.replace("1951-05,188,", "1951-05,,", 1).replace("1959-12,567,", "1959-12,,", 1))
    data = load(path, target="Sales", horizon=6, missing="fill")
    assert (len(data.train.inputs), len(data.test.inputs)) == (len(whole.train.inputs), len(whole.test.inputs) - 1)
    np.testing.assert_allclose(data.info.naive_error, whole.info.naive_error)


@pytest.mark.parametrize(
    ("months", "options", "expected"),
    [(40, {}, (12, 24, 3)), (60, {}, (12, 12, 12)), (30, {}, (1, 4, 2)), (120, {"window": 6}, (1, 6, 10))],
)
def test_windows_and_seasons_that_are_not_given_fit_the_table(tmp_path, months, options, expected):
    path = tmp_path / "sales.csv"
    path.write_text("".join(SALES.splitlines(keepends=True)[: months + 1]))
    info = load(path, target="Price", **options).info
    assert (info.season, info.steps, info.horizon) == expected


def test_a_gap_in_the_times_that_leaves_no_season_is_told(tmp_path):
    path, told = tmp_path / "sales.csv", []
    lines = SALES.splitlines(keepends=True)
    path.write_text("".join(lines[:17] + lines[18:]))
    assert load_series(path, target="Price", notify=told.append).info.season == 1
    gap = f"{path}: the times are not evenly spaced, so no season is found; season sets one"
    assert gap in told
    told.clear()
    assert load_series(path, target="Price", season=12, notify=told.append).info.season == 12
    path.write_text(SALES)
    assert load_series(path, target="Price", notify=told.append).info.season == 12
    assert gap not in told


def test_a_horizon_is_for_forecasts_only(train_file):
    with pytest.raises(
        DataError, match=r'a_TRAIN\.ts is data to classify: horizon is for task="forecast", leave it out'
    ):
        load(train_file, horizon=3)
