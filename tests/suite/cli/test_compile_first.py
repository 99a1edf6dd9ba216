"""`bench` and `check` compile a plan's kernels before the first case, on a GPU only. The GPU here is not there."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from suite.cli import bench, check, compiling, main
from suite.discovery import discover
from suite.errors import DiscoveryError
from suite.running.compiled import folder_of
from suite.running.estimate import Estimate
from suite.running.resuming import read_plan
from suite.static import ahead
from suite.static.ahead import Summary, Wanted, cores, estimated_s
from suite.store import Key
from suite.targets import REPRESENTATIVES
from tests.suite.plugins import RUNNING_MEAN, write

PLUGIN = (
    RUNNING_MEAN
    + """
for name in ("first", "second"):
    running_mean.implementation(name, origin="ours", passes={"fwd"}, devices={"cuda", "cpu"})(lambda *qkv: mean(*qkv))
running_mean.implementation("host", origin="ours", passes={"fwd"}, devices={"cpu"})(lambda *qkv: mean(*qkv))
"""
)
H200 = REPRESENTATIVES["sm_90"]
NOTHING = Summary(0, 0, 0, 0, 0, (), (), 1.5)


class Worker:
    """A worker on a GPU as far as a run asks it before its first case."""

    def __init__(self, done: list[Any]) -> None:
        self.done = done

    def ask(self, do: str, **_: Any) -> dict[str, Any]:
        from suite.discovery import ROOT
        from suite.hardware.environment import answered

        found = answered("cpu", ROOT, ())
        found["device"] |= {"name": H200.name, "arch": "sm_90", "uuid": "GPU-0"}
        return {"target": {"target": vars(H200)}, "ceilings": {"ceilings": {}}}.get(do, found)

    def kill(self) -> None:
        self.done.append("killed")


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command; what it compiles and sweeps, in order."""
    done: list[Any] = []
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("suite.running.process.measuring_worker", lambda *_, **__: Worker(done))
    for module in (bench, check):
        monkeypatch.setattr(module, "device_of", lambda args: args.device or "cuda")
    monkeypatch.setattr(bench, "gpu_variables", lambda *_: {})
    monkeypatch.setattr(bench, "holding", lambda *_: nullcontext())
    monkeypatch.setattr(check, "_device_name", lambda device: H200.name)
    monkeypatch.setattr("suite.ceilings.warning", lambda _: "")

    def compile_cases(registry: Any, wanted: list[Wanted], target: Any, **words: Any) -> Summary:
        assert target == H200
        names = sorted({each.case.implementation for each in wanted})
        left = words["budget"].left
        done.append(("compiled", names, words["folder"], words["calls"], None if left is None else round(left)))
        return NOTHING

    def sweep(sweep: Any) -> None:
        done.append("swept")

    monkeypatch.setattr(ahead, "compile_cases", compile_cases)
    monkeypatch.setattr("suite.running.sweep.Sweep.run", sweep)
    plugin = write(tmp_path, PLUGIN, "compile_first_plugin.py")

    def run(*words: str) -> tuple[int, list[Any]]:
        done.clear()
        code = main([words[0], "--load", str(plugin), *words[1:]])
        return code, [each for each in done if each != "killed"]

    return run


SHAPE = ("--op", "running_mean", "--impl", "first,second", "--pass", "fwd", "--seq-len", "16", "--head-dim", "16")


def test_bench_on_a_gpu_compiles_first_into_the_cache_of_its_run(gpu, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ("bench", *SHAPE, "--dtype", "fp32", "--no-report", "--seed", "1")
    code, done = gpu(*words, "--out", str(folder))
    (kind, names, cache, calls, left), swept = done
    assert (code, kind, names, calls, left, swept) == (
        0,
        "compiled",
        ["first", "second"],
        "timed",
        None,
        "swept",
    )
    assert cache == folder_of(folder)
    assert read_plan(folder, "bench").problems
    # A budget may go by compiling to a third.
    done = gpu(*words, "--out", str(tmp_path / "short"), "--budget", "300s")[1]
    assert 90 <= done[0][-1] <= 100
    assert gpu(*words, "--out", str(tmp_path / "without"), "--no-compile")[1] == ["swept"]
    assert gpu(*words, "--device", "cpu", "--no-static", "--out", str(tmp_path / "cpu"))[1] == ["swept"]


def test_a_stored_runs_missing_cases_are_compiled(
    tmp_path: Path, gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert gpu("bench", *SHAPE, "--dtype", "fp32", "--no-report", "--no-compile", "--out", str(folder))[0] == 0
    wanted: list[str] = []

    def compile_cases(registry: Any, cases: list[Wanted], target: Any, **words: Any) -> Summary:
        wanted[:] = [each.case.case_id for each in cases]
        assert words["folder"] == folder_of(folder)
        return NOTHING

    monkeypatch.setattr(ahead, "compile_cases", compile_cases)
    compile_ = ["compile", "--resume", str(folder), "--arch", "sm_90"]
    assert main(compile_) == 0
    plan = read_plan(folder, "bench")
    groups = plan.groups(discover(load=plan.plugins))
    first, *others = (case.case_id for group in groups for case in group.cases)
    assert wanted == [first, *others]
    done = {Key(first, "timed", mode, H200.name, 0) for mode in plan.flags["mode"]}
    monkeypatch.setattr("suite.store.done_keys", lambda _: done)
    assert main(compile_) == 0
    assert wanted == others
    monkeypatch.setattr("suite.store.done_keys", lambda _: set(list(done)[1:]))
    assert main(compile_) == 0
    assert wanted == [first, *others]
    capsys.readouterr()
    assert main([*compile_, "--op", "retention"]) == 2
    assert f"--resume {folder} compiles the cases of that run; remove --op" in capsys.readouterr().err


def test_check_on_a_gpu_compiles_first_into_tritons_own_cache(gpu, tmp_path: Path) -> None:
    words = ("check", *SHAPE, "--dtype", "fp32")
    found = gpu(*words)[1]
    assert found == [("compiled", ["first", "second"], "", "check", None), "swept"]
    assert gpu(*words, "--no-compile", "--out", str(tmp_path / "run"))[1] == ["swept"]
    assert gpu(*words, "--device", "cpu")[1] == ["swept"]


def test_an_interrupt_while_compiling_leaves_a_run_that_can_be_resumed(
    gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> Summary:
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    words = ("bench", *SHAPE, "--dtype", "fp32", "--no-report")
    with monkeypatch.context() as patch:
        patch.setattr(ahead, "compile_cases", interrupted)
        assert gpu(*words, "--out", str(folder)) == (130, [])
    assert f"interrupted while compiling; `subquad bench --resume {folder}` goes on" in capsys.readouterr().err
    # What was compiled until then stays for the rest of the run.
    assert Path(folder_of(folder)).is_dir()


def test_what_does_not_load_for_compiling_says_how_to_go_on_without(
    gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unloadable(*_: Any, **__: Any) -> Summary:
        raise DiscoveryError("a worker did not start")

    monkeypatch.setattr(ahead, "compile_cases", unloadable)
    code, done = gpu("check", *SHAPE, "--dtype", "fp32")
    assert (code, done) == (2, [])
    assert "a worker did not start; to run without compiling ahead, add --no-compile" in capsys.readouterr().err


def test_lines_of_a_summary() -> None:
    summary = Summary(
        9,
        2,
        48,
        5,
        3,
        [("a/b/c", "k", "PTXASError: no\nmore"), ("a/d/e", "", "it died")],
        [("x/y", "no"), ("x/z", "no")],
        31,
    )
    assert summary.told() == (
        "48 kernels compiled in 31 s, 5 found in the cache, 3 configurations of autotuners do not compile, 2 failed, "
        "2 of 9 cases left out by the budget"
    )
    assert compiling.lines_of(summary) == [
        "does not compile: a/b/c: k: PTXASError: no",
        "does not compile: a/d/e: it died",
        "not compiled ahead: x/y and 1 more: no",
    ]


def test_the_estimate_has_the_time_before_the_first_case(tmp_path: Path) -> None:
    from suite.problem import Case, Problem

    registry = discover(load=[str(write(tmp_path, PLUGIN, "estimated_plugin.py"))])
    case, host = (Case("running_mean", name, Problem()) for name in ("first", "host"))
    assert estimated_s(registry, [host], 4) == 0.0
    few, many = estimated_s(registry, [case] * 2, 16), estimated_s(registry, [case] * 32, 16)
    assert 0 < few < many < estimated_s(registry, [case] * 32, 8)
    about = Estimate([(2, 10.0), (2, 10.0)], 4, "", (), before_s=5.0)
    assert (about.seconds, about.within(16.0), about.within(14.0)) == (25.0, 2, 0)
    assert cores() >= 1
