"""What the tests of the scans share: both regimes in the interpreter, a checked pass and a checked step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from suite import Problem
from suite.checks.checker import check_case
from suite.registry import Operator
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS

STATE = {"initial_state": True}


def short_segments(least: str) -> Callable[..., Any]:
    """A fixture under which, in the interpreter, segments are 32 tokens: 128 and more would take it minutes.

    least: the dotted name of the constant that bounds them
    """

    @pytest.fixture(autouse=True)
    def shortened(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        if request.node.get_closest_marker("interpret"):
            monkeypatch.setattr(least, 32)

    return shortened


def checked(operator: Operator, case: Problem, regime: str, names: set[str]) -> None:
    """triton_chunk runs in a regime and gives the oracle's `names`, the same in two calls."""
    configuration = operator.implementations["triton_chunk"].configuration
    assert configuration is not None
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        assert {each["regime"] for each in configuration(case, {}).values()} == {regime}
        found = check_case(operator, "triton_chunk", case, device="interpret")
    assert found.ok, found.reason
    assert names <= set(found.errors)
    assert found.repeatable


def stepped(operator: Operator, case: Problem) -> None:
    """triton_step gives the oracle's output and state."""
    found = check_case(operator, "triton_step", case, device="interpret")
    assert found.ok, found.reason
    assert "state" in found.errors
