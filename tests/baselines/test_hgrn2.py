"""HGRN-2 in PyTorch against the oracle, and its adapters to flash-linear-attention on a stand-in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import baselines.hgrn2.flash_linear_attention  # noqa: F401  (registers)
from baselines.hgrn2.torch_forms import naive, torch_chunk
from kernels.hgrn2.spec import hgrn2, recurrence
from suite import Problem
from suite.numerics import difference
from tests.baselines.channel_decay import CASES, SEQUENCES, Library, agrees, checked, extreme, parameters

MODULE = "fla.ops.gla"
ENTRIES = {"chunk_gla": "g", "fused_recurrent_gla": "gk"}
ADAPTERS = {"fla_chunk": "chunk_gla", "fla_fused_recurrent": "fused_recurrent_gla", "fla_step": "fused_recurrent_gla"}


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("name", CASES)
def test_output_states_and_gradients_match_the_oracle(name: str, implementation: str) -> None:
    sizes = CASES[name]
    checked(hgrn2, implementation, sizes)


@pytest.mark.parametrize("chunk", hgrn2.implementations["torch_chunk"].tunables["chunk"])
def test_every_chunk_gives_the_same(chunk: int) -> None:
    checked(hgrn2, "torch_chunk", {"T": 150, "H": 1, "initial_state": True}, chunk=chunk)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.mark.parametrize("fn", [naive, torch_chunk])
def test_extreme_gates(fn) -> None:
    g = extreme((1, 40, 2, 8), torch.float64)
    inputs = [*(draw(1, 40, 2, d) for d in (8, 12)), g]
    o, end = fn(*inputs, output_final_state=True)
    expected, last = recurrence(*inputs, output_final_state=True)
    assert difference(o, expected).error < 1e-9
    assert difference(end, last).error < 1e-9


@pytest.mark.parametrize("fn", [naive, torch_chunk])
def test_gradients_are_the_forms_own_derivatives(fn) -> None:
    inputs = [x.requires_grad_() for x in [draw(1, 20, 1, 2), draw(1, 20, 1, 2), -draw(1, 20, 1, 2).abs()]]
    state = draw(2, 1, 2, 2).requires_grad_()
    bounds = torch.tensor([0, 1, 20])
    assert torch.autograd.gradcheck(
        lambda *a: fn(*a[:-1], initial_state=a[-1], output_final_state=True, cu_seqlens=bounds), (*inputs, state),
        fast_mode=True,
    )  # fmt: skip


def test_final_state_has_the_dtype_of_the_initial_one() -> None:
    inputs = [x.float() for x in [draw(1, 20, 1, 2), draw(1, 20, 1, 2), -draw(1, 20, 1, 2).abs()]]
    for fn in (naive, torch_chunk):
        state = torch.randn(1, 1, 2, 2).bfloat16()
        assert fn(*inputs, initial_state=state, output_final_state=True)[1].dtype == torch.bfloat16
        assert fn(*inputs, output_final_state=True)[1].dtype == torch.float32
        assert fn(*inputs)[1] is None


@pytest.mark.parametrize("heads", [{"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}], ids=["grouped", "value"])
@pytest.mark.parametrize("state_dtype", ["fp32", "bf16"])
def test_step_updates_its_state_in_place(heads: dict[str, int], state_dtype: str) -> None:
    checked(hgrn2, "torch_step", {"B": 2, "T": 50, "pass_": "decode", "state_dtype": state_dtype, **heads})


@pytest.mark.parametrize("name", ["fla_chunk", "fla_fused_recurrent"])
@pytest.mark.parametrize(
    "sizes",
    [{"B": 2, "H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4, "initial_state": True}, {"layout": "packed:ragged", "H": 2}],
    ids=["grouped", "value", "packed"],
)
def test_adapters_give_the_library_what_it_takes(
    name: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(monkeypatch, MODULE, ENTRIES)
    agrees(hgrn2, name, Problem(T=30, K=8, V=12, dtype="fp32", **sizes))
    assert library.called == [ADAPTERS[name]]


def test_the_library_s_step_copies_the_new_state_into_the_old(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch, MODULE, ENTRIES)
    at = Problem(B=2, T=20, H=2, HV=4, K=8, V=12, dtype="fp32", pass_="decode")
    agrees(hgrn2, "fla_step", at)
    assert library.called == [ADAPTERS["fla_step"]]


@pytest.mark.parametrize(("entry", "file", "first"), [
    ("chunk_gla", "fla/ops/gla/chunk.py", ["q", "k", "v", "g"]),
    ("fused_recurrent_gla", "fla/ops/gla/fused_recurrent.py", ["q", "k", "v", "gk"]),
])  # fmt: skip
def test_the_installed_library_has_the_parameters_of_the_stand_in(entry: str, file: str, first: list[str]) -> None:
    names = parameters(file, entry)
    assert names[: len(first)] == first
    assert {"scale", "initial_state", "output_final_state", "cu_seqlens"} <= set(names)
    assert "cu_seqlens_cpu" in names or not entry.startswith("chunk")


def test_each_adapter_is_a_cuda_peer() -> None:
    for name in ADAPTERS:
        made = hgrn2.implementations[name]
        assert (made.origin, made.devices) == ("peer", {"cuda"})
        assert made.requires is not None
        assert made.requires.module == MODULE
    assert "float32" not in hgrn2.implementations["fla_chunk"].dtypes
    supports = hgrn2.implementations["fla_chunk"].supports
    assert supports is not None
    assert supports(Problem(T=8, K=63, V=64, pass_="bwd"), {})
    assert supports(Problem(T=8, K=60, V=100, pass_="bwd"), {}) is None
