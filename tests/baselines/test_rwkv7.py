"""RWKV-7 in PyTorch against the oracle on the CPU; its cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import baselines.channel_delta.rwkv7.pytorch  # noqa: F401  (registers)
from baselines.channel_delta.rwkv7.flash_linear_attention import LOWER_BOUND
from baselines.channel_delta.rwkv7.pytorch import naive, torch_chunk
from kernels.channel_delta.rwkv7.spec import DECAY_RANGE, recurrence, rwkv7
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.numerics import difference

GRADIENTS = {"o", "final_state", "dq", "dk", "dv", "dlog_decay", "da", "db", "dinitial_state"}
CASES: dict[str, dict[str, Any]] = {
    "one_token": {"T": 1},
    "values": {"T": 40, "H": 1, "HV": 2, "K": 12},
    "packed": {"T": 70, "layout": "packed:ragged", "H": 1},
    "bf16": {"T": 100, "K": 32, "dtype": "bf16"},
    "fp16": {"T": 70, "dtype": "fp16"},
}


def problem(**sizes: Any) -> Problem:
    base = {"T": 63, "H": 2, "K": 16, "V": 24, "dtype": "fp32", "pass_": "fwdbwd", "initial_state": True}
    return rwkv7.complete(Problem(**{**base, **sizes}))


@pytest.mark.parametrize("implementation", ["naive", "torch_chunk"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_gradients(name: str, implementation: str) -> None:
    tunables = {"chunk": 32} if implementation == "torch_chunk" else {}
    found = check_case(rwkv7, implementation, problem(**CASES[name]), tunables)
    assert found.ok, found.reason
    assert set(found.errors) == GRADIENTS


def test_step_updates_its_state() -> None:
    found = check_case(rwkv7, "torch_step", problem(B=2, T=50, HV=4, pass_="decode", initial_state=False))
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


@pytest.mark.parametrize("gate", [-20.0, float("-inf"), 0.0])
def test_extreme_gates(gate: float) -> None:
    inputs = draw_inputs(rwkv7, problem(T=20, pass_="fwd", initial_state=False), seed=0)
    inputs["log_decay"][:, 3::4] = gate
    expected, _ = recurrence(**{name: x.double() for name, x in inputs.items()})
    for fn in (naive, torch_chunk):
        assert difference(fn(**inputs)[0], expected, 1).error < 1e-5


def test_the_state_is_the_papers_transposed() -> None:
    """S (diag(w) + a b^T) + v k^T for a [V, K] state, read by S r, one token after another."""
    inputs = draw_inputs(rwkv7, problem(T=6, H=1, pass_="fwd", initial_state=False), seed=1)
    x = {name: value[0, :, 0].double() for name, value in inputs.items()}
    S = torch.zeros(24, 16, dtype=torch.float64)
    expected = []
    for t in range(6):
        transition = torch.diag(x["log_decay"][t].exp()) + torch.outer(x["a"][t], x["b"][t])
        S = S @ transition + torch.outer(x["v"][t], x["k"][t])
        expected.append(S @ x["q"][t])
    found, _ = recurrence(**{name: value.double() for name, value in inputs.items()})
    torch.testing.assert_close(found[0, :, 0], torch.stack(expected))


def test_inputs_are_the_models() -> None:
    inputs = draw_inputs(rwkv7, problem(T=50), seed=0)
    assert (inputs["log_decay"] < 0).all()
    assert (inputs["log_decay"] > -DECAY_RANGE).all()
    assert -DECAY_RANGE > LOWER_BOUND
    torch.testing.assert_close(inputs["a"].norm(dim=-1), torch.ones(1, 50, 2))
    ratio = inputs["b"] / -inputs["a"]
    assert ((ratio > 0) & (ratio < 1)).all()


@pytest.mark.parametrize(("pass_", "more"), [("fwd", {"HV": 4}), ("bwd", {"initial_state": True}), ("decode", {})])
def test_compulsory_bytes_are_inputs_once_and_outputs_once(pass_: str, more: dict[str, Any]) -> None:
    at = problem(**{"B": 2, "T": 7, "dtype": "bf16", "pass_": pass_, "initial_state": False, **more})
    inputs = draw_inputs(rwkv7, at, seed=0)
    own = sum(x.numel() * x.element_size() for x in inputs.values())
    o = 2 * at.tokens * at.HS * at.V
    state = 4 * at.N * at.HS * at.K * at.V
    moved = {"fwd": own + o, "bwd": 2 * own + o + state, "decode": own + o + state}[pass_]
    assert rwkv7.cost_of(at).bytes_compulsory == moved


def test_flops_are_the_recurrences() -> None:
    """Products of a token, each 2KV: forward two reads and two outer products; backward eight more and three again."""
    at = problem(T=7, B=2, HV=4)
    product = 2 * at.tokens * at.HS * at.K * at.V
    assert rwkv7.cost_of(at.replace(pass_="fwd")).flops_alg == 4 * product
    assert rwkv7.cost_of(at.replace(pass_="bwd")).flops_alg == (3 + 8) * product
