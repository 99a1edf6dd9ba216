"""Launches and launch traffic of fla-core's chunk functions, as JSON: `python -m tests.suite.static.fla_rows OP:D …`.

B = 1, T = 8192, H = 16, bfloat16, gates too. A process of its own, since fla decides what the device is on import.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import torch

import baselines.fla_core  # noqa: F401  (before fla: holds it to its own kernels)
from suite.static.capturing import Recorder
from suite.static.stub_driver import pretending, target_of

B, T, H = 1, 8192, 16


def tensor(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, dtype=torch.bfloat16, device="meta", requires_grad=True)


def host_code(name: str, D: int) -> Callable[[], Any]:
    """A call of the library's public function."""
    q, k, v, channel = (tensor(B, T, H, D) for _ in range(4))
    scalar, beta = tensor(B, T, H), tensor(B, T, H)
    scalar_gate = scalar.float()
    module, entry, arguments = {
        "linear_attn": ("linear_attn", "chunk_linear_attn", (q, k, v)),
        "retention": ("retention", "chunk_retention", (q, k, v)),
        "simple_gla": ("simple_gla", "chunk_simple_gla", (q, k, v, scalar_gate)),
        "gla": ("gla", "chunk_gla", (q, k, v, channel)),
        "delta_rule": ("delta_rule", "chunk_delta_rule", (q, k, v, beta)),
        "gated_delta_rule": ("gated_delta_rule", "chunk_gated_delta_rule", (q, k, v, scalar_gate, beta)),
        "kda": ("kda", "chunk_kda", (q, k, v, channel, beta)),
    }[name]
    function = getattr(importlib.import_module(f"fla.ops.{module}"), entry)
    return lambda: function(*arguments)[0]


def rows(name: str, D: int, arch: str, compiled: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with pretending(target_of(arch)) as target:
        call = host_code(name, D)
        forward, backward = Recorder(target, compiled), Recorder(target, compiled)
        with forward:
            o = call()
        found["fwd"] = _row(forward)
        try:
            with backward:
                o.backward(torch.empty_like(o))
            found["bwd"] = _row(backward)
        except RuntimeError as error:
            found["bwd"] = {"refused": str(error)}
    return found


def _row(recorder: Recorder) -> dict[str, Any]:
    return {
        "launches": len(recorder.launches),
        "mb": sum(launch.traffic_bytes for launch in recorder.launches) / 1e6,
        "eager_mb": recorder.ledger.eager_bytes / 1e6,
        "statuses": sorted({launch.status for launch in recorder.launches}),
    }


if __name__ == "__main__":
    words = sys.argv[1:]
    asked = [word.split(":") for word in words if ":" in word]
    print(json.dumps([rows(name, int(D), "sm_90", "compiled" in words) for name, D in asked]))
