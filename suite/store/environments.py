"""The schema of environment.json: its objects and their types. docs/records.md is the reference."""

from __future__ import annotations

from typing import Any

from suite.store import rules
from suite.store.rules import (
    ABOVE_0,
    AMOUNT,
    ANY_OBJECT,
    COUNT,
    MHZ,
    MIB,
    RATE,
    SECONDS,
    SIZE,
    TEXT,
    TEXTS,
    WATTS,
    WHOLE,
    List,
    Object,
    number,
)
from suite.store.schema import version_fault

_THREADS = number(0, 1e6)
_INTERVAL = {"low": RATE, "high": RATE, "samples": COUNT}
_BANDWIDTH = Object({"bytes": SIZE, "gbs": ABOVE_0, **_INTERVAL}, required=("bytes", "gbs"))
_SPECIAL = Object({"function": TEXT, "gops": RATE, **_INTERVAL})

_CEILINGS = Object(
    {
        "copy": List(_BANDWIDTH),
        "read": _BANDWIDTH,
        "copy_by_dtype": Object(others=_BANDWIDTH),
        "l2": _BANDWIDTH,
        "special": _SPECIAL,
        "matmul": Object(others=Object({"tflops": RATE, **_INTERVAL}, required=("tflops",))),
        "launch": Object(others=Object({"us": RATE, **_INTERVAL}, required=("us",))),
        "clocks": ANY_OBJECT,
        "measured": TEXT,
        "cache": TEXT,
    }
)

ENVIRONMENT = Object(
    {
        "created": TEXT,
        "commit": TEXT,
        "argv": TEXTS,
        "preset": TEXT,
        "seed": WHOLE,
        "fingerprint": Object(
            {
                "device": TEXT,
                "sms": COUNT,
                "power_limit_w": WATTS,
                "driver": TEXT,
                "cuda": TEXT,
                "torch": TEXT,
                "triton": TEXT,
                "ptxas": TEXT,
                "python": TEXT,
                "cpu": TEXT,
                "threads": _THREADS,
            }
        ),
        "device": Object(
            {
                "kind": TEXT,
                "name": TEXT,
                "uuid": TEXT,
                "arch": TEXT,
                "sms": COUNT,
                "memory_mib": MIB,
                "llc_bytes": COUNT,
                "threads": _THREADS,
                "max_sm_clock_mhz": MHZ,
                "unread": Object(others=TEXT),
            }
        ),
        "ceilings": _CEILINGS,
        "datasheet": Object(
            {
                "name": TEXT,
                "gbs": ABOVE_0,
                "tflops": Object(others=AMOUNT),
                "clock_mhz": MHZ,
                "source": TEXT,
            }
        ),
        "versions": Object(others=TEXT),
        "absent": List(Object({"module": TEXT, "reason": TEXT}, required=("module",))),
        "plan": Object({"problems": COUNT, "cases": COUNT, "left_out": COUNT, "seconds": Object(others=SECONDS)}),
    }
)


def environment_fault(values: Any) -> str | None:
    """What is wrong with a parsed environment.json, field named by its path, or None. Unknown fields are ignored."""
    if type(values) is not dict:
        return "is not a JSON object"
    if wrong := version_fault(values.get("schema")):
        return wrong
    if values.get("fingerprint") is None:
        return "has no object 'fingerprint'"
    wrong = rules.fault(ENVIRONMENT, values)
    return wrong and f"has {wrong.removeprefix('.')}"


def ceilings_fault(values: Any) -> str | None:
    """What is wrong with the object `ceilings` alone, from the path inside it on, or None."""
    return rules.fault(_CEILINGS, values)
