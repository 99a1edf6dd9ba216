"""The gate: is a candidate slower, larger or less accurate than a baseline? docs/gate.md describes the decisions.

Example::

    report = gate("results/local/before", "results/local/after")
    report.exit, report.headline
"""

from suite.gating.decisions import Decision, Limits, judge_error, judge_memory, judge_status, judge_time
from suite.gating.estimates import Estimate, independent, paired
from suite.gating.report import CaseVerdict, Report
from suite.gating.stored import gate

__all__ = [
    "CaseVerdict",
    "Decision",
    "Estimate",
    "Limits",
    "Report",
    "gate",
    "independent",
    "judge_error",
    "judge_memory",
    "judge_status",
    "judge_time",
    "paired",
]
