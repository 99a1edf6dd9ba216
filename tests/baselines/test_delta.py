"""What the baselines and adapters of the three delta rules have in common, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import baselines.delta.delta_rule.flash_linear_attention
import baselines.delta.delta_rule.pytorch
import baselines.delta.gated_delta_product.flash_linear_attention
import baselines.delta.gated_delta_product.pytorch
import baselines.delta.gated_delta_rule.flash_linear_attention
import baselines.delta.gated_delta_rule.pytorch  # noqa: F401  (registers)
from baselines.delta.pytorch import naive, torch_chunk, torch_step
from kernels.delta.delta_rule.spec import delta_rule
from kernels.delta.gated_delta_product.spec import gated_delta_product
from kernels.delta.gated_delta_rule.spec import gated_delta_rule
from suite import Operator, Problem
from suite.errors import UsageError
from tests.baselines.delta_rules import check_sequence, check_step

# name -> (sizes, the operators' axes)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one_token": ({"T": 1, "initial_state": True}, {}),
    "ragged": ({"T": 63, "K": 20, "V": 28, "initial_state": True}, {}),
    "value_heads": ({"T": 130, "B": 2, "HV": 4, "initial_state": True}, {"negative_eigenvalues": True}),
    "packed": ({"T": 130, "layout": "packed:ragged", "initial_state": True}, {}),
    "l2norm": ({"T": 70, "H": 1, "HV": 2}, {"l2norm": True}),
    "half": ({"T": 130, "K": 64, "V": 64, "dtype": "fp16"}, {}),
    "brain": ({"T": 130, "K": 64, "V": 64, "dtype": "bf16"}, {}),
}
# Operator -> how many steps a token has in these tests, where that is an axis.
OPERATORS: dict[str, tuple[Operator, dict[str, Any]]] = {
    "plain": (delta_rule, {}),
    "gated": (gated_delta_rule, {}),
    "product": (gated_delta_product, {"steps": 3}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("implementation", ["naive", "torch_chunk"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_outputs_states_and_gradients(operator: str, implementation: str, case: str) -> None:
    which, own = OPERATORS[operator]
    sizes, axes = CASES[case]
    check_sequence(which, implementation, {**axes, **own}, **sizes)


@pytest.mark.parametrize("steps", [1, 4])
def test_every_number_of_steps(steps: int) -> None:
    sizes, axes = CASES["value_heads"]
    check_sequence(gated_delta_product, "torch_chunk", {**axes, "steps": steps}, **sizes)
    check_step(gated_delta_product, {"steps": steps, "l2norm": True})


@pytest.mark.parametrize("sizes", [{}, {"dtype": "bf16", "state_dtype": "bf16"}], ids=["single", "narrow"])
@pytest.mark.parametrize("l2norm", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
def test_step_updates_its_state_in_place(operator: str, l2norm: bool, sizes: dict[str, Any]) -> None:
    which, own = OPERATORS[operator]
    check_step(which, {"l2norm": l2norm, **own}, **sizes)


@pytest.mark.parametrize("run", [naive, torch_chunk, torch_step])
def test_steps_have_to_agree_with_the_shape_of_k(run: Callable[..., Any]) -> None:
    q, k, beta = torch.ones(1, 1, 1, 4), torch.ones(1, 1, 2, 1, 4), torch.ones(1, 1, 2, 1)
    words = {"state": torch.ones(1, 1, 4, 4)} if run is torch_step else {}
    run(q, k, k, beta, steps=2, **words)
    with pytest.raises(UsageError, match="give steps = 2"):
        run(q, k, k, beta, steps=3, **words)


@pytest.mark.parametrize("pass_", ["fwd", "bwd", "fwdbwd"])
def test_executed_flops_count_every_sequence_s_padded_chunks(pass_: str) -> None:
    """Two sequences of 40 tokens, two packed ones of 20, one of 40 tokens with 3 steps each; chunks of at most 32."""
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[pass_]
    cases: list[tuple[Operator, dict[str, Any], dict[str, Any], int, int]] = [
        (delta_rule, {}, {"B": 2}, 2 * 64, 32),
        (gated_delta_rule, {}, {"layout": "packed:halves"}, 2 * 20, 20),
        (gated_delta_product, {"steps": 3}, {}, 128, 32),
    ]
    for which, own, sizes, rows, C in cases:
        at = which.complete(Problem(T=40, H=2, K=8, V=12, pass_=pass_, **sizes), own)
        found = which.cost_of(at, which.implementations["torch_chunk"], {"chunk": 32}).flops_exec
        assert found == factor * 2 * rows * (6 * 8 * 12 + C * (5 * 8 + 3 * 12))


def test_the_library_has_a_recurrent_backward_pass_without_gates_alone() -> None:
    assert gated_delta_rule.implementations["fla_fused_recurrent"].passes == {"fwd"}
    assert delta_rule.implementations["fla_fused_recurrent"].passes == {"fwd", "bwd", "fwdbwd"}
