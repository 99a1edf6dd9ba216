"""The roof: what a measured time means against this device's ceilings.

    intensity   = flops_alg / bytes_compulsory
    attainable  = min(matrix throughput of the dtype, intensity x copy bandwidth)

The copy ceiling is the one measured at the case's working-set size, and once that is beyond four times the last-level
cache, the one from memory. Without ceilings nothing is said.
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


def copy_gbs(ceilings: Mapping[str, Any], size: float, llc_bytes: int) -> float | None:
    """Copy bandwidth in GB/s for a working set of `size` bytes, interpolated in its logarithm; None if not measured."""
    points = sorted((p["bytes"], p["gbs"]) for p in ceilings.get("copy", []))
    if not points:
        return None
    if size >= LLC_FACTOR * llc_bytes or size >= points[-1][0]:
        return points[-1][1]
    if size <= points[0][0]:
        return points[0][1]
    upper = next(i for i, (at, _) in enumerate(points) if at >= size)
    (a, low), (b, high) = points[upper - 1], points[upper]
    share = math.log(size / a) / math.log(b / a)
    return low + (high - low) * share


def place(cost: Cost, time_ms: float, dtype: str, ceilings: Mapping[str, Any], llc_bytes: int) -> dict[str, Any]:
    """`roof_pct` and `bound` of a measured time, and `above`: why it is above the roof, where it is.

    Returns an empty dict when the ceilings for this dtype were not measured.
    """
    peak = ceilings.get("matmul", {}).get(dtype, {}).get("tflops")
    bandwidth = copy_gbs(ceilings, cost.bytes_compulsory, llc_bytes)
    if not peak or not bandwidth:
        return {}
    found = figures(cost, time_ms, 1)
    attainable = min(peak, found["intensity"] * bandwidth / 1e3)
    compute, memory = found["tflops"] / peak, found["gbs"] / bandwidth
    bound = "memory" if found["intensity"] * bandwidth / 1e3 < peak else "compute"
    if max(compute, memory) < LATENCY:
        bound = "latency"
    above = ""
    if compute > IMPLAUSIBLE:
        above = f"{found['tflops']:.3g} TFLOP/s is {compute:.2f} of the measured {dtype} matrix throughput"
    elif memory > IMPLAUSIBLE:
        above = f"{found['gbs']:.3g} GB/s is {memory:.2f} of the measured copy bandwidth"
    return {"roof_pct": 100 * found["tflops"] / attainable, "bound": bound, "above": above}
