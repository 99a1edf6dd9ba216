"""GLA, HGRN-2 and RWKV-6 in PyTorch against their oracles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import baselines.channel_decay.gated_linear_attention.flash_linear_attention
import baselines.channel_decay.hgrn2.flash_linear_attention
import baselines.channel_decay.rwkv6.flash_linear_attention  # noqa: F401  (registers)
from baselines.channel_decay.gated_linear_attention import torch_forms as gla
from baselines.channel_decay.hgrn2 import torch_forms as hgrn2
from baselines.channel_decay.rwkv6 import torch_forms as rwkv6
from kernels.channel_decay.gated_linear_attention import spec as gla_spec
from kernels.channel_decay.hgrn2 import spec as hgrn2_spec
from kernels.channel_decay.rwkv6 import spec as rwkv6_spec
from suite import Operator, Problem
from suite.numerics import difference
from tests.baselines.channel_decay import CASES, SEQUENCES, checked, extreme


@dataclass(frozen=True)
class Member:
    """One operator of the family and its forms in PyTorch.

    tokens: inputs of a token before v and the gates; bonus: whether u [HS, K] comes last
    """

    operator: Operator
    oracle: Callable[..., Any]
    forms: Any
    tokens: int = 2
    bonus: bool = False

    def inputs(self, T: int, heads: int, K: int, V: int, gates: torch.Tensor | None = None) -> list[torch.Tensor]:
        gates = -draw(1, T, heads, K).abs() if gates is None else gates
        tokens = [draw(1, T, heads, d) for d in (*[K] * self.tokens, V)]
        return [*tokens, gates, *([draw(heads, K)] if self.bonus else [])]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


MEMBERS = {
    "gated_linear_attention": Member(gla_spec.gated_linear_attention, gla_spec.recurrence, gla),
    "hgrn2": Member(hgrn2_spec.hgrn2, hgrn2_spec.recurrence, hgrn2, tokens=1),
    "rwkv6": Member(rwkv6_spec.rwkv6, rwkv6_spec.recurrence, rwkv6, bonus=True),
}
FORMS = ("naive", "torch_chunk")
CHUNKS = [(name, c) for name, m in MEMBERS.items() for c in m.operator.implementations["torch_chunk"].tunables["chunk"]]


@pytest.fixture(params=MEMBERS)
def member(request: pytest.FixtureRequest) -> Member:
    return MEMBERS[request.param]


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("name", CASES)
def test_output_states_and_gradients_match_the_oracle(member: Member, name: str, implementation: str) -> None:
    checked(member.operator, implementation, CASES[name])


@pytest.mark.parametrize(("name", "chunk"), CHUNKS)
def test_every_chunk_gives_the_same(name: str, chunk: int) -> None:
    checked(MEMBERS[name].operator, "torch_chunk", {"T": 150, "H": 1, "initial_state": True}, chunk=chunk)


@pytest.mark.parametrize("form", FORMS)
def test_extreme_gates(member: Member, form: str) -> None:
    inputs = member.inputs(40, 2, 8, 12, gates=extreme((1, 40, 2, 8), torch.float64))
    o, end = getattr(member.forms, form)(*inputs, output_final_state=True)
    expected, last = member.oracle(*inputs, output_final_state=True)
    assert difference(o, expected).error < 1e-9
    assert difference(end, last).error < 1e-9


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gate", [0.0, -1e4, -torch.inf])
def test_gradients_of_gates_that_keep_or_forget_everything(member: Member, form: str, gate: float) -> None:
    inputs = member.inputs(40, 2, 8, 12)
    inputs[member.tokens + 1][:, 3::5] = gate
    weight = draw(1, 40, 2, 12)

    def gradients(fn, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        return list(torch.autograd.grad((fn(*leaves)[0] * weight).sum(), leaves))

    found, exact = gradients(getattr(member.forms, form), torch.float32), gradients(member.oracle, torch.float64)
    for ours, right in zip(found, exact, strict=True):
        assert difference(ours, right, 1 if right.ndim == 4 else None).token < 1e-4
        assert difference(ours, right).error < 3e-5


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_the_forms_own_derivatives(member: Member, form: str) -> None:
    fn = getattr(member.forms, form)
    inputs = [x.requires_grad_() for x in (*member.inputs(20, 1, 2, 2), draw(2, 1, 2, 2))]
    bounds = torch.tensor([0, 1, 20])
    assert torch.autograd.gradcheck(
        lambda *a: fn(*a[:-1], initial_state=a[-1], output_final_state=True, cu_seqlens=bounds), inputs, fast_mode=True
    )


@pytest.mark.parametrize("form", FORMS)
def test_final_state_has_the_dtype_of_the_initial_one(member: Member, form: str) -> None:
    fn = getattr(member.forms, form)
    inputs = [x.float() for x in member.inputs(20, 1, 2, 2)]
    state = torch.randn(1, 1, 2, 2).bfloat16()
    assert fn(*inputs, initial_state=state, output_final_state=True)[1].dtype == torch.bfloat16
    assert fn(*inputs, output_final_state=True)[1].dtype == torch.float32
    assert fn(*inputs)[1] is None


@pytest.mark.parametrize("heads", [{"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}], ids=["grouped", "value"])
@pytest.mark.parametrize("state_dtype", ["fp32", "bf16"])
def test_step_updates_its_state_in_place(member: Member, heads: dict[str, int], state_dtype: str) -> None:
    sizes = {"B": 2, "T": 50, "pass_": "decode", "state_dtype": state_dtype, **heads}
    checked(member.operator, "torch_step", sizes)


def test_the_library_s_chunks_take_no_float32_and_no_odd_head_dims_backward(member: Member) -> None:
    chunk = member.operator.implementations["fla_chunk"]
    assert "float32" not in chunk.dtypes
    assert chunk.supports is not None
    assert chunk.supports(Problem(T=8, K=63, V=64, pass_="bwd"), {})
    assert chunk.supports(Problem(T=8, K=60, V=100, pass_="bwd"), {}) is None
