"""Ceilings: what this device can do, measured here: copy bandwidth by working-set size, matrix throughput a dtype.

A working set of n bytes is a copy of n/2 bytes to another n/2: n bytes move. A ceiling is the best of ROUNDS medians,
so that a disturbance during one of them does not lower the roof over everything that follows. The result is kept in the
cache folder under the device and what decides it, and measured again when any of that changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from suite import dtypes
from suite.measuring.stopping import Stopping, median_interval
from suite.measuring.timers import CpuTimer, EventTimer, Timer

KIB = 1024
SIZES = {
    "cpu": tuple(KIB * 4**i for i in range(4, 10)) + (512 * KIB * KIB,),
    "cuda": tuple(KIB * 4**i for i in range(5, 11)) + (2 * KIB**3,),
}
MATRIX = {"cpu": (256, 512, 1024, 2048), "cuda": (8192,)}
# A matrix product longer than this is not followed by a larger one: some dtypes are emulated on some CPUs.
LONGEST_MS = 25.0
ROUNDS = 5
RULE = Stopping(relative=0.02, limit_ms=60, smallest=7)


def cache_folder() -> Path:
    """$SUBQUAD_CACHE, or ~/.cache/subquad."""
    return Path(os.environ.get("SUBQUAD_CACHE") or Path.home() / ".cache" / "subquad")


def ceilings(device: str, identity: Mapping[str, Any], *, refresh: bool = False) -> dict[str, Any]:
    """The ceilings of this device: from the cache when `identity` (driver, versions, threads) is unchanged.

    Returns {"copy": [{bytes, gbs, low, high}], "matmul": {dtype: {tflops, low, high}}, "measured": ISO 8601}.
    """
    key = hashlib.sha256(json.dumps([device, dict(identity)], sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / f"ceilings-{device}-{key}.json"
    if not refresh and path.is_file():
        return json.loads(path.read_text())
    found = measure_ceilings(device)
    _keep(path, found)
    return found


def _keep(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(found, indent=1))
    part.replace(path)


def measure_ceilings(device: str) -> dict[str, Any]:
    """Measure now; needs a few seconds."""
    matmul = {name: _matmul(device, name) for name in dtypes.SHORT if name != "float64"}
    copy = [_copy(device, size) for size in SIZES[device]]
    return {"copy": copy, "matmul": matmul, "measured": datetime.now(timezone.utc).isoformat(timespec="seconds")}


def confirm(device: str, dtype: str, size: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """`found` with the ceilings for one dtype and working-set size measured again, the higher of both kept.

    For a case that stands above the roof: was the roof measured while the machine was disturbed?
    """
    near = min(SIZES[device], key=lambda each: abs(each - size))
    again = _copy(device, near)
    copy = [max(p, again, key=lambda each: each["gbs"]) if p["bytes"] == near else p for p in found["copy"]]
    rate = max(found["matmul"][dtype], _matmul(device, dtype), key=lambda each: each["tflops"])
    return {**found, "copy": copy, "matmul": {**found["matmul"], dtype: rate}}


def _copy(device: str, size: int) -> dict[str, float]:
    import torch

    source = torch.randn(size // 8, dtype=torch.float32, device=device)
    sink = torch.zeros_like(source)
    middle, low, high = _time(lambda: sink.copy_(source), device)
    return {"bytes": size, "gbs": size / middle / 1e6, "low": size / high / 1e6, "high": size / low / 1e6}


def _matmul(device: str, dtype: str) -> dict[str, float]:
    import torch

    best = {"tflops": 0.0, "low": 0.0, "high": 0.0}
    for n in MATRIX[device]:
        a, b = (torch.randn(n, n, device=device).to(getattr(torch, dtype)) for _ in range(2))
        out = torch.empty_like(a)
        middle, low, high = _time(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
        flops = 2.0 * n**3
        found = {"tflops": flops / middle / 1e9, "low": flops / high / 1e9, "high": flops / low / 1e9}
        best = max(best, found, key=lambda each: each["tflops"])
        if middle > LONGEST_MS:
            break
    return best


def _time(run: Callable[[], object], device: str) -> tuple[float, float, float]:
    """Best median over rounds and its interval, in ms a call, caches warm."""
    timer = CpuTimer() if device == "cpu" else EventTimer(cold=False)
    repeat = max(1, int(1.0 / max(min(timer.samples(run, 3)), 1e-4)))

    def block() -> None:
        for _ in range(repeat):
            run()

    rounds = [_round(timer, block) for _ in range(ROUNDS)]
    middle, low, high = min(rounds)
    return middle / repeat, low / repeat, high / repeat


def _round(timer: Timer, block: Callable[[], object]) -> tuple[float, float, float]:
    samples: list[float] = []
    while RULE.reason(samples) is None:
        samples += timer.samples(block, RULE.smallest)
    return (median(samples), *median_interval(samples))
