"""A machine whose A/A history is known, so that stored runs of it can be judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from suite.gating import history
from suite.gating.history import Calibration
from tests.suite.store.runs import environment

# Mean logarithms of a quiet machine's times on eight days.
LEVELS = (0.0, 1e-4, -1e-4, 2e-4, 0.0, 1e-4, -2e-4, 0.0)


def calibrate(case_ids: Iterable[str], *, kind: str = "", levels: Iterable[float] = LEVELS, **fingerprint: Any) -> None:
    """Keep a history of these cases for the machine of runs that are written with this fingerprint."""
    known = set(case_ids)
    for day, level in enumerate(levels, 1):
        one = Calibration(f"2020-01-{day:02}", "c0de", 0.001, 0.0, 0.001, level, 8)
        history.keep(kind, environment(**fingerprint)["fingerprint"], {(each, "warm-cpu"): one for each in known})
