"""Tables, arrays and folders as sequences: which column is what, and errors that say where."""

import json
from pathlib import Path

import numpy as np
import pytest
from sequences import draw_sequences, heard, label_names, long_records, read, write_records

from rnn_jax.data import DataError
from rnn_jax.data.series import describe

LABELS = ["walk", "run", "walk", "rest", "run", "walk"]
SHOPS = {"sequence_column": "shop", "target": "x"}
SALES = "Date,Sales,Price\n1949-01,112,1.5\n1949-02,118,1.25\n1949-03,132,1\n"


def write(folder, text, name="a.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_long_table_has_a_sequence_for_each_value_of_a_column(tmp_path, suffix):
    rows = draw_sequences(0)
    path = write_records(tmp_path / f"a.{suffix}", long_records(rows, LABELS))
    found = read(path, sequence_column="trial", target="activity")
    np.testing.assert_array_equal(found.values, np.concatenate(rows))
    np.testing.assert_array_equal(found.lengths, [len(row) for row in rows])
    assert found.names == ("t0", "t1", "t2", "t3", "t4", "t5")
    assert label_names(found) == LABELS
    assert (found.form.task, found.form.channels, found.form.time) == ("classify", ("x0", "x1"), "time")
    assert not found.form.per_step


def test_rows_of_several_sequences_may_be_mixed(tmp_path):
    rows = draw_sequences(0)
    records = long_records(rows, LABELS)
    records.sort(key=lambda record: record["time"])
    found = read(write_records(tmp_path / "a.csv", records), sequence_column="trial", target="activity")
    by_name = dict(zip(found.names, np.split(found.values, found.starts[1:]), strict=True))
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(by_name[f"t{i}"], row)


def test_a_target_that_changes_within_a_sequence_labels_every_step(tmp_path):
    text = "trial,x,activity\n1,0.5,sit\n1,1.5,walk\n2,2.5,walk\n2,0.25,walk\n"
    found = read(write(tmp_path, text), sequence_column="trial", target="activity")
    assert found.form.per_step
    assert describe(found) == "2 sequences, 1 channel, 2 steps, 2 classes at each step"
    np.testing.assert_array_equal(found.targets, [0, 1, 1, 1])


def test_numbers_with_a_fraction_are_regressed(tmp_path):
    text = "trial,x,y\n1,0.5,1.5\n1,1.5,1.5\n2,2.5,2\n"
    found = read(write(tmp_path, text), sequence_column="trial", target="y")
    assert found.form.task == "regress"
    np.testing.assert_array_equal(found.targets, [1.5, 2])


def test_a_table_in_time_is_forecast(tmp_path):
    path = write(tmp_path, SALES)
    found = read(path, target="Price")
    assert (found.form.task, found.form.channels, found.form.target) == ("forecast", ("Price", "Sales"), "Price")
    np.testing.assert_array_equal(found.values[:, 1], [112, 118, 132])
    assert found.times is not None
    assert str(found.times[0]) == "1949-01"
    assert "'Date' is the time" in heard(path, target="Sales")[0]


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        ("1949-01", "1949-02", "1949-03"),
        ("1970 Q1", "1970 Q2", "1970 Q3"),
        ("1991 Jul", "1991 Aug", "1991 Sep"),
        ("2021-05-01 00:00:00+00:00", "2021-05-01 00:30:00+00:00", "2021-05-01 01:00:00+00:00"),
        ("2021-05-01T00:00:00Z", "2021-05-01T00:30:00Z", "2021-05-01T01:00:00Z"),
        ("12/31/2020", "01/01/2021", "01/02/2021"),
        ("31.12.2020", "01.01.2021", "02.01.2021"),
        ("2020/12/31", "2021/01/01", "2021/01/02"),
        ("31-12-2020", "01-01-2021", "02-01-2021"),
        ("20201231", "20210101", "20210102"),
        ("12/31/20 11:00 PM", "01/01/21 11:00 PM", "01/02/21 11:00 PM"),
        ("31 Dec 2020", "01 Jan 2021", "02 Jan 2021"),
    ],
)
def test_dates_of_many_forms_are_times(tmp_path, first, second, third):
    found = read(write(tmp_path, f"when,x\n{first},1\n{second},2\n{third},3\n"))
    assert found.form.time == "when"
    assert found.times is not None
    assert np.issubdtype(found.times.dtype, np.datetime64)
    steps = np.diff(found.times).astype(int)
    assert steps[0] == steps[1] > 0


def test_days_and_months_that_cannot_be_told_apart_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'01/02/2020' may be day/month or month/day: write dates as YYYY-MM-DD"):
        read(write(tmp_path, "when,x\n01/02/2020,1\n01/03/2020,2\n"))


@pytest.mark.parametrize("name", ["", "obs_id", "year"])
def test_a_column_that_counts_rows_is_the_time_if_there_is_no_other(tmp_path, name):
    found = read(write(tmp_path, f"{name},x\n1821,5\n1822,6\n1823,8\n"))
    assert found.form.channels == ("x",)
    np.testing.assert_array_equal(found.times, [1821, 1822, 1823])


def test_text_and_identifiers_are_left_out_with_a_line_that_says_so(tmp_path):
    path = write(tmp_path, "id,Date,note,empty,x\n7,2020-01,fine,,1\n9,2020-02,cold,,2\n8,2020-03,warm,,4\n")
    assert read(path).form.channels == ("x",)
    assert "left out: id (an identifier), note (text), empty (no values)" in heard(path)[1]


def test_a_wide_table_has_a_sequence_in_each_row(tmp_path):
    path = write(tmp_path, "kind,t0,t1,t2\nup,1,2,3\ndown,3,2,\n")
    found = read(path, target="kind")
    np.testing.assert_array_equal(found.lengths, [3, 2])
    np.testing.assert_array_equal(found.values[:, 0], [1, 2, 3, 3, 2])
    assert found.form.classes == ("down", "up")
    assert "each row is a sequence of up to 3 steps" in heard(path, target="kind")[0]


def test_a_row_to_predict_for_has_the_columns_of_the_training_data(tmp_path):
    form = read(write(tmp_path, "kind,t0,t1\nup,1,2\ndown,3,2\n"), target="kind").form
    found = read(write(tmp_path, "t1,t0,kind\n5,1,\n6,2,\n"), like=form)
    np.testing.assert_array_equal(found.values[:, 0], [1, 5, 2, 6])
    assert found.targets is None
    with pytest.raises(DataError, match="has no column 't1' for the input, as the training data has it"):
        read(write(tmp_path, "t0,t2\n1,2\n"), like=form)


def test_times_to_forecast_from_have_to_be_times(tmp_path):
    form = read(write(tmp_path, SALES), target="Sales").form
    with pytest.raises(DataError, match="the column 'Date' holds text, but times are needed"):
        read(write(tmp_path, SALES.replace("1949", "year ")), like=form)


def test_a_semicolon_may_separate_the_columns(tmp_path):
    assert read(write(tmp_path, "Date;Sales\n2020-01;1.5\n2020-02;2\n")).form.target == "Sales"


def test_decimals_may_have_a_comma_where_columns_have_not(tmp_path):
    found = read(write(tmp_path, "Date;Note;Sales\n2020-01;one, two;1,5\n2020-02;a;-2\n2020-03;b;\n"))
    np.testing.assert_array_equal(found.values, [[1.5], [-2], [np.nan]])


def test_a_plus_is_part_of_a_number_and_an_underscore_is_not(tmp_path):
    np.testing.assert_array_equal(read(write(tmp_path, "Date,x\n2020-01,+5\n2020-02,-1e3\n")).values, [[5], [-1000]])
    with pytest.raises(DataError, match="line 4: '1_000' in the column 'x' is no number as the others are"):
        read(write(tmp_path, "Date,x\n2020-01,5\n2020-02,6\n2020-03,1_000\n"))


def test_several_series_are_forecast_if_nothing_but_the_target_is_a_number(tmp_path):
    found = read(write(tmp_path, "shop,Date,x\na,2020-01,5\na,2020-02,6\nb,2020-01,7\n"), **SHOPS)
    assert (found.form.task, found.form.target, len(found.lengths)) == ("forecast", "x", 2)


def test_names_of_classes_stay_as_they_are_written(tmp_path):
    path = write(tmp_path, "s,x,y\n1,1,01\n2,2,02\n")
    assert read(path, sequence_column="s", target="y").form.classes == ("01", "02")


def test_a_table_to_predict_from_needs_no_target_and_may_have_more_columns(tmp_path):
    rows = draw_sequences(0)
    records = long_records(rows, LABELS)
    form = read(write_records(tmp_path / "a.csv", records), sequence_column="trial", target="activity").form
    for record in records:
        del record["activity"]
        record["more"] = 1
    found = read(write_records(tmp_path / "b.csv", records), like=form)
    assert found.targets is None
    np.testing.assert_array_equal(found.values, np.concatenate(rows))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("Date,x,x\n", {}, "line 1: two columns are named 'x': rename one of them"),
        ("Date,x\n", {}, "has no rows"),
        ("1,2\n3,4\n", {}, "line 1: the first line has values, but should name the columns"),
        (SALES + "1949-04,1\n", {}, "line 5: 2 values, but the header names 3 columns"),
        (SALES + "\n1949-04,1,2,3\n", {}, "line 6: 4 values, but the header names 3 columns"),
        (SALES + "1949-04,l29,1\n", {"target": "Sales"}, "line 5: 'l29' in the column 'Sales' is no number"),
        (
            SALES + "19x9-04,1,1\n",
            {"target": "Sales"},
            "line 5: '19x9-04' in the column 'Date' is no time as the others",
        ),
        (SALES, {}, "name the column to forecast, target=NAME; there are Sales, Price"),
        (SALES, {"target": "sale"}, "has no column 'sale' for the target, did you mean 'Sales'?"),
        (SALES, {"target": "Sales", "sequence_column": "trial"}, "has no column 'trial' for the sequences"),
        (SALES, {"target": "Date"}, "the target 'Date' holds times, but classes or numbers"),
        (
            SALES + "1949-02,1,1\n",
            {"target": "Sales"},
            "line 5: time 1949-02 comes after 1949-03: sort the table by 'D",
        ),
        (SALES + "1949-03,1,1\n", {"target": "Sales"}, "line 5: time 1949-03 again, as in line 4"),
        (SALES + ",1,1\n", {"target": "Sales"}, "line 5: no time in the column 'Date'"),
        ("time,x\n2,1\n1,2\n", {}, "line 3: time 1 comes after 2"),
        (
            "Date,x,y\n2020-01,1,up\n2020-02,2,down\n",
            {"target": "y"},
            "all rows are one sequence in time: .*sequence_co",
        ),
        ("a,b\n1,2\n5,6\n", {}, "no column is a time, and none was named"),
        ("Date,x\n2020-01,inf\n2020-02,2\n", {}, "line 2: an infinite value in the column 'x'"),
        ('Date,x\n2020-01,"1,200"\n2020-02,"3"\n', {}, "line 2: '1,200' in the column 'x' is no number: write digits"),
        ("Date,x\n2020-01,$12.50\n2020-02,$3\n", {}, r"line 2: '\$12.50' in the column 'x' is no number: write dig"),
        ("Date,note\n2020-01,a\n2020-02,b\n", {}, "name the column to forecast, .*no column of numbers"),
        ("s,x,y\n1,2,a\n,3,b\n", {"sequence_column": "s", "target": "y"}, "line 3: no value in 's'"),
        ("s,x,y\n1,2,a\n2,3,\n", {"sequence_column": "s", "target": "y"}, "line 3: no value in 'y', the target"),
        ("s,x,y\n1,2,a\n", {"sequence_column": "s"}, "name the column of classes or numbers to predict: target=NAME"),
        ("s,x,y\n1,2,1\n2,3,b\n", {"sequence_column": "s", "target": "y", "task": "regress"}, "line 3: 'b' in the col"),
        ("s,x,y\n1,2,a\n", {"sequence_column": "s", "target": "x", "task": "sort"}, "there is no task 'sort'"),
    ],
)
def test_a_mistake_in_a_table_is_named(tmp_path, text, options, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"x": 1}\n{"x": \n', r"a\.jsonl is damaged: JSON parse error"),
        (
            "a.jsonl",
            b'{"x": 1}\n{"x": "a"}\n',
            r"a\.jsonl is damaged: JSON parse error: .*changed from number to string",
        ),
        ("a.jsonl", b'{"x": 1}\n\n{"x": \n', r"is damaged: JSON parse error: .* in line 3: write an object a line"),
        ("a.jsonl", b"null\n1\n", "line 1: no JSON object: write one object a line"),
        ("a.json", b'[{"x": 1}]\n', "is one JSON array: write one object a line"),
        ("a.parquet", b"PAR1 no parquet", r"a\.parquet is damaged"),
        ("a.npz", b"PK no zip", r"a\.npz is no undamaged \.npz file"),
    ],
)
def test_a_damaged_file_is_an_error_of_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_lists_are_no_channels(tmp_path):
    path = write(tmp_path, '{"t": [1, 2], "x": 1, "time": 1}\n{"t": [3], "x": 2, "time": 2}\n', "a.jsonl")
    assert "left out: t (no numbers)" in heard(path)[1]


def save(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


XS = np.arange(24.0).reshape(4, 3, 2)


def test_arrays_padded_or_one_after_another(tmp_path):
    lengths = np.array([3, 1, 2, 3])
    padded = read(save(tmp_path, xs=XS, lengths=lengths, ys=np.array(["a", "b", "a", "b"])))
    flat = np.concatenate([row[:n] for row, n in zip(XS, lengths, strict=True)])
    joined = read(save(tmp_path, xs=flat, lengths=lengths, ys=np.array([0.5, 1, 2, 3])))
    for found in (padded, joined):
        np.testing.assert_array_equal(found.values, flat)
        np.testing.assert_array_equal(found.lengths, lengths)
    assert (padded.form.classes, padded.form.task, joined.form.task) == (("a", "b"), "classify", "regress")


@pytest.mark.parametrize("shape", [(4, 3), (12,)])
def test_arrays_with_a_target_for_each_step(tmp_path, shape):
    xs = XS if len(shape) == 2 else XS.reshape(12, 2)
    found = read(save(tmp_path, xs=xs, lengths=np.full(4, 3), ys=np.arange(12).reshape(shape) % 2))
    assert found.form.per_step
    np.testing.assert_array_equal(found.targets, np.arange(12) % 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": XS}, "has no array xs, did you mean 'x'?"),
        ({"xs": XS[0, 0]}, r"xs should be \[N, T, D\], or .* not \[2\]"),
        ({"xs": XS.astype(str)}, "xs should hold numbers"),
        ({"xs": XS, "ys": np.zeros(3)}, r"ys should be \[4\]"),
        ({"xs": XS, "lengths": np.array([3, 3, 3, 4])}, r"do not fit xs \[4, 3, 2\]"),
        ({"xs": XS, "lengths": np.array([3, 3, 3, 0])}, "length 0 of sequence 3"),
        ({"xs": XS, "lengths": np.array([0.5])}, "lengths should be whole numbers"),
        ({"xs": XS[0], "lengths": np.array([3, 1])}, "the lengths sum up to 4, but xs has 3 rows"),
        ({"xs": np.full((2, 3, 1), np.inf), "ys": np.zeros(2)}, "xs holds an infinite value in row 0"),
        ({"xs": XS, "ys": np.array([1, 2, 3, np.nan])}, r"ys\[3\]: the target 'nan' is not a finite number"),
        ({"xs": np.array([{}], object)}, "no undamaged .* Python objects: convert it before saving"),
        ({"xs": XS, "ys": np.array(["a", "", "b", "a"])}, r"ys\[1\]: the target is missing"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        read(save(tmp_path, **arrays))


def make_folder(folder: Path, rows) -> Path:
    for i, (row, label) in enumerate(zip(rows, LABELS, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        records = [{"time": t, "a": float(step[0]), "b": float(step[1])} for t, step in enumerate(row)]
        write_records(folder / label / f"{i}.csv", records)
    (folder / ".hidden").touch()
    return folder


def test_a_folder_has_a_subfolder_for_each_class(tmp_path):
    rows = draw_sequences(0)
    found = read(make_folder(tmp_path / "data", rows))
    order = sorted(range(6), key=lambda i: (LABELS[i], i))
    np.testing.assert_array_equal(found.values, np.concatenate([rows[i] for i in order]))
    assert label_names(found) == sorted(LABELS)
    assert found.form.channels == ("a", "b")
    assert found.where(1) == f"{tmp_path / 'data' / found.names[1]}, line 2"


def test_folders_that_hold_something_else_are_refused(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "data", draw_sequences(0))
    with pytest.raises(DataError, match="its subfolders are classes, the task cannot be regress"):
        read(folder, task="regress")
    with pytest.raises(DataError, match="is no table with named columns: leave target out"):
        read(folder, target="a")
    write(folder, "time,a\n0,1\n", "walk/9.csv")
    with pytest.raises(DataError, match=r"9\.csv has no column 'b' for the input, as the training data has it"):
        read(folder)
    (folder / "walk" / "9.csv").unlink()
    write(folder, "hello", "walk/readme.txt")
    with pytest.raises(DataError, match=r"readme\.txt is no table: take it out"):
        read(folder)
    with pytest.raises(DataError, match="has no subfolders with files"):
        read(folder / "walk")

    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.listdir", forbidden)
    with pytest.raises(DataError, match=r"cannot read .*: Permission denied"):
        read(folder)


def test_json_lines_name_the_line_of_a_wrong_target(tmp_path):
    lines = [{"s": 1, "x": 1.5, "y": "a"}, {"s": 2, "x": 2.5, "y": None}]
    path = write(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "a.jsonl")
    with pytest.raises(DataError, match="line 2: no value in 'y', the target"):
        read(path, sequence_column="s", target="y")
