"""The gate: is a candidate slower, larger or less exact than a baseline? docs/gate.md is the decision tree.

Example::

    report = gate("results/local/before", "results/local/after")
    report.exit, report.headline
"""

from suite.gate.decisions import Decision, Limits, judge_error, judge_memory, judge_status, judge_time
from suite.gate.estimates import Estimate, independent, paired
from suite.gate.report import CaseVerdict, Report
from suite.gate.stored import gate

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
