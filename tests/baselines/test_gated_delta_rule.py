"""FlashInfer's gated delta rule, on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import baselines.gated_delta_rule.flashinfer  # noqa: F401  (registers)
from kernels.gated_delta_rule.spec import gated_delta_rule, recurrence
from suite import Problem
from tests.baselines.delta_rules import check_adapter, stand_in


def prefill(q, k, v, g, beta, *, scale, cu_seqlens):
    """flashinfer's contract: packed rows, the decay itself, boundaries in int64."""
    assert q.ndim == 3
    assert cu_seqlens.dtype == torch.int64
    rows = [x[None] for x in (q, k, v, beta, g.log())]
    return recurrence(*rows, scale=scale, cu_seqlens=cu_seqlens)[0][0]


@pytest.mark.parametrize("sizes", [{"B": 3}, {"layout": "packed:ragged", "T": 40}])
def test_flashinfer_is_called_on_packed_rows(sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "flashinfer.gdn_prefill", {"chunk_gated_delta_rule": prefill})
    check_adapter(gated_delta_rule, "flashinfer", **sizes)


def test_flashinfer_serves_heads_of_128_forward_alone() -> None:
    made = gated_delta_rule.implementations["flashinfer"]
    assert made.supports is not None
    assert made.supports(Problem(K=128), {}) is None
    assert made.supports(Problem(K=64), {}) == "flashinfer's chunk_gated_delta_rule takes heads of 128"
    assert made.passes == {"fwd"}
