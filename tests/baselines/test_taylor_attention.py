"""TaylorShift attention in PyTorch, in both orders, against the oracle on the CPU; what Based's kernel takes."""

from __future__ import annotations

import pytest

import baselines.feature_maps.taylor_attention.flash_linear_attention  # noqa: F401  (registers)
from baselines.scalar_decay.linear_attention.based import BASED
from kernels.feature_maps.taylor_attention.orders import pair_flops
from kernels.feature_maps.taylor_attention.spec import taylor_attention
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs

SEQUENCES = ("naive", "torch_efficient")


def problem(causal: bool = True, **changes) -> Problem:
    sizes = {"T": 63, "H": 2, "K": 12, "V": 20, "dtype": "fp32", "pass_": "fwdbwd"}
    return taylor_attention.complete(Problem(**{**sizes, **changes}), {"causal": causal})


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"T": 2},
        {"B": 2, "H": 4, "HK": 2, "HV": 2},
        {"T": 90, "layout": "packed:ragged"},
        {"T": 130, "K": 32, "V": 32, "dtype": "bf16", "H": 1},
        {"T": 130, "K": 16, "dtype": "fp16", "H": 1},
    ],
    ids=["two", "grouped", "packed", "bf16", "fp16"],
)
def test_output_and_gradients_match_the_oracle(implementation: str, causal: bool, changes: dict) -> None:
    at = problem(causal, **changes)
    for seed in range(at.N if at.layout != "dense" else 1):
        found = check_case(taylor_attention, implementation, at, seed=seed)
        assert found.ok, found.reason
        assert set(found.errors) == {"o", "dq", "dk", "dv", "dtemperature"}


def test_chunks_of_the_efficient_order_carry_their_state() -> None:
    found = check_case(taylor_attention, "torch_efficient", problem(T=200, H=1, pass_="fwd"), {"chunk": 64})
    assert found.ok, found.reason


def test_executed_flops() -> None:
    made = taylor_attention.implementations["naive"]
    at = problem(T=10, B=2, H=3, pass_="fwd")
    assert taylor_attention.cost_of(at, made, {}).flops_exec == 2 * 3 * 100 * pair_flops(12, 20)
    made = taylor_attention.implementations["torch_efficient"]
    at = problem(False, T=10, B=2, H=3, pass_="fwd")
    width = 1 + 12 + 78
    assert taylor_attention.cost_of(at, made, {"chunk": 64}).flops_exec == 60 * (4 * width * 20 + 2 * 12 * 13)


@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
def test_compulsory_bytes_are_inputs_once_and_outputs_once(pass_: str) -> None:
    at = problem(B=2, H=4, HK=2, HV=2, pass_=pass_)
    once = sum(x.numel() * 4 for x in draw_inputs(taylor_attention, at, seed=0).values())
    o = at.tokens * at.H * at.V * 4
    assert taylor_attention.cost_of(at).bytes_compulsory == (once + o if pass_ == "fwd" else 2 * once + o)


def test_based_is_causal_and_takes_few_key_dims() -> None:
    made = taylor_attention.implementations["fla_parallel_based"]
    assert made.requires is BASED
    assert "causal" not in made.parameters
    assert made.supports is not None
    assert "takes K up to 128" in (made.supports(problem(K=129), {}) or "")
