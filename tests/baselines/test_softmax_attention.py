"""Softmax attention in PyTorch, against the oracle on the CPU."""

from __future__ import annotations

import pytest
import torch

import baselines.attention.softmax_attention.naive
import baselines.attention.softmax_attention.sdpa  # noqa: F401  (registers)
from kernels.attention.softmax_attention.spec import pairs, softmax_attention
from suite import Problem
from suite.checks.checker import check_case

SEQUENCES = ("naive", "sdpa_flash", "sdpa_math")
FULL = (("causal", False),)


def problem(**changes) -> Problem:
    return Problem(**{"T": 63, "H": 2, "K": 32, "dtype": "fp32"} | changes)


def assert_ok(implementation: str, at: Problem, names: set[str], seeds: int = 1) -> None:
    for seed in range(seeds):
        check = check_case(softmax_attention, implementation, at, seed=seed)
        assert check.status == "ok", check.reason
        assert set(check.errors) == names


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("T", [1, 63, 130])
@pytest.mark.parametrize("axes", [(), FULL], ids=["causal", "full"])
def test_output_and_gradients_match_the_oracle(implementation: str, T: int, axes) -> None:
    assert_ok(implementation, problem(T=T, axes=axes, pass_="fwdbwd"), {"o", "dq", "dk", "dv"})


@pytest.mark.parametrize("implementation", SEQUENCES)
def test_grouped_queries_share_their_heads(implementation: str) -> None:
    assert_ok(implementation, problem(B=2, H=6, HK=2, HV=2, pass_="fwdbwd"), {"o", "dq", "dk", "dv"}, seeds=4)


@pytest.mark.parametrize("implementation", ["naive", "sdpa_math"])
def test_key_and_value_dims_may_differ(implementation: str) -> None:
    assert_ok(implementation, problem(K=60, V=100, pass_="fwdbwd"), {"o", "dq", "dk", "dv"})


@pytest.mark.parametrize("axes", [(), FULL], ids=["causal", "full"])
@pytest.mark.parametrize("layout", ["packed:ragged", "packed:even8"])
def test_naive_keeps_packed_sequences_apart(layout: str, axes) -> None:
    at = problem(T=70, H=2, HK=1, HV=1, layout=layout, axes=axes, pass_="fwdbwd")
    assert_ok("naive", at, {"o", "dq", "dk", "dv"}, seeds=at.N * at.groups)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("implementation", SEQUENCES)
def test_half_precision_stays_within_its_limit(implementation: str, dtype: str) -> None:
    assert_ok(implementation, problem(T=130, dtype=dtype, pass_="fwdbwd"), {"o", "dq", "dk", "dv"})


@pytest.mark.parametrize("implementation", SEQUENCES)
def test_scale_is_the_callers(implementation: str) -> None:
    fn = softmax_attention.implementations[implementation].fn
    q, k, v = (torch.randn(1, 5, 2, 16) for _ in range(3))
    halved = fn(q / 2, k, v, scale=1.0)[0]
    assert torch.allclose(halved, fn(q, k, v, scale=0.5)[0], atol=1e-6)
    assert not torch.allclose(halved, fn(q, k, v)[0], atol=1e-3)


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_of_naive_are_its_own_derivatives(causal: bool) -> None:
    q = torch.randn(1, 4, 4, 3, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bounds = torch.tensor([0, 1, 4])
    fn = softmax_attention.implementations["naive"].fn
    assert torch.autograd.gradcheck(lambda *x: fn(*x, causal=causal, cu_seqlens=bounds)[0], (q, k, v))


@pytest.mark.parametrize("implementation", ["naive", "sdpa_math"])
def test_executed_flops_count_the_full_square(implementation: str) -> None:
    made = softmax_attention.implementations[implementation]
    at = softmax_attention.complete(problem(B=2, T=10, H=3, K=4, V=8))
    square = 2 * 3 * 10 * 10
    cost = {each: softmax_attention.cost_of(at.replace(pass_=each), made, {}) for each in ("fwd", "bwd", "fwdbwd")}
    assert cost["fwd"].flops_exec == 2 * square * (4 + 8)
    assert cost["bwd"].flops_exec == 2 * square * 2 * (4 + 8)
    assert cost["fwdbwd"].flops_exec == cost["fwd"].flops_exec + cost["bwd"].flops_exec
    assert cost["fwd"].flops_alg == 2 * pairs(at) * 3 * (4 + 8) < cost["fwd"].flops_exec


def test_naive_flops_of_packed_sequences_are_their_squares() -> None:
    made = softmax_attention.implementations["naive"]
    at = softmax_attention.complete(problem(T=10, layout="packed:halves", K=4, H=1))
    assert softmax_attention.cost_of(at, made, {}).flops_exec == 2 * (5 * 5 + 5 * 5) * (4 + 4)


@pytest.mark.parametrize("implementation", SEQUENCES)
def test_value_heads_must_be_the_key_heads(implementation: str) -> None:
    check = check_case(softmax_attention, implementation, problem(H=4, HK=2, HV=4))
    assert check.status == "unsupported"
    assert "HK = HV" in check.reason
