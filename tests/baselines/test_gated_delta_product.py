"""The baselines and the adapter of gated delta products, on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import baselines.gated_delta_product.flash_linear_attention
import baselines.gated_delta_product.pytorch  # noqa: F401  (registers)
from baselines.gated_delta_product.pytorch import torch_chunk
from kernels.gated_delta_product.spec import gated_delta_product, recurrence
from kernels.gated_delta_rule.spec import recurrence as one_step
from suite import Problem
from suite.inputs import draw_inputs
from tests.baselines.delta_rules import CASES, check_adapter, check_sequence, check_step, parameters, stand_in


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("implementation", ["naive", "torch_chunk"])
def test_outputs_states_and_gradients(implementation: str, case: str) -> None:
    check_sequence(gated_delta_product, implementation, case, {"steps": 3})


@pytest.mark.parametrize("steps", [1, 4])
def test_every_number_of_steps(steps: int) -> None:
    check_sequence(gated_delta_product, "torch_chunk", "value_heads", {"steps": steps})
    check_step(gated_delta_product, {"steps": steps, "l2norm": True})


def test_one_step_is_the_gated_delta_rule() -> None:
    at = gated_delta_product.complete(Problem(T=30, H=2, K=8, dtype="fp32"), {"steps": 1})
    inputs = {name: x.double() for name, x in draw_inputs(gated_delta_product, at, 0).items()}
    expected, _ = one_step(**{name: x.squeeze(2) if name in ("k", "v", "beta") else x for name, x in inputs.items()})
    assert torch.equal(recurrence(**inputs, steps=1)[0], expected)


def test_the_gate_acts_once_a_token() -> None:
    """Without writes the state only decays: by e^(sum of the log decays), however many steps a token has."""
    state = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    q, k = (torch.zeros(*shape, dtype=torch.float64) for shape in ((1, 5, 1, 4), (1, 5, 3, 1, 4)))
    beta, gate = torch.ones(1, 5, 3, 1, dtype=torch.float64), torch.full((1, 5, 1), -0.5, dtype=torch.float64)
    for run in (recurrence, torch_chunk):
        _, final = run(q, k, k, beta, gate, steps=3, initial_state=state, output_final_state=True)
        torch.testing.assert_close(final, state * torch.tensor(-2.5, dtype=torch.float64).exp())


def entry(q, k, v, g, beta, num_householder, scale=None, initial_state=None, output_final_state=False,
          use_qk_l2norm_in_kernel=False, cu_seqlens=None, cu_seqlens_cpu=None):  # fmt: skip
    """fla's contract: equal heads, steps as rows, boundaries in tokens."""
    assert q.shape[2] == k.shape[2] == v.shape[2]
    k, v, beta = (x.unflatten(1, (-1, num_householder)) for x in (k, v, beta))
    return recurrence(q, k, v, beta, g, steps=num_householder, l2norm=use_qk_l2norm_in_kernel, scale=scale,
                      initial_state=initial_state, output_final_state=output_final_state,
                      cu_seqlens=cu_seqlens)  # fmt: skip


@pytest.mark.parametrize("sizes", [{"initial_state": True}, {"layout": "packed:ragged", "T": 40}])
def test_the_adapter_calls_the_library(sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "fla.ops.gated_delta_product", {"chunk_gated_delta_product": entry})
    check_adapter(gated_delta_product, "fla_chunk", {"steps": 3, "l2norm": True}, **sizes)


def test_the_installed_library_has_the_parameters_used() -> None:
    found = parameters("fla-core", "fla/ops/gated_delta_product/chunk.py", "chunk_gated_delta_product")
    assert found[:6] == ["q", "k", "v", "g", "beta", "num_householder"]
    used = {"scale", "initial_state", "output_final_state", "use_qk_l2norm_in_kernel", "cu_seqlens", "cu_seqlens_cpu"}
    assert used <= set(found)
