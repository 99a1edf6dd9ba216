"""Kimi Delta Attention in PyTorch against the oracle on the CPU; its cost; what flash-linear-attention takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import baselines.channel_delta.kimi_delta_attention.flash_linear_attention
import baselines.channel_delta.kimi_delta_attention.pytorch  # noqa: F401  (registers)
from baselines.channel_delta.kimi_delta_attention.pytorch import naive, torch_chunk
from baselines.channel_delta.parallel import scores
from kernels.channel_delta.kimi_delta_attention.spec import kimi_delta_attention, recurrence
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.numerics import difference

GRADIENTS = {"o", "final_state", "dq", "dk", "dv", "dlog_decay", "dbeta", "dinitial_state"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one_token": ({}, {"T": 1}),
    "values": ({"negative_eigenvalues": True}, {"T": 40, "H": 1, "HV": 4, "K": 12}),
    "norm": ({"l2norm": True}, {"T": 63}),
    "packed": ({}, {"T": 70, "layout": "packed:ragged", "H": 1}),
    "bf16": ({}, {"T": 100, "K": 32, "dtype": "bf16", "state_dtype": "bf16"}),
    "fp16": ({}, {"T": 70, "dtype": "fp16"}),
}


def problem(own: dict[str, Any], **sizes: Any) -> Problem:
    base = {"T": 63, "H": 2, "K": 16, "V": 24, "dtype": "fp32", "pass_": "fwdbwd", "initial_state": True}
    return kimi_delta_attention.complete(Problem(**{**base, **sizes}), own)


@pytest.mark.parametrize("implementation", ["naive", "torch_chunk"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_gradients(name: str, implementation: str) -> None:
    own, sizes = CASES[name]
    tunables = {"chunk": 32} if implementation == "torch_chunk" else {}
    found = check_case(kimi_delta_attention, implementation, problem(own, **sizes), tunables)
    assert found.ok, found.reason
    assert set(found.errors) == GRADIENTS


@pytest.mark.parametrize("own", [{}, {"l2norm": True}], ids=["unit", "norm"])
def test_step_updates_its_state(own: dict[str, Any]) -> None:
    at = problem(own, B=2, T=50, HV=4, pass_="decode", initial_state=False)
    found = check_case(kimi_delta_attention, "torch_step", at)
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


@pytest.mark.parametrize("gate", [-20.0, -1e4, float("-inf"), 0.0])
def test_extreme_gates(gate: float) -> None:
    inputs = draw_inputs(kimi_delta_attention, problem({}, T=20, pass_="fwd", initial_state=False), seed=0)
    inputs["log_decay"][:, 3::4] = gate
    expected, _ = recurrence(**{name: x.double() for name, x in inputs.items()})
    for fn in (naive, torch_chunk):
        assert difference(fn(**inputs)[0], expected, 1).error < 1e-5


def test_scores_are_the_sums_they_stand_for() -> None:
    x, y = (torch.randn(8, 3, dtype=torch.float64) for _ in range(2))
    g = -torch.rand(8, 3, dtype=torch.float64)
    for own in (True, False):
        found = scores(x, y, g, own=own, diagonal=own)
        for i in range(8):
            for j in range(8):
                between = g[j + 1 : i + 1 if own else i].sum(0).exp()
                expected = (x[i] * y[j] * between).sum() if j < i or (own and i == j) else 0.0
                assert abs(float(found[i, j] - expected)) < 1e-12


def test_gradients_are_the_forms_own_derivatives() -> None:
    def drawn(*shape: int) -> torch.Tensor:
        return (torch.rand(*shape, dtype=torch.float64) - 0.5).requires_grad_()

    tensors = [drawn(1, 5, 1, 2), drawn(1, 5, 1, 2), drawn(1, 5, 2, 3), drawn(1, 5, 2, 2), drawn(1, 5, 2)]

    def call(q, k, v, g, beta, S):
        return torch_chunk(
            q,
            k,
            v,
            -g.abs(),
            beta,
            initial_state=S,
            output_final_state=True,
            chunk=4,
            cu_seqlens=torch.tensor([0, 1, 5]),
        )

    assert torch.autograd.gradcheck(call, (*tensors, drawn(2, 2, 2, 3)))


@pytest.mark.parametrize(("pass_", "more"), [("fwd", {"HV": 4}), ("bwd", {"initial_state": True}), ("decode", {})])
def test_compulsory_bytes_are_inputs_once_and_outputs_once(pass_: str, more: dict[str, Any]) -> None:
    at = problem({}, **{"B": 2, "T": 7, "dtype": "bf16", "pass_": pass_, "initial_state": False, **more})
    inputs = draw_inputs(kimi_delta_attention, at, seed=0)
    own = sum(x.numel() * x.element_size() for x in inputs.values())
    o = 2 * at.tokens * at.HS * at.V
    state = 4 * at.N * at.HS * at.K * at.V
    cost = kimi_delta_attention.cost_of(at)
    moved = {"fwd": own + o, "bwd": 2 * own + o + state, "decode": own + o + state}[pass_]
    assert cost.bytes_compulsory == moved
    assert cost.bytes_state == {"fwd": 0, "bwd": 3 * state, "decode": 2 * state}[pass_]


def test_flops_are_the_recurrences() -> None:
    """Products of a token, each 2KV: forward two reads and an outer product; backward six more and two again."""
    at = problem({}, T=7, B=2, HV=4)
    product = 2 * at.tokens * at.HS * at.K * at.V
    assert kimi_delta_attention.cost_of(at.replace(pass_="fwd")).flops_alg == 3 * product
    assert kimi_delta_attention.cost_of(at.replace(pass_="bwd")).flops_alg == (2 + 6) * product


def test_unequal_heads_are_refused() -> None:
    assert "H = HK" in (check_case(kimi_delta_attention, "naive", problem({}, H=4, HK=2, HV=4)).reason)


def test_the_library_takes_states_in_float32_alone() -> None:
    supports = kimi_delta_attention.implementations["fla_step"].supports
    assert supports is not None
    assert supports(Problem(pass_="decode"), {}) is None
    assert "bfloat16" in (supports(Problem(pass_="decode", state_dtype="bf16"), {}) or "")
