"""What the host code of channel-gated delta rules decides without a kernel: refusals, regimes, numbers, launches."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from kernels.channel_delta.kimi_delta_attention.chunk import chunk_kimi_delta_attention
from kernels.channel_delta.kimi_delta_attention.decode import step_kimi_delta_attention
from kernels.channel_delta.plan import candidates, executed, key, launched, of_problem, plan
from kernels.channel_delta.rwkv7.chunk import chunk_rwkv7
from suite import Problem
from suite.errors import UsageError
from suite.targets import REPRESENTATIVES, aim
from suite.tuning.choices import forcing


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "odd_chunk": ({"chunk": 48}, "chunk must be a power of two >= 16, got 48"),
    "small_chunk": ({"chunk": 8}, "chunk must be a power of two >= 16, got 8"),
    "length": ({"k": meta(1, 39, 2, 32)}, "k is"),
    "dtype": ({"v": meta(1, 40, 2, 32, dtype=torch.float16)}, "v is torch.float16"),
    "gates": ({"log_decay": meta(1, 40, 2)}, "log_decay is"),
    "beta": ({"beta": meta(1, 40, 1)}, "beta is"),
    "heads": ({"q": meta(1, 40, 3, 32), "k": meta(1, 40, 3, 32)}, "3 heads of q and k"),
    "state": ({"initial_state": meta(1, 2, 32, 16)}, "initial state is"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, words = BAD[name]
    given = {each: meta(1, 40, 2, 32) for each in ("q", "k", "v", "log_decay")} | {"beta": meta(1, 40, 2)}
    with pytest.raises(UsageError, match=words):
        chunk_kimi_delta_attention(**{**given, **changes})


def test_heads_that_are_too_wide_are_refused() -> None:
    x = meta(1, 4, 1, 300)
    with pytest.raises(UsageError, match="at most 256"):
        chunk_rwkv7(x, x, x, x, x, x)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({**{each: meta(1, 2, 2, 16) for each in ("q", "k", "v", "log_decay")}, "beta": meta(1, 2, 2)}, "2 tokens"),
        ({"state": meta(1, 1, 16, 16)}, "must be"),
        ({"state": meta(1, 2, 16, 16).transpose(2, 3)}, "not contiguous"),
    ],
)
def test_bad_steps_are_named(changes: dict[str, Any], words: str) -> None:
    given = {each: meta(1, 1, 2, 16) for each in ("q", "k", "v", "log_decay")} | {"beta": meta(1, 1, 2)}
    with pytest.raises(UsageError, match=words):
        step_kimi_delta_attention(**{**given, "state": meta(1, 2, 16, 16), **changes})


def shape(sms: int = 132, *, dplr: bool = False, chunk: int = 64, **sizes: Any):
    problem = Problem(**{"H": 16, "K": 128, "dtype": "bf16", **sizes})
    found = of_problem(problem, chunk, dplr=dplr)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=sms)):
        return problem, found, plan(found)


def test_regime_follows_from_what_fills_the_gpu() -> None:
    assert not shape(B=64, T=4096)[2].segmented
    assert shape(B=1, T=8192)[2].segmented
    assert not shape(B=1, T=256)[2].segmented


def test_one_long_sequence_among_short_ones_is_cut() -> None:
    assert not shape(T=16384, layout="packed:even8")[2].segmented
    assert shape(T=16384, layout="packed:single")[2].segmented


@pytest.mark.parametrize("layout", ["dense", "packed:halves", "packed:even8", "packed:ragged"])
@pytest.mark.parametrize("T", [257, 600, 5000])
def test_every_chunk_and_segment_has_a_number(layout: str, T: int) -> None:
    """First and last chunk and segment of each sequence, as `locate` and `chunk_of` find them on the device."""
    problem, _, chosen = shape(4096, T=T, H=1, K=64, layout=layout, dtype="fp32", chunk=16)
    bounds = problem.cu_seqlens or (0, T)
    for length, count in ((chosen.chunk, chosen.numbers), (chosen.segment_size, chosen.slots)):
        first = [a // length + n for n, (a, _) in enumerate(pairwise(bounds))]
        last = [low + (b - a - 1) // length for low, (a, b) in zip(first, pairwise(bounds), strict=True)]
        assert all(end < start for end, start in zip(last[:-1], first[1:], strict=True))
        assert last[-1] < count
    assert chosen.segment_size % chosen.chunk == 0
    assert chosen.chunks * chosen.chunk >= max(b - a for a, b in pairwise(bounds))


def test_a_tuned_launch_is_taken() -> None:
    _, found, chosen = shape(B=64, T=4096)
    assert (chosen.output.width, chosen.output.warps) != (16, 8)
    with forcing({key(found, "output", False): {"width": 16, "warps": 8, "stages": 3}}):
        _, _, chosen = shape(B=64, T=4096)
    assert (chosen.output.width, chosen.output.warps, chosen.output.stages) == (16, 8, 3)


@pytest.mark.parametrize("dplr", [False, True])
def test_candidates_start_with_the_tables_choice(dplr: bool) -> None:
    with aim("sm_90"):
        _, found, chosen = shape(B=1, T=8192, dplr=dplr, pass_="fwdbwd")
        listed = candidates(found, "fwdbwd")
        assert len(listed) == 5
        for kind in ("prepare", "map", "output", "reverse", "gradients"):
            tried = listed[key(found, kind, True)]
            tile = getattr(chosen, kind)
            assert tried[0] == {"width": tile.width, "warps": tile.warps, "stages": tile.stages}
            assert 4 <= len(tried) == len({tuple(each.items()) for each in tried}) <= 9


def test_a_map_is_launched_in_segments_alone() -> None:
    with aim("sm_90"):
        assert launched(shape(B=1, T=8192)[2], "fwd") == ["prepare", "map", "output"]
        assert launched(shape(B=64, T=4096)[2], "fwd") == ["prepare", "output"]


@pytest.mark.parametrize(("pass_", "taking"), [("fwd", {"prepare"}), ("fwdbwd", {"prepare", "gradients"})])
def test_a_norm_changes_the_kernels_that_take_it(pass_: str, taking: set[str]) -> None:
    _, plain, chosen = shape(B=1, T=8192, pass_=pass_)
    normed = replace(plain, l2norm=True)
    kinds = launched(chosen, pass_)
    assert {kind for kind in kinds if key(plain, kind, True) != key(normed, kind, True)} == taking


def test_executed_flops_grow_with_what_is_done() -> None:
    _, few, on_chip = shape(B=64, T=4096, pass_="fwdbwd")
    _, _, dplr = shape(B=64, T=4096, dplr=True, pass_="fwdbwd")
    _, many, cut = shape(B=1, T=8192, pass_="fwdbwd")
    token = {
        "on-chip": executed(few, on_chip, "fwd") / few.tokens,
        "segments": executed(many, cut, "fwd") / many.tokens,
    }
    assert token["segments"] > token["on-chip"] > 16 * 6 * 128 * 128
    assert executed(replace(few, dplr=True), dplr, "fwd") > executed(few, on_chip, "fwd")
    assert executed(few, on_chip, "fwdbwd") == executed(few, on_chip, "fwd") + executed(few, on_chip, "bwd")
