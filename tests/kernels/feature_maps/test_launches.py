"""How many kernels attention with feature maps launches, and the bytes of what each is given over compulsory ones."""

from __future__ import annotations

from typing import Any

import pytest

from kernels.scalar_decay.linear_attention.chunk import chunk_linear_attention
from kernels.scalar_decay.linear_attention.spec import linear_attention
from suite import Problem
from suite.checks.calling import Call
from suite.errors import UsageError
from suite.registry import Operator
from suite.static import capture
from suite.static.profiling import meta_inputs
from suite.targets import aim

SEGMENTS, ON_CHIP = {"B": 1, "T": 8192}, {"B": 16, "T": 8192}
FULL = {"causal": False}
SOFTMAX, FAVOR = ({"feature_map": name, "normalised": True} for name in ("softmax", "favor"))
# axes, shape, pass, most launches, most bytes over the compulsory ones
AIMS: list[tuple[dict[str, Any], dict[str, int], str, int, float]] = [
    (FULL, SEGMENTS, "fwd", 2, 1.1),
    (FULL, ON_CHIP, "fwd", 2, 1.1),
    (FULL, SEGMENTS, "bwd", 3, 1.3),
    (FULL, ON_CHIP, "bwd", 3, 1.3),
    (SOFTMAX, ON_CHIP, "fwd", 1, 1.1),
    (SOFTMAX, SEGMENTS, "fwd", 2, 1.6),
    ({**SOFTMAX, **FULL}, SEGMENTS, "fwd", 2, 1.1),
    (FAVOR, ON_CHIP, "fwd", 2, 2.1),
    (FAVOR, ON_CHIP, "bwd", 3, 2.9),
]


def launched(operator: Operator, implementation: str, problem: Problem) -> tuple[int, float]:
    """(launches, their traffic over the compulsory bytes) of one pass on an sm_90."""
    call = Call(
        operator, operator.implementations[implementation], problem, {"chunk": 64}, meta_inputs(operator, problem)
    )
    capture(call.prepare, "sm_90", compiled=False)
    launches = capture(call.run, "sm_90", compiled=False)
    moved = sum(each.traffic_bytes for each in launches)
    return len(launches), moved / operator.cost_of(problem).bytes_compulsory


@pytest.mark.parametrize(("own", "shape", "pass_", "most", "ratio"), AIMS, ids=lambda x: str(x))
def test_launches_and_traffic(own, shape, pass_: str, most: int, ratio: float) -> None:
    problem = linear_attention.complete(Problem(**shape, H=16, K=128, pass_=pass_), own)
    launches, found = launched(linear_attention, "triton_chunk", problem)
    assert launches <= most
    assert found <= ratio


def test_many_short_segments_are_never_more_than_a_program_reads() -> None:
    problem = linear_attention.complete(Problem(B=1, T=65536, H=1, K=128), FULL)
    made = linear_attention.implementations["triton_chunk"]
    assert made.configuration
    with aim("sm_90"):
        segment = made.configuration(problem, {"chunk": 64})["output"]["segment"]
    assert -(-65536 // segment) <= 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"causal": False, "output_final_state": True}, "no states"),
        ({"feature_map": "favor", "normalised": True}, "projection is missing"),
        ({"feature_map": "taylor"}, "at most 256"),
    ],
)
def test_bad_calls_are_named(words: dict[str, Any], message: str) -> None:
    inputs = meta_inputs(linear_attention, linear_attention.complete(Problem(T=40, K=32, dtype="fp32")))
    with aim("sm_90"), pytest.raises(UsageError, match=message):
        chunk_linear_attention(**inputs, **words)


def test_features_beyond_what_a_state_holds_are_unsupported() -> None:
    made = linear_attention.implementations["triton_chunk"]
    assert made.supports
    for K, served in ((16, True), (21, True), (22, False), (64, False)):
        problem = linear_attention.complete(Problem(T=40, K=K), {"feature_map": "taylor"})
        assert (made.supports(problem, {}) is None) == served
