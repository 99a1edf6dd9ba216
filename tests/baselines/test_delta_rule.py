"""The delta rule's baselines and adapters, on the CPU."""

from __future__ import annotations

from typing import Any

import pytest

import baselines.delta_rule.flash_linear_attention
import baselines.delta_rule.pytorch  # noqa: F401  (registers)
from kernels.delta_rule.spec import delta_rule, recurrence
from tests.baselines.delta_rules import CASES, check_adapter, check_sequence, check_step, parameters, stand_in


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("implementation", ["naive", "torch_chunk"])
def test_outputs_states_and_gradients(implementation: str, case: str) -> None:
    check_sequence(delta_rule, implementation, case)


@pytest.mark.parametrize("sizes", [{}, {"dtype": "bf16", "state_dtype": "bf16"}], ids=["single", "narrow"])
@pytest.mark.parametrize("l2norm", [False, True])
def test_step_updates_its_state_in_place(l2norm: bool, sizes: dict[str, Any]) -> None:
    check_step(delta_rule, {"l2norm": l2norm}, **sizes)


def entry(q, k, v, beta, scale=None, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False,
          cu_seqlens=None, cu_seqlens_cpu=None):  # fmt: skip
    """fla's contract: equal heads."""
    assert q.shape[2] == k.shape[2] == v.shape[2]
    return recurrence(q, k, v, beta, l2norm=use_qk_l2norm_in_kernel, scale=scale, initial_state=initial_state,
                      output_final_state=output_final_state, cu_seqlens=cu_seqlens)  # fmt: skip


@pytest.mark.parametrize(("name", "sizes"), [
    ("fla_chunk", {"initial_state": True}), ("fla_chunk", {"layout": "packed:ragged", "T": 40}),
    ("fla_fused_recurrent", {"initial_state": True}), ("fla_step", {"pass_": "decode", "B": 2}),
])  # fmt: skip
def test_adapters_call_the_library(name: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"chunk_delta_rule": entry, "fused_recurrent_delta_rule": entry}
    stand_in(monkeypatch, "fla.ops.delta_rule", entries)
    check_adapter(delta_rule, name, {"l2norm": True}, **sizes)


@pytest.mark.parametrize(("file", "name", "more"), [
    ("chunk.py", "chunk_delta_rule", {"cu_seqlens_cpu"}), ("fused_recurrent.py", "fused_recurrent_delta_rule", set()),
])  # fmt: skip
def test_the_installed_library_has_the_parameters_used(file: str, name: str, more: set[str]) -> None:
    used = {"beta", "scale", "initial_state", "output_final_state", "use_qk_l2norm_in_kernel", "cu_seqlens"} | more
    found = parameters("fla-core", f"fla/ops/delta_rule/{file}", name)
    assert found[:3] == ["q", "k", "v"]
    assert used <= set(found)
