"""The GPU benchmark, as far as a CPU can tell: what it asks for, in what order, and what it does with the answers."""

import json
import re
from typing import ClassVar

import pytest

from benchmarks import gpu
from benchmarks.cases import GPU_SHAPES, LONG, TUTORIAL, Case, Shape
from benchmarks.gpu_report import plot_times, section
from benchmarks.measure import WorkerError, WorkerFailed
from benchmarks.peers import Peer
from rnn_jax.implementations.table import IMPLEMENTATIONS

TINY = Shape(batch=2, time=3, input_size=5, hidden_size=7)


def test_the_plan_begins_with_what_matters_most():
    jobs = gpu.plan(GPU_SHAPES, gpu.find_peers("gpu"))
    assert len(set(map(str, jobs))) == len(jobs)
    lstm = [job for job in jobs if job.case.cell == "lstm"]
    assert {job.case.shape for job in lstm} == set(GPU_SHAPES)
    for shape in (TUTORIAL, LONG):
        everyone = {job.peer.name for job in lstm if job.case.shape == shape}
        assert everyone == {peer.name for peer in gpu.find_peers("gpu")}
        assert {f"rnn_jax {implementation}, tf32" for implementation in IMPLEMENTATIONS} < everyone
        for word in ("float32", "tf32", "float16", "bfloat16", "float32, graph", "float16, graph"):
            assert f"PyTorch, {word}" in everyone
    assert jobs[0].case == Case("lstm", TUTORIAL, "training")
    modes = [job.case.mode for job in jobs if job.case.shape in (TUTORIAL, LONG)]
    assert modes[0] == "training"
    assert not any(job.peer.options.get("implementation") == "cudnn" for job in jobs if job.case.cell != "lstm")


def test_numbers_moved():
    # parameters (5 + 7 + 1) * 28 = 364; inputs and outputs 3 * 2 * (5 + 7) = 72
    assert Case("lstm", TINY, "inference").numbers_moved == 364 + 72
    assert Case("lstm", TINY, "training").numbers_moved == 3 * 364 + 2 * 72


def run_gpu(tmp_path, capsys, *argv):
    status = gpu.main([*argv, "--output-dir", str(tmp_path)])
    return status, *capsys.readouterr()


def test_without_a_gpu_it_says_so_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(gpu.ENVIRONMENTS, "gpu", {"JAX_PLATFORMS": "cpu"})
    status, _, errors = run_gpu(tmp_path, capsys)
    assert status == 2
    assert errors.startswith("benchmarks.gpu: error: there is no GPU that JAX can use, only cpu")
    assert errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_rehearsal_on_the_cpu(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "PRODUCT_SIZE", 64)
    monkeypatch.setattr(gpu, "COPY_SIZE", 64)
    words = ("fused, mixed", "fused, tf32", "pallas, mixed", "float16, graph")
    jobs = [job for job in gpu.plan([TINY], gpu.find_peers("cpu")) if job.case.cell == "lstm"]
    monkeypatch.setattr(gpu, "plan", lambda *_: [job for job in jobs if job.peer.name.endswith(words)])
    options = "--platform cpu --shapes 2,3,5,7 --rounds 2 --min-seconds 0.001 --training-steps 2 --budget 600"
    status, output, errors = run_gpu(tmp_path, capsys, *options.split())
    assert status == 0, errors
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["not_reached"] == []
    assert set(results["ceilings"]) == set(gpu.CEILINGS)
    assert [case["mode"] for case in results["cases"]] == ["training", "inference"]
    for case in results["cases"]:
        assert {"rnn_jax fused, tf32", "rnn_jax fused, mixed"} <= set(case["seconds"])
        assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in case["seconds"].values())
        assert case["blanks"]["rnn_jax pallas, mixed"] == 'implementation="pallas" needs a GPU or a TPU, not a CPU'
        assert case["blanks"]["PyTorch, float16, graph"]
    ragged = {check["ragged"] for check in results["checks"]}
    assert ragged == {False, True}
    exact, rounded = (
        [check["gradients"] for check in results["checks"] if check["peer"] == f"rnn_jax fused, {precision}"]
        for precision in ("tf32", "mixed")
    )
    assert max(exact) < 1e-5 < min(rounded), "the scan in float64 tells float32 from bfloat16"
    assert results["training"]["rnn_jax as chosen, tf32"]["others"] > 0
    assert "needs a GPU" in results["training"]["rnn_jax pallas, mixed"]["blank"]
    assert section(results) in output
    assert section(results) in (tmp_path / "RESULTS.md").read_text()
    assert re.search(r"\| rnn_jax fused, tf32 +\| +2 \| +\d\.\de-0\d \| +\d\.\de-0\d \| +0\.01 \| right \|", output)
    assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")


def test_an_interruption_keeps_what_is_done(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "Crew", InterruptedCrew)
    options = ["--platform", "cpu", "--shapes", "2,3,5,7", "--rounds", "1"]
    status, output, _ = run_gpu(tmp_path, capsys, *options)
    assert status == 130
    assert "float32: " in output, "the ceiling measured before"
    assert json.loads((tmp_path / "gpu.json").read_text())["cases"] == []
    monkeypatch.setattr(InterruptedCrew, "answers", 0)
    assert run_gpu(tmp_path, capsys, *options)[0] == 130


class InterruptedCrew:
    """Answers a few times; then Ctrl-C is pressed."""

    answers = 4
    versions: ClassVar = {"jax": "0.10.2"}
    missing: ClassVar = {}

    def __init__(self, environment):
        pass

    def ask(self, module, do, **arguments):
        self.answers -= 1
        if self.answers < 0:
            raise KeyboardInterrupt
        return {"platform": "cpu", "name": "An abacus"} if do == "call" else 0.5

    def end(self):
        pass


class FakeCrew:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, error):
        self.error = error
        self.asked = []

    def ask(self, module, do, **arguments):
        self.asked.append(do)
        return {"outputs": self.error, "gradients": 1e-9} if do == "call" else 0.5


@pytest.mark.parametrize(("error", "timed"), [(1e-9, True), (0.9, False)])
def test_what_is_wrong_is_named_and_not_timed(tmp_path, error, timed):
    arguments = gpu.build_parser().parse_args(["--rounds", "3"])
    peer = Peer("rnn_jax fused, tf32", "ours", {"implementation": "fused", "precision": "tf32"})
    results = {"checks": [], "cases": []}
    crew = FakeCrew(error)
    for mode in ("training", "inference"):
        gpu.measure_job(results, crew, arguments, gpu.Job(Case("lstm", TINY, mode), peer))  # type: ignore
    assert crew.asked[:2] == ["call", "call"], "both kinds of lengths"
    assert crew.asked.count("call") == 2, "the second mode needs no other check"
    for case in results["cases"]:
        if timed:
            assert case["seconds"] == {peer.name: [0.5] * 3}
        else:
            assert case["blanks"] == {peer.name: "wrong: outputs are off by 0.9, gradients by 1e-09, of 0.01 allowed"}
    assert len(gpu.failed_checks(results)) == (0 if timed else 2)


def test_what_the_time_does_not_suffice_for_is_named(monkeypatch):
    monkeypatch.setattr(gpu, "measure_ceiling", lambda *_: pytest.fail("there is no time"))
    results = {"not_reached": []}
    arguments = gpu.build_parser().parse_args(["--shapes", "2,3,5,7"])
    gpu.measure_all(results, FakeCrew(0), arguments, deadline=0.0)  # type: ignore
    assert results["not_reached"][0] == "ceiling float32"
    assert "training: rnn_jax pallas, mixed" in results["not_reached"]
    assert any(name.startswith("vanilla 2,3,5,7 training: Flax") for name in results["not_reached"])


def test_a_process_that_hangs_or_fails_is_ended_and_started_anew(monkeypatch):
    crew = gpu.Crew({"JAX_PLATFORMS": "cpu"})
    try:
        with pytest.raises(WorkerError, match="No module named"):
            crew.ask("no_such_peer", "versions")
        assert list(crew.missing) == ["no_such_peer"]
        assert crew.ask("ours", "call", function="find_device") == {"platform": "cpu", "name": "cpu"}
        monkeypatch.setattr(gpu, "ANSWER_LIMIT", 0.0)
        with pytest.raises(WorkerFailed, match="no answer within 0 s"):
            crew.ask("ours", "prepare_product", size=3)
        monkeypatch.setattr(gpu, "ANSWER_LIMIT", 60.0)
        assert crew.ask("ours", "call", function="find_device")["name"] == "cpu"
    finally:
        crew.end()


def test_the_tables_compare_with_the_rivals():
    def case(shape, **seconds):
        names = {"ours": "rnn_jax pallas, mixed", "torch": "PyTorch, tf32, graph", "half": "PyTorch, float16, graph"}
        timed = {names[name]: [value] * 3 for name, value in seconds.items()}
        return {"cell": "lstm", "shape": list(shape), "mode": "training", "seconds": timed, "blanks": {}}

    results = {
        "date": "2030-01-02",
        "command": "python -m benchmarks.gpu",
        "machine": {"processor": "An abacus", "device": "A larger abacus", "system": "Linux"},
        "versions": {"jax": "0.10.2"},
        "rounds": 3,
        "budget": 420.0,
        "ceilings": {"bfloat16": [8e14], "tf32": [4e14], "copy": [3e12]},
        "checks": [
            {"cell": "lstm", "shape": list(TUTORIAL), "peer": "rnn_jax pallas, tf32", "ragged": True, "limit": 0.01}
            | {"outputs": 0.9, "gradients": 0.1}
        ],
        "training": {"rnn_jax as chosen, tf32": {"steps": 10_000, "first": 2.0, "others": 7.0}},
        "cases": [case(TUTORIAL, ours=1e-4, torch=2e-4), case(LONG, ours=6e-3, torch=9e-3, half=5e-3)],
        "left_out": {"dm_haiku": "No module named 'haiku'"},
        "not_reached": ["gru"],
    }
    text = section(results)
    assert "A larger abacus, An abacus, Linux, 2030-01-02" in text
    assert "bfloat16: 800 TFLOP/s; tf32: 400 TFLOP/s; copy: 3000 GB/s" in text
    assert re.search(r"rnn_jax pallas, tf32 +\| +1 \| +9\.0e-01 \| +1\.0e-01 \| +0\.01 \| WRONG \|", text)
    assert re.search(r"\| 128,28,28,128 +\| rnn_jax pallas, mixed \| PyTorch, tf32, graph +\| +0\.50 \|", text)
    assert re.search(r"\| 16,1024,768,768 +\| rnn_jax pallas, mixed \| PyTorch, float16, graph \| +1\.20 \|", text)
    assert re.search(r"\| rnn_jax as chosen, tf32 \| +10,000 \| +2\.0 \| +7\.00 \|", text)
    part = Case("lstm", TUTORIAL, "training").flops / 1e-4 / 8e14
    assert f"{part:.3f} (" in text
    assert "- dm_haiku: No module named 'haiku'" in text
    assert "- not reached in 420 s: gru" in text
    assert len(plot_times(results).axes[0].lines) == 3
