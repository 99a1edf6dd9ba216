"""Lightning Attention-2 in PyTorch against the oracle on the CPU, and what its adapters do not serve.

Its forms are those of retention (test_retention.py); what differs are the decays, one of which is none at all.
"""

from __future__ import annotations

import pytest
import torch

import baselines.scalar_decay.lightning_attention.flash_linear_attention
import baselines.scalar_decay.lightning_attention.lightning_attn
import baselines.scalar_decay.lightning_attention.pytorch  # noqa: F401  (registers)
from kernels.scalar_decay.lightning_attention.spec import LAYERS, lightning_attention, log_decays
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs

SEQUENCES = ("naive", "torch_chunk")
GRADIENTS = {"o", "dq", "dk", "dv"}


def problem(**changes) -> Problem:
    return Problem(**{"T": 63, "H": 4, "K": 16, "V": 24, "dtype": "fp32"} | changes)


def test_decays_grow_with_the_head_and_shrink_with_the_layer() -> None:
    assert log_decays(4).tolist() == pytest.approx([0, -2, -4, -6])
    assert log_decays(4, layer=0.5).tolist() == pytest.approx([0, -1, -2, -3])
    at = lightning_attention.complete(problem(), {"layer": 0.9})
    drawn = draw_inputs(lightning_attention, at, 0)["log_decay"]
    assert drawn.tolist() == pytest.approx([0, -0.2, -0.4, -0.6])


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("layer", LAYERS)
def test_output_and_gradients_match_the_oracle(implementation: str, layer: float) -> None:
    at = lightning_attention.complete(problem(T=130, initial_state=True, pass_="fwdbwd"), {"layer": layer})
    for seed in range(4):
        check = check_case(lightning_attention, implementation, at, seed=seed)
        assert check.status == "ok", check.reason
        assert set(check.errors) == GRADIENTS | {"final_state", "dinitial_state"}


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("implementation", SEQUENCES)
def test_half_precision_stays_within_its_limit(implementation: str, dtype: str) -> None:
    at = problem(T=130, K=64, V=64, dtype=dtype, pass_="fwdbwd")
    for seed in range(4):
        check = check_case(lightning_attention, implementation, at, seed=seed)
        assert check.status == "ok", check.reason


def test_step() -> None:
    for seed in range(4):
        check = check_case(lightning_attention, "torch_step", problem(B=2, pass_="decode"), seed=seed)
        assert check.status == "ok", check.reason
        assert set(check.errors) == {"o", "state"}


@pytest.mark.parametrize(("dims", "served"), [({"K": 64}, True), ({"K": 64, "V": 96}, False), ({"K": 256}, False)])
def test_the_authors_package_takes_few_head_dims(dims, served: bool) -> None:
    made = lightning_attention.implementations["lightning_attn"]
    assert made.supports is not None
    assert (made.supports(Problem(T=8, **dims), {}) is None) == served


def test_the_authors_package_keeps_no_state_and_packs_nothing() -> None:
    made = lightning_attention.implementations["lightning_attn"]
    for sizes, word in (({"initial_state": True}, "initial_state"), ({"layout": "packed:halves"}, "cu_seqlens")):
        at = lightning_attention.complete(problem(K=64, V=64, dtype="bf16", **sizes))
        assert word in (made.unsupported(at, {}, lightning_attention.axes) or "")


def test_decays_have_no_gradient() -> None:
    inputs = draw_inputs(lightning_attention, lightning_attention.complete(problem(pass_="bwd")), 0)
    assert [name for name, x in inputs.items() if x.requires_grad] == ["q", "k", "v"]
    assert torch.equal(inputs["log_decay"], log_decays(4))


@pytest.mark.parametrize(
    ("sizes", "refused"),
    [
        ({"T": 70, "H": 2}, True),
        ({"T": 70, "H": 2, "initial_state": False}, False),
        ({"T": 64, "H": 2}, False),
        ({"T": 127, "H": 64}, False),
        ({"T": 70, "H": 1}, False),
        ({"T": 106, "H": 2}, False),
        ({"T": 105, "H": 2}, True),
        ({"T": 128, "H": 2, "layout": "packed:ragged"}, True),
    ],
)
def test_fla_chunk_is_refused_where_its_final_state_would_be_nan(sizes, refused: bool) -> None:
    # Of 2 heads the second decays by exp(-4): 88.8 / 4 = 22.2 tokens may lack in the last chunk.
    made = lightning_attention.implementations["fla_chunk"]
    assert made.supports is not None
    at = lightning_attention.complete(problem(**{"K": 16, "V": 16, "initial_state": True} | sizes))
    reason = made.supports(at, {})
    assert (reason is not None) == refused
    assert reason is None or "the final state of fla's chunk_simple_gla is NaN here" in reason


def test_a_later_layer_forgets_too_slowly_for_fla_s_nan() -> None:
    made = lightning_attention.implementations["fla_chunk"]
    assert made.supports is not None
    at = lightning_attention.complete(problem(T=70, H=2, K=16, V=16, initial_state=True), {"layer": 0.9})
    assert made.supports(at, {}) is None
