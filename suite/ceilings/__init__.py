"""Ceilings: the measured limits of this device, each with its interval and its number of samples.

    copy           bandwidth by working-set size; a working set of n bytes is a copy of n/2 bytes to another n/2
    read           read bandwidth of the largest working set, from memory
    copy_by_dtype  the same at the largest size for each dtype
    matmul         matrix throughput a dtype, `tf32` besides on GPUs that have it
    l2             read bandwidth of a working set that stays in a GPU's last-level cache; on a CPU `copy` has its sizes
    special        evaluations a second of one special function on operands in registers (GPU) or in the cache (CPU)
    launch         what one call of nothing costs

A ceiling is the best of several rounds' medians, so that a disturbance during one of them does not lower the roof over
everything that follows. The result is kept in the cache folder and measured again when what decides it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from suite.ceilings.cache import ceilings, renew
from suite.ceilings.steadiness import disturbed, warning

if TYPE_CHECKING:
    from suite.ceilings.measuring import confirm, measure_ceilings

__all__ = ["ceilings", "confirm", "disturbed", "measure_ceilings", "renew", "warning"]


def __getattr__(name: str) -> Any:
    # Who asks for ceilings that are kept does not wait for torch.
    if name in ("confirm", "measure_ceilings"):
        from suite.ceilings import measuring

        return getattr(measuring, name)
    raise AttributeError(f"module 'suite.ceilings' has no attribute {name!r}")
