"""Records and runs to test with."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any

from suite.store import create
from suite.store.encoding import sealed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FINGERPRINT = {"device": "Test CPU", "sms": None, "torch": "2.13.0", "python": "3.11.7", "threads": 2}


def environment(**changes: Any) -> dict[str, Any]:
    """An environment whose fingerprint has the changes."""
    return {"created": "2020-01-01T00:00:00+00:00", "commit": "0123abc", "fingerprint": {**FINGERPRINT, **changes}}


def record(name: str = "C64", **changes: Any) -> dict[str, Any]:
    """A valid timed record of the case that ends in `name`, with the changes.

    Its samples follow from `time_ms`, or its time from the `samples`, where only one of them is changed.
    """
    if "time_ms" not in changes and changes.get("samples"):
        changes["time_ms"] = median(changes["samples"])
    time = changes.get("time_ms") or 1.01
    low, high = (
        changes.get(name, time * part) for name, part in (("ci_low_ms", 1 / 1.01), ("ci_high_ms", 1.02 / 1.01))
    )
    return {
        "case_id": f"retention/triton_chunk/B1_T64_H2_K8_V8_fp32_fwd_{name}",
        "problem_id": "retention/B1_T64_H2_K8_V8_fp32_fwd",
        "kind": "timed",
        "mode": "warm-cpu",
        "device": "cpu",
        "launch": 0,
        "operator": "retention",
        "implementation": "triton_chunk",
        "origin": "ours",
        "tags": ["linear", "decay"],
        "B": 1,
        "T": 64,
        "H": 2,
        "HK": 2,
        "HV": 2,
        "K": 8,
        "V": 8,
        "dtype": "float32",
        "state_dtype": "float32",
        "pass": "fwd",
        "layout": "dense",
        "initial_state": False,
        "tunable.chunk": 64,
        "axis.causal": True,
        "status": "ok",
        "reason": "",
        "commit": "0123abc",
        "created": "2020-01-01T00:00:00+00:00",
        "configuration": {"warps": 4},
        "timer": "cpu",
        "l2": "warm",
        "host_inclusive": True,
        "seed": 0,
        "samples": [low, time, high],
        "check": {"o": 1e-6, "dq": 2e-6},
        "check_limit": 1e-4,
        "flops_alg": 1e6,
        "flops_exec": 2e6,
        "bytes_compulsory": 3e5,
        "time_ms": time,
        "ci_low_ms": low,
        "ci_high_ms": high,
        "memory_mib": 10.0,
        "memory_method": "allocator",
        **changes,
    }


def failed(name: str = "C64", status: str = "crashed", **changes: Any) -> dict[str, Any]:
    """A valid record of a case that yielded no number."""
    absent = dict.fromkeys(("time_ms", "ci_low_ms", "ci_high_ms", "memory_mib", "check", "samples"))
    return record(name, **{**absent, "status": status, "reason": f"{status} on purpose", **changes})


def write_run(path: Path, records: Iterable[dict[str, Any]], **fingerprint: Any) -> Path:
    """A run with these records, written by the store."""
    with create(path, environment(**fingerprint)) as writer:
        for each in records:
            writer.append(each)
    return path


def change_line(run: Path, number: int, line: bytes | None = None, **changes: Any) -> None:
    """Put a line, or the line that is there with changed fields and a checksum that fits, in place of a run's n-th."""
    path = run / "records.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line if line is not None else sealed(json.loads(lines[number - 1]) | changes)[:-1]
    path.write_bytes(b"\n".join(lines))


def change_environment(run: Path, **changes: Any) -> None:
    """Change fields of a run's environment.json, with a checksum that fits. `a__b` is field b of object a."""
    path = run / "environment.json"
    values = json.loads(path.read_bytes())
    for name, value in changes.items():
        *outer, last = name.split("__")
        inside = values
        for each in outer:
            inside = inside.setdefault(each, {})
        inside[last] = value
    path.write_bytes(sealed(values))
