"""The gate on a GPU, with workers and a compiler that are not there: what is compiled, what still must be timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suite import Cost, Operator
from suite.errors import Exit
from suite.gating import revision
from suite.gating.capabilities import survey_request
from suite.gating.options import Options, Plan
from suite.gating.report import CaseVerdict
from suite.gating.revision import RevisionGate
from suite.gating.rounds import RoundSettings
from suite.plan import Selection, make_plan
from suite.presets import load_preset
from suite.registry import Registry
from suite.running.budget import Budget
from suite.static.model import Binary, Launch, Profile, Residency

NAMES = ("same", "eager", "spills", "host")


def registry(*names: str) -> Registry:
    mean = Operator(
        "mean",
        "o = mean v",
        "none",
        inputs=lambda p, g: {},
        oracle=lambda q, k, v: (v, None),
        cost=lambda p, t: Cost(1, 1, 1),
        passes=("fwd",),
        stateful=False,
        tags=("linear",),
    )
    for name in names:
        devices = {"cpu", "cuda"} if name == "host" else {"cuda"}
        made = mean.implementation(name, origin="baseline" if name == "host" else "ours", devices=devices)
        made(lambda q, k, v: (v, None))
    made = Registry()
    made.add(mean)
    return made


def profile(case_id: str, spills: int = 0, eager_ops: int = 0) -> Profile:
    binary = Binary(f"code{spills}", 128, spills, spills, 0, 100, {"hgmma": 8})
    launch = Launch("fwd_kernel", (64, 1, 1), "", 1000, 4, 3, 2048, binary, Residency(4, 0.5, "registers", 1.0))
    return Profile(case_id, "sm_90", launches=(launch,), eager_ops=eager_ops)


class Worker:
    """A revision whose calls take as long as they are told to; the base says that all code is another."""

    killed_by_kernel = False

    def __init__(self, held: Registry, root: Path, ms: float, timed: list[str]) -> None:
        self.held, self.root, self.ms, self.timed = held, root, ms, timed

    def ask(self, timeout_s: float = 0.0, **request):
        do = request["do"]
        if do == "describe":
            return {"device": {"arch": "sm_90"}, "fingerprint": {"device": "NVIDIA H200", "driver": "575"}}
        if do == "survey":
            answer = json.loads(json.dumps(survey_request(self.held, self.root, request)))
            return answer | {"served": [{**each, "code": "other"} for each in answer["served"]]}
        if do == "codes":
            return {"codes": {}}
        if do == "open":
            self.timed.append(request["case"]["implementation"])
        return {"status": "ok", "reason": "", "typical_ms": self.ms, "samples": [self.ms] * 3, "mhz": 1980.0}

    def how_it_ended(self) -> str:
        return ""

    def tail(self) -> str:
        return ""

    def kill(self) -> None:
        pass


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """Runs a gate on a GPU whose candidate takes `ms` a call; returns its verdicts and which cases were timed."""
    preset = tmp_path / "small.toml"
    preset.write_text('tags = ["linear"]\n[[sweep]]\nT = [64]\n')
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))

    def profiles(tasks, **_):
        assert {task.arch for task in tasks} == {"sm_90"}
        return [
            profile(
                task.case.case_id,
                spills=64 * (task.case.implementation == "spills" and not task.root),
                eager_ops=int(task.case.implementation == "eager"),
            )
            for task in tasks
        ]

    monkeypatch.setattr("suite.static.pool.take_profiles", profiles)

    def run(ms: float = 1.0, **more) -> tuple[list[CaseVerdict], set[str]]:
        held, timed = registry(*NAMES), list[str]()

        def start(root, device, plugins, budget, *, base):
            assert device == "cuda"
            return Worker(held, tmp_path, 1.0 if base else ms, timed)

        monkeypatch.setattr(revision, "start_worker", start)
        plan = Plan(held, make_plan(held, load_preset(str(preset)), Selection()), str(preset), Selection())
        made = RevisionGate(plan, Options(RoundSettings("cuda", "cold-events"), **more), tmp_path, tmp_path / "base")
        return list(made.run()), set(timed)

    return run


def told(found: list[CaseVerdict]) -> dict[tuple[str, str], str]:
    return {(each.case_id.split("/")[1], each.metric): each.decision.verdict for each in found}


def test_only_what_the_binaries_do_not_settle_is_timed(gate):
    found, timed = gate()
    assert told(found) == {
        ("same", "time"): "unchanged",
        ("eager", "static"): "unchanged",
        ("eager", "time"): "same",
        ("spills", "static"): "slower",
        ("spills", "time"): "same",
        ("host", "time"): "same",
    }
    assert timed == {"eager", "spills", "host"}
    settled = next(each for each in found if "/same/" in each.case_id)
    assert (settled.same_code, settled.decision.reason) == (True, "the same binaries, launched alike")
    assert {each.mode for each in found if each.metric == "static"} == {"sm_90"}
    assert max(each.decision.exit for each in found) == Exit.REGRESSION


def test_all_times_what_has_the_same_binaries_too(gate):
    found, timed = gate(every=True)
    assert timed == set(NAMES)
    assert told(found)[("same", "time")] == "same"


def test_kernels_that_compile_nowhere_are_no_pass(gate, monkeypatch):
    def refused(tasks, **_):
        return [Profile(task.case.case_id, "sm_90", "unsupported", "reads a value") for task in tasks]

    monkeypatch.setattr("suite.static.pool.take_profiles", refused)
    found, timed = gate()
    assert timed == set(NAMES)
    assert told(found)[("same", "static")] == "unchanged"
    assert not any(each.same_code for each in found)


def test_a_budget_that_has_ended_leaves_everything_out_and_says_so(gate):
    found, timed = gate(budget=Budget(1e-9))
    assert not timed
    assert {each.decision.verdict for each in found} == {"inconclusive"}
    assert {each.decision.reason for each in found} == {"left out: the budget of 1e-09 s ended"}
    assert set(told(found)) == {(name, "time") for name in NAMES}
    assert ("host", "time") in told(found)


def test_without_the_static_part_all_changed_code_is_timed(gate):
    found, timed = gate(ms=1.1, static=False)
    assert timed == set(NAMES)
    assert told(found) == {(name, "time"): "slower" for name in NAMES}
