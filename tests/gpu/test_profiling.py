"""On a device: a case under each tool. What a tool refuses here is skipped, visibly, with the line that a user sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import Case, Problem
from suite.discovery import discover
from suite.errors import UsageError
from suite.profiling import Options, Profile, profile

pytestmark = pytest.mark.gpu

PROBLEM = Problem(B=1, T=4096, H=16, K=128, dtype="bf16")


@pytest.fixture(scope="module")
def case() -> Case:
    operator = discover().operator("linear_attention")
    made = operator.implementations["triton_chunk"]
    return Case(
        operator.name, made.name, operator.complete(PROBLEM), tuple(made.default_tunables.items()), operator.axes
    )


def taken(case: Case, tool: str, folder: Path) -> Profile:
    try:
        return profile(case, Options(tool=tool, device="cuda"), folder)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("tool", ["torch", "proton", "ncu"])
def test_our_kernels_are_seen(case: Case, tool: str, tmp_path: Path) -> None:
    found = taken(case, tool, tmp_path)
    assert any("linear" in kernel.name for kernel in found.kernels)
    assert sum(kernel.share for kernel in found.kernels) == pytest.approx(1.0)
    assert found.launches == pytest.approx(round(found.launches))
    assert all(Path(path).is_file() for path in found.files.values())


def test_counted_bytes_and_flops_are_those_of_the_problem(case: Case, tmp_path: Path) -> None:
    found = taken(case, "ncu", tmp_path)
    cost = discover().operator("linear_attention").cost_of(case.problem)
    assert found.missing == ()
    # What a kernel wrote last may stay in the last-level cache.
    assert 0.5 * cost.bytes_compulsory < found.counters["dram_bytes"] < 8 * cost.bytes_compulsory
    assert cost.flops_alg * 0.9 < found.counters["flops_tensor"] < 8 * cost.flops_alg
    assert found.counters["l2_bytes"] >= found.counters["dram_read_bytes"]
    assert 0 < found.counters["occupancy"] <= 1


def test_tools_agree_on_launches(case: Case, tmp_path: Path) -> None:
    seen = {tool: taken(case, tool, tmp_path / tool).launches for tool in ("torch", "proton")}
    assert seen["torch"] >= seen["proton"] > 0
