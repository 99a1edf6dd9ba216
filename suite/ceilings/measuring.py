"""Measuring the ceilings: a few seconds, on an otherwise idle device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from suite import dtypes
from suite.ceilings.timing import span
from suite.ceilings.units import DRAWN, l2, launch, read, special

KIB = 1024
SIZES = {
    "cpu": tuple(KIB * 4**i for i in range(4, 10)) + (512 * KIB * KIB,),
    "cuda": tuple(KIB * 4**i for i in range(5, 11)) + (2 * KIB**3,),
}
MATRIX = {"cpu": (256, 512, 1024, 2048), "cuda": (8192,)}
# A matrix product longer than this is not followed by a larger one: some dtypes are emulated on some CPUs.
LONGEST_MS = 25.0
TF32_SINCE = 80


def measure_ceilings(device: str) -> dict[str, Any]:
    """Measure all of them now; the form is that of `ceilings`."""
    names = [name for name in dtypes.SHORT if name != "float64"]
    copy = [_copy(device, size) for size in SIZES[device]]
    others = {name: _copy(device, SIZES[device][-1], name) for name in names if name != "float32"}
    found: dict[str, Any] = {
        "copy": copy,
        "read": read(device, SIZES[device][-1]),
        "copy_by_dtype": {"float32": copy[-1], **others},
        "matmul": {name: _matmul(device, name) for name in names + (["tf32"] if _has_tf32(device) else [])},
        "special": special(device),
        "launch": launch(device),
    }
    if device == "cuda":
        found["l2"] = l2()
    return found | {"measured": datetime.now(timezone.utc).isoformat(timespec="seconds")}


def confirm(device: str, dtype: str, size: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """`found` with the ceilings for one dtype and working-set size measured again, the higher of both kept.

    For a case that stands above the roof: was the roof measured while the machine was disturbed?
    """
    near = min(SIZES[device], key=lambda each: abs(each - size))
    again = _copy(device, near)
    copy = [max(p, again, key=lambda each: each["gbs"]) if p["bytes"] == near else p for p in found["copy"]]
    matmul = dict(found["matmul"])
    for name in [dtype] + (["tf32"] if dtype == "float32" and "tf32" in matmul else []):
        matmul[name] = max(matmul[name], _matmul(device, name), key=lambda each: each["tflops"])
    best = max(found.get("read") or {"gbs": 0.0}, read(device, SIZES[device][-1]), key=lambda each: each["gbs"])
    return {**found, "copy": copy, "read": best, "matmul": matmul}


def _copy(device: str, size: int, dtype: str = "float32") -> dict[str, float]:
    import torch

    made = getattr(torch, dtype)
    # Random bits, as real tensors have them; drawing them all would take longer than copying them.
    count = size // 2 // made.itemsize
    source = torch.randn(min(count, DRAWN), device=device).to(made).repeat(-(-count // DRAWN))[:count]
    sink = torch.zeros_like(source)
    return {"bytes": size, **span(lambda: sink.copy_(source), device).rate("gbs", size)}


def _matmul(device: str, dtype: str) -> dict[str, float]:
    import torch

    made = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    best: dict[str, float] = {"tflops": 0.0, "low": 0.0, "high": 0.0, "samples": 0}
    for n in MATRIX[device]:
        a, b = (torch.randn(n, n, device=device).to(made) for _ in range(2))
        out = torch.empty_like(a)
        with _precision("high" if dtype == "tf32" else "highest"):
            one = span(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
        best = max(best, one.rate("tflops", 2.0 * n**3 / 1e3), key=lambda each: each["tflops"])
        if one.ms > LONGEST_MS:
            break
    return best


def _has_tf32(device: str) -> bool:
    import torch

    return device == "cuda" and torch.cuda.get_device_capability()[0] * 10 >= TF32_SINCE


@contextmanager
def _precision(wanted: str) -> Iterator[None]:
    """PyTorch's precision of float32 products inside the block: `high` lets them run in tf32."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
