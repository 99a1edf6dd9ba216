"""How many kernels a call launches, and the bytes of what each is given over the compulsory ones."""

from __future__ import annotations

from typing import Any

import pytest

from suite import Problem
from suite.checks.calling import Call
from suite.discovery import discover
from suite.static import capture
from suite.static.profiling import meta_inputs

SEGMENTS, ON_CHIP = {"B": 1, "T": 8192}, {"B": 16, "T": 8192}
SKIP = {"skip": True}
GATED = {"skip": True, "gated": True}
# operator, axes, shape, pass, most launches, most bytes over the compulsory ones
AIMS: list[tuple[str, dict[str, Any], dict[str, int], str, int, float]] = [
    ("linear_attention", {}, ON_CHIP, "fwd", 1, 1.1),
    ("linear_attention", {}, ON_CHIP, "bwd", 2, 1.5),
    ("linear_attention", {}, SEGMENTS, "fwd", 2, 1.65),
    ("linear_attention", {}, SEGMENTS, "bwd", 3, 1.9),
    ("retention", {}, ON_CHIP, "fwd", 1, 1.1),
    ("retention", {}, ON_CHIP, "bwd", 2, 1.5),
    ("retention", {}, SEGMENTS, "fwd", 2, 1.65),
    ("retention", {}, SEGMENTS, "bwd", 3, 1.9),
    ("ssd", {}, ON_CHIP, "fwd", 1, 1.1),
    ("ssd", SKIP, ON_CHIP, "bwd", 3, 1.7),
    ("ssd", SKIP, SEGMENTS, "fwd", 2, 1.65),
    ("ssd", {}, SEGMENTS, "bwd", 4, 2.0),
    ("ssd", GATED, ON_CHIP, "bwd", 3, 1.75),
    ("ssd", GATED, SEGMENTS, "bwd", 4, 2.0),
]


@pytest.mark.parametrize(("name", "own", "shape", "pass_", "most", "ratio"), AIMS, ids=lambda x: str(x))
def test_launches_and_traffic(name: str, own, shape, pass_: str, most: int, ratio: float) -> None:
    operator = discover().operator(name)
    problem = operator.complete(Problem(**shape, H=16, K=128, pass_=pass_), own)
    made = operator.implementations["triton_chunk"]
    call = Call(operator, made, problem, {"chunk": 64}, meta_inputs(operator, problem))
    capture(call.prepare, "sm_90", compiled=False)
    launches = capture(call.run, "sm_90", compiled=False)
    assert len(launches) <= most
    moved = sum(each.traffic_bytes for each in launches)
    assert moved / operator.cost_of(problem).bytes_compulsory <= ratio


def test_many_segments_are_combined_in_a_launch_of_their_own() -> None:
    operator = discover().operator("retention")
    names = {}
    for H in (1, 16):
        problem = operator.complete(Problem(B=1, T=65536, H=H, K=128))
        call = Call(
            operator, operator.implementations["triton_chunk"], problem, {"chunk": 64}, meta_inputs(operator, problem)
        )
        names[H] = [each.kernel for each in capture(call.run, "sm_90", compiled=False)]
    assert "linear_segment_combine_kernel" in names[1]
    assert "linear_segment_combine_kernel" not in names[16]
