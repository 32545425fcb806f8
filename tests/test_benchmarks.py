"""The benchmark suite: what it counts, how it measures, and what it writes."""

import json
import math
import re
import shutil
import statistics
import subprocess
import sys

import jax
import numpy as np
import pytest
from tqdm import tqdm

import benchmarks.__main__ as command
from benchmarks import experiments, generation, latency, measure, report, start, text
from benchmarks.cases import GATES, SHAPES, TUTORIAL, Case, Shape, all_cases, default_cases
from benchmarks.peers import Peer, find_peers
from benchmarks.report import compute_ratios, section, update_file

TINY = Shape(batch=2, time=3, input_size=5, hidden_size=7)


@pytest.mark.parametrize(
    ("cell", "mode", "flops"),
    [
        # 6 rows of [x, h], 12 wide, times 28 columns: 2 * 6 * 12 * 28 = 4032; h alone: 2 * 6 * 7 * 28 = 2352
        ("lstm", "inference", 4032),
        ("layer-norm-lstm", "inference", 4032),
        ("lstm", "training", 4032 + 4032 + 2352),
        ("bidirectional-lstm", "training", 2 * (4032 + 4032 + 2352)),
        # the upper layer's rows are 14 wide, and it hands the gradient down: 3 * 2 * 6 * 14 * 28 = 14112
        ("two-layer-lstm", "training", 4032 + 4032 + 2352 + 14112),
        ("gru", "inference", 3024),
        ("gru-reset-before", "training", 3024 + 3024 + 1764),
        ("vanilla", "training", 1008 + 1008 + 588),
    ],
)
def test_flops_are_those_of_the_products(cell, mode, flops):
    assert Case(cell, TINY, mode).flops == flops


def test_the_default_cases_are_part_of_all_cases():
    assert set(default_cases()) < set(all_cases())
    assert {case.cell for case in default_cases()} == set(GATES)
    assert {case.shape for case in default_cases()} == set(SHAPES)
    assert len(all_cases()) == 7 * 6 * 2


def invent_results(seed_seconds=0.01):
    """Results in which PyTorch takes twice our time at the first shape and half of it at the second."""

    def rounds(seconds):
        return [seconds, 1.1 * seconds, 0.9 * seconds]

    def case(shape, torch_seconds, blanks):
        ours = {"rnn_jax fused": rounds(4 * seed_seconds), "rnn_jax fused, 2 devices": rounds(seed_seconds)}
        if shape.batch == 1:
            ours = {"rnn_jax fused": rounds(seed_seconds)}
        return {
            "cell": "lstm",
            "shape": list(shape),
            "mode": "training",
            "seconds": {**ours, "PyTorch": rounds(torch_seconds)},
            "temp_bytes": {"rnn_jax fused": 26_100_000},
            "blanks": blanks,
        }

    return {
        "date": "2030-01-02",
        "command": "python -m benchmarks",
        "machine": {"processor": "An abacus", "cores": 2, "memory_gib": 1.0, "system": "Linux", "load": 0.0},
        "rounds": 3,
        "min_seconds": 0.1,
        "versions": {"jax": "0.10.2"},
        "left_out": {"Haiku": "No module named 'haiku'"},
        "product_rates": {"jax, all cores": [1e11], "jax, one core": [5e10], "torch, all cores": [2e11]},
        "compile_seconds": {"28": [0.4, 0.6, 0.5], "10000": [0.6, 0.5, 0.7]},
        "cases": [
            case(TUTORIAL, 2 * seed_seconds, {"Equinox": "has no such cell"}),
            case(Shape(1, 10, 4, 8), seed_seconds / 2, {}),
        ],
    }


def test_ratios_are_of_medians_and_fall_back_to_one_device():
    [by_shape] = [r for (name, _), r in compute_ratios(invent_results(), "training", 2).items() if name == "PyTorch"]
    assert by_shape == pytest.approx({TUTORIAL: 0.5, Shape(1, 10, 4, 8): 2.0})
    assert compute_ratios(invent_results(), "training", 1)["PyTorch", "lstm"][TUTORIAL] == pytest.approx(2.0)
    assert compute_ratios(invent_results(), "training", None)["PyTorch", "lstm"][TUTORIAL] == pytest.approx(0.5)
    assert compute_ratios(invent_results(), "inference", 2) == {}


def test_the_tables_hold_what_was_measured_and_what_was_not():
    text = section(invent_results())
    assert "An abacus, 2 cores, 1 GiB, Linux, 2030-01-02" in text
    assert "**Left out**: Haiku: No module named 'haiku'." in text
    assert "- Equinox: has no such cell (lstm 128,28,28,128)" in text
    assert re.search(r"\| PyTorch +\| +2 \| +1\.00 \| +2\.00 \| lstm 1,10,4,8 +\|", text), "cases, mean, highest"
    assert re.search(r"\| lstm +\| PyTorch +\| +0\.50 \| +2\.00 \| +1\.00 \|", text)
    assert re.search(r"\| lstm +\| PyTorch +\| +20\.0 ±1\.0 \| +5\.00 ±0\.25 \|", text)
    part = Case("lstm", TUTORIAL, "training").flops / 0.01 / 1e11
    assert f"{part:.2f} ({part / 2:.2f})" in text
    assert "0.50 at T = 28, 0.60 at T = 10,000 (1.20 times)" in text
    assert re.search(r"\| lstm +\| rnn_jax fused +\| +26\.1 \|", text)


def test_each_command_keeps_to_its_section_of_the_file(tmp_path):
    path = tmp_path / "RESULTS.md"
    update_file(path, "first")
    path.write_text(path.read_text().replace("# Benchmarks", "# By hand") + "\n## Also by hand\n")
    update_file(path, "other", "other command")
    update_file(path, "second")
    assert path.read_text() == (
        "# By hand\n\n<!-- begin: written by python -m benchmarks -->\n\nsecond\n\n"
        "<!-- end: written by python -m benchmarks -->\n\n## Also by hand\n\n"
        "<!-- begin: written by other command -->\n\nother\n\n<!-- end: written by other command -->\n"
    )


def test_latency_is_measured_in_each_runtime():
    pytest.importorskip("onnx", reason="onnx is an extra")
    pytest.importorskip("onnxruntime", reason="onnxruntime is an extra")
    pytest.importorskip("torch", reason="PyTorch is an extra")
    rows = latency.measure_size(1, 2, rounds=1, min_seconds=0)
    assert [row[:2] for row in rows] == [["1 x 2", "sequence"], ["1 x 2", "step"]]
    assert all(float(entry.split(" ")[0]) > 0 for row in rows for entry in row[2:])


def test_generation_is_measured_beside_single_steps():
    seconds = generation.measure_size(1, 2, 3, rounds=1, names=(generation.OURS, generation.STEPS))
    assert all(len(values) == 1 and values[0] > 0 for values in seconds.values())
    row = generation.make_row(2, 512, 1, {generation.OURS: [0.001, 0.003, 0.002], generation.STEPS: [0.005]})
    assert row == ["2 x 512", 1, "500 (1.00)", "200 (2.50)"]


def test_training_on_text_is_measured():
    with jax.numpy_dtype_promotion("standard"):  # optax's AdamW needs it, and the program sets it
        seconds = text.measure_size(1, 2, 1, rounds=1, names=(text.OURS,))
    assert len(seconds[text.OURS]) == 1
    assert text.make_row(2, 512, 3, {text.OURS: [2.0, 1.0, 4.0], text.PYTORCH: [4.0]}) == [
        "2 x 512", "12,288", "6,144", "0.50"
    ]  # fmt: skip


def test_a_section_tells_its_versions_and_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "HOME", tmp_path)
    assert report.write_section("python -m some", ["no-such-package"], [], lambda: "measured") == 2
    assert capsys.readouterr().err == (
        "python -m some: error: the package no-such-package is missing: pip install no-such-package\n"
    )
    assert report.write_section("python -m some", ["jax"], ["--rounds", "2"], lambda: "measured") == 0
    written = (tmp_path / "RESULTS.md").read_text()
    assert "measured\n\n" in written
    assert f", jax {jax.__version__}, `python -m some --rounds 2`." in written


def test_the_start_is_measured_in_whole_processes(tmp_path):
    program = "import string\nprint('Step 0,')\nprint('Step 1, Minibatch Loss= 2')"
    jobs = {("train", "PyTorch"): ["-c", program], ("predict", "PyTorch"): ["-c", "pass", "FOLDER"]}
    times = start.measure(jobs, tmp_path, rounds=1)
    trained, predicted = times.values()
    assert trained.first_step is not None
    assert 0 < trained.first_step < trained.end
    assert predicted.first_step is None
    times["train", "ours"] = start.Times(2 * trained.first_step, trained.end / 2)
    assert re.search(r"\| train +\| ours +\| +\d\.\d\d \(2\.00\) \| +\d\.\d\d \(0\.50\) \|", start.times_table(times))
    seconds = start.import_seconds(["-c", program])
    assert seconds["string"] > 0
    assert "string" in start.imports_table({("train", "ours"): {**seconds, "string": 9.0}})
    with pytest.raises(subprocess.CalledProcessError):
        start.time_process(["-c", "exit(1)"])


def test_experiments_are_measured(monkeypatch):
    text = experiments.measure_long_sequences(num_steps=30, rounds=1)
    assert re.search(r"\| remat=True +\| +\d+ \| +\d\.\d{3} \| +\d+\.\d\d \| +\d+\.\d\d \|", text)
    text = experiments.measure_layouts((TINY,), rounds=1)
    assert re.search(r"\| 2,3,5,7 +\| +\d+\.\d \| +\d+\.\d \| +last \|", text)
    text = experiments.measure_joining((TINY,), rounds=1)
    assert re.search(r"\| GRU +\| 2,3,5,7 +\| +\d+\.\d \| +\d+\.\d \| +\d+\.\d \|", text)
    monkeypatch.setattr(experiments, "products_by_pytorch", lambda *sizes: {})  # tests do without PyTorch
    text = experiments.measure_products((TINY,), rounds=1)
    assert re.search(r"\| +2 x 12 x 28 \| +3 \|( +\d+ \|){4}", text)


def test_a_recorded_command_names_no_path_of_the_machine(tmp_path):
    (tmp_path / "python").touch()
    argv = ["--data-dir", str(tmp_path), "--python", str(tmp_path / "python"), "--name", "a b"]
    assert report.show_command("python -m some", argv) == "python -m some --data-dir FOLDER --python PATH --name 'a b'"


def test_an_experiment_is_a_section_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "HOME", tmp_path)
    monkeypatch.setattr(experiments, "measure_layouts", lambda shapes, rounds: f"measured {rounds} times")
    assert experiments.main(["--rounds", "3", "layout"]) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "<!-- begin: written by python -m benchmarks.experiments layout -->\n\nmeasured 3 times\n" in text
    assert "`python -m benchmarks.experiments layout --rounds 3`." in text


def test_newton_s_method_is_measured_beside_the_scan():
    cell = experiments.rnn.VanillaRNN(2)
    weights = [cell.init(jax.random.key(seed), 3) for seed in range(2)]
    figures = experiments.newton_figures(cell, weights, np.ones((4, 1, 3)), "float64")
    assert len(figures) == 2
    for rounds, outputs, gradients in figures:
        assert 1 <= int(rounds) <= 4
        assert max(float(outputs), float(gradients)) < 1e-10


def test_render_makes_table_and_plot_of_the_numbers(tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(invent_results()))
    assert command.main(["--render", "--output-dir", str(tmp_path)]) == 0
    assert section(invent_results()) in capsys.readouterr().out
    assert section(invent_results()) in (tmp_path / "RESULTS.md").read_text()
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--shapes", "1,2,3"], "not four whole numbers"),
        (["--shapes", "1,2,3,0"], "a number below 1"),
        (["--rounds", "0"], "not a positive whole number"),
        (["--cells", "perceptron"], "invalid choice"),
        (["--peers", "abacus"], "no peer has 'abacus' in its name"),
        (["--tensorflow-python", "/no/such/python"], "No such file"),
        (["--render", "--output-dir", "EMPTY"], "No such file"),
    ],
)
def test_a_mistake_is_one_line_or_the_usage(tmp_path, capsys, argv, message):
    argv = [str(tmp_path) if word == "EMPTY" else word for word in argv]
    try:
        status = command.main([*argv, "--output-dir", str(tmp_path)])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_whole_run_of_this_library(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "PRODUCT_SIZE", 64)
    monkeypatch.setattr(measure, "COMPILE_REPEATS", 1)
    monkeypatch.setattr(command, "find_peers", lambda cores, python: find_peers(2, python))
    options = "--cells lstm bidirectional-lstm --shapes 2,3,5,7 --peers fused --rounds 2 --min-seconds 0.001"
    assert command.main([*options.split(), "--output-dir", str(tmp_path)]) == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(result["cell"], result["mode"]) for result in results["cases"]] == [
        ("lstm", "training"),
        ("bidirectional-lstm", "training"),
        ("lstm", "inference"),
        ("bidirectional-lstm", "inference"),
    ]
    names = ["rnn_jax fused", "rnn_jax fused, 2 devices"]
    for result in results["cases"]:
        assert result["blanks"] == {}
        assert list(result["seconds"]) == names
        for seconds in result["seconds"].values():
            assert len(seconds) == 2
            assert 0 < statistics.median(seconds) < 10
        assert result["temp_bytes"]["rnn_jax fused"] > 0
    assert all(rate > 0 for rates in results["product_rates"].values() for rate in rates)
    assert "jax, all cores" in results["product_rates"]
    assert all(len(seconds) == 1 for seconds in results["compile_seconds"].values())
    assert math.isfinite(results["machine"]["memory_gib"])
    assert f"with Python {sys.version.split()[0]}, jax " in (tmp_path / "RESULTS.md").read_text()


def test_peers_that_cannot_run_are_named_and_the_others_go_on():
    peers = [
        Peer("absent", "no_such_peer"),
        Peer("dies", "ours", python=shutil.which("false")),
        Peer("refuses", "ours", {"implementation": "scan"}, devices=2),
        Peer("rnn_jax scan", "ours", {"implementation": "scan"}),
    ]
    case = Case("vanilla", TINY._replace(batch=3), "inference")
    with measure.team(peers) as team, tqdm(disable=True) as bar:
        result = measure.measure_case(team.workers, case, 1, 0.001, bar)
    assert team.left_out == {
        "absent": "No module named 'benchmarks.peers.no_such_peer'",
        "dies": "its process ended with status 1: no message",
    }
    assert result["blanks"] == {"refuses": "a batch of 3 cannot be divided among 2 devices"}
    assert list(result["seconds"]) == ["rnn_jax scan"]


def test_an_interruption_keeps_the_cases_that_are_done(monkeypatch):
    done = []

    def interrupt_at_the_second(workers, case, *_):
        if done:
            raise KeyboardInterrupt
        done.append(case)
        return {"cell": case.cell}

    monkeypatch.setattr(measure, "measure_case", interrupt_at_the_second)
    monkeypatch.setattr(measure, "find_product_peers", lambda cores: [])
    results, finished = measure.measure(all_cases(), [], 1, 0.001, "python -m benchmarks")
    assert not finished
    assert results["cases"] == [{"cell": "lstm"}]
