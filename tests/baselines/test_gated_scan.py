"""The gated scan in PyTorch against the oracle, its cost, and what flash-linear-attention does not take."""

from __future__ import annotations

import pytest
import torch

import baselines.scan.gated_scan.recurrent  # noqa: F401  (registers)
from baselines.scan.gated_scan.doubling import doubled, rounds
from kernels.scan.gated_scan.spec import gated_scan, recurrence
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs

SEQUENCES = ("naive", "torch_scan")
SCALINGS = [(("input_scaling", "none"),), (("input_scaling", "sqrt"),)]
STATE = {"final_state", "dinitial_state"}


def problem(**changes) -> Problem:
    return gated_scan.complete(
        Problem(**{"T": 63, "H": 2, "K": 8, "V": 12, "dtype": "fp32", "pass_": "fwdbwd"} | changes)
    )


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("axes", SCALINGS, ids=["plain", "scaled"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"T": 1},
        {"T": 130, "B": 2, "HV": 4, "initial_state": True},
        {"layout": "packed:ragged", "initial_state": True},
        {"dtype": "bf16"},
    ],
    ids=["one_token", "state", "packed", "bf16"],
)
def test_sequences_match_the_oracle(implementation: str, axes, sizes) -> None:
    at = problem(axes=axes, **sizes)
    found = check_case(gated_scan, implementation, at)
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "dx", "dlog_decay"} | (STATE if at.initial_state else set())


@pytest.mark.parametrize("axes", SCALINGS, ids=["plain", "scaled"])
def test_step_updates_its_state(axes) -> None:
    found = check_case(gated_scan, "torch_step", problem(B=3, axes=axes, pass_="decode"))
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


@pytest.mark.parametrize("T", [1, 2, 3, 8, 9])
def test_doubling_reaches_every_token(T: int) -> None:
    decay, added = torch.rand(1, T, 3).double(), torch.randn(1, T, 3).double()
    expected, h = [], torch.zeros(1, 3).double()
    for t in range(T):
        h = decay[:, t] * h + added[:, t]
        expected.append(h)
    torch.testing.assert_close(doubled(decay, added), torch.stack(expected, 1))
    assert 2 ** rounds(T) >= T > 2 ** (rounds(T) - 1) or T == 1


def test_a_token_that_keeps_everything_takes_nothing_in() -> None:
    """RG-LRU at a log decay of exactly 0: no input, and finite gradients."""
    x = torch.ones(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    g = torch.tensor([-1.0, 0.0]).double().reshape(1, 2, 1, 1).requires_grad_()
    o, _ = recurrence(x, g, input_scaling="sqrt")
    assert o[0, 1].item() == o[0, 0].item() == pytest.approx((1 - torch.tensor(-2.0).exp().item()) ** 0.5)
    dx, dg = torch.autograd.grad(o.sum(), (x, g))
    assert dx[0, 1].item() == 0
    assert torch.isfinite(dg).all()


@pytest.mark.parametrize("scaling", ["none", "sqrt"])
@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
@pytest.mark.parametrize("stateful", [False, True])
def test_cost_counts_every_tensor_once(scaling: str, pass_: str, stateful: bool) -> None:
    at = problem(pass_=pass_, axes=(("input_scaling", scaling),), initial_state=stateful, dtype="fp16")
    inputs = draw_inputs(gated_scan, at, 0)
    o = inputs["x"]
    touched = [*inputs.values(), o] if pass_ == "fwd" else [*inputs.values(), *inputs.values(), o]
    if stateful:
        touched.append(inputs["initial_state"])
    cost = gated_scan.cost_of(at)
    assert cost.bytes_compulsory == sum(x.numel() * x.element_size() for x in touched)
    channels = at.B * at.T * at.HS * at.V
    # By hand: h = a h + x is 2; with the scale, 1 - a a and its product with x are 3 more.
    forward = {"none": 2, "sqrt": 5}[scaling]
    # dh = do + e, e = a dh, dg = e h; scaled: s dh; dh x (2 products with a a / s: a a, / s, -): 8 more.
    assert cost.flops_alg == channels * (forward if pass_ == "fwd" else {"none": 3, "sqrt": 11}[scaling])


def test_what_fla_chunk_does_not_take_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    made = gated_scan.implementations["fla_chunk"]
    reason = made.unsupported(problem(layout="packed:halves"), {}, gated_scan.axes)
    assert reason == "fla_chunk takes no cu_seqlens"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason = made.unsupported(problem(), {}, gated_scan.axes)
    assert reason == "fla-core is not installed: pip install 'fla-core>=0.6,<0.7' einops (set peers of docs/peers.md)"
