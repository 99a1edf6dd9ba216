"""What triton_chunk's host code decides without a kernel: refusals, regimes, segments."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from kernels.scalar_decay.linear_attention.chunk import chunk_linear_attention
from kernels.scalar_decay.linear_attention.spec import cost, linear_attention
from kernels.scalar_decay.plan import plan
from kernels.scalar_decay.shape import of_problem
from suite import Problem
from suite.errors import UsageError
from suite.targets import REPRESENTATIVES, aim
from suite.tuning import forcing

MADE = linear_attention.implementations["triton_chunk"]
assert MADE.configuration
assert MADE.flops_exec


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


def call(**changes: Any) -> None:
    arguments: dict[str, Any] = {name: meta(1, 40, 2, 32) for name in ("q", "k", "v")}
    chunk_linear_attention(**{**arguments, **changes})


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "odd_chunk": ({"chunk": 48}, "chunk must be a power of two >= 16, got 48"),
    "small_chunk": ({"chunk": 8}, "chunk must be a power of two >= 16, got 8"),
    "scale": ({"scale": 0.0}, "scale = 0"),
    "feature_map": ({"feature_map": "exp"}, "unknown feature map 'exp'"),
    "length": ({"k": meta(1, 39, 2, 32)}, "k is"),
    "dtype": ({"v": meta(1, 40, 2, 32, dtype=torch.float16)}, "v is"),
    "heads": ({"k": meta(1, 40, 3, 32)}, "HK = 3"),
    "too_wide": ({"v": meta(1, 40, 2, 300)}, "at most 256"),
    "state": ({"initial_state": meta(1, 2, 32, 16)}, "initial state S"),
    "normaliser": ({"initial_state": (meta(1, 2, 32, 32), meta(1, 2, 16)), "normalised": True}, "initial state z"),
    "lone_state": ({"initial_state": meta(2, 2, 32, 32), "normalised": True}, "pair"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(UsageError, match=words):
        call(**changes)


def configured(sms: int, **sizes: Any) -> dict[str, Any]:
    problem = linear_attention.complete(Problem(**{"H": 16, "K": 128, "pass_": "fwdbwd", **sizes}))
    with aim(replace(REPRESENTATIVES["sm_90"], sms=sms)):
        return dict(MADE.configuration(problem, {"chunk": 64}))


def test_regime_follows_from_what_fills_the_gpu() -> None:
    busy = configured(132, B=64, T=4096)
    assert {each["regime"] for each in busy.values()} == {"on-chip"}
    idle = configured(132, B=1, T=8192)
    assert {each["regime"] for each in idle.values()} == {"segments"}
    assert {each["regime"] for each in configured(132, B=1, T=256).values()} == {"on-chip"}


def test_one_long_sequence_among_short_ones_is_cut() -> None:
    """Nine sequences of 2048 tokens fill the GPU; the ragged packing of as many tokens is bound by its longest one."""
    even = configured(132, T=16384, layout="packed:even8", H=16)
    single = configured(132, T=16384, layout="packed:single", H=16)
    assert even["output"]["regime"] == "on-chip"
    assert single["output"]["regime"] == "segments"


def test_sweeps_that_share_states_are_cut_alike() -> None:
    """Here K and V would have the output sweep and dq's cut differently."""
    problem = linear_attention.complete(Problem(B=1, T=8192, H=8, K=32, V=256, pass_="bwd"))
    with aim("sm_90"):
        chosen = plan(of_problem(problem, 64))
    one, other = chosen.output, chosen.dq
    assert one.slices != other.slices
    assert one.segmented
    assert (one.segment_size, one.segments, one.slots) == (other.segment_size, other.segments, other.slots)


@pytest.mark.parametrize("layout", ["dense", "packed:single", "packed:halves", "packed:even8", "packed:ragged"])
@pytest.mark.parametrize("T", [257, 600, 5000])
def test_every_segment_has_a_slot(layout: str, T: int) -> None:
    problem = Problem(T=T, H=1, K=64, layout=layout)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=4096)):
        sweep = plan(of_problem(problem, 16)).output
    bounds = problem.cu_seqlens or (0, T)
    longest = max(b - a for a, b in pairwise(bounds))
    assert sweep.segment_size * (sweep.segments - 1) < longest <= sweep.segment_size * sweep.segments
    # First and last slot of each sequence, as `locate` in device.py finds them.
    first = [a // sweep.segment_size + n for n, (a, _) in enumerate(pairwise(bounds))]
    last = [slot + (b - a - 1) // sweep.segment_size for slot, (a, b) in zip(first, pairwise(bounds), strict=True)]
    assert all(end < start for end, start in zip(last[:-1], first[1:], strict=True))
    assert last[-1] < sweep.slots


def test_executed_flops_are_the_costs_with_one_slice_and_grow_with_slices_and_segments() -> None:
    # In fp16, for which no table of chosen configs has another width.
    problem = linear_attention.complete(Problem(B=1, T=4096, H=4, K=64, dtype="float16", pass_="fwd"))
    tunables = {"chunk": 64}
    expected = cost(problem, tunables).flops_exec
    found = {}
    for sms in (4, 8, 4096):
        with aim(replace(REPRESENTATIVES["sm_90"], sms=sms)):
            found[sms] = MADE.flops_exec(problem, tunables)
    per_token = found[8] - expected, found[4096] - found[8]
    assert found[4] == expected
    assert per_token == (4096 * 4 * 2 * 64 * 64, 4096 * 4 * 2 * 64 * 64)


def test_segments_are_balanced_and_fill_the_gpu() -> None:
    """No segment is a fraction of the others, and their programs fill the GPU twice, not twice and a bit."""
    for T in (1000, 8192, 10_000):
        problem = linear_attention.complete(Problem(B=1, T=T, H=16, K=128, pass_="fwdbwd"))
        with aim("sm_90"):
            chosen = plan(of_problem(problem, 64))
        for sweep in (chosen.output, chosen.dk_dv):
            last = T - sweep.segment_size * (sweep.segments - 1)
            assert last >= sweep.segment_size - 64 * sweep.segments
            assert sweep.segments * 16 * sweep.slices <= 2 * 132


def test_a_tuned_launch_replaces_the_tables() -> None:
    problem = linear_attention.complete(Problem(B=16, T=4096, H=16, K=128, pass_="fwdbwd"))
    with aim("sm_90"):
        assert MADE.search is not None
        searched = MADE.search(problem, {"chunk": 64})
        before = configured(132, B=16, T=4096)
        assert {key.split("/")[1] for key in searched} == {"output", "dq", "dk_dv"}
        for key, launches in searched.items():
            own = before[key.split("/")[1]]
            assert launches[0] == {"width": own["slice"], "warps": own["warps"], "stages": own["stages"]}
            assert len(launches) == len({tuple(each.items()) for each in launches})
        (key,) = (key for key in searched if "/dq/" in key)
        with forcing({key: {"width": 32, "warps": 8, "stages": 1}}):
            after = configured(132, B=16, T=4096)
    assert after["dq"] | {"slice": 32, "warps": 8, "stages": 1} == after["dq"] != before["dq"]
    assert (after["output"], after["dk_dv"]) == (before["output"], before["dk_dv"])
