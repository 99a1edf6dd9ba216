"""What the host code decides without a kernel: refusals, regimes, segments, tuned launches, costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from kernels.channel_decay.gated_linear_attention.chunk import chunk_gated_linear_attention
from kernels.channel_decay.gated_linear_attention.spec import gated_linear_attention
from kernels.channel_decay.hgrn2.spec import hgrn2
from kernels.channel_decay.plan import INTERVAL, SWEEPS, of_problem, plan, search
from kernels.channel_decay.rwkv6.chunk import chunk_rwkv6
from kernels.channel_decay.rwkv6.spec import rwkv6
from suite import Problem
from suite.checks.inputs import draw_inputs, flat
from suite.errors import UsageError
from suite.targets import REPRESENTATIVES, aim
from suite.tuning import forcing

OPERATORS = {each.name: each for each in (gated_linear_attention, hgrn2, rwkv6)}


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "chunk": ({"chunk": 48}, "chunk must be a power of two >= 16, got 48"),
    "length": ({"k": meta(1, 39, 2, 32)}, "k is"),
    "dtype": ({"v": meta(1, 40, 2, 32, dtype=torch.float16)}, "v is torch.float16"),
    "heads": ({"k": meta(1, 40, 3, 32)}, "HK = 3"),
    "gates": ({"log_decay": meta(1, 40, 2)}, "log_decay is"),
    "too_wide": ({"v": meta(1, 40, 2, 300)}, "at most 256"),
    "state": ({"initial_state": meta(1, 2, 32, 16)}, "initial_state is"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, words = BAD[name]
    arguments: dict[str, Any] = {n: meta(1, 40, 2, 32) for n in ("q", "k", "v", "log_decay")}
    with pytest.raises(UsageError, match=words):
        chunk_gated_linear_attention(**{**arguments, **changes})


def test_a_bonus_of_another_shape_is_named() -> None:
    with pytest.raises(UsageError, match="u is"):
        chunk_rwkv6(*(meta(1, 40, 2, 32) for _ in range(4)), meta(1, 32))


def test_regime_follows_from_what_fills_the_gpu() -> None:
    with aim("sm_90"):
        for B, T, segmented in ((16, 8192, False), (1, 8192, True), (1, 256, False)):
            assert plan(of_problem(Problem(B=B, T=T, H=16, K=128), 64)).segmented == segmented


@pytest.mark.parametrize("layout", ["dense", "packed:single", "packed:halves", "packed:even8", "packed:ragged"])
@pytest.mark.parametrize(("T", "sms"), [(257, 4096), (600, 4096), (5000, 4096), (5000, 40)])
def test_every_segment_and_every_checkpoint_has_a_slot(layout: str, T: int, sms: int) -> None:
    problem = Problem(T=T, H=1, K=64, layout=layout)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=sms)):
        found = plan(of_problem(problem, 16))
    assert found.segment_size % found.interval == 0
    assert all(found.interval % sweep.chunk == 0 for sweep in found.sweeps.values())
    assert found.interval <= INTERVAL
    bounds = problem.cu_seqlens or (0, T)
    for length, slots in ((found.segment_size, found.slots), (found.interval, found.blocks)):
        # First and last slot of each sequence, as the kernels find them.
        first = [a // length + n for n, (a, _) in enumerate(pairwise(bounds))]
        last = [slot + (b - a - 1) // length for slot, (a, b) in zip(first, pairwise(bounds), strict=True)]
        assert all(end < start for end, start in zip(last[:-1], first[1:], strict=True))
        assert last[-1] < slots


def test_a_forced_launch_is_taken() -> None:
    shape = of_problem(Problem(H=16, K=128, T=4096, B=16), 64)
    with aim("sm_90"):
        for key, launches in search(shape, SWEEPS).items():
            name = key.split("/")[1].removeprefix("prepared_")
            assert launches[0] == vars(plan(shape).sweeps[name].tile)
            for launch in launches[1:]:
                with forcing({key: launch}):
                    assert vars(plan(shape).sweeps[name].tile) == launch != launches[0]


def test_what_one_slice_needs_alone_is_not_prepared() -> None:
    with aim("sm_90"):
        found = {K: plan(of_problem(Problem(H=16, K=K, T=4096, B=16), 64)).alone for K in (64, 128)}
        assert found == {64: True, 128: False}
        assert not plan(of_problem(Problem(H=16, K=64, T=8192), 64)).alone
        # One slice takes all of a narrow V, but segments share what is prepared between two sweeps.
        narrow = plan(of_problem(Problem(H=1, K=64, V=16, T=8192), 64))
        assert (narrow.segmented, narrow.alone) == (True, False)


def test_chunks_are_prepared_as_the_sweeps_take_them() -> None:
    with aim("sm_90"):
        for dtype, chunk, rows in (("bf16", 128, 64), ("bf16", 32, 32), ("fp32", 64, 16)):
            found = plan(of_problem(Problem(H=16, K=128, T=8192, dtype=dtype), chunk))
            assert {found.chunk, *(found.sweeps[name].chunk for name in ("output", "state"))} == {rows}
            assert found.segment_size % rows == found.together % rows == 0


def touched_bytes(op, problem: Problem) -> int:
    """Bytes of every input, and of every output and gradient."""
    inputs = draw_inputs(op, problem, 0)
    read = sum(x.numel() * x.element_size() for x in flat(inputs).values())
    words = {"output_final_state": True} if problem.initial_state else {}
    o, final = op.oracle(**inputs, **words)
    written = sum(x.numel() * x.element_size() for x in flat({"o": o, "final": final}).values())
    return 2 * read + written if problem.pass_ == "bwd" else read + written


@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
@pytest.mark.parametrize("sizes", [{"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4, "initial_state": True}])
@pytest.mark.parametrize("name", OPERATORS)
def test_compulsory_bytes_are_inputs_once_and_outputs_once(name: str, sizes: dict[str, Any], pass_: str) -> None:
    problem = Problem(B=2, T=7, K=8, V=16, dtype="fp32", pass_=pass_, **sizes)
    assert OPERATORS[name].cost_of(problem).bytes_compulsory == touched_bytes(OPERATORS[name], problem)


@pytest.mark.parametrize("name", OPERATORS)
def test_decode_reads_and_writes_its_state(name: str) -> None:
    problem = Problem(B=2, T=64, H=2, K=8, V=16, dtype="fp32", pass_="decode")
    inputs = draw_inputs(OPERATORS[name], problem, 0)
    state = inputs.pop("state")
    tokens = sum(x.numel() * 4 for x in inputs.values()) + 2 * 2 * 16 * 4
    cost = OPERATORS[name].cost_of(problem)
    assert cost.bytes_state == 2 * state.numel() * 4
    assert cost.bytes_compulsory == cost.bytes_state + tokens


@pytest.mark.parametrize("name", OPERATORS)
def test_flops_are_the_recurrence_s(name: str) -> None:
    """A multiply-add for each element of the state to write it and one to read it; a bonus reads 3K + 2V beside."""
    problem = Problem(B=2, T=9, H=3, K=8, V=12)
    flops = 0
    for _ in range(problem.tokens * problem.H):
        flops += 2 * 8 * 12 + 2 * 8 * 12 + (3 * 8 + 2 * 12) * (name == "rwkv6")
    assert OPERATORS[name].cost_of(problem).flops_alg == flops


def test_executed_flops_grow_with_segments_alone() -> None:
    problem, made = Problem(T=4096, H=4, K=64), gated_linear_attention.implementations["triton_chunk"]
    found = {}
    for sms in (4, 8, 4096):
        with aim(replace(REPRESENTATIVES["sm_90"], sms=sms)):
            found[sms] = gated_linear_attention.cost_of(problem, made, {"chunk": 64}).flops_exec
    assert found[4] == gated_linear_attention.cost_of(problem, tunables={"chunk": 64}).flops_exec
    # Scores are made once for all slices.
    assert found[8] == found[4]
    assert found[4096] - found[8] == 4096 * 4 * 2 * 64 * 64
