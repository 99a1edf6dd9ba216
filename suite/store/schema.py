"""The record's schema: which fields a record has, of which types, and its key. docs/records.md is the reference."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from suite.registry import ORIGINS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMA = "1.0"
MAJOR = 1
KINDS = ("timed", "check", "static")
STATUSES = (
    "ok", "unsupported", "oom", "incorrect", "implausible", "over_limit",
    "compile_error", "crashed", "timeout", "error",
)  # fmt: skip
# Four digits bound what int() is given.
_VERSION = re.compile(r"([0-9]{1,4})\.[0-9]{1,4}")


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


def _string(value: Any) -> bool:
    return type(value) is str


def _bool(value: Any) -> bool:
    return type(value) is bool


def _int(value: Any) -> bool:
    return type(value) is int


def _size(value: Any) -> bool:
    return type(value) is int and value >= 1


# Neither `decode` nor `plain` lets a NaN or an infinity through, so a float is a number here.
_NUMERIC = {int, float}


def _number(value: Any) -> bool:
    return type(value) in _NUMERIC


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _object(value: Any) -> bool:
    return type(value) is dict


def _strings(value: Any) -> bool:
    return type(value) is list and set(map(type, value)) <= {str}


def _numbers(value: Any) -> bool:
    return type(value) is list and set(map(type, value)) <= _NUMERIC


def _errors(value: Any) -> bool:
    return type(value) is dict and set(map(type, value.values())) <= {int, float, type(None)}


_WORDS: dict[Callable[[Any], bool], str] = {
    _string: "a string",
    _bool: "true or false",
    _int: "an integer",
    _size: "an integer of at least 1",
    _number: "a number",
    _positive: "a number above 0",
    _object: "an object",
    _strings: "a list of strings",
    _numbers: "a list of numbers",
    _errors: "an object of numbers",
}

# Every record has these, never null.
REQUIRED: dict[str, Callable[[Any], bool]] = {
    "case_id": _string, "kind": _string, "mode": _string, "device": _string, "launch": _int,
    "operator": _string, "implementation": _string, "origin": _string, "tags": _strings,
    "B": _size, "T": _size, "H": _size, "HK": _size, "HV": _size, "K": _size, "V": _size,
    "dtype": _string, "state_dtype": _string, "pass": _string, "layout": _string, "initial_state": _bool,
    "status": _string, "reason": _string, "commit": _string, "created": _string,
}  # fmt: skip

# Absent or null where they do not apply, as a static record's samples.
OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "configuration": _object, "timer": _string, "l2": _string, "host_inclusive": _bool, "seed": _int,
    "samples": _numbers, "check": _errors, "check_T": _size,
    "flops_alg": _number, "flops_exec": _number, "bytes_compulsory": _number,
    "time_ms": _positive, "p20_ms": _number, "p80_ms": _number, "ci_low_ms": _number, "ci_high_ms": _number,
    "stop": _string, "compile_s": _number, "warmup_s": _number, "memory_mib": _number, "memory_method": _string,
    "tflops": _number, "gbs": _number, "intensity": _number, "roof_pct": _number, "bound": _string,
    "tokens_per_s": _number, "repeatable": _bool, "check_limit": _number, "naive_ratio": _number,
    "approximation_error": _number,
    "bytes_state": _number, "special": _number, "calls": _size, "special_pct": _number,
    **{f"telemetry.{name}": _number for name in (
        "readings", "sm_clock_mhz", "sm_clock_min_mhz", "sm_clock_max_mhz", "memory_clock_mhz",
        "cpu_clock_mhz", "cpu_clock_min_mhz", "cpu_clock_max_mhz", "load", "other_share", "steal_share",
        "power_w", "power_max_w", "temperature_c", "temperature_max_c", "utilization_pct",
        "other_processes", "other_memory_mib", "throttled_samples",
        "energy_j_token", "energy_window_s", "energy_w", "idle_w",
    )},
    "telemetry.events": _strings, "telemetry.other_pids": _numbers, "telemetry.retaken_ms": _numbers,
    "telemetry.throttled_kept": _bool, "telemetry.energy_method": _string, "telemetry.no_energy": _string,
    "compile.cache": _string, "compile.kernels": _int, "compile.loaded": _int, "compile.seconds": _number,
    "compile.load_s": _number,
    "tuning.kernels": _object, "tuning.seconds": _number, "tuning.runner_up": _number,
}  # fmt: skip

# What a timed record with status `ok` has besides: without it there is nothing to show or to gate.
TIMED = ("time_ms", "timer", "l2", "samples")

_CHOICES = {"kind": KINDS, "origin": ORIGINS, "status": STATUSES}


def fault(record: Any) -> str | None:
    """What is wrong with a parsed record, field named, or None when it is valid. Unknown fields are ignored."""
    if type(record) is not dict:
        return "is no JSON object"
    if problem := version_fault(record.get("schema")):
        return problem
    for name, fits in REQUIRED.items():
        if record.get(name) is None:
            return f"has no '{name}'"
        if not fits(record[name]):
            return _misfit(name, record[name], fits)
    for name, fits in OPTIONAL.items():
        value = record.get(name)
        if value is not None and not fits(value):
            return _misfit(name, value, fits)
    return _choice_fault(record) or _timed_fault(record)


def version_fault(version: Any) -> str | None:
    """Why a schema version can not be read here, or None when it can: an older or equal major."""
    if version is None:
        return "has no 'schema'"
    matched = _VERSION.fullmatch(version) if type(version) is str else None
    if matched is None:
        return f"has schema {_short(version)}, which is no 'major.minor'"
    if int(matched[1]) > MAJOR:
        return f"has schema {version}, newer than this reader's {SCHEMA}; upgrade subquad"
    return None


def _choice_fault(record: dict[str, Any]) -> str | None:
    for name, known in _CHOICES.items():
        if record[name] not in known:
            return f"has {name} {_short(record[name])}, which is none of {', '.join(known)}"
    if record["launch"] < 0:
        return f"has launch {record['launch']}, which is below 0"
    return None


def _timed_fault(record: dict[str, Any]) -> str | None:
    if record["kind"] != "timed" or record["status"] != "ok":
        return None
    lacking = next((name for name in TIMED if record.get(name) is None), None)
    return f"is timed and ok, but has no '{lacking}'" if lacking else None


def _misfit(name: str, value: Any, fits: Callable[[Any], bool]) -> str:
    return f"has {name} = {_short(value)}, which is not {_WORDS[fits]}"


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
