"""The folder of a run: who may use it, and a table that outlives a crash."""

import concurrent.futures
import contextlib
import errno
import json
import os

import pytest

from rnn_jax.app.command import parse
from rnn_jax.app.config import Config
from rnn_jax.app.folder import CONFIG, DATA, METRICS, RunFolder, new_run, newest_run, read_data_info
from rnn_jax.app.metrics import MetricsTable, read_metrics
from rnn_jax.data import DataInfo
from rnn_jax.tasks.task import Report

INFO = DataInfo("digits", "here", (8, 9), 16, 10)


def open_run(path, **options):
    config = Config(output_dir=path, **options)
    return RunFolder(path or new_run(config.cell, INFO.name), config.to_json(), INFO, "a digest", resume=config.resume)


def make_run(path, **options):
    with open_run(path, **options) as run:
        return run


def test_a_folder_is_named_after_cell_data_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = make_run(None, cell="gru"), make_run(None, cell="gru")
    assert first.path.match("runs/gru-digits-20??-??-??-??????")
    assert first.path != second.path
    assert read_data_info(first.path) == ("digits", "here", (8, 9), 16, 10)


def test_the_run_begun_last_is_the_newest(tmp_path):
    for name, time in (("b", 2), ("c", 3), ("a", 1)):
        make_run(tmp_path / name)
        os.utime(tmp_path / name / CONFIG, (time, time))
    assert newest_run(tmp_path) == tmp_path / "c"
    with pytest.raises(ValueError, match="there is no run to resume in"):
        newest_run(tmp_path / "a")


def test_runs_begun_in_the_same_second_get_folders_of_their_own(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run("gru", "digits", tmp_path), range(40)))
    assert len(set(folders)) == 40
    assert all(folder.is_dir() for folder in folders)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^cannot make .*: Not a directory: name a folder with --output-dir$"):
        new_run("gru", "digits", tmp_path / "file")


def test_two_processes_never_begin_one_folder(tmp_path):
    def begin(folder):
        try:
            return open_run(folder)
        except ValueError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number in range(30):
            answers = list(pool.map(begin, [tmp_path / str(number)] * 8))
            refused = [answer for answer in answers if isinstance(answer, str)]
            assert len(refused) == 7
            assert all("is in use by another process" in answer or "holds a run" in answer for answer in refused)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, number):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    warnings = []
    monkeypatch.setattr("rnn_jax.app.folder.fcntl.flock", refuse)
    with RunFolder(tmp_path / "run", Config().to_json(), INFO, "a digest", warn=warnings.append):
        assert (tmp_path / "run" / CONFIG).exists()
    expected = f"{tmp_path}/run cannot be locked ({os.strerror(number)}): let no other process train in it"
    assert warnings == [expected]


def test_a_run_knows_its_data(tmp_path):
    def resume(digest, info=INFO, **options):
        RunFolder(tmp_path, "", info, digest, resume=True, **options).__exit__(None, None, None)

    make_run(tmp_path)
    resume("a digest", INFO._replace(source="elsewhere"))
    assert read_data_info(tmp_path) == INFO, "the same data, wherever they were found"
    with pytest.raises(ValueError, match=r"^elsewhere is other data than those of the run in .*, here: name those by"):
        resume("another", INFO._replace(source="elsewhere"))
    with pytest.raises(ValueError, match="has another form than here, the data of the run in"):
        resume("another", INFO._replace(image_shape=(9, 8)), accept_data=True)
    resume("another", INFO._replace(source="elsewhere"), accept_data=True)
    assert read_data_info(tmp_path).source == "elsewhere"
    resume("another")
    (tmp_path / DATA).write_text(json.dumps(INFO._asdict()))  # as it was before there were digests
    resume("any")


def test_what_belongs_to_others_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("my only copy")
    for resume in (False, True):
        with pytest.raises(ValueError, match="is not empty, and no run: choose a new folder"):
            make_run(tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_is_neither_overwritten_nor_shared(tmp_path):
    make_run(tmp_path, seed=7)
    before = (tmp_path / CONFIG).read_text()
    with pytest.raises(ValueError, match=r"holds a run: go on with it by --resume, or choose a new folder"):
        make_run(tmp_path)
    in_use = pytest.raises(ValueError, match="is in use by another process")
    with open_run(tmp_path, resume=True, seed=7), in_use:
        make_run(tmp_path, resume=True)
    make_run(tmp_path, resume=True)
    assert (tmp_path / CONFIG).read_text() == before


def test_a_process_killed_at_its_very_beginning_leaves_a_folder_that_can_be_used(tmp_path):
    for name in ("data.json", "data.json.unfinished", "config.json.unfinished"):
        (tmp_path / name).write_text("{")
    make_run(tmp_path, seed=3)
    assert parse(["--resume", "--output-dir", str(tmp_path)]).seed == 3


@pytest.mark.parametrize("where", ["a file", "read-only", "no permission"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, where):
    if where == "a file":
        (tmp_path / "x").write_text("")
    if where == "read-only":

        def refuse(path, *args, **kwargs):
            raise OSError(30, "Read-only file system", str(path))

        monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    if where == "no permission":
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"^cannot write --output-dir .*: .*: choose another folder$") as caught:
        make_run(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_the_table_forgets_what_came_after_the_checkpoint(tmp_path):
    names = ["loss", "accuracy", "validation_loss", "validation_accuracy"]
    rows = [(1, 2.3, 0.125, None, None), (50, 0.1 + 0.2, 0.5, 1.25, 0.75), (100, 1e-9, 1.0, None, None)]
    reports = [Report(step, 0, dict(zip(names, values, strict=True))) for step, *values in rows]
    with contextlib.closing(MetricsTable(tmp_path / METRICS, names[:2], 0)) as table:
        assert table.reports == []
        table.add(reports)
        assert read_metrics(tmp_path / METRICS) == reports, "the rows are in the file while it is open"
    whole = (tmp_path / METRICS).read_text()
    (tmp_path / METRICS).write_text(whole + "150,0,2.")  # killed in the middle of a line
    with contextlib.closing(MetricsTable(tmp_path / METRICS, names[:2], 50)) as table:
        assert table.reports == reports[:2]
        table.add(reports[2:])
    assert (tmp_path / METRICS).read_text() == whole


def test_every_field_of_a_configuration_is_kept(tmp_path):
    config = Config(cell="gru", layers=2, learning_rate=0.5, data_dir=tmp_path, tensorboard=True, seeds=2)
    with RunFolder(tmp_path / "run", config.to_json(), INFO, "a digest"):
        assert parse(["--config", str(tmp_path / "run" / CONFIG)]) == config
