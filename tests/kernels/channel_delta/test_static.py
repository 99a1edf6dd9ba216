"""What the compiler makes of the default launches on Hopper: no kernel runs here."""

from __future__ import annotations

from typing import Any

import pytest

from suite import Problem
from suite.checks.calling import Call
from suite.discovery import discover
from suite.static import capture
from suite.static.profiling import meta_inputs

SIZES: dict[str, dict[str, Any]] = {
    "on_chip": {"B": 16},
    "segments": {"initial_state": True},
    "packed": {"layout": "packed:ragged", "initial_state": True, "HV": 32},
}


@pytest.mark.long
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("K", [64, 128])
@pytest.mark.parametrize("pass_", ["fwd", "fwdbwd"])
@pytest.mark.parametrize(("name", "own"), [("kimi_delta_attention", {"l2norm": True}), ("rwkv7", {})])
def test_sweeps_do_not_spill_on_hopper(
    name: str, own: dict[str, Any], pass_: str, K: int, sizes: dict[str, Any]
) -> None:
    operator = discover().operator(name)
    problem = operator.complete(Problem(**{"T": 8192, "H": 16, "K": K, "pass_": pass_, **sizes}), own)
    made = operator.implementations["triton_chunk"]
    call = Call(operator, made, problem, made.default_tunables, meta_inputs(operator, problem))
    for launch in capture(call.run, "sm_90"):
        assert launch.status == "ok", launch.reason
        assert launch.binary is not None
        # In blocks of 4 warps these two spill, and are predicted 2 to 2.5 times as fast as in blocks of 8.
        whole_chunks = any(name in launch.kernel for name in ("prepare", "gradients"))
        assert whole_chunks or launch.binary.spill_bytes == 0, launch.kernel
        assert launch.dots is not None
        assert launch.dots.replicated == 0, launch.kernel
        assert launch.binary.mix["hgmma"], launch.kernel
