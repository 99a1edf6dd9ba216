"""What the attention operators' specifications count: pairs, bytes, and the I/O bound."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from kernels.attention.sliding_window_attention.spec import pairs, sliding_window_attention
from kernels.attention.softmax_attention.spec import io_bound_bytes, softmax_attention
from suite import Problem
from suite.checks.inputs import draw_inputs


def complete(**changes: Any) -> Problem:
    own = {name: changes.pop(name) for name in ("causal", "window", "dilation") if name in changes}
    sizes = {"T": 50, "H": 2, "K": 8, "V": 12, "dtype": "fp32"} | changes
    return sliding_window_attention.complete(Problem(**sizes), own)


def counted(problem: Problem) -> int:
    """Pairs that the definition names, one by one."""
    window, dilation = int(problem.axis("window")), int(problem.axis("dilation"))
    found = 0
    bounds = problem.cu_seqlens or (0, problem.T)
    for first, end in pairwise(bounds):
        for t in range(first, end):
            for i in range(0 if problem.axis("causal") else 1 - window, window):
                found += first <= t - i * dilation < end
    return found * (problem.B if problem.layout == "dense" else 1)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dilation", [1, 2, 16])
@pytest.mark.parametrize("window", [1, 7, 64])
@pytest.mark.parametrize("layout", ["dense", "packed:ragged"])
def test_pairs_are_those_of_the_window(causal: bool, window: int, dilation: int, layout: str) -> None:
    at = complete(causal=causal, window=window, dilation=dilation, layout=layout)
    assert pairs(at) == counted(at)
    for pass_, width in (("fwd", 2 * 8 + 2 * 12), ("bwd", 3 * 2 * 8 + 2 * 2 * 12)):
        cost = sliding_window_attention.cost_of(at.replace(pass_=pass_))
        assert cost.flops_alg == counted(at) * at.H * width
        assert cost.special == counted(at) * at.H


@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
def test_compulsory_bytes_are_inputs_once_and_outputs_once(pass_: str) -> None:
    at = complete(B=2, H=4, HK=2, HV=2, pass_=pass_)
    inputs = draw_inputs(sliding_window_attention, at, 0)
    read = sum(x.numel() * 4 for x in inputs.values())
    o = sliding_window_attention.oracle(**inputs)[0].numel() * 4
    assert sliding_window_attention.cost_of(at).bytes_compulsory == (read + o if pass_ == "fwd" else 2 * read + o)


def test_the_oracle_stays_in_its_sequence() -> None:
    q, k, v = (torch.randn(1, 30, 1, 4, dtype=torch.float64) for _ in range(3))
    words: dict[str, Any] = {"causal": False, "window": 7, "dilation": 2}
    packed, _ = sliding_window_attention.oracle(q, k, v, cu_seqlens=torch.tensor([0, 11, 30]), **words)
    parts = [
        sliding_window_attention.oracle(q[:, a:b], k[:, a:b], v[:, a:b], **words)[0] for a, b in ((0, 11), (11, 30))
    ]
    assert torch.equal(packed, torch.cat(parts, 1))


def bound(elements: float, **changes: Any) -> float:
    sizes = {"T": 1000, "H": 3, "K": 64, "dtype": "bf16"} | changes
    causal = sizes.pop("causal", False)
    return io_bound_bytes(softmax_attention.complete(Problem(**sizes), {"causal": causal}), 2 * elements)


def test_the_bound_is_t2_d2_over_m() -> None:
    assert bound(10_000) == pytest.approx(2 * 3 * 1000**2 * 64**2 / 10_000)
    assert bound(20_000) == pytest.approx(bound(10_000) / 2)
    assert bound(10_000, causal=True) == pytest.approx(bound(10_000) * 1001 / 2000)
    assert bound(10_000, B=2) == pytest.approx(2 * bound(10_000))
    assert bound(10_000, layout="packed:halves") == pytest.approx(bound(10_000) / 2)


def test_below_a_block_of_d_by_d_it_falls_with_the_root_and_joins_there() -> None:
    assert bound(64**2) == pytest.approx(2 * 3 * 1000**2)
    assert bound(1024) == pytest.approx(2 * 3 * 1000**2 * 64 / 32)
    assert bound(64**2 - 1) == pytest.approx(bound(64**2), rel=1e-3)
