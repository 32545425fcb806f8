"""The file formats of the UCR and UEA archives: the same values as aeon reads, and errors that say where."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sequences import SERIES, heard, label_names, needs_series, read

from rnn_jax.data import DataError
from rnn_jax.data.series import describe

AEON = np.load(Path(__file__).resolve().parents[1] / "golden" / "aeon.npz")
NAMES = {
    kind: sorted({key.split("/")[1] for key in AEON.files if key.startswith(kind)}) for kind in ("small", "archive")
}
HEADER = "@timeStamps false\n@univariate true\n@equalLength true\n@classLabel true up down\n"


def labels_of(sequences):
    """Labels as aeon has them: classes in lower case, numbers as Python writes them."""
    if sequences.form.task == "classify":
        return [name.lower() for name in label_names(sequences)]
    return [str(float(y)) for y in sequences.targets]


@pytest.mark.parametrize("name", NAMES["small"])
def test_small_files_have_the_values_that_aeon_reads(tmp_path, name):
    path = tmp_path / name
    path.write_text(str(AEON[f"small/{name}/text"]))
    found = read(path)
    np.testing.assert_array_equal(found.values, AEON[f"small/{name}/values"])
    np.testing.assert_array_equal(found.lengths, AEON[f"small/{name}/lengths"])
    assert labels_of(found) == [label.lower() for label in AEON[f"small/{name}/labels"]]


@needs_series
@pytest.mark.parametrize("name", NAMES["archive"])
def test_archive_files_have_the_values_that_aeon_reads(name):
    found = read(SERIES / name)
    N, *shape = AEON[f"archive/{name}/shape"]
    assert (len(found.lengths), *found.values.shape) == (N, *shape)
    np.testing.assert_array_equal(found.values[: found.lengths[0]].astype(np.float32), AEON[f"archive/{name}/first"])
    assert hashlib.sha256(found.values.tobytes()).hexdigest() == str(AEON[f"archive/{name}/sha256"])
    labels = "\n".join(label.lower() for label in labels_of(found))
    assert hashlib.sha256(labels.encode()).hexdigest() == str(AEON[f"archive/{name}/labels"])


@needs_series
def test_what_is_said_about_japanese_vowels():
    assert describe(read(SERIES / "JapaneseVowels_TRAIN.ts")) == "270 sequences, 12 channels, 7 to 26 steps, 9 classes"


def test_names_of_classes_keep_their_case_and_the_order_of_the_header(tmp_path):
    path = tmp_path / "a.ts"
    path.write_text("@classLabel true Walk run\n@data\n1,2:run\n3,4:Walk\n")
    found = read(path)
    assert found.form.classes == ("Walk", "run")
    assert label_names(found) == ["run", "Walk"]


def test_a_file_without_labels_can_be_read_to_predict_from(tmp_path):
    path = tmp_path / "a.ts"
    path.write_text("@classLabel true a b\n@data\n1,2:a\n3,4:b\n")
    form = read(path).form
    path.write_text("@classLabel false\n@data\n1,2\n3,4\n5,6\n")
    found = read(path, like=form)
    assert found.form == form
    assert found.targets is None
    assert len(found.lengths) == 3


def test_comments_blank_lines_and_windows_ends_of_lines_do_not_matter(tmp_path):
    path = tmp_path / "a.ts"
    path.write_bytes(
        b"\xef\xbb\xbf# c\r\n\r\n  @CLASSLABEL  TRUE  a  b \r\n@DATA\r\n# c\r\n1, 2 : a\r\n\r\n% c\r\n3,4:b\r\n"
    )
    np.testing.assert_array_equal(read(path).values[:, 0], [1, 2, 3, 4])


@pytest.mark.parametrize("suffix", ["arff", "tsv"])
def test_missing_values_at_the_end_of_a_padded_row_make_a_shorter_sequence(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "tsv":
        path.write_text("1\t0.5\t?\t2\n2\t1\tNaN\tNaN\n")
    else:
        header = "@relation r\n@attribute a numeric\n@attribute b numeric\n@attribute c numeric\n@attribute y {1,2}\n"
        path.write_text(header + "@data\n0.5,?,2,1\n1,?,?,2\n")
    found = read(path)
    np.testing.assert_array_equal(found.lengths, [3, 1])
    np.testing.assert_array_equal(found.values[:, 0], [0.5, np.nan, 2, 1])


def test_a_tsv_with_a_header_is_a_table(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("Date\tSales\n2020-01\t1\n2020-02\t2\n")
    assert read(path).form.task == "forecast"


def test_few_whole_numbers_are_classes_and_that_is_said(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("10\t0.5\n9\t1\n10\t2\n")
    assert read(path).form.classes == ("9", "10")
    assert "taken as classes" in heard(path)[0]
    assert read(path, task="regress").form.classes == ()


def test_the_last_line_without_an_end_is_mentioned(tmp_path):
    path = tmp_path / "a.ts"
    path.write_text(HEADER + "@data\n1,2:up\n1,2:down")
    assert "line 7: the last line has no end" in heard(path)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "nothing but blanks"),
        ("# c\n", "line 1: the file ends without @data"),
        (HEADER + "1,2:up\n", "line 5: expected a keyword such as @classLabel, or @data before the first sequence"),
        (HEADER + "@dato\n", "line 5: the file ends without @data, did you mean '@dato'"),
        (HEADER + "@data\n", "line 5: there are no sequences after @data"),
        (HEADER + "@data 3\n", "line 5: @data must stand alone"),
        (HEADER + HEADER + "@data\n1,2:up\n", "line 5: @timestamps again, as in line 1: keep one header"),
        (HEADER + "@data\n1,2:up\n" + HEADER, "line 7: '@timeStamps' in the data, a second header"),
        (HEADER + "@data\n1,2:up\n1,x:down\n", "line 7: value 2, 'x', is not a finite number: correct it"),
        (HEADER + "@data\n1,2:up\n1,:down\n", "line 7: value 2, '', is not a finite number"),
        (HEADER + "@data\n1,inf:up\n", "line 6: value 2, 'inf', is not a finite number"),
        (HEADER + "@data\n1,2:up\n1,2,3:down\n", "line 7: 3 steps, but line 6 has 2: .* @equalLength false"),
        (HEADER + "@data\n1,2:up\n1,2\n", "line 7: no label after the values"),
        (HEADER + "@data\n1,2:up\n1,2:dawn\n", "line 7: unknown class 'dawn': the classes are up, down"),
        (HEADER + "@data\n1,2:up\n1,2:\n", "line 7: the target is missing"),
        (HEADER + "@data\n1,2:3,4:up\n", "line 6: 2 channels, but the header has @univariate true"),
        ("@classLabel true a b\n@data\n1:2:a\n1:b\n", "line 4: 1 channel, but line 3 has 2: is one missing?"),
        ("@classLabel true a b\n@data\n1,2:2:a\n", "line 3: channel 2 has 1 value, channel 1 has 2"),
        ("@dimensions 3\n@classLabel true a b\n@data\n1:2:a\n", "line 4: 2 channels, but .* @dimensions 3"),
        ("@seriesLength 3\n@classLabel true a b\n@data\n1:a\n", "line 4: 1 step, but .* @seriesLength 3"),
        ("@classLabel true\n@data\n", "line 1: @classLabel true needs the names of the classes"),
        ("@classLabel true a a\n@data\n", "line 1: @classlabel names a class twice"),
        ("@classLabel a b\n@data\n", "line 1: @classlabel needs true or false"),
        ("@dimensions two\n@data\n", "line 1: @dimensions needs one whole number"),
        ("@univariate true\n@data\n1:2\n", "line 2: the header says nothing about labels"),
        ("@timeStamps true\n@data\n", "line 1: values with time stamps cannot be read"),
        ("@targetLabel true\n@data\n1,2:0.5\n1,2:high\n", "line 4: the target 'high' is not a finite number"),
    ],
)
def test_a_mistake_in_a_ts_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "a.ts"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


ARFF = "@relation r\n@attribute a numeric\n@attribute b numeric\n@attribute y {up,down}\n"
RELATIONAL = (
    "@relation r\n@attribute bag relational\n@attribute a numeric\n@attribute b numeric\n@end bag\n@attribute y {l,r}\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ARFF, "line 4: the file ends without @data"),
        (ARFF + "1,2,up\n", "line 5: expected @relation, @attribute, or @data"),
        (ARFF + "@data\n", "line 5: there are no sequences after @data"),
        (ARFF + "@data\n1,2,up\n1,up\n", "line 7: 2 fields, but the header has 3 attributes"),
        (ARFF + "@data\n1,b,up\n", "line 6: value 2, 'b', is not a finite number"),
        (ARFF + "@data\n?,?,up\n", "line 6: all values are missing"),
        (ARFF + "@data\n1,2,left\n", "line 6: unknown class 'left'"),
        (ARFF + "@data\n1,2,up\n@data\n", "line 7: '@data' in the data, a second header"),
        (ARFF + "@data\n{0 1, 2 up}\n", "line 6: sparse data cannot be read"),
        (ARFF + ARFF, "line 5: @relation again"),
        (ARFF.replace("b numeric", "b string") + "@data\n", "attribute 'b' is 'string', not numeric"),
        (ARFF.replace("{up,down}", "date") + "@data\n", "the last attribute, y, is the target"),
        ("@relation r\n@data\n", "line 2: @data needs attributes before it"),
        (RELATIONAL + "@data\n'1,2\\n3,4',l\n'1,2',r\n", "line 9: 1 channel, but line 8 has 2"),
        (RELATIONAL + "@data\n'1,2\\n3',l\n", "line 8: a channel does not have the 2 values"),
        (RELATIONAL + "@data\n'1,2\\n3,4,l\n", "line 8: a quote is not closed"),
    ],
)
def test_a_mistake_in_an_arff_file_is_named(tmp_path, text, message):
    path = tmp_path / "a.arff"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("@data\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        (b"@data\n\x00\x01", "line 2: a zero byte"),
        (b"@data\n1,2:caf\xe9\n", "line 2: not UTF-8"),
    ],
)
@pytest.mark.parametrize("suffix", ["ts", "arff", "tsv", "csv", "jsonl"])
def test_what_is_no_text_is_refused(tmp_path, content, message, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_file_larger_than_memory_is_refused_with_its_size_and_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.ts"
    path.write_text(HEADER + "@data\n1,2:up\n" * 100)
    monkeypatch.setattr("rnn_jax.data.series.files.memory", lambda: 400)
    with pytest.raises(DataError, match=r"a\.ts takes 0.00 GB, more than the limit of 0.00 GB"):
        read(path)


def test_what_cannot_be_opened_or_is_of_another_kind_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"cannot read .*nothing\.ts: No such file"):
        read(tmp_path / "nothing.ts")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(DataError, match=r"a\.xlsx is of a kind that cannot be read: .*\.csv"):
        read(tmp_path / "a.xlsx")

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.ts").write_text("@data\n")
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(DataError, match=r"cannot read .*a\.ts: Permission denied"):
        read(tmp_path / "a.ts")


def test_question_marks_are_the_labels_of_sequences_to_predict_for(tmp_path):
    (tmp_path / "a.ts").write_text("@classLabel true a b\n@data\n1,2:a\n1,3:b\n")
    (tmp_path / "b.ts").write_text("@classLabel true a b\n@data\n1,2:?\n")
    assert read(tmp_path / "b.ts", like=read(tmp_path / "a.ts").form).targets is None


@pytest.mark.parametrize("suffix", ["ts", "tsv", "arff"])
def test_labelled_sequences_are_no_forecast(tmp_path, suffix):
    content = {
        "ts": "@classLabel true a b\n@data\n1,2:a\n",
        "tsv": "1\t2\t3\n",
        "arff": "@relation x\n@attribute t numeric\n@attribute c {a,b}\n@data\n1,a\n",
    }
    (tmp_path / f"a.{suffix}").write_text(content[suffix])
    with pytest.raises(DataError, match="holds sequences with a label each, nothing to forecast"):
        read(tmp_path / f"a.{suffix}", task="forecast")
