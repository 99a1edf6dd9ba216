"""What the tests of operators with a decay per channel share: the cases and how one is checked in the interpreter."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from suite import Operator, Problem, Target
from suite.checks.checker import Check, check_case
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS

STATE = {"initial_state": True}


def aimed(regime: str) -> AbstractContextManager[Target]:
    """An sm_90 on which short problems are served in the named regime."""
    return aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime]))


def check(operator: Operator, regime: str, sizes: dict[str, Any], chunk: int = 16) -> Check:
    """triton_chunk on one problem, in the regime that is named."""
    at = operator.complete(Problem(**{"H": 1, "K": 16, "V": 16, "dtype": "fp32", "pass_": "fwdbwd", **sizes}))
    implementation = operator.implementations["triton_chunk"]
    assert implementation.configuration is not None
    with aimed(regime):
        chosen = implementation.configuration(at, {"chunk": chunk})
        assert {each["regime"] for each in chosen.values()} == {regime}
        return check_case(operator, "triton_chunk", at, {"chunk": chunk}, device="interpret")
