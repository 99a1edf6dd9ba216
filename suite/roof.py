"""The roofline: compares a measured time with this device's ceilings, and decides which time is implausible.

    intensity   = flops_alg / bytes_compulsory
    attainable  = min(matrix throughput of the dtype, intensity x memory bandwidth)

What bounds a case is the ceiling that it uses the largest part of: memory, compute, or special functions; latency when
that part is under half.

The memory ceiling is the copy measured at the case's working-set size. Once that is beyond four times the last-level
cache, it is the copy from memory or the read from memory, whichever is faster: reads alone reach more of a GPU's
bandwidth than a copy does. A float32 product that is faster than a GPU's float32 units can be ran on its tensor cores,
in parts that keep the precision: it stands under the tf32 ceiling. Without ceilings nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from suite.cost import Cost

IMPLAUSIBLE = 1.05
LLC_FACTOR = 4
LATENCY = 0.5


def figures(cost: Cost, time_ms: float, tokens: int) -> dict[str, float]:
    """FLOP/s, GB/s, intensity and tokens/s of a measured time."""
    seconds = time_ms / 1e3
    return {
        "tflops": cost.flops_alg / seconds / 1e12,
        "gbs": cost.bytes_compulsory / seconds / 1e9,
        "intensity": cost.flops_alg / cost.bytes_compulsory,
        "tokens_per_s": tokens / seconds,
    }


def memory_gbs(ceilings: Mapping[str, Any], size: float, llc_bytes: int) -> float | None:
    """Bandwidth in GB/s for a working set of `size` bytes, interpolated in its logarithm; None if not measured."""
    points = sorted((p["bytes"], p["gbs"]) for p in ceilings.get("copy", []))
    if not points:
        return None
    if size >= LLC_FACTOR * llc_bytes or size >= points[-1][0]:
        return max(points[-1][1], (ceilings.get("read") or {}).get("gbs") or 0.0)
    if size <= points[0][0]:
        return points[0][1]
    upper = next(i for i, (at, _) in enumerate(points) if at >= size)
    (a, low), (b, high) = points[upper - 1], points[upper]
    share = math.log(size / a) / math.log(b / a)
    return low + (high - low) * share


def _peak(ceilings: Mapping[str, Any], dtype: str, tflops: float) -> float | None:
    """Matrix throughput in TFLOP/s that a case of this dtype which attains `tflops` stands under."""
    rates = ceilings.get("matmul", {})
    peak = rates.get(dtype, {}).get("tflops")
    if dtype == "float32" and peak and tflops > IMPLAUSIBLE * peak:
        return max(peak, rates.get("tf32", {}).get("tflops") or 0.0)
    return peak


def special_ms(special: float, ceilings: Mapping[str, Any]) -> float | None:
    """The milliseconds that so many evaluations of a special function take; None when their rate was not measured.

    No time is implausible for being below it: code may evaluate exp as a polynomial on other units.
    """
    gops = (ceilings.get("special") or {}).get("gops")
    return special / gops / 1e6 if gops else None


def place(cost: Cost, time_ms: float, dtype: str, ceilings: Mapping[str, Any], llc_bytes: int) -> dict[str, Any]:
    """`roof_pct` and `bound` of a measured time, and `above`: why it is above the roof, where it is.

    `special_pct` is the part that special functions alone would take of the time, for a cost that counts them.
    Returns an empty dict when the ceilings for this dtype were not measured.
    """
    found = figures(cost, time_ms, 1)
    peak = _peak(ceilings, dtype, found["tflops"])
    bandwidth = memory_gbs(ceilings, cost.bytes_compulsory, llc_bytes)
    if not peak or not bandwidth:
        return {}
    attainable = min(peak, found["intensity"] * bandwidth / 1e3)
    compute, memory = found["tflops"] / peak, found["gbs"] / bandwidth
    special = (special_ms(cost.special, ceilings) or 0.0) / time_ms
    used = {"memory": memory, "compute": compute, "special": special}
    bound = max(used, key=lambda name: used[name])
    if used[bound] < LATENCY:
        bound = "latency"
    above = ""
    if compute > IMPLAUSIBLE:
        above = f"{found['tflops']:.3g} TFLOP/s is {compute:.2f} of the measured {dtype} matrix throughput"
    elif memory > IMPLAUSIBLE:
        above = f"{found['gbs']:.3g} GB/s is {memory:.2f} of the measured memory bandwidth"
    more = {"special_pct": 100 * special} if special else {}
    return {"roof_pct": 100 * found["tflops"] / attainable, "bound": bound, "above": above, **more}
