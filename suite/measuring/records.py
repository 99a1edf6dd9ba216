"""Building records: the flat rows of docs/records.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from suite.checks.checker import Check
from suite.errors import PluginError
from suite.problem import Case
from suite.registry import Implementation, Operator
from suite.store.columns import SCHEMA


def base_record(
    operator: Operator,
    implementation: Implementation,
    case: Case,
    *,
    kind: str,
    mode: str,
    device: str,
    replicate: int = 0,
    seed: int = 0,
    recheck_pick: int | None = None,
    commit: str = "",
) -> dict[str, Any]:
    """Everything about a case that is known before it is called; status and measurements are still to come.

    Where the operator's or the implementation's own account of its cost fails, the record is an error that says so.
    """
    tunables = dict(case.tunables)
    reason, cost = "", {}
    try:
        cost = asdict(operator.cost_of(case.problem, implementation, tunables))
    except PluginError as error:
        reason = str(error)
    return {
        "schema": SCHEMA,
        "case_id": case.case_id,
        "kind": kind,
        "mode": mode,
        "device": device,
        "launch": replicate,
        "operator": operator.name,
        "implementation": implementation.name,
        "origin": implementation.origin,
        "tags": list(operator.tags),
        "problem_id": case.problem_id,
        **case.problem.columns(),
        **{f"axis.{name}": value for name, value in case.problem.axes},
        **{f"tunable.{name}": value for name, value in tunables.items()},
        "status": "error",
        "reason": reason,
        "commit": commit,
        "configuration": {},
        "timer": "",
        "l2": "",
        "host_inclusive": False,
        "seed": seed,
        "samples": [],
        "check": {},
        "check_T": None,
        **({} if recheck_pick is None else {"recheck_pick": recheck_pick}),
        **cost,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def with_check(record: dict[str, Any], check: Check) -> dict[str, Any]:
    """The record with a check's status, reason and errors."""
    known = {} if check.approximation_error is None else {"approximation_error": check.approximation_error}
    return (
        record
        | known
        | {
            "status": check.status,
            "reason": check.reason,
            "check": check.errors,
            "check_T": check.check_T,
            "check_limit": check.limit,
            "repeatable": check.repeatable,
            "equivariant": check.equivariant,
        }
    )


def with_status(record: Mapping[str, Any], status: str, reason: str) -> dict[str, Any]:
    """The record with a status that is not ok: it carries no performance."""
    return {**record, "status": status, "reason": reason}
