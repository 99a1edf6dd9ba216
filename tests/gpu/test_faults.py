"""On a device: what kills a CUDA context, or takes all its memory, costs one record and not the sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli import main
from suite.store import read_records
from tests.suite.plugins import RUNNING_MEAN, write

pytestmark = pytest.mark.gpu

CUDA_FAULTS = (
    RUNNING_MEAN
    + """
import triton
import triton.language as tl

@triton.jit
def stray_kernel(pointer):
    tl.store(pointer + (1 << 45), 1.0)

def fault(name):
    return running_mean.implementation(name, origin="ours", passes={"fwd"}, devices={"cuda"})

@fault("strays")
def strays(q, k, v):
    stray_kernel[(1,)](v)
    return mean(q, k, v)

@fault("asserts")
def asserts(q, k, v):
    torch.zeros(2, device=v.device)[torch.tensor([5], device=v.device)]
    return mean(q, k, v)

@fault("hungry")
def hungry(q, k, v):
    return torch.empty(1 << 45, dtype=torch.uint8, device=v.device), None

@fault("overruns")
def overruns(q, k, v):
    o = torch.empty_like(v)
    o.copy_(mean(q, k, v)[0])
    o.as_strided((1,), (1,), o.storage_offset() + o.numel()).fill_(0)
    return o, None

@fault("waits")
def waits(q, k, v):
    torch.cuda.synchronize()
    return mean(q, k, v)
"""
)


def test_each_fault_costs_one_record(tmp_path: Path) -> None:
    plugin, run = write(tmp_path, CUDA_FAULTS, "cuda_faults.py"), tmp_path / "run"
    words = ["--load", str(plugin), "--op", "running_mean", "--pass", "fwd", "--preset", "smoke", "--no-report"]
    assert main(["bench", *words, "--seq-len", "64,128", "--timeout", "60", "--out", str(run)]) == 1
    found: dict[str, list[str]] = {}
    for record in read_records(run):
        found.setdefault(record["implementation"], []).append(record["status"])
    assert found.pop("strays") in (["error"] * 2, ["crashed"] * 2)
    assert found.pop("asserts") in (["error"] * 2, ["crashed"] * 2)
    assert found == {
        "torch": ["ok"] * 2,
        "hungry": ["oom"] * 2,
        "overruns": ["incorrect"] * 2,
        "waits": ["ok"] * 2,
    }
