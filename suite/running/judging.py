"""Judging records: what a worker tells of a case becomes its record here, where no implementation has run.

A worker measures and says what it measured: samples, errors of the check, memory. What the runner knows itself, it does
not take from a worker: which case it is, its cost, its revision. What follows from samples is computed again: median,
percentiles, interval, rates, the place under the roof. The samples are held against the time that the runner saw pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from suite.cost import Cost
from suite.errors import StoreError
from suite.measuring.case import Settings
from suite.measuring.records import with_status
from suite.measuring.sampling import figures_of
from suite.numerics import limit_of
from suite.problem import Problem
from suite.registry import Operator
from suite.roof import figures, place
from suite.store.columns import SECTIONS, STATUSES
from suite.store.encoding import plain
from suite.store.schema import fault

# What a worker may say: what it measured or found out in the process that it is.
TOLD = frozenset(
    name
    for section in ("always", "timed", "telemetry", "compile")
    for each in SECTIONS[section]
    for name in each.names
    if not name.endswith(">") and name != "witnessed"
)
# What is in a record before its case is called, and is the worker's to say all the same.
UNTIL_TOLD = {"status", "reason", "configuration", "timer", "l2", "host_inclusive", "samples", "check", "check_T"}
UNTIL_TOLD |= {"flops_exec"}
# A record without a time has these of a timed one.
KEPT = {"blocks", "repeatable", "equivariant", "approximation_error", "check_limit", "naive_ratio"}
KEPT |= {"bytes_state", "special"}
PERFORMANCE = frozenset(name for each in SECTIONS["timed"] for name in each.names) - KEPT
# How far the sum of a case's samples may be above the time of its turns: events have a clock of their own.
SLACK, SLACK_MS = 0.01, 1.0
# With the host's clock around each call, most of a turn is samples. Each turn and each sample may lose this much to
# other things, such as changing a token of the inputs, and of the rest at least this part must be in samples.
LOST_MS, LOST_EACH_MS, LEAST = 5.0, 0.2, 0.2


def judged(
    told: Mapping[str, Any],
    base: Mapping[str, Any],
    operator: Operator,
    problem: Problem,
    settings: Settings,
    turns: Sequence[float],
) -> dict[str, Any]:
    """The record of a case, of what its worker told and of what is known without it.

    base:  the record as suite.measuring.records.base_record makes it here
    turns: seconds of each turn in which its samples were taken, by the runner's clock
    """
    known = {name: value for name, value in base.items() if name not in UNTIL_TOLD}
    try:
        record = plain({**base, **{name: value for name, value in told.items() if name in TOLD}, **known})
    except (StoreError, RecursionError) as error:
        return _refused(base, str(error))
    if record["status"] not in STATUSES:
        return _refused(base, f"its status is {str(record['status'])[:40]!r}")
    if record["status"] != "ok":
        record = without_performance(record)
    elif base["reason"]:
        record = with_status(without_performance(record), "error", base["reason"])
    elif settings.sanitize != "addresses" and (wrong := _unproven(record, operator, problem)):
        return _refused(base, wrong)
    elif record["kind"] == "timed":
        record = _timed(record, base, problem, settings, turns)
    wrong = fault(record)
    return _refused(base, f"it {wrong}") if wrong else record


def without_performance(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without its times and what follows from them; its samples stay."""
    return {name: value for name, value in record.items() if name not in PERFORMANCE}


def _refused(base: Mapping[str, Any], why: str) -> dict[str, Any]:
    return with_status(base, "error", f"what the worker told of it was refused: {why}")


def _unproven(record: Mapping[str, Any], operator: Operator, problem: Problem) -> str:
    """Why a record that says `ok` is not believed; empty where its check bears it out."""
    errors = record.get("check")
    error = errors.get("o") if type(errors) is dict else None
    limit = max(limit_of(problem.dtype, "o", operator.limits), limit_of(problem.state_dtype, "o"))
    if not isinstance(error, int | float) or not error <= limit:
        return f"it is ok with an error of {error} in its output, limit {limit:.1e}"
    return ""


def _timed(
    record: dict[str, Any], base: Mapping[str, Any], problem: Problem, settings: Settings, turns: Sequence[float]
) -> dict[str, Any]:
    """A timed record with figures that follow from its samples, or without any where they cannot be true."""
    samples, blocks = record.get("samples") or [], record.get("blocks") or []
    retaken, calls = record.get("telemetry.retaken_ms") or [], record.get("calls", 1)
    if not _are_times(samples) or not _are_times(retaken) or not _are_counts([calls]):
        return _refused(base, "its samples are not times")
    if not samples or not _are_counts(blocks) or sum(blocks) != len(samples):
        return _refused(base, "its blocks do not hold its samples")
    ends = [sum(blocks[: i + 1]) for i in range(len(blocks))]
    record |= figures_of([samples[end - n : end] for end, n in zip(ends, blocks, strict=True)])
    if why := _against_clock(record, (sum(samples) + sum(retaken)) * calls, turns):
        return with_status(without_performance(record), "implausible", why)
    cost = Cost(**{f.name: record[f.name] for f in fields(Cost)})
    placed = place(cost, record["time_ms"], problem.dtype, settings.ceilings, settings.llc_bytes)
    if above := placed.pop("above", ""):
        why = f"{above}: wrong FLOPs, wrong shape or wrong timing; look at the cost, the outputs and the timer"
        return with_status(without_performance(record), "implausible", why)
    return record | figures(cost, record["time_ms"], problem.tokens) | placed


def _are_times(samples: Any) -> bool:
    return type(samples) is list and all(type(x) in (int, float) and math.isfinite(x) and x > 0 for x in samples)


def _are_counts(values: Any) -> bool:
    return type(values) is list and all(type(n) is int and n > 0 for n in values)


def _against_clock(record: Mapping[str, Any], told_ms: float, turns: Sequence[float]) -> str:
    """Why the samples of a case cannot have been taken in its turns; empty where they can."""
    passed_ms = 1e3 * sum(turns)
    if told_ms > passed_ms * (1 + SLACK) + SLACK_MS:
        return (
            f"its samples add up to {told_ms:.3g} ms, but were taken within {passed_ms:.3g} ms: "
            "the clock of its process was changed"
        )
    lost_ms = LOST_EACH_MS * len(record["samples"])
    least = LEAST * (sum(max(0.0, 1e3 * turn - LOST_MS) for turn in turns) - lost_ms)
    if record.get("timer") == "cpu" and told_ms < least:
        return (
            f"its samples add up to {told_ms:.3g} ms of the {passed_ms:.3g} ms that they took: "
            "the clock of its process was changed"
        )
    return ""
