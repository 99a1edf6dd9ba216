"""The record's schema: which fields a record has, of which types, and its key. docs/records.md is the reference."""

from __future__ import annotations

import re
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from suite.registry import ORIGINS
from suite.store import rules
from suite.store.rules import (
    AMOUNT,
    ANY_OBJECT,
    COUNT,
    ERRORS,
    FLAG,
    MHZ,
    MIB,
    RATE,
    SCALAR,
    SECONDS,
    SIZE,
    TEXT,
    TEXTS,
    TIME,
    WATTS,
    WHOLE,
    List,
    Object,
    Rule,
    Spec,
    choice,
    number,
    numbers,
    short,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA = "1.1"
MAJOR = 1
# The first minor version whose lines end with a checksum.
SEALED = (1, 1)
KINDS = ("timed", "check", "static")
STATUSES = (
    "ok", "unsupported", "oom", "incorrect", "implausible", "over_limit",
    "compile_error", "crashed", "timeout", "error",
)  # fmt: skip
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


# Every record has these, never null.
REQUIRED: dict[str, Rule] = {
    "case_id": TEXT, "kind": choice(KINDS), "mode": TEXT, "device": TEXT, "launch": COUNT,
    "operator": TEXT, "implementation": TEXT, "origin": choice(ORIGINS), "tags": TEXTS,
    "B": SIZE, "T": SIZE, "H": SIZE, "HK": SIZE, "HV": SIZE, "K": SIZE, "V": SIZE,
    "dtype": TEXT, "state_dtype": TEXT, "pass": TEXT, "layout": TEXT, "initial_state": FLAG,
    "status": choice(STATUSES), "reason": TEXT, "commit": TEXT, "created": TEXT,
}  # fmt: skip


def _each(names: str, spec: Spec) -> dict[str, Spec]:
    return dict.fromkeys(names.split(), spec)


_TELEMETRY: dict[str, Spec] = {
    **_each("readings other_processes throttled_samples", COUNT),
    **_each("sm_clock_mhz sm_clock_min_mhz sm_clock_max_mhz memory_clock_mhz", MHZ),
    **_each("cpu_clock_mhz cpu_clock_min_mhz cpu_clock_max_mhz", MHZ),
    **_each("power_w power_max_w energy_w idle_w", WATTS),
    **_each("temperature_c temperature_max_c", number(-300, 1e4, "degrees")),
    **_each("load other_share steal_share utilization_pct", number(0, 1e6)),
    "other_memory_mib": MIB, "energy_j_token": AMOUNT, "energy_window_s": SECONDS,
    "events": TEXTS, "other_pids": numbers(COUNT), "retaken_ms": numbers(TIME), "throttled_kept": FLAG,
    **_each("energy_method no_energy", TEXT),
}  # fmt: skip
_STATIC: dict[str, Spec] = {
    **_each("launches registers spill_bytes stack_bytes shared_bytes instructions hgmma utchmma hmma eager_ops", COUNT),
    **_each("traffic_bytes traffic_ratio eager_bytes intermediate_bytes peak_bytes flops_exec occupancy", AMOUNT),
    **_each("issued_bytes issued_ratio issued_reread issued_dot_flops floor_bytes io_bound_bytes", AMOUNT),
    **_each("floor_ms floor_memory_ms floor_compute_ms floor_special_ms traffic_ms", number(0, 1e9, "ms")),
    **_each("arch hash issued_shape issued_reason floor_bound floor_gpu floor_source", TEXT),
    "kernels": TEXTS,
}
_PROFILE: dict[str, Spec] = {
    "kernels": List(Object({"name": TEXT, "calls": AMOUNT, "share": AMOUNT}, required=("name",))),
    **_each("kernels_from torch_version proton_version ncu_version commit created replay", TEXT),
    **_each("launches dram_read_bytes dram_write_bytes dram_bytes dram_ratio l2_bytes", AMOUNT),
    **_each("flops_tensor flops_fma flops special occupancy", AMOUNT),
    "missing": TEXTS,
}

# Absent or null where they do not apply, as a static record's samples.
OPTIONAL: dict[str, Spec] = {
    "configuration": ANY_OBJECT, "backend": TEXT, "timer": TEXT, "l2": TEXT, "host_inclusive": FLAG, "seed": WHOLE,
    "samples": numbers(TIME), "check": ERRORS, "check_T": SIZE, "stderr": TEXT,
    "flops_alg": AMOUNT, "flops_exec": AMOUNT, "bytes_compulsory": AMOUNT, "bytes_state": AMOUNT, "special": AMOUNT,
    **{f"{name}_ms": TIME for name in ("time", "p20", "p80", "ci_low", "ci_high")},
    "stop": TEXT, "compile_s": SECONDS, "warmup_s": SECONDS, "memory_mib": MIB, "memory_method": TEXT,
    "tflops": RATE, "gbs": RATE, "intensity": AMOUNT, "roof_pct": RATE, "bound": TEXT, "tokens_per_s": RATE,
    "repeatable": FLAG, "check_limit": AMOUNT, "naive_ratio": AMOUNT, "approximation_error": AMOUNT, "calls": SIZE,
    "special_pct": RATE,
    **{f"telemetry.{name}": rule for name, rule in _TELEMETRY.items()},
    "compile.cache": TEXT, "compile.kernels": COUNT, "compile.loaded": COUNT, "compile.seconds": SECONDS,
    "compile.load_s": SECONDS,
    "tuning.kernels": Object(others=ANY_OBJECT), "tuning.seconds": SECONDS, "tuning.runner_up": AMOUNT,
    **{f"static.{name}": rule for name, rule in _STATIC.items()},
    **{f"profile.{name}": rule for name, rule in _PROFILE.items()},
}  # fmt: skip

# Fields whose names an operator, an implementation or a counter gives, by how they begin.
GROUPS: dict[str, Spec] = {"axis.": SCALAR, "tunable.": SCALAR, "profile.stall_": AMOUNT}

# What a timed record with status `ok` has besides: without it there is nothing to show or to gate.
TIMED = ("time_ms", "timer", "l2", "samples")


@lru_cache(maxsize=4096)
def _spec_of(name: str) -> Spec | None:
    """What a field's value has to be; None for a field that this version does not know."""
    found = REQUIRED.get(name) or OPTIONAL.get(name)
    return found or next((spec for start, spec in GROUPS.items() if name.startswith(start)), None)


def fault(record: Any) -> str | None:
    """What is wrong with a parsed record, field named, or None when it is valid. Unknown fields are ignored."""
    if type(record) is not dict:
        return "is no JSON object"
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


def version_fault(version: Any) -> str | None:
    """Why a schema version can not be read here, or None when it can: an older or equal major."""
    if version is None:
        return "has no 'schema'"
    parsed = version_of(version)
    if parsed is None:
        return f"has schema {short(version)}, which is no 'major.minor'"
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
