"""What the tests of the delta rules' kernels share: how a case is checked in the interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from suite import Operator, Problem
from suite.checks.checker import check_case
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS

STATE = {"initial_state": True}
PACKED = {"layout": "packed:ragged", **STATE}

# regime, chunk, the operator's axes, sizes
Case = tuple[str, int, dict[str, Any], dict[str, Any]]


def check(operator: Operator, case: Case, arch: str = "sm_90") -> None:
    """Output, states and every gradient of triton_chunk against the oracle, in the regime named; two runs agree."""
    regime, chunk, own, sizes = case
    at = operator.complete(Problem(**{"H": 1, "K": 32, "V": 32, "dtype": "fp32", "pass_": "fwdbwd", **sizes}), own)
    implementation = operator.implementations["triton_chunk"]
    assert implementation.configuration is not None
    with aim(replace(REPRESENTATIVES[arch], sms=SMS[regime])):
        chosen = implementation.configuration(at, {"chunk": chunk})
        assert {each["regime"] for each in chosen.values()} == {regime}
        found = check_case(operator, "triton_chunk", at, {"chunk": chunk}, device="interpret")
    assert found.ok, found.reason
    gates = {"dlog_decay"} if "gated" in operator.name else set()
    states = {"final_state", "dinitial_state"} if at.initial_state else set()
    assert set(found.errors) == {"o", "dq", "dk", "dv", "dbeta"} | gates | states
    assert found.repeatable
