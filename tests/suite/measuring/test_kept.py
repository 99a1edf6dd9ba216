"""Memory that implementations keep between calls: a workspace that only the first call makes is in their figure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from suite.discovery import discover
from suite.measuring.case import ProblemRun, Settings
from suite.measuring.memory import Kept
from suite.problem import Case, Problem
from tests.suite.plugins import RUNNING_MEAN, write

SETTINGS = Settings("cpu", "cpu", ("warm-cpu",), warmup_ms=0.0, rep_ms=1.0)
MIB = 1 << 18
# Of the fences that a check puts around what is allocated in it.
SLACK = 0.05

KEEPING = (
    RUNNING_MEAN
    + f"""
HELD = {{}}

def keeping(name, make):
    def run(q, k, v):
        if name not in HELD:
            HELD[name] = make(v)
        return mean(q, k, v)
    running_mean.implementation(name, origin="ours")(run)

keeping("allocates", lambda v: torch.empty(4 * {MIB}))
keeping("computes", lambda v: torch.ones(2 * {MIB}) * 2)
keeping("views", lambda v: [x for x in torch.zeros(2, {MIB})])
keeping("per_head", lambda v: [torch.empty({MIB}) for _ in range(3)])
keeping("on_no_device", lambda v: torch.empty({MIB}, device="meta"))
keeping("sparse", lambda v: torch.eye(3).to_sparse())

@running_mean.implementation("lets_go", origin="ours")
def lets_go(q, k, v):
    work = torch.empty(4 * {MIB})
    return mean(q, k, v)
"""
)
KEPT = {"allocates": 4, "computes": 2, "views": 2, "per_head": 3}


@pytest.mark.parametrize("pass_", ["fwd", "fwdbwd"])
def test_what_is_kept_is_in_the_memory_of_its_case_alone(tmp_path: Path, pass_: str) -> None:
    operator = discover(load=[write(tmp_path, KEEPING, f"keeping_{pass_}.py")]).operator("running_mean")
    problem, records = operator.complete(Problem(T=8, H=1, K=4, V=4, dtype="float32", pass_=pass_)), []
    cases = [Case(operator.name, name, problem, (), operator.axes) for name in operator.implementations]
    ProblemRun(operator, problem, cases, SETTINGS, "timed", records.append, lambda *_: None).measure()
    found = {record["implementation"]: record for record in records}
    for name, record in found.items():
        assert record["status"] == "ok", record["reason"]
        assert record["kept_mib"] == pytest.approx(KEPT.get(name, 0), abs=SLACK), name
    base = found["torch"]["memory_mib"]
    for name in ("torch", *KEPT):
        assert found[name]["memory_mib"] == pytest.approx(base + KEPT.get(name, 0), abs=SLACK), name
    # What a call allocates and frees is in its peak, and not kept.
    assert found["lets_go"]["memory_mib"] == pytest.approx(base + 4, abs=SLACK)


def test_what_the_harness_holds_is_nobodys() -> None:
    kept = Kept("cpu")
    since = kept.made()
    mine, theirs = torch.empty(MIB), torch.empty(MIB)
    made = since()
    assert kept.mib(made, [mine]) == 1
    assert kept.mib(made, []) == 2
    assert kept.mib(made, [mine, theirs[1:]]) == 0, "a view of it is of the same memory"
    del theirs
    assert kept.mib(made, [mine]) == 0
