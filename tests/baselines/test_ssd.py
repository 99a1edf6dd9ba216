"""SSD in PyTorch against the oracle on the CPU, and what its adapters do not serve."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import baselines.delta.gated_delta_rule.flash_linear_attention
import baselines.scalar_decay.ssd.flash_linear_attention
import baselines.scalar_decay.ssd.mamba_ssm  # noqa: F401  (registers)
from baselines.scalar_decay.ssd.pytorch import naive, torch_chunk
from kernels.delta.gated_delta_rule.spec import gated_delta_rule
from kernels.scalar_decay.ssd.spec import recurrence, ssd
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs, flat
from suite.errors import UsageError
from suite.targets import aim

SEQUENCES = ("naive", "torch_chunk")
AXES = [{}, {"skip": True}, {"skip": True, "gated": True}]
IDS = ["core", "skip", "skip-gated"]
GRADIENTS = {"o", "dq", "dk", "dv", "ddt", "dA"}
STATES = {"final_state", "dinitial_state"}


def problem(own: dict[str, Any] | None = None, **changes) -> Problem:
    return ssd.complete(Problem(**{"T": 63, "H": 2, "K": 16, "V": 24, "dtype": "fp32"} | changes), own)


def names(own: dict[str, Any]) -> set[str]:
    return GRADIENTS | {f"d{name}" for name, axis in (("D", "skip"), ("z", "gated")) if own.get(axis)}


def assert_ok(implementation: str, at: Problem, expected: set[str], seeds: int = 1, **tunables) -> None:
    for seed in range(seeds):
        check = check_case(ssd, implementation, at, tunables, seed=seed)
        assert check.status == "ok", check.reason
        assert set(check.errors) == expected


def mamba_2(x, dt, A, B, C, D=None, z=None, h=None):
    """Mamba-2's recurrence as its paper writes it, on one head: x [T,P], dt [T], B, C [T,N], h [P,N]."""
    h = torch.zeros(x.shape[1], B.shape[1], dtype=x.dtype) if h is None else h
    rows = []
    for t in range(x.shape[0]):
        h = torch.exp(dt[t] * A) * h + dt[t] * x[t][:, None] * B[t][None, :]
        y = h @ C[t]
        y = y if D is None else y + D * x[t]
        rows.append(y if z is None else y * F.silu(z[t]))
    return torch.stack(rows), h


def test_the_oracle_is_mamba_2() -> None:
    x = draw_inputs(ssd, problem({"skip": True, "gated": True}, T=20, H=1, HV=2), 0)
    q, k, v, dt, A, D, z = (x[name].double() for name in ("q", "k", "v", "dt", "A", "D", "z"))
    o, S = recurrence(q, k, v, dt, A, D, z, skip=True, gated=True, output_final_state=True)
    for h in range(2):
        expected, state = mamba_2(v[0, :, h], dt[0, :, h], A[h], k[0, :, 0], q[0, :, 0], D[h], z[0, :, h])
        torch.testing.assert_close(o[0, :, h], expected)
        assert S is not None
        torch.testing.assert_close(S[0, h], state.T)


def test_inputs_are_in_mamba_2s_ranges() -> None:
    x = draw_inputs(ssd, problem(H=64, T=200), 0)
    assert (x["A"] <= -1).all()
    assert (x["A"] >= -16).all()
    assert (x["dt"] > 0).all()
    assert 0.005 < x["dt"].median() < 0.03


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("T", [1, 63, 130])
@pytest.mark.parametrize("own", AXES, ids=IDS)
def test_output_and_gradients_match_the_oracle(implementation: str, T: int, own) -> None:
    assert_ok(implementation, problem(own, T=T, pass_="fwdbwd"), names(own))


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("own", [AXES[0], AXES[2]], ids=[IDS[0], IDS[2]])
def test_states_and_value_heads(implementation: str, own) -> None:
    at = problem(own, T=70, B=2, H=1, HV=4, initial_state=True, pass_="fwdbwd")
    assert_ok(implementation, at, names(own) | STATES, seeds=2)


@pytest.mark.parametrize("implementation", SEQUENCES)
def test_packed_sequences_are_kept_apart(implementation: str) -> None:
    at = problem(AXES[2], T=130, H=1, layout="packed:ragged", initial_state=True, pass_="fwdbwd")
    assert_ok(implementation, at, names(AXES[2]) | STATES)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("implementation", SEQUENCES)
def test_half_precision_stays_within_its_limit(implementation: str, dtype: str) -> None:
    assert_ok(implementation, problem(AXES[2], T=130, K=64, V=64, dtype=dtype, pass_="fwdbwd"), names(AXES[2]))


@pytest.mark.parametrize("own", AXES, ids=IDS)
def test_step_updates_its_state_in_place(own) -> None:
    assert_ok("torch_step", problem(own, B=2, T=50, pass_="decode", HV=4), {"o", "state"}, seeds=4)


@pytest.mark.parametrize("fn", [naive, torch_chunk])
def test_an_axis_that_contradicts_its_tensor_is_refused(fn) -> None:
    x = draw_inputs(ssd, problem(), 0)
    with pytest.raises(UsageError, match="skip = True, but D is None"):
        fn(**x, skip=True)
    with pytest.raises(UsageError, match="gated = False, but z is given"):
        fn(**x, z=x["v"], gated=False)


def test_more_heads_of_b_and_c_than_of_x_are_no_ssd() -> None:
    assert ssd.supports is not None
    assert "as many heads" in (ssd.supports(Problem(H=4, HK=2, HV=4)) or "")
    assert ssd.supports(Problem(H=1, HV=80)) is None


@pytest.mark.parametrize("pass_", ["fwd", "bwd", "decode"])
@pytest.mark.parametrize("own", AXES, ids=IDS)
def test_compulsory_bytes_are_inputs_once_and_outputs_once(own, pass_: str) -> None:
    at = problem(own, B=2, T=7, HV=4, initial_state=pass_ != "decode", pass_=pass_)
    read = {name: x.numel() * x.element_size() for name, x in flat(draw_inputs(ssd, at, 0)).items()}
    o = at.tokens * at.HS * at.V * at.itemsize
    state = read.get("state", 0) + read.get("initial_state", 0)
    total = sum(read.values()) + o
    # Backward: outputs' gradients are read, inputs' are written, and the state's gradient flows in.
    expected = total + {"fwd": state, "bwd": sum(read.values()) + state, "decode": state}[pass_]
    assert ssd.cost_of(at).bytes_compulsory == expected


@pytest.mark.parametrize(
    ("triton", "arch", "pass_", "refused"),
    [
        ("3.6.0", "sm_90", "bwd", True),
        ("3.4.0", "sm_90", "fwdbwd", True),
        ("3.7.0", "sm_90", "bwd", True),
        ("3.6.0+git1", "sm_90", "bwd", True),
        ("3.6.0", "sm_90", "fwd", False),
        ("3.7.1", "sm_90", "bwd", False),
        ("3.8.0", "sm_90", "bwd", False),
        ("3.3.1", "sm_90", "bwd", False),
        ("3.6.0", "sm_100", "bwd", False),
    ],
)
def test_fla_s_backward_is_refused_where_it_would_be_wrong(
    triton: str, arch: str, pass_: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.requirement.installed", lambda name: triton)
    with aim(arch):
        for made in (ssd.implementations["fla_chunk"], gated_delta_rule.implementations["fla_chunk"]):
            assert made.supports is not None
            reason = made.supports(problem(pass_=pass_), {})
            assert (reason is not None) == refused
            assert reason is None or "take 3.7.1 or later" in reason


@pytest.mark.parametrize(("T", "served"), [(61_000, True), (500_000, False)])
def test_mamba_s_offsets_end(T: int, served: bool) -> None:
    made = ssd.implementations["mamba_chunk_scan"]
    assert made.supports is not None
    assert (made.supports(Problem(T=T, H=1, HV=80, K=128, V=64), {"chunk": 256}) is None) == served
