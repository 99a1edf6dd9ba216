"""FlashInfer's and FlashQLA's gated delta rule, on the CPU."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import baselines.delta.gated_delta_rule.flashinfer
import baselines.delta.gated_delta_rule.flashqla  # noqa: F401  (registers)
from baselines import boundaries
from kernels.delta.gated_delta_rule.spec import gated_delta_rule, recurrence
from suite import Problem
from suite.targets import aim
from tests.baselines.delta_rules import check_adapter, parameters, stand_in


def prefill(
    q,
    k,
    v,
    g=None,
    beta=None,
    scale=None,
    initial_state=None,
    output_final_state=False,
    cu_seqlens=None,
    use_qk_l2norm_in_kernel=False,
    output=None,
    output_state=None,
):
    """flashinfer 0.7.4's contract: packed rows, the decay itself, fp32 gates, states [N,H,V,K], int64 boundaries."""
    assert q.ndim == 3
    assert g.dtype == beta.dtype == torch.float32
    assert cu_seqlens.dtype == torch.int64
    assert all(x.is_contiguous() for x in (q, k, v, g, beta))
    assert initial_state is None or (initial_state.dtype == torch.float32 and initial_state.is_contiguous())
    rows = [x[None] for x in (q, k, v, beta, g.log())]
    start = None if initial_state is None else initial_state.transpose(-1, -2)
    o, final = recurrence(
        *rows,
        scale=scale,
        l2norm=use_qk_l2norm_in_kernel,
        initial_state=start,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )
    assert output is None
    assert output_final_state == (output_state is not None), "its documentation requires one with the other"
    return (o[0], output_state.copy_(final.transpose(-1, -2))) if output_final_state else o[0]


SIZES = [{"B": 3, "initial_state": True}, {"layout": "packed:ragged", "T": 40}]


@pytest.mark.parametrize("own", [{}, {"l2norm": True}], ids=["plain", "l2norm"])
@pytest.mark.parametrize("sizes", [*SIZES, SIZES[1] | {"initial_state": True}, {"B": 3}], ids=str)
def test_flashinfer_is_called_on_packed_rows(
    sizes: dict[str, Any], own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "flashinfer.gdn_prefill", {"chunk_gated_delta_rule": prefill})
    check_adapter(gated_delta_rule, "flashinfer", own, **sizes)


def test_the_installed_flashinfer_has_the_parameters_of_the_stand_in() -> None:
    found = parameters("flashinfer-python", "flashinfer/gdn_prefill.py", "chunk_gated_delta_rule")
    assert found[: len(inspect.signature(prefill).parameters)] == list(inspect.signature(prefill).parameters)


@pytest.mark.parametrize(("version", "served"), [("0.6.0", False), ("0.7.0.post1", False), ("0.7.1", True)])
def test_flashinfer_heeds_l2norm_from_0_7_1_on(version: str, served: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suite.requirement.installed", lambda name: version)
    made = gated_delta_rule.implementations["flashinfer"]
    assert made.supports is not None
    plain, normalised = (gated_delta_rule.complete(Problem(K=128), {"l2norm": on}) for on in (False, True))
    assert made.supports(plain, {}) is None
    assert (made.supports(normalised, {}) is None) == served


def test_boundaries_are_made_once_for_a_tensor_that_nobody_writes_into() -> None:
    given = torch.tensor([0, 3, 8], dtype=torch.int32)
    wide = boundaries.int64(given)
    assert wide.dtype == torch.int64
    assert wide.tolist() == [0, 3, 8]
    assert boundaries.int64(given) is wide
    assert boundaries.int64(wide) is wide
    other = given.clone()
    assert boundaries.int64(other) is not wide
    given[1] = 5
    assert boundaries.int64(given).tolist() == [0, 5, 8]
    assert boundaries.int64(other).tolist() == [0, 3, 8]
    even = boundaries.even(3, 4, given.device)
    assert even.tolist() == [0, 4, 8, 12]
    assert boundaries.even(3, 4, given.device) is even


def test_flashinfer_serves_heads_of_128_forward_alone() -> None:
    made = gated_delta_rule.implementations["flashinfer"]
    assert made.supports is not None
    assert made.supports(gated_delta_rule.complete(Problem(K=128)), {}) is None
    assert made.supports(Problem(K=64), {}) == "flashinfer's chunk_gated_delta_rule takes heads of 128"
    assert made.passes == {"fwd"}


def chunked(
    q,
    k,
    v,
    g,
    beta,
    scale,
    initial_state=None,
    output_final_state=False,
    use_qk_l2norm_in_kernel=False,
    cu_seqlens=None,
):
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
        assert made.supports(Problem(K=128), {}) == "flash_qla has kernels only for Hopper and Blackwell"
    assert {"fwd", "bwd", "fwdbwd"} <= set(made.passes)


def test_the_installed_flash_qla_has_the_parameters_of_the_stand_in() -> None:
    file = "flash_qla/ops/gated_delta_rule/chunk/__init__.py"
    found = parameters("flash-qla", file, "chunk_gated_delta_rule")
    assert found[:5] == ["q", "k", "v", "g", "beta"]
    assert set(inspect.signature(chunked).parameters) <= set(found)
