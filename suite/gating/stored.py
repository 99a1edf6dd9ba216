"""Gating two stored runs: each case's records become decisions, and the decisions a report."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from suite.gating import conditions, history
from suite.gating.decisions import (
    Decision,
    Limits,
    judge_error,
    judge_memory,
    judge_status,
    judge_time,
    undecided_time,
)
from suite.gating.estimates import Estimate, Shift, independent
from suite.gating.report import CaseVerdict, Evidence, Metric, Report, machine_line
from suite.store.pairs import Pair, pair_runs
from suite.store.reading import read_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from suite.store.paths import AnyPath
    from suite.store.reading import Record

# The clock during a measurement, where telemetry has it.
CLOCK = "telemetry.sm_clock_mhz"
NO_HISTORY = (
    "how far runs of this machine lie from each other is not known for this case; run `subquad gate --calibrate` on "
    "two days or more, or use --base"
)
_METRICS: dict[str, Metric] = {"timed": "time", "check": "error", "static": "static"}


def gate(
    baseline: AnyPath, candidate: AnyPath, *, limits: Limits | None = None, allow_env_mismatch: bool = False
) -> Report:
    """Judge a stored run against another one, case by case, as docs/gate.md says.

    The report's exit code is INCOMPARABLE, and it has no cases, when the fingerprints differ and that is not allowed.
    Raises StoreError when either is no run or damaged.
    """
    pairing = pair_runs(baseline, candidate)
    environment = read_environment(candidate)
    known = history.load((environment.get("device") or {}).get("kind", ""), environment["fingerprint"])
    refused = bool(pairing.mismatches) and not allow_env_mismatch
    cases = [] if refused else [each for pair in pairing.pairs for each in judge(pair, limits or Limits(), known)]
    return Report(
        pairing.base,
        pairing.candidate,
        pairing.mismatches,
        allow_env_mismatch,
        tuple(cases),
        machine=machine_line(environment["fingerprint"]),
        notes=() if refused else (*conditions.notes(pairing), *told(cases)),
    )


def told(cases: Iterable[CaseVerdict]) -> Iterator[str]:
    """The notes of verdicts, those of the same text together."""
    return conditions.named((each.case_id, each.note) for each in cases)


def judge(
    pair: Pair, limits: Limits, known: Mapping[history.Key, history.History] | None = None
) -> Iterator[CaseVerdict]:
    """Every verdict on one case: on its status alone, or on each metric that its kind has.

    known: the A/A history of this machine, by which a case's margin is widened and its runs' shift is known
    """
    decided = conditions.incomparable(pair) or judge_status(statuses(pair.before), statuses(pair.after))
    metric = _METRICS[pair.key.kind]
    if decided:
        yield CaseVerdict(pair.key.case_id, pair.key.mode, metric, decided)
        return
    before, after = ([each for each in side if each["status"] == "ok"] for side in (pair.before, pair.after))
    past = (known or {}).get((pair.key.case_id, pair.key.mode))
    if past:
        limits = limits.widened(past.floor)
    for metric, decision in metrics(pair.key.kind, before, after, limits, past.shift if past else None):
        evidence = _evidence(before, after) if metric == "time" else None
        note = moved_limit(before, after) if metric == "error" else ""
        yield CaseVerdict(pair.key.case_id, pair.key.mode, metric, decision, evidence=evidence, note=note)


def statuses(side: Sequence[Record]) -> list[tuple[str, str]]:
    """Status and reason of each replicate."""
    return [(each["status"], each["reason"]) for each in side]


def metrics(
    kind: str, before: Sequence[Record], after: Sequence[Record], limits: Limits, shift: Shift | None
) -> Iterator[tuple[Metric, Decision]]:
    """Decisions on the numbers of records that are all ok."""
    if kind == "timed":
        yield "time", time(before, after, limits, shift)
        if decision := memory(before, after, limits):
            yield "memory", _rarely_measured(before, after) or decision
    if kind in ("timed", "check") and (decision := errors(before, after)):
        yield "error", decision


def _evidence(before: Sequence[Record], after: Sequence[Record]) -> Evidence:
    return Evidence(tuple(each["time_ms"] for each in before), tuple(each["time_ms"] for each in after))


def time(before: Sequence[Record], after: Sequence[Record], limits: Limits, shift: Shift | None) -> Decision:
    """The decision on the times of launches; those with a mark do not count.

    shift: that between runs of this machine, None where it is not known
    """
    if marks := conditions.marked_too_often(before, after, limits):
        return undecided_time(_ratio(before, after, shift), limits, marks)
    marks = conditions.marks_told(before, after)
    x, y = ([each for each in side if not conditions.mark_of(each)] for side in (before, after))
    # Few launches, and all of them marked: the ratio of all of them is told.
    x, y = x or before, y or after
    found = _ratio(x, y, shift)
    if found.rounds >= limits.rounds and shift is None:
        decision = undecided_time(found, limits, NO_HISTORY)
    else:
        decision = judge_time(found, median(each["time_ms"] for each in x), limits, _cycles(x, y, shift))
    return replace(decision, reason=f"{decision.reason}; left out: {marks}") if marks else decision


def _ratio(before: Sequence[Record], after: Sequence[Record], shift: Shift | None) -> Estimate:
    """The log-ratio of times; its noise is not known where the shift between runs is not."""
    x, y = ([each["time_ms"] for each in side] for side in (before, after))
    found = independent(x, y, shift)
    return found if shift is not None else replace(found, se=math.inf)


def _cycles(before: Sequence[Record], after: Sequence[Record], shift: Shift | None) -> Estimate | None:
    if not all(each.get(CLOCK) for each in (*before, *after)):
        return None
    x, y = ([each["time_ms"] * each[CLOCK] for each in side] for side in (before, after))
    return independent(x, y, shift)


def _rarely_measured(before: Sequence[Record], after: Sequence[Record]) -> Decision | None:
    """The decision on memory that most launches of a side do not have."""
    for side, when in zip((before, after), conditions.SIDES, strict=True):
        measured = sum(each.get("memory_mib") is not None for each in side)
        if 0 < 2 * measured < len(side):
            return Decision("inconclusive", f"measured in {measured} of {len(side)} launches {when}")
    return None


def memory(before: Sequence[Record], after: Sequence[Record], limits: Limits) -> Decision | None:
    """The decision on peak memory, the largest of the replicates; None when neither side has it."""
    measured = [[each for each in side if each.get("memory_mib") is not None] for side in (before, after)]
    a, b = ([each["memory_mib"] for each in side] for side in measured)
    if not a and not b:
        return None
    methods = [sorted({str(each.get("memory_method")) for each in side}) for side in measured]
    if a and b and methods[0] != methods[1]:
        return Decision("inconclusive", f"measured by {', '.join(methods[0])} before, by {', '.join(methods[1])} now")
    return judge_memory(max(a, default=None), max(b, default=None), limits)


def errors(before: Sequence[Record], after: Sequence[Record]) -> Decision | None:
    """The decision on the check's errors, the largest of the replicates; None when neither side was checked."""
    a, b = _worst_errors(before), _worst_errors(after)
    if not a and not b:
        return None
    at = [{each.get("check_T") for each in side} for side in (before, after)]
    if a and b and at[0] != at[1]:
        told = [", ".join(str(T or "its own") for T in sorted(side, key=str)) for side in at]
        return Decision("inconclusive", f"checked at T = {told[0]} before, at T = {told[1]} now")
    limits = _limits(before, after)
    decision = judge_error(a, b, None if None in limits else min(each for each in limits if each is not None))
    moved = moved_limit(before, after)
    return replace(decision, reason=f"{decision.reason}; {moved}") if moved else decision


def moved_limit(before: Sequence[Record], after: Sequence[Record]) -> str:
    """What is told of an error limit that is not the same on both sides; empty where it is, or is not known."""
    a, b = _limits(before, after)
    if a is None or b is None or a == b:
        return ""
    return f"the error limit moved from {a:.2e} to {b:.2e}; the smaller one counts"


def _limits(before: Sequence[Record], after: Sequence[Record]) -> list[float | None]:
    """The largest error that each side allows, the smallest of its launches."""
    held = [[each["check_limit"] for each in side if each.get("check_limit")] for side in (before, after)]
    return [min(side, default=None) for side in held]


def _worst_errors(records: Sequence[Record]) -> dict[str, float]:
    worst: dict[str, float] = {}
    found: list[tuple[str, Any]] = [item for record in records for item in (record.get("check") or {}).items()]
    for name, error in found:
        if error is not None:
            worst[name] = max(error, worst.get(name, error))
    return worst
