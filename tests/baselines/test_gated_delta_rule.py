"""The gated delta rule's baselines and adapters, on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import baselines.gated_delta_rule.flash_linear_attention
import baselines.gated_delta_rule.flashinfer
import baselines.gated_delta_rule.pytorch  # noqa: F401  (registers)
from kernels.gated_delta_rule.spec import gated_delta_rule, recurrence
from suite import Problem
from tests.baselines.delta_rules import CASES, check_adapter, check_sequence, check_step, parameters, stand_in


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("implementation", ["naive", "torch_chunk"])
def test_outputs_states_and_gradients(implementation: str, case: str) -> None:
    check_sequence(gated_delta_rule, implementation, case)


@pytest.mark.parametrize("sizes", [{}, {"dtype": "bf16", "state_dtype": "bf16"}], ids=["single", "narrow"])
@pytest.mark.parametrize("l2norm", [False, True])
def test_step_updates_its_state_in_place(l2norm: bool, sizes: dict[str, Any]) -> None:
    check_step(gated_delta_rule, {"l2norm": l2norm}, **sizes)


def entry(q, k, v, g=None, beta=None, scale=None, initial_state=None, output_final_state=False,
          use_qk_l2norm_in_kernel=False, cu_seqlens=None, cu_seqlens_cpu=None):  # fmt: skip
    """fla takes more value heads as they are."""
    assert q.shape[2] == k.shape[2]
    return recurrence(q, k, v, beta, g, l2norm=use_qk_l2norm_in_kernel, scale=scale, initial_state=initial_state,
                      output_final_state=output_final_state, cu_seqlens=cu_seqlens)  # fmt: skip


@pytest.mark.parametrize(("name", "sizes"), [
    ("fla_chunk", {"initial_state": True}), ("fla_chunk", {"layout": "packed:ragged", "T": 40}),
    ("fla_fused_recurrent", {"initial_state": True}), ("fla_step", {"pass_": "decode", "B": 2}),
])  # fmt: skip
def test_adapters_call_the_library(name: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"chunk_gated_delta_rule": entry, "fused_recurrent_gated_delta_rule": entry}
    stand_in(monkeypatch, "fla.ops.gated_delta_rule", entries)
    check_adapter(gated_delta_rule, name, {"l2norm": True}, **sizes)


@pytest.mark.parametrize(("file", "name", "more"), [
    ("chunk.py", "chunk_gated_delta_rule", {"cu_seqlens_cpu"}),
    ("fused_recurrent.py", "fused_recurrent_gated_delta_rule", set()),
])  # fmt: skip
def test_the_installed_library_has_the_parameters_used(file: str, name: str, more: set[str]) -> None:
    used = {"g", "beta", "scale", "initial_state", "output_final_state", "use_qk_l2norm_in_kernel", "cu_seqlens"} | more
    found = parameters("fla-core", f"fla/ops/gated_delta_rule/{file}", name)
    assert found[:3] == ["q", "k", "v"]
    assert used <= set(found)


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
