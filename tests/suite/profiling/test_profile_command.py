"""`subquad profile` from the command line, with real processes under torch.profiler."""

import json
from pathlib import Path

import pytest

from suite.cli import main
from suite.hardware.environment import cpu_name
from suite.store import create, read_records
from tests.suite.plugins import FAULTS, RUNNING_MEAN, write
from tests.suite.store.runs import environment, record

MEAN = ["profile", "running_mean", "--impl", "torch", "--seq-len", "32", "--head-dim", "8", "--calls", "2"]
CASE = "running_mean/torch/B1_T32_H1_K8_V8_fp32_fwd"


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(words)
    done = capsys.readouterr()
    return code, done.out, done.err


def test_operators_of_a_case_and_their_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, out = write(tmp_path, RUNNING_MEAN, "profile_mean.py"), tmp_path / "out"
    with create(tmp_path / "run", environment() | {"device": {"name": cpu_name()}}) as writer:
        writer.append(record(case_id=CASE, operator="running_mean", implementation="torch"))
    words = [*MEAN, "--load", str(plugin), "--out", str(out), "--json", "--run", str(tmp_path / "run")]
    code, printed, told = said(words, capsys)
    assert code == 0, told
    found = json.loads(printed)
    assert (found["case_id"], found["tool"], found["device"]) == (CASE, "torch", "cpu")
    by_name = {kernel["name"]: kernel for kernel in found["kernels"]}
    assert by_name["aten::cumsum"]["calls"] == 1
    assert by_name["aten::div"]["calls"] == 1
    assert sum(kernel["share"] for kernel in found["kernels"]) == pytest.approx(1.0)
    trace = json.loads((out / "trace.json").read_text())
    assert any(event.get("name") == "aten::cumsum" for event in trace["traceEvents"])
    assert "joined to 1 record(s)" in told
    assert "note:" in told
    (row,) = read_records(tmp_path / "run")
    assert row["time_ms"] == 1.01
    assert {each["name"] for each in row["profile.kernels"]} == set(by_name)


@pytest.mark.parametrize(
    ("implementation", "code", "reason"),
    [
        ("raises", 1, "is error: ValueError: no luck"),
        ("segfault", 1, "is crashed: the profiled process ended by signal 11"),
        ("refuses", 2, "is unsupported: not on a Sunday"),
    ],
)
def test_a_case_that_does_not_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], implementation: str, code: int, reason: str
) -> None:
    plugin = write(tmp_path, FAULTS, "profile_faults.py")
    words = ["profile", "running_mean", "--impl", implementation, "--seq-len", "8", "--load", str(plugin)]
    ended, printed, told = said([*words, "--out", str(tmp_path / "out")], capsys)
    assert ended == code
    assert reason in told
    assert len(told.strip().splitlines()) == 1
    assert not printed


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["linear_attention"], "--impl: `profile` takes one implementation"),
        (["linear_attention", "--impl", "naive,torch_chunk"], "--impl: `profile` takes one implementation"),
        (["linear_atention", "--impl", "naive"], "did you mean 'linear_attention'?"),
        (["linear_attention", "--impl", "naiv"], "did you mean 'naive'?"),
        (["linear_attention", "--impl", "naive", "--op", "linear_attention"], "remove --op"),
        (
            ["linear_attention", "--impl", "naive", "--seq-len", "8,16", "--pass", "fwd,bwd"],
            "4 cases are selected, and one is profiled at a time: choose T (8, 16), pass (fwd, bwd)",
        ),
        (["linear_attention", "--impl", "naive", "--tool", "ncu"], "--tool ncu sees kernels of a GPU"),
        (["linear_attention", "--impl", "naive", "--tool", "proton"], "--tool proton sees kernels of a GPU"),
        (["linear_attention", "--impl", "naive", "--tool", "nsys"], "invalid choice: 'nsys'"),
        (["linear_attention", "--impl", "naive", "--calls", "0"], "'0' is not a count"),
        (["linear_attention", "--impl", "naive", "--device", "cuda"], "no CUDA device here"),
    ],
)
def test_wrong_words(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "cuda" in words or "ncu" in words or "proton" in words:
        pytest.importorskip("torch")
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device here")
    code, printed, told = said(["profile", *words], capsys)
    assert code == 2
    assert reason in told
    assert len(told.strip().splitlines()) == 1
    assert not printed


def test_a_folder_that_can_not_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    words = ["profile", "linear_attention", "--impl", "naive", "--out", str(tmp_path / "file")]
    code, _, told = said(words, capsys)
    assert code == 2
    assert "choose another place with --out" in told
