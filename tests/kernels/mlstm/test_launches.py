"""How many kernels mLSTM launches, the bytes of what each is given over the compulsory ones, what a plan chooses."""

from __future__ import annotations

from typing import Any

import pytest

from kernels.mlstm.plan import plan, shape_of
from kernels.mlstm.spec import mlstm
from suite.checks.calling import Call
from suite.discovery import discover
from suite.static import capture
from suite.static.profiling import meta_inputs
from suite.targets import aim
from suite.tuning import forcing
from tests.kernels.mlstm.cases import GATES, problem

SEGMENTS, ON_CHIP = {"B": 1, "T": 8192}, {"B": 16, "T": 8192}
# gate, shape, pass, launches, most bytes over the compulsory ones
AIMS: list[tuple[str, dict[str, int], str, list[str], float]] = [
    ("exp", ON_CHIP, "fwd", ["fwd_output"], 1.01),
    ("exp", ON_CHIP, "bwd", ["bwd_dq", "bwd_dk_dv", "bwd_gates"], 1.85),
    ("exp", SEGMENTS, "fwd", ["segment_state", "fwd_output"], 1.65),
    ("exp", SEGMENTS, "bwd", ["bwd_dq", "segment_state", "bwd_dk_dv", "bwd_gates"], 2.2),
    ("sigmoid", ON_CHIP, "fwd", ["fwd_output"], 1.01),
    ("sigmoid", ON_CHIP, "bwd", ["bwd_dq", "bwd_dk_dv", "bwd_gates"], 1.7),
    ("sigmoid", SEGMENTS, "bwd", ["bwd_dq", "segment_state", "bwd_dk_dv", "bwd_gates"], 2.05),
    ("exp", {"B": 16, "T": 8192}, "decode", ["decode_step"], 1.01),
]


@pytest.mark.parametrize(("gate", "shape", "pass_", "names", "ratio"), AIMS, ids=lambda x: str(x))
def test_launches_and_traffic(gate: str, shape, pass_: str, names: list[str], ratio: float) -> None:
    discover()
    at = problem(gate, **shape, H=16, K=128, V=128, dtype="bf16", pass_=pass_)
    made = mlstm.implementations["triton_step" if pass_ == "decode" else "triton_chunk"]
    call = Call(mlstm, made, at, made.default_tunables, meta_inputs(mlstm, at))
    capture(call.prepare, "sm_90", compiled=False)
    launches = capture(call.run, "sm_90", compiled=False)
    assert [each.kernel.removeprefix("mlstm_").removesuffix("_kernel") for each in launches] == names
    moved = sum(each.traffic_bytes for each in launches)
    assert moved / mlstm.cost_of(at).bytes_compulsory <= ratio


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("shape", [SEGMENTS, ON_CHIP], ids=["segments", "on-chip"])
def test_a_plan_takes_each_launch_that_tuning_may_try(gate: str, shape) -> None:
    at = problem(gate, **shape, H=16, K=128, V=128, dtype="bf16", pass_="fwdbwd")
    made = mlstm.implementations["triton_chunk"]
    assert made.search is not None
    with aim("sm_90"):
        searched = made.search(at, {"chunk": 64})
        chosen = plan(shape_of(at, {"chunk": 64}))
        assert len(searched) == (4 if chosen.output.segmented else 3)
        for key, launches in searched.items():
            sweep = key.split("/")[1]
            assert 4 <= len(launches) <= 12
            if sweep == "state":
                continue
            tile = getattr(chosen, sweep).tile
            assert launches[0] == {"width": tile.width, "warps": tile.warps, "stages": tile.stages}
            with forcing({key: launches[-1]}):
                forced = getattr(plan(shape_of(at, {"chunk": 64})), sweep).tile
            assert {name: getattr(forced, name) for name in launches[-1]} == launches[-1]


@pytest.mark.parametrize("length", [8192, 1_000_000])
def test_a_program_joins_no_more_segments_than_it_may(length: int) -> None:
    with aim("sm_90"):
        chosen = plan(shape_of(problem("exp", T=length, H=1, K=64, V=64, dtype="bf16"), {"chunk": 64}))
    for sweep in (chosen.output, chosen.dq, chosen.dk_dv):
        assert 1 < sweep.segments <= 16
        assert sweep.segment_size % sweep.chunk == 0


def test_head_dims_of_xlstm_7b_are_served_and_larger_ones_are_not() -> None:
    made = mlstm.implementations["triton_chunk"]
    at: dict[str, Any] = {"T": 64, "H": 8, "dtype": "bf16"}
    assert made.unsupported(problem("exp", K=256, V=512, **at), {"chunk": 64}, mlstm.axes) is None
    for sizes in ({"K": 512, "V": 512}, {"K": 256, "V": 1024}):
        assert "up to" in (made.unsupported(problem("exp", **sizes, **at), {"chunk": 64}, mlstm.axes) or "")
