"""Reading torch.profiler's Chrome traces: kernels of the device, or on a CPU operators by the time of their own.

The trace is the Trace Event Format: complete events (`ph` X) with `cat`, `name`, `ts` and `dur` in microseconds, on
threads (`pid`, `tid`). `cpu_op` events nest; `kernel`, `gpu_memcpy` and `gpu_memset` are what ran on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from suite.errors import SubquadError
from suite.profiling.model import Kernel, totalled

ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
ON_HOST = ("cpu_op",)
Event = dict[str, Any]


def read_trace(path: Path, calls: int, device: str) -> tuple[Kernel, ...]:
    """The kernels of one call, out of a trace of `calls` calls; on a CPU its operators.

    Raises SubquadError when the file is no trace, or has no event of the kind that the device leaves.
    """
    try:
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    except (ValueError, KeyError, TypeError) as error:
        raise SubquadError(f"{path} is not a Chrome trace ({error}); profile again") from error
    wanted = ON_DEVICE if device == "cuda" else ON_HOST
    known = [event for event in events if event.get("ph") == "X" and event.get("cat") in wanted]
    if not known:
        where = "the GPU" if device == "cuda" else "the CPU"
        raise SubquadError(f"{path} has nothing that ran on {where}; see docs/profiling.md")
    if device == "cuda":
        return totalled([(event["name"], event["dur"] / 1e3) for event in known], calls)
    return totalled(own_times(known), calls)


def own_times(events: Iterable[Event]) -> list[tuple[str, float]]:
    """(name, ms) of each event without the events inside it on its thread."""
    threads: dict[tuple[Any, Any], list[Event]] = {}
    for event in events:
        threads.setdefault((event.get("pid"), event.get("tid")), []).append(event)
    return [found for thread in threads.values() for found in _of_thread(thread)]


def _of_thread(events: list[Event]) -> list[tuple[str, float]]:
    # An event that begins with another one and lasts longer is around it.
    ordered = sorted(events, key=lambda event: (event["ts"], -event["dur"]))
    own = [event["dur"] for event in ordered]
    around: list[int] = []
    for i, event in enumerate(ordered):
        while around and event["ts"] >= ordered[around[-1]]["ts"] + ordered[around[-1]]["dur"]:
            around.pop()
        if around:
            own[around[-1]] -= event["dur"]
        around.append(i)
    return [(event["name"], max(0.0, time) / 1e3) for event, time in zip(ordered, own, strict=True)]
