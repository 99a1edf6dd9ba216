"""Verdicts on two revisions: what fails, what is only told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suite.errors import Exit, worst
from suite.problem import Case, Problem
from suite.static.compare import against, judge
from suite.static.model import Binary, Launch, Prediction, Profile, Residency
from suite.static.tasks import Task
from tests.suite.static.test_pool import mini

MIX = {"hgmma": 8, "utchmma": 0, "hmma": 0}


def launch(
    kernel: str = "fwd_kernel",
    code: str = "a",
    spills: int = 0,
    occupancy: float = 0.5,
    mix: dict[str, int] = MIX,
    registers: int = 128,
    **values: Any,
) -> Launch:
    binary = Binary(code, registers, spills, spills // 2, spills - spills // 2, 100, mix)
    residency = Residency(4, occupancy, "registers", 1.0)
    base = Launch(kernel, (64, 1, 1), "", 1000, 4, 3, 2048, binary, residency)
    return replace(base, **values)


def profile(*launches: Launch, **values: Any) -> Profile:
    return replace(Profile("op/impl/case", "sm_90", launches=launches or (launch(),)), **values)


UNTIMED = "; no predicted time (the GPU has no machine table): spills, occupancy and tensor path decide"


def changed(after: Launch, before: Launch | None = None) -> tuple[str, str]:
    """The verdict and its reason, of launches for which no time is predicted."""
    decision = judge(profile(before or launch()), profile(after))
    return decision.verdict, decision.reason.removesuffix(UNTIMED)


def timed(us: float, code: str = "a", **values: Any) -> Profile:
    """A profile of one launch of a predicted time."""
    return profile(launch(code=code, predicted=Prediction(us / 1e3, "chain"), **values))


def test_predicted_times_decide() -> None:
    assert judge(timed(100), timed(300, "b")).verdict == "slower"
    assert judge(timed(300), timed(100, "b")).verdict == "faster"
    decision = judge(timed(100), timed(101, "b"))
    assert (decision.verdict, decision.ratio) == ("same", pytest.approx(1.01))
    assert decision.reason.startswith("predicted 100.0 -> 101.0 us (x1.01, sure beyond x")


def test_spills_explain_a_predicted_time_and_fail_where_that_is_asked_for() -> None:
    old, new = timed(300), timed(100, "b", spills=64)
    assert judge(old, new).verdict == "faster"
    assert "fwd_kernel: spills 0 -> 64 bytes" in judge(old, new).reason
    assert judge(old, new, ["occupancy"]).verdict == "faster"
    decision = judge(old, new, ["spills", "occupancy"])
    assert (decision.verdict, decision.exit) == ("slower", Exit.REGRESSION)
    assert decision.reason.startswith("fails on spills; predicted 300.0 -> 100.0 us")


def test_a_launch_that_did_not_change_is_not_uncertain() -> None:
    def two(us: float, code: str) -> Profile:
        same = launch(kernel="other", predicted=Prediction(1.0, "chain"))
        return profile(launch(code=code, predicted=Prediction(us / 1e3, "chain")), same)

    whole, part = judge(timed(100), timed(130, "b")), judge(two(100, "a"), two(130, "b"))
    assert whole.margin is not None
    assert part.margin == pytest.approx(whole.margin * 100 / 1100)


def test_a_side_that_cannot_be_predicted_is_said() -> None:
    unknown = profile(launch(code="b", predicted=Prediction(reason="its path depends on data")))
    decision = judge(timed(100), unknown)
    assert decision.verdict == "same"
    assert "no predicted time (fwd_kernel: its path depends on data): spills" in decision.reason


def test_the_same_binaries_are_unchanged() -> None:
    decision = judge(profile(), profile())
    assert (decision.verdict, decision.exit) == ("unchanged", Exit.PASS)


def test_new_spills_fail() -> None:
    assert changed(launch(code="b", spills=64)) == ("slower", "fwd_kernel: spills 0 -> 64 bytes")
    assert changed(launch(code="b", spills=128), launch(spills=64))[0] == "slower"
    assert changed(launch(code="b", spills=64), launch(spills=64))[0] == "same"
    assert changed(launch(code="b", spills=0), launch(spills=64))[0] == "same"


def test_a_step_down_in_occupancy_fails() -> None:
    verdict, reason = changed(launch(code="b", occupancy=0.25))
    assert (verdict, reason) == ("slower", "fwd_kernel: occupancy 50.0% -> 25.0%, limited by registers")
    assert changed(launch(code="b", occupancy=0.75))[0] == "same"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("hgmma", "hmma", "slower"),
        ("hmma", "none", "slower"),
        ("utchmma", "hgmma", "slower"),
        ("hmma", "hgmma", "same"),
    ],
)
def test_a_lost_tensor_core_path_fails(before: str, after: str, verdict: str) -> None:
    old, new = (launch(code=path, mix={path: 4}) for path in (before, after))
    assert changed(new, old)[0] == verdict


def test_everything_else_is_told_and_passes() -> None:
    verdict, reason = changed(launch(code="b", registers=200, warps=8, shared_bytes=4096))
    assert verdict == "same"
    assert reason == "fwd_kernel: warps 4 -> 8; fwd_kernel: registers 128 -> 200; fwd_kernel: shared bytes 2048 -> 4096"


def test_the_same_binaries_that_move_more_are_not_unchanged() -> None:
    decision = judge(profile(), profile(eager_bytes=4096))
    assert (decision.verdict, decision.reason.removesuffix(UNTIMED)) == ("same", "eager bytes 0 -> 4096")


@pytest.mark.parametrize("status", ["compile_error", "over_limit"])
def test_what_no_longer_builds_is_broken(status: str) -> None:
    decision = judge(profile(), profile(status=status, reason="too much shared memory"))
    assert (decision.verdict, decision.exit) == ("broken", Exit.REGRESSION)
    assert "too much shared memory" in decision.reason
    assert judge(profile(status=status), profile(status=status)).verdict == "unchanged"
    assert judge(profile(status=status), profile()).exit == Exit.PASS


def test_missing_and_new() -> None:
    assert judge(profile(), None).verdict == "missing"
    assert judge(profile(), None).exit == Exit.REGRESSION
    assert judge(None, profile()).verdict == "new"


def test_launches_are_paired_by_kernel_and_order() -> None:
    before = profile(launch("cumsum"), launch("state", "s1"), launch("state", "s2", spills=8), launch("out"))
    after = profile(launch("state", "s1"), launch("state", "s2", spills=8), launch("fused", "f"))
    decision = judge(before, after)
    assert decision.verdict == "same"
    for told in ("launch fused is new", "launch cumsum is gone", "launch out is gone"):
        assert told in decision.reason


def test_a_new_launch_that_spills_fails() -> None:
    decision = judge(profile(), profile(launch(), launch("extra", spills=16)))
    assert (decision.verdict, decision.reason.split(";")[0]) == ("slower", "extra: new spills of 16 bytes")


def test_a_fused_kernel_without_tensor_cores_fails() -> None:
    decision = judge(profile(), profile(launch("fused", "f", mix={})))
    assert (decision.verdict, decision.reason.split(";")[0]) == ("slower", "tensor cores are no longer used as before")


def test_two_checkouts_under_one_compiler(tmp_path: Path) -> None:
    """One kernel lost its wide loads, one is as before, one is new, one is gone."""
    base, now = mini(tmp_path / "base"), mini(tmp_path / "now")
    for folder, old, new in (
        (base, 'implementation("rereading"', 'implementation("earlier"'),
        (now, "tl.load(x + at, mask=at < N)\n    for", "tl.load(x + at * 2, mask=at < N)\n    for"),
    ):
        path = Path(folder) / "kernels" / "doubling.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    tasks = [
        Task(Case("double", name, Problem(T=1024), tunables), "sm_90", root=now)
        for name, tunables in (("triton", ()), ("large", ()), ("rereading", (("reads", 1),)))
    ]
    found = against(base, tasks, jobs=1, selects=lambda name: name != "double/cpu")
    assert [(each.case_id.split("/")[1], each.decision.verdict) for each in found] == [
        ("triton", "same"),
        ("large", "unchanged"),
        ("rereading", "new"),
        ("earlier", "missing"),
    ]
    assert "instructions" in found[0].decision.reason
    assert worst(each.decision.exit for each in found) == Exit.REGRESSION


def test_a_plugin_of_the_tree_is_compared_with_the_bases_own(tmp_path: Path) -> None:
    """Its launches have other warps there."""
    roots = [mini(tmp_path / name, warps) for name, warps in (("base", 8), ("now", 4))]
    loads = [str((Path(root) / "kernels" / "doubling.py").rename(Path(root) / "extra.py")) for root in roots]
    tasks = [Task(Case("double", "triton", Problem(T=1024)), "sm_90", root=roots[1])]
    (found,) = against(roots[0], tasks, load=loads[1:], base_load=loads[:1], jobs=1)
    assert "warps 8 -> 4" in found.decision.reason
    (found, *gone) = against(roots[0], tasks, load=loads[1:], base_load=[], jobs=1)
    assert (found.decision.verdict, gone) == ("new", [])
