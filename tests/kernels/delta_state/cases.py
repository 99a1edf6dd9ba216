"""What the tests of the delta rules' kernels share: the cases and how one is checked in the interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from suite import Operator, Problem
from suite.checking import Check, check_case
from suite.targets import REPRESENTATIVES, aim

# One SM is filled by any problem, thousands by none of these: the regime follows.
SMS = {"on-chip": 1, "segments": 4096}
STATE = {"initial_state": True}
PACKED = {"layout": "packed:ragged", **STATE}


def check(operator: Operator, regime: str, chunk: int, own: dict[str, Any], sizes: dict[str, Any]) -> Check:
    """triton_chunk on one problem, in the regime that is named."""
    at = operator.complete(Problem(**{"H": 1, "K": 32, "V": 32, "dtype": "fp32", "pass_": "fwdbwd", **sizes}), own)
    implementation = operator.implementations["triton_chunk"]
    assert implementation.configuration is not None
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        chosen = implementation.configuration(at, {"chunk": chunk})
        assert {each["regime"] for each in chosen.values()} == {regime}
        return check_case(operator, "triton_chunk", at, {"chunk": chunk}, device="interpret")
