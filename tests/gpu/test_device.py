"""On a device: every implementation against the oracle, in workers, so that one fault costs its own case alone.

`python -m pytest tests/gpu` on a machine with a CUDA device; skipped, visibly, elsewhere.
"""

from __future__ import annotations

import pytest

import suite
from suite.discovery import discover
from suite.faults import FAILURES

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("operator", sorted(discover().operators))
def test_against_the_oracle(operator: str) -> None:
    records = suite.check(op=operator, preset="numerics", device="cuda", timeout=120)
    assert any(record["status"] == "ok" for record in records)
    assert {record["case_id"]: record["reason"] for record in records if record["status"] in FAILURES} == {}
