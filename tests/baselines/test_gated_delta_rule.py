"""FlashInfer's and FlashQLA's gated delta rule, on the CPU."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import baselines.gated_delta_rule.flashinfer
import baselines.gated_delta_rule.flashqla  # noqa: F401  (registers)
from kernels.gated_delta_rule.spec import gated_delta_rule, recurrence
from suite import Problem
from suite.targets import aim
from tests.baselines.delta_rules import check_adapter, parameters, stand_in


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


def chunked(q, k, v, g, beta, scale, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False,
            cu_seqlens=None):  # fmt: skip
    """flash_qla's contract: FLA's, with boundaries in int64 and one row of tokens beside them."""
    assert cu_seqlens is None or (cu_seqlens.dtype == torch.int64 and len(q) == 1)
    options = {"initial_state": initial_state, "output_final_state": output_final_state, "cu_seqlens": cu_seqlens}
    return recurrence(q, k, v, beta, g, scale=scale, l2norm=use_qk_l2norm_in_kernel, **options)


@pytest.mark.parametrize("own", [{}, {"l2norm": True}], ids=["plain", "l2norm"])
@pytest.mark.parametrize("sizes", [{"B": 3, "initial_state": True}, {"layout": "packed:ragged", "T": 40}], ids=str)
def test_flash_qla_is_called_as_it_wants(
    sizes: dict[str, Any], own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "flash_qla", {"chunk_gated_delta_rule": chunked})
    check_adapter(gated_delta_rule, "flash_qla", own, **sizes)


def test_flash_qla_serves_heads_of_128_on_hopper_and_later() -> None:
    made = gated_delta_rule.implementations["flash_qla"]
    assert made.supports is not None
    with aim("sm_90"):
        assert made.supports(Problem(K=128), {}) is None
        assert made.supports(Problem(K=64), {}) == "flash_qla's chunk_gated_delta_rule takes heads of 128"
    with aim("sm_80"):
        assert made.supports(Problem(K=128), {}) == "flash_qla has kernels for Hopper and Blackwell alone"
    assert {"fwd", "bwd", "fwdbwd"} <= set(made.passes)


def test_the_installed_flash_qla_has_the_parameters_of_the_stand_in() -> None:
    file = "flash_qla/ops/gated_delta_rule/chunk/__init__.py"
    found = parameters("flash-qla", file, "chunk_gated_delta_rule")
    assert found[:5] == ["q", "k", "v", "g", "beta"]
    assert set(inspect.signature(chunked).parameters) <= set(found)
