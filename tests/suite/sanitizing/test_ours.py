"""Our kernels under the sanitizer have no findings: a few quickly; all, in each regime and layout, in long tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("triton")

from suite import Problem
from suite.checks.checker import Check, Checker, refusal
from suite.discovery import discover
from suite.sanitizing.checking import at_invented_sizes, sanitized
from suite.targets import REPRESENTATIVES, aim

pytestmark = pytest.mark.interpret

REGISTRY = discover()
OURS = [
    (operator.name, made.name)
    for operator in REGISTRY.operators.values()
    for made in operator.implementations.values()
    if made.origin == "ours" and "interpret" in made.devices
]
# Operators whose heads have sizes of their own.
SIZES = {"selective_scan": {"H": 1, "HV": 16, "K": 8, "V": 1}, "s4d": {"K": 16, "V": 1}}
SMS = {"on-chip": 1, "segments": 4096}


def check(name: str, made: str, regime: str = "segments", *, addresses: bool = False, **axes: Any) -> Check:
    """The sanitized check of one implementation, in the regime that is named."""
    operator = REGISTRY.operators[name]
    implementation = operator.implementations[made]
    pass_ = axes.pop("pass_", "decode" if "decode" in implementation.passes else "fwdbwd")
    state = operator.stateful and pass_ != "decode"
    sizes = {"B": 1, "T": 20, "H": 1, "K": 16, "V": 16, "dtype": "fp32", "initial_state": state}
    problem = operator.complete(Problem(**{**sizes, **SIZES.get(name, {}), **axes, "pass_": pass_}))
    tunables = implementation.default_tunables
    if reason := refusal(operator, implementation, problem, tunables, "interpret"):
        pytest.skip(reason)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        if addresses:
            return at_invented_sizes(operator, implementation, problem, tunables)
        return sanitized(Checker(operator, problem, device="cpu", seed=0), implementation, tunables)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("softmax_attention", "triton_flash"),
        ("ssd", "triton_chunk"),
        ("mlstm", "triton_step"),
        ("s4d", "triton_step"),
        ("attention_decode", "triton_split"),
    ],
)
def test_some_have_no_findings(name: str, made: str) -> None:
    found = check(name, made)
    assert found.ok, found.reason


def test_tokens_one_by_one_wait_before_they_complete_dq() -> None:
    operator = REGISTRY.operators["gated_linear_attention"]
    implementation = operator.implementations["triton_chunk"]
    sizes: dict[str, Any] = {"B": 1, "T": 4, "H": 1, "K": 16, "V": 16, "dtype": "fp32", "pass_": "fwdbwd"}
    with aim("sm_90"):
        checker = Checker(operator, operator.complete(Problem(**sizes)), device="cpu", seed=0)
        # Gates beyond what a whole tile can hold.
        checker.inputs["log_decay"].data.mul_(2000)
        found = sanitized(checker, implementation, implementation.default_tunables)
    assert "barrier" not in found.reason, found.reason


@pytest.mark.long
@pytest.mark.parametrize("regime", list(SMS))
@pytest.mark.parametrize("layout", ["dense", "packed:ragged", "packed:gaps"])
@pytest.mark.parametrize(("name", "made"), OURS)
def test_none_has_findings(name: str, made: str, layout: str, regime: str) -> None:
    found = check(name, made, regime, layout=layout, T=64, H=2 if name != "selective_scan" else 1)
    if found.status == "unsupported":
        pytest.skip(found.reason)
    assert found.ok, found.reason


@pytest.mark.long
@pytest.mark.parametrize(("name", "made"), OURS)
def test_none_overflows_at_sizes_that_do_not_exist(name: str, made: str) -> None:
    found = check(name, made, addresses=True, T=64)
    if found.status == "unsupported":
        pytest.skip(found.reason)
    assert found.ok, found.reason
