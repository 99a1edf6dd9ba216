"""Retention in PyTorch and its adapters, against the oracle on the CPU."""

from __future__ import annotations

import pytest
import torch

from baselines.scalar_decay.retention.pytorch import naive, torch_chunk
from kernels.scalar_decay.retention.spec import log_decays, retention
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs, flat
from suite.discovery import discover

SEQUENCES = ("naive", "torch_chunk")
GRADIENTS = {"o", "dq", "dk", "dv"}
STATES = {"final_state", "dinitial_state"}


def problem(**changes) -> Problem:
    return Problem(**{"T": 63, "H": 2, "K": 16, "V": 24, "dtype": "fp32"} | changes)


def assert_ok(implementation: str, at: Problem, names: set[str], seeds: int = 1, **tunables) -> None:
    for seed in range(seeds):
        check = check_case(retention, implementation, at, tunables, seed=seed)
        assert check.status == "ok", check.reason
        assert set(check.errors) == names


def test_decays_are_the_papers() -> None:
    """1 - 1/32, 1 - 1/64, …: as the paper writes them."""
    assert log_decays(3).exp().tolist() == pytest.approx([31 / 32, 63 / 64, 127 / 128], rel=1e-6)


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("T", [1, 63, 130])
def test_output_and_gradients_match_the_oracle(implementation: str, T: int) -> None:
    assert_ok(implementation, problem(T=T, pass_="fwdbwd"), GRADIENTS)


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("heads", [{"H": 6, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}], ids=["grouped", "value"])
def test_states_and_unequal_heads(implementation: str, heads) -> None:
    assert_ok(implementation, problem(T=70, B=2, initial_state=True, pass_="fwdbwd", **heads), GRADIENTS | STATES, 4)


@pytest.mark.parametrize("implementation", SEQUENCES)
def test_packed_sequences_are_kept_apart(implementation: str) -> None:
    at = problem(T=130, H=1, layout="packed:ragged", initial_state=True, pass_="fwdbwd")
    assert_ok(implementation, at, GRADIENTS | STATES, seeds=at.N)


@pytest.mark.parametrize("chunk", retention.implementations["torch_chunk"].tunables["chunk"])
def test_every_chunk_gives_the_same(chunk: int) -> None:
    assert_ok("torch_chunk", problem(T=300, initial_state=True, pass_="fwdbwd"), GRADIENTS | STATES, chunk=chunk)


def test_more_chunks_than_one_product_joins() -> None:
    assert_ok("torch_chunk", problem(T=600, K=4, V=4, initial_state=True, pass_="fwdbwd"), GRADIENTS | STATES, chunk=32)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("implementation", SEQUENCES)
def test_half_precision_stays_within_its_limit(implementation: str, dtype: str) -> None:
    assert_ok(implementation, problem(T=130, K=64, V=64, dtype=dtype, pass_="fwdbwd"), GRADIENTS)


@pytest.mark.parametrize("fn", [naive, torch_chunk])
def test_gradients_are_the_forms_own_derivatives(fn) -> None:
    """A decay a token too: SSD's forms are these."""

    def drawn(*shape: int) -> torch.Tensor:
        return (torch.rand(*shape, dtype=torch.float64) + 0.5).requires_grad_()

    inputs = drawn(1, 4, 2, 2), drawn(1, 4, 1, 2), drawn(1, 4, 1, 2), drawn(1, 4, 2), drawn(2, 2, 2, 2)

    def call(q, k, v, g, state):
        more = {"chunk": 2} if fn is torch_chunk else {}
        return fn(q, k, v, -g, initial_state=state, output_final_state=True, cu_seqlens=torch.tensor([0, 1, 4]), **more)

    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("fn", [naive, torch_chunk])
def test_final_state_without_an_initial_one_and_in_its_dtype(fn) -> None:
    q = torch.randn(1, 8, 1, 4)
    assert fn(q, q, q, log_decays(1))[1] is None
    assert fn(q, q, q, log_decays(1), output_final_state=True)[1].dtype == torch.float32
    state = torch.randn(1, 1, 4, 4).bfloat16()
    assert fn(q, q, q, log_decays(1), initial_state=state, output_final_state=True)[1].dtype == torch.bfloat16


@pytest.mark.parametrize("heads", [{"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}], ids=["grouped", "value"])
def test_step_updates_its_state_in_place(heads) -> None:
    assert_ok("torch_step", problem(B=2, T=50, pass_="decode", **heads), {"o", "state"}, seeds=4)


def test_step_keeps_a_narrow_state_narrow() -> None:
    assert_ok("torch_step", problem(dtype="bf16", state_dtype="bf16", pass_="decode"), {"o", "state"})


@pytest.mark.parametrize("pass_", ["fwd", "bwd", "decode"])
def test_compulsory_bytes_are_inputs_once_and_outputs_once(pass_: str) -> None:
    at = retention.complete(problem(B=2, T=7, HV=4, initial_state=pass_ != "decode", pass_=pass_))
    inputs = draw_inputs(retention, at, 0)
    read = {name: x.numel() * x.element_size() for name, x in flat(inputs).items() if name != "log_decay"}
    o = at.tokens * at.HS * at.V * at.itemsize
    state = read.get("state", 0) + read.get("initial_state", 0)
    total = sum(read.values()) + o
    written = {"fwd": state, "bwd": sum(read.values()), "decode": state}[pass_]
    # Backward: outputs' gradients are read, inputs' are written, and the state's gradient flows in.
    expected = total + written + (state if pass_ == "bwd" else 0)
    assert retention.cost_of(at).bytes_compulsory == expected


def test_presets_find_it_by_its_tags() -> None:
    assert {"linear", "decay"} <= set(discover().operator("retention").tags)
