"""The record's schema: which fields a record has, of which types, and its key. docs/records.md is the reference."""

from __future__ import annotations

import re
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from suite.problem import STANDARD, token_of_tunable
from suite.store import rules
from suite.store.columns import GROUPS, OPTIONAL, REQUIRED, SCHEMA
from suite.store.rules import Rule, Spec, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAJOR = 1
# The first minor version whose lines end with a checksum.
SEALED = (1, 1)
# Four digits bound what int() is given.
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")
# Figures that follow from one another agree to this part; median and percentiles to the rounding of floats.
DERIVED, ROUNDING = 1e-3, 1e-9


class Key(NamedTuple):
    """What identifies a record in a run; a later record with the same key replaces an earlier one."""

    case_id: str
    kind: str
    mode: str
    device: str
    launch: int


def record_key(record: Mapping[str, Any]) -> Key:
    """The key of a valid record."""
    return Key(record["case_id"], record["kind"], record["mode"], record["device"], record["launch"])


# What a timed record with status `ok` has besides: without it there is nothing to show or to gate.
TIMED = ("time_ms", "timer", "l2", "samples")


@lru_cache(maxsize=4096)
def _spec_of(name: str) -> Spec | None:
    """What a field's value must be; None for a field that this version does not know."""
    found = REQUIRED.get(name) or OPTIONAL.get(name)
    return found or next((spec for start, spec in GROUPS.items() if name.startswith(start)), None)


def fault(record: Any) -> str | None:
    """What is wrong with a parsed record, field named, or None when it is valid. Unknown fields are ignored."""
    if type(record) is not dict:
        return "is not a JSON object"
    if problem := version_fault(record.get("schema")):
        return problem
    for name in REQUIRED:
        if record.get(name) is None:
            return f"has no '{name}'"
    for name, value in record.items():
        if value is None or (spec := _spec_of(name)) is None:
            continue
        # Most fields are plain and fit: a run has millions of them.
        if not (type(spec) is Rule and spec.fits(value)) and (wrong := rules.fault(spec, value)):
            return f"has {name}{wrong}"
    return _case_fault(record) or _timed_fault(record)


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """A valid record of this or an older minor schema with the fields that later ones have, added in place.

    1.2: `problem_id`, and each standard axis that the older schema did not know, with its default
    """
    for name, axis in STANDARD.items():
        if not axis.required and record.get(name) is None:
            record[name] = axis.default
    if record.get("problem_id") is None:
        tunables = [(name.partition(".")[2], value) for name, value in record.items() if name.startswith("tunable.")]
        problem = record["case_id"].removeprefix(f"{record['operator']}/{record['implementation']}/")
        tail = "".join(f"_{token_of_tunable(name, value)}" for name, value in tunables)
        record["problem_id"] = f"{record['operator']}/{problem.removesuffix(tail)}"
    return record


def version_fault(version: Any) -> str | None:
    """Why a schema version cannot be read here, or None when it can: an older or equal major."""
    if version is None:
        return "has no 'schema'"
    parsed = version_of(version)
    if parsed is None:
        return f"has schema {short(version)}, which is not 'major.minor'"
    if parsed[0] > MAJOR:
        return f"has schema {version}, newer than this reader's {SCHEMA}"
    return None


def version_of(version: Any) -> tuple[int, int] | None:
    """Major and minor of "1.1"; None when it is no version."""
    matched = _VERSION.fullmatch(version) if type(version) is str else None
    return (int(matched[1]), int(matched[2])) if matched else None


def is_newer(version: Any) -> bool:
    """Whether a schema version is of a later major than this reader's."""
    parsed = version_of(version)
    return parsed is not None and parsed[0] > MAJOR


def _case_fault(record: Mapping[str, Any]) -> str | None:
    name = f"{record['operator']}/{record['implementation']}/"
    if record["case_id"].startswith(name) and len(record["case_id"]) > len(name):
        return None
    return f"has case_id{rules.misfit(record['case_id'], f'{short(name)[1:-1]} and a problem')}"


def _timed_fault(record: Mapping[str, Any]) -> str | None:
    if record["kind"] != "timed" or record["status"] != "ok":
        return None
    lacking = next((name for name in TIMED if record.get(name) is None), None)
    if lacking:
        return f"is timed and ok, but has no '{lacking}'"
    if not record["samples"]:
        return "is timed and ok, but its samples are empty"
    return next(_disagreements(record), None)


def _disagreements(record: Mapping[str, Any]) -> Iterator[str]:
    """Figures of a timed record that do not follow from its samples, as those of another unit do not."""
    time, middle = record["time_ms"], median(record["samples"])
    if abs(time - middle) > ROUNDING * middle:
        yield f"has time_ms = {time:g}, but the median of its samples is {middle:g}"
    for low, high in (("p20_ms", "p80_ms"), ("ci_low_ms", "ci_high_ms")):
        least, most = record.get(low), record.get(high)
        if least is not None and least > time * (1 + ROUNDING):
            yield f"has {low} = {least:g}, above its time_ms of {time:g}"
        if most is not None and most < time * (1 - ROUNDING):
            yield f"has {high} = {most:g}, below its time_ms of {time:g}"
    for name, done, unit in (("tflops", "flops_alg", 1e9), ("gbs", "bytes_compulsory", 1e6)):
        rate, work = record.get(name), record.get(done)
        if rate is not None and work and abs(rate * time * unit - work) > DERIVED * work:
            yield f"has {name} = {rate:g}, but {done} over time_ms is {work / time / unit:g}"
