"""The floor: the time below which an implementation cannot run on a named GPU, by bytes and by FLOPs.

What the call was given, and what it returns, crosses the memory bus once. All else that a launch touches may have
stayed in the last-level cache, but no more than the cache holds; the rest crosses the bus too. Executed FLOPs run at
the matrix throughput of the dtype, or at that of the float32 units where no launch uses tensor cores. Special
functions, as many as the operator counts, run at the GPU's rate for them. Ceilings are those of a stored run on that
GPU where there is one, else those of the datasheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from suite.discovery import ROOT
from suite.hardware.gpus import Gpu, known
from suite.roof import memory_gbs, special_ms
from suite.static.model import Floor
from suite.store.reading import read_environment_file

RESULTS = ROOT / "results"


@dataclass(frozen=True)
class Ceilings:
    """Memory bandwidth in GB/s, matrix throughput in TFLOP/s by dtype, special functions in 10^9 a second of a GPU.

    source: as in Floor; special: the `special` entry of a run's ceilings, {"gops": …}; empty where it is not known
    """

    gpu: str
    source: str
    gbs: float
    tflops: Mapping[str, float]
    special: Mapping[str, float] = field(default_factory=dict)


def ceilings_of(gpu: str, results: Path = RESULTS) -> Ceilings | None:
    """A GPU's ceilings: measured where a stored run has them, else its datasheet's, else None."""
    sheet = known(gpu)
    measured = _measured(gpu, results)
    if measured is None:
        return sheet and Ceilings(gpu, "datasheet", sheet.gbs, sheet.tflops, _special(sheet))
    # What was not measured keeps its datasheet peak: a floor may be too low, never too high.
    tflops = {**(sheet.tflops if sheet else {}), **measured.tflops}
    return Ceilings(gpu, "measured", measured.gbs, tflops, measured.special or (_special(sheet) if sheet else {}))


def _special(sheet: Gpu) -> dict[str, float]:
    return {"gops": sheet.special_gops} if sheet.special_gops else {}


def _measured(gpu: str, results: Path) -> Ceilings | None:
    found: Ceilings | None = None
    for path in sorted(results.glob("*/*/environment.json")):
        environment = read_environment_file(path)
        ceilings = environment.get("ceilings") or {}
        if (environment.get("device") or {}).get("name") != gpu or not ceilings.get("copy"):
            continue
        largest = max(point["bytes"] for point in ceilings["copy"])
        gbs = memory_gbs(ceilings, largest, 0) or 0.0
        matmul = {dtype: each["tflops"] for dtype, each in ceilings.get("matmul", {}).items()}
        # The fastest run stands for the device: a disturbed one must not raise the floor.
        if found is None or gbs > found.gbs:
            gops = (ceilings.get("special") or {}).get("gops")
            found = Ceilings(gpu, "measured", gbs, matmul, {"gops": gops} if gops else {})
    return found


def forced_bytes(
    touches: Iterable[Mapping[int, int]], lasting: Iterable[int], sizes: Mapping[int, int], l2: int
) -> int:
    """Bytes that have to cross the memory bus over the steps of a call.

    touches: for each step, bytes by storage number
    lasting: storages that exist before the call or are returned by it: each crosses once
    sizes:   bytes of each storage
    l2:      bytes that the last-level cache can keep from one step to the next
    """
    crossed = dict.fromkeys(lasting, 0)
    total = 0
    for step in touches:
        rest = 0
        for number, size in step.items():
            new = min(size, sizes[number] - crossed[number]) if number in crossed else 0
            if new:
                crossed[number] += new
            total += new
            rest += size - new
        total += max(0, rest - l2)
    return total


def floor_of(
    ceilings: Ceilings, *, forced: int, traffic: int, flops: float, dtype: str, tensor_cores: bool, special: float = 0.0
) -> Floor:
    """The floor of a call: float32 products run at the tf32 peak where the kernels use tensor cores for them.

    Without tensor cores FLOPs of any dtype run on the float32 units.
    """
    dtype = "float32" if not tensor_cores else "tf32" if dtype == "float32" else dtype
    peak = ceilings.tflops.get(dtype)
    return Floor(
        gpu=ceilings.gpu,
        source=ceilings.source,
        bytes=forced,
        memory_ms=forced / ceilings.gbs / 1e6,
        compute_ms=flops / peak / 1e9 if peak else 0.0,
        traffic_ms=traffic / ceilings.gbs / 1e6,
        special_ms=special_ms(special, {"special": ceilings.special}) or 0.0,
    )
