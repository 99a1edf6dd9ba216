"""A time predicted from cost model and ceilings: the larger of the time of the FLOPs and the time of the bytes.

The prediction knows nothing of the code but its executed FLOPs: it is where two implementations would meet if both ran
at the roof. Set beside the measurement it tells who is far from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from suite.roof import memory_gbs


def predicted_ms(flops_exec: float, bytes_: float, dtype: str, ceilings: Mapping[str, Any], llc_bytes: int) -> float:
    """Milliseconds at the roof; NaN where the ceilings of this dtype were not measured.

    flops_exec: FLOPs executed; bytes_: compulsory bytes, of which the size decides the bandwidth; llc_bytes: as in roof
    """
    peak = ceilings.get("matmul", {}).get(dtype, {}).get("tflops")
    bandwidth = memory_gbs(ceilings, bytes_, llc_bytes)
    if not peak or not bandwidth:
        return math.nan
    launch = (ceilings.get("launch") or {}).get("torch", {}).get("us", 0.0) / 1e3
    return max(flops_exec / peak / 1e9, bytes_ / bandwidth / 1e6) + launch
