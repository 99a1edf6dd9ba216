"""Which candidates are timed, and where: the largest case that launches a kernel, and the few that look best."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suite import Cost, Operator
from suite.cli import main
from suite.errors import UsageError
from suite.plan import Group
from suite.problem import Case, Problem
from suite.registry import Registry
from suite.static.model import Binary, Floor, Launch, Profile, Residency
from suite.static.pool import compile_ahead, take_profiles
from suite.static.tasks import Ahead, Task
from suite.targets import REPRESENTATIVES
from suite.tuning import ranking
from suite.tuning.ranking import best_of, merit, ranked
from suite.tuning.search import Job, jobs
from tests.suite.plugins import write

CONFIGS = [{"warps": warps} for warps in (4, 8, 2, 1)]


def registry() -> Registry:
    mean = Operator(
        "mean",
        "o = mean v",
        "none",
        inputs=lambda p, g: {},
        oracle=lambda q, k, v: (v, None),
        cost=lambda p, tunables: Cost(p.T * (2.0 if p.pass_ == "bwd" else 1.0), 1.0, 1.0),
        stateful=False,
    )

    def search(problem: Problem, tunables: Any) -> dict[str, Any]:
        found = {f"forward/{problem.dtype}": CONFIGS}
        return found | ({"backward": CONFIGS} if problem.pass_ == "fwdbwd" else {})

    mean.implementation("ours", origin="ours", devices={"cuda"}, search=search)(lambda q, k, v: (v, None))
    made = Registry()
    made.add(mean)
    return made


def group(**values: Any) -> Group:
    problem = Problem(**values)
    return Group("mean", problem, (Case("mean", "ours", problem),))


def test_a_key_is_tuned_in_the_largest_case_that_launches_it() -> None:
    """Of two passes at one length in the one whose time is the kernel's own."""
    plan = [
        group(T=1024),
        group(T=32768, pass_="fwdbwd"),
        group(T=32768),
        group(T=4096),
        group(T=1024, dtype="float16"),
    ]
    found = {
        (job.case.problem.T, job.case.problem.pass_): set(job.search) for job in jobs(registry(), plan, set(), "cuda")
    }
    assert found == {
        (32768, "fwd"): {"forward/bfloat16"},
        (32768, "fwdbwd"): {"backward"},
        (1024, "fwd"): {"forward/float16"},
    }
    assert [set(job.search) for job in jobs(registry(), plan, {"backward", "forward/float16"}, "cuda")] == [
        {"forward/bfloat16"}
    ]
    assert jobs(registry(), plan, set(), "cpu") == []


def profile(ms: float, traffic_ms: float = 1.0, spills: int = 0, occupancy: float = 0.5, status: str = "ok") -> Profile:
    binary = Binary("code", 128, spills, spills, 0, 100, {})
    launch = Launch("kernel", (1, 1, 1), binary=binary, residency=Residency(4, occupancy, "registers", 1.0))
    floor = Floor("NVIDIA H200", "datasheet", 1, ms, 0.0, traffic_ms)
    return Profile("case", "sm_90", status, launches=(launch,), floor=floor)


def test_the_merit_of_a_profile() -> None:
    ordered = [profile(1.0), profile(1.0, 2.0), profile(1.0, 2.0, 8), profile(1.0, 2.0, 8, 0.25), profile(2.0)]
    merits = [merit(each) for each in ordered]
    assert None not in merits
    assert sorted(merits) == merits  # type: ignore[type-var]
    assert merit(profile(1.0, status="over_limit")) is None
    assert merit(replace(profile(1.0), floor=None)) is None


def test_the_best_few_and_the_tables_own() -> None:
    merits = [(9.0,), (2.0,), None, (1.0,)]
    assert best_of(CONFIGS, merits, 1) == [CONFIGS[0], CONFIGS[3]]
    assert best_of(CONFIGS, merits, 4) == [CONFIGS[0], CONFIGS[3], CONFIGS[1]]
    assert best_of(CONFIGS, [None, (2.0,), (2.0,), (2.0,)], 2) == CONFIGS[:3]
    # Where nothing is known, nothing is left out.
    assert best_of(CONFIGS, [None] * 4, 1) == CONFIGS


def test_candidates_are_profiled_each_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Task] = []

    def take(tasks: list[Task], **_: Any) -> list[Profile]:
        asked.extend(tasks)
        # The more warps, the faster.
        return [profile(1.0 / next(iter(task.forced.values()))["warps"]) for task in tasks]

    monkeypatch.setattr(ranking, "take_profiles", take)
    case = group(T=64).cases[0]
    (found,) = ranked([Job(case, {"a": CONFIGS, "b": CONFIGS[1:]})], "sm_90", "NVIDIA H200", 1)
    assert found == Job(case, {"a": [{"warps": 4}, {"warps": 8}], "b": [{"warps": 8}, {"warps": 2}]})
    assert [dict(task.forced) for task in asked[:2]] == [{"a": {"warps": 4}}, {"a": {"warps": 8}}]
    assert {(task.arch, task.gpu, task.issued) for task in asked} == {("sm_90", "NVIDIA H200", False)}
    with pytest.raises(UsageError, match=r"sm_70 cannot be ranked.*--best all"):
        ranked([Job(case, {"a": CONFIGS})], "sm_70", "NVIDIA V100", 1)


KERNEL = """
import torch, triton, triton.language as tl
from suite import Cost, Operator
from suite.draw import qkv
from suite.tuning import choice

@triton.jit
def chosen_kernel(x, y, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at) * 2)

chosen = Operator("chosen", "o_t = 2 v_t", "none", qkv, lambda q, k, v: (v + v, None), stateful=False,
    cost=lambda p, tunables: Cost(1.0, 1.0, 1.0), passes=("fwd",))

@chosen.implementation("triton", origin="ours", devices={"cuda"})
def ours(q, k, v):
    o = torch.empty_like(v)
    chosen_kernel[(v.numel() // 512,)](v, o, 512, num_warps=(choice("chosen") or {"warps": 4})["warps"])
    return o, None
"""


@pytest.mark.long
def test_a_candidate_is_what_is_profiled_and_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))
    load = [str(write(tmp_path, KERNEL, "chosen_plugin.py"))]
    case = Case("chosen", "triton", Problem(B=1, T=256, H=1, K=64))
    forced = [{}, {"chosen": {"warps": 8}}, {"other": {"warps": 8}}]
    taken = take_profiles([Task(case, "sm_90", issued=False, forced=each) for each in forced], load=load, jobs=1)
    assert [[launch.warps for launch in each.launches] for each in taken if each] == [[4], [8], [4]]
    device = REPRESENTATIVES["sm_90"]
    ahead = [Ahead(case, "sm_90", forced=each, device=device, folder=str(tmp_path / "triton")) for each in forced]
    compiled = compile_ahead(ahead, load=load, jobs=1)
    (four,), (eight,), (again,) = ([kernel.path for kernel in each.kernels] for each in compiled)
    assert four == again != eight


def test_tune_on_a_gpu_ranks_compiles_and_then_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """With a GPU, a compiler and workers that are not there: what each is asked to do, in which order."""
    from suite.cli import tune
    from suite.static import ahead

    done: list[tuple[str, Any]] = []

    def profiles(tasks: list[Task], **_: Any) -> list[Profile]:
        done.append(("profiled", len(tasks)))
        return [profile(1.0 / task.forced["forward/bfloat16"]["warps"]) for task in tasks]

    def compile_(tasks: list[Ahead], **_: Any) -> list[Any]:
        done.append(("compiled", [dict(task.forced["forward/bfloat16"]) for task in tasks]))
        return []

    def run(tuning: Any, todo: list[Job]) -> None:
        done.append(("timed", [dict(config) for job in todo for config in job.search["forward/bfloat16"]]))

    monkeypatch.setattr(ranking, "take_profiles", profiles)
    monkeypatch.setattr(ahead, "compile_ahead", lambda tasks, **words: compile_(tasks, **words) or _nothing(tasks))
    monkeypatch.setattr("suite.tuning.search.Tuning.run", run)
    monkeypatch.setattr("suite.discovery.discover", lambda load: registry())
    monkeypatch.setattr(tune, "device_of", lambda args: "cuda")
    monkeypatch.setattr(tune, "gpu_variables", lambda args, device: {})
    monkeypatch.setattr(tune, "holding", lambda args, uuid: nullcontext())
    target = vars(REPRESENTATIVES["sm_90"])
    monkeypatch.setattr(tune, "_identity", lambda *_: {"name": "NVIDIA H200", "arch": "sm_90", "target": target})
    words = ["tune", "--preset", "smoke", "--op", "mean", "--pass", "fwd", "--dtype", "bf16", "--seq-len", "64,128"]
    words += ["--out", str(tmp_path / "t.json")]
    best = [{"warps": 4}, {"warps": 8}]
    assert main([*words, "--best", "1"]) == 0
    assert done == [("profiled", 4), ("compiled", best), ("timed", best)]
    done.clear()
    assert main([*words, "--best", "1", "--no-compile"]) == 0
    assert done == [("profiled", 4), ("timed", best)]
    done.clear()
    assert main([*words, "--best", "all"]) == 0
    assert done == [("compiled", CONFIGS), ("timed", CONFIGS)]
    assert main([*words, "--best", "0"]) == 2


def _nothing(tasks: list[Ahead]) -> list[Any]:
    from suite.static.compiling import Compiled

    return [Compiled() for _ in tasks]
