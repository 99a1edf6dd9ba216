"""Gating two stored runs: each case's records become decisions, and the decisions a report."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from suite.gating import noise_floors
from suite.gating.decisions import Decision, Limits, judge_error, judge_memory, judge_status, judge_time
from suite.gating.estimates import Estimate, independent
from suite.gating.report import CaseVerdict, Evidence, Metric, Report, machine_line
from suite.store.pairs import Pair, pair_runs
from suite.store.reading import read_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from suite.store.paths import AnyPath
    from suite.store.reading import Record

# The clock during a measurement, where telemetry has it.
CLOCK = "telemetry.sm_clock_mhz"
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
    known = noise_floors.load((environment.get("device") or {}).get("kind", ""), environment["fingerprint"])
    refused = bool(pairing.mismatches) and not allow_env_mismatch
    cases = [] if refused else [each for pair in pairing.pairs for each in judge(pair, limits or Limits(), known)]
    return Report(
        pairing.base,
        pairing.candidate,
        pairing.mismatches,
        allow_env_mismatch,
        tuple(cases),
        machine=machine_line(environment["fingerprint"]),
    )


def judge(
    pair: Pair, limits: Limits, known: Mapping[noise_floors.Key, noise_floors.NoiseFloor] | None = None
) -> Iterator[CaseVerdict]:
    """Every verdict on one case: on its status alone, or on each metric that its kind has.

    known: A/A floors of this machine, by which a case's margin is widened
    """
    by_status = judge_status(statuses(pair.before), statuses(pair.after))
    metric = _METRICS[pair.key.kind]
    if by_status:
        yield CaseVerdict(pair.key.case_id, pair.key.mode, metric, by_status)
        return
    before, after = ([each for each in side if each["status"] == "ok"] for side in (pair.before, pair.after))
    if floor := (known or {}).get((pair.key.case_id, pair.key.mode)):
        limits = limits.widened(floor.floor)
    for metric, decision in metrics(pair.key.kind, before, after, limits):
        evidence = _evidence(before, after) if metric == "time" else None
        yield CaseVerdict(pair.key.case_id, pair.key.mode, metric, decision, evidence=evidence)


def statuses(side: Sequence[Record]) -> list[tuple[str, str]]:
    """Status and reason of each replicate."""
    return [(each["status"], each["reason"]) for each in side]


def metrics(
    kind: str, before: Sequence[Record], after: Sequence[Record], limits: Limits
) -> Iterator[tuple[Metric, Decision]]:
    """Decisions on the numbers of records that are all ok."""
    if kind == "timed":
        yield "time", judge_time(*_times(before, after), limits, _cycles(before, after))
        if decision := memory(before, after, limits):
            yield "memory", decision
    if kind in ("timed", "check") and (decision := errors(before, after)):
        yield "error", decision


def _evidence(before: Sequence[Record], after: Sequence[Record]) -> Evidence:
    return Evidence(tuple(each["time_ms"] for each in before), tuple(each["time_ms"] for each in after))


def _times(before: Sequence[Record], after: Sequence[Record]) -> tuple[Estimate, float]:
    x, y = ([each["time_ms"] for each in side] for side in (before, after))
    return independent(x, y), median(x)


def _cycles(before: Sequence[Record], after: Sequence[Record]) -> Estimate | None:
    if not all(each.get(CLOCK) for each in (*before, *after)):
        return None
    return independent(*([each["time_ms"] * each[CLOCK] for each in side] for side in (before, after)))


def memory(before: Sequence[Record], after: Sequence[Record], limits: Limits) -> Decision | None:
    """The decision on peak memory, the largest of the replicates; None when neither side has it."""
    a, b = ([each["memory_mib"] for each in side if each.get("memory_mib") is not None] for side in (before, after))
    if not a and not b:
        return None
    methods = [sorted({str(each.get("memory_method")) for each in side}) for side in (before, after)]
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
    held = [each["check_limit"] for each in after if each.get("check_limit")]
    return judge_error(a, b, min(held, default=None))


def _worst_errors(records: Sequence[Record]) -> dict[str, float]:
    worst: dict[str, float] = {}
    found: list[tuple[str, Any]] = [item for record in records for item in (record.get("check") or {}).items()]
    for name, error in found:
        if error is not None:
            worst[name] = max(error, worst.get(name, error))
    return worst
