"""Host code of the attention kernels: what it refuses, what it plans and what it launches; no kernel runs here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.attention.autograd import flash_attention
from kernels.attention.configs import key
from kernels.attention.plan import PASSES, plan
from kernels.attention.shape import Shape, of_problem
from kernels.attention.sliding_window_attention.flash import triton_flash_window
from kernels.attention.softmax_attention.flash import triton_flash
from kernels.attention.tiles import DQ, FORWARD, TILES, tile
from suite import Problem
from suite.checks.calling import Call
from suite.discovery import discover
from suite.errors import UsageError
from suite.static import capture
from suite.static.profiling import meta_inputs
from suite.targets import Target, aim
from suite.tuning import forcing

SIZES = {"B": 1, "T": 64, "H": 2, "HK": 2, "K": 32, "V": 32}


def tensors(**changes: int) -> list[torch.Tensor]:
    s = SIZES | changes
    return [torch.zeros(s["B"], s["T"], s[h], s[d]) for h, d in (("H", "K"), ("HK", "K"), ("HK", "V"))]


@pytest.mark.parametrize(
    ("sizes", "words", "message"),
    [
        ({"H": 3}, {}, "H = 3 query heads cannot share HK = 2"),
        ({"K": 300}, {}, "K = 300, V = 32 are too large; use at most 256"),
        ({}, {"scale": 0.0}, "scale = 0.0 is not supported; use one above 0"),
        ({}, {"scale": -1.0}, "scale = -1.0"),
        ({}, {"loads": "descriptor"}, "unknown way of loading 'descriptor'; did you mean 'descriptors'"),
        ({"K": 30}, {"loads": "descriptors"}, "multiple of 16 bytes, not K30; use loads = pointers"),
        ({}, {"window": -1}, "window = -1, dilation = 1 are not supported"),
        ({}, {"dilation": 0}, "window = 0, dilation = 0 are not supported"),
        ({}, {"dilation": 2, "loads": "descriptors"}, "descriptors read dense sequences"),
    ],
)
def test_bad_calls_are_refused_in_one_line(sizes, words: dict[str, Any], message: str) -> None:
    with aim("sm_90"), pytest.raises(UsageError, match=message) as caught:
        flash_attention(*tensors(**sizes), causal=True, **words)
    assert "\n" not in str(caught.value)


def test_tensors_that_do_not_agree_are_named() -> None:
    q, k, v = tensors()
    with aim("sm_90"):
        with pytest.raises(UsageError, match=r"v is \(1, 63, 2, 32\); it must be \[B, T, HK, V\] = \(1, 64, 2, V\)"):
            triton_flash(q, k, v[:, 1:])
        with pytest.raises(UsageError, match=r"k is .*float16"):
            triton_flash(q, k.half(), v)
        with pytest.raises(UsageError, match="window = 0 sees nothing"):
            triton_flash_window(q, k, v, window=0)


SHAPE = Shape(1, 8192, 8192, 16, 16, 128, 128, "bfloat16", False, True)


@pytest.mark.parametrize(
    ("arch", "at", "loads"),
    [
        ("sm_80", Problem(T=64), "pointers"),
        ("sm_90", Problem(T=64), "descriptors"),
        ("sm_90", Problem(T=64, K=60), "pointers"),
        ("sm_90", Problem(T=64, K=64, V=100), "pointers"),
        ("sm_90", Problem(T=64, K=60, dtype="fp32"), "descriptors"),
        ("sm_100", Problem(T=64, layout="packed:halves"), "pointers"),
    ],
)
def test_tiles_are_read_by_descriptors_where_they_can_be(arch: str, at: Problem, loads: str) -> None:
    with aim(arch):
        assert of_problem(at, "auto", causal=True).loads == loads
        assert of_problem(at, "auto", causal=True, window=4, dilation=2).loads == "pointers"


def test_a_section_s_keys_and_values_fit_in_half_of_the_cache() -> None:
    with aim("sm_90"):
        at = plan(replace(SHAPE, H=32), FORWARD)
        assert (at.tile.rows, at.tile.parts) == (256, 2)
        head = 2 * 8192 * 256
        assert at.section == 2 * (30 * 1024 * 1024 // head)
        assert at.programs == 32 * 8192 // at.tile.rows
        # Longer than the cache, a head of keys has its queries' heads beside each other.
        assert plan(replace(SHAPE, H=32, longest=1 << 20), DQ).section == 2


def test_blocks_of_queries_share_a_program_where_enough_programs_are_left() -> None:
    with aim("sm_90"):
        for longest, rows in ((4096, 256), (2048, 128)):
            at = plan(replace(SHAPE, longest=longest), FORWARD)
            assert (at.tile.rows, at.tile.parts, at.blocks) == (rows, rows // 128, longest // rows)
        assert plan(replace(SHAPE, packed=True), FORWARD).tile.parts == 1
        wide = replace(SHAPE, K=256)
        assert plan(wide, FORWARD).tile.columns < plan(replace(wide, window=1024), FORWARD).tile.columns


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_every_size_has_a_tile_and_its_own_comes_first_in_a_search(arch: str) -> None:
    made = discover().operator("softmax_attention").implementations["triton_flash"]
    assert made.search is not None
    operator = discover().operator("softmax_attention")
    with aim(arch):
        for K, V in ((32, 32), (64, 64), (100, 60), (256, 128)):
            for dtype in ("bfloat16", "float32"):
                problem = operator.complete(Problem(T=64, K=K, V=V, dtype=dtype, pass_="fwdbwd"))
                found = made.search(problem, {"loads": "auto"})
                assert len(found) == len(PASSES["fwdbwd"])
                for launches in found.values():
                    assert launches[0]["rows"] in {each.rows for each in TILES[int(arch[3:])].values()}
                    assert len({tuple(each.items()) for each in launches}) == len(launches)


def test_a_gpu_of_another_family_has_the_tiles_that_fit_anywhere() -> None:
    # sm_120 is newer than sm_100 and has less than half of its shared memory.
    for arch, table in (("sm_86", 80), ("sm_90", 90), ("sm_103", 100), ("sm_120", 80), ("cpu", 80)):
        assert tile(Target(arch).tile_class, FORWARD, 32, "bfloat16") == TILES[table][64, "half", FORWARD]


def test_a_tuned_launch_is_taken_and_told() -> None:
    operator = discover().operator("sliding_window_attention")
    made = operator.implementations["triton_flash"]
    assert made.configuration is not None
    problem = operator.complete(Problem(T=4096, K=128), {"window": 512})
    with aim("sm_90"):
        shape = of_problem(problem, "auto", causal=True, window=512)
        assert key(shape, FORWARD) == "attention/forward/causal-window512/K128/V128/bfloat16/descriptors"
        config = {"rows": 64, "columns": 32, "warps": 4, "stages": 2, "special": 0, "parts": 1}
        with forcing({key(shape, FORWARD): config}):
            told = made.configuration(problem, {"loads": "auto"})["forward"]
        with forcing({key(shape, FORWARD): {"rows": 64, "columns": 32, "warps": 4, "stages": 2}}):
            assert plan(shape, FORWARD).tile.rows != 64, "a config of kernels without parts"
    assert (told["rows"], told["columns"], told["warps"], told["stages"]) == (64, 32, 4, 2)
    assert told["loads"] == "descriptors"


@pytest.mark.parametrize("name", ["softmax_attention", "sliding_window_attention"])
@pytest.mark.parametrize(("pass_", "launches", "ratio"), [("fwd", 1, 1.0), ("bwd", 2, 12 / 7)])
def test_launches_and_traffic(name: str, pass_: str, launches: int, ratio: float) -> None:
    operator = discover().operator(name)
    problem = operator.complete(Problem(B=2, T=2048, H=16, K=128, pass_=pass_))
    made = operator.implementations["triton_flash"]
    call = Call(operator, made, problem, made.default_tunables, meta_inputs(operator, problem))
    capture(call.prepare, "sm_90", compiled=False)
    found = capture(call.run, "sm_90", compiled=False)
    assert len(found) == launches
    # Beside q, k, v and their gradients there are two scalars a query and head.
    moved = sum(each.traffic_bytes for each in found)
    assert ratio <= moved / operator.cost_of(problem).bytes_compulsory < ratio + 0.02


# Bytes of spills that pay by predicted time, of each kernel that has any: mostly outside of the loop without a mask.
# All others have none.
SPILLS = {
    ("softmax_attention", "descriptors", 128, "flash_fwd_pair_kernel"): 128,
    ("softmax_attention", "descriptors", 128, "flash_bwd_dk_dv_kernel"): 256,
    ("softmax_attention", "pointers", 128, "flash_bwd_dk_dv_kernel"): 128,
    ("sliding_window_attention", "descriptors", 64, "flash_bwd_dq_kernel"): 256,
    ("sliding_window_attention", "descriptors", 128, "flash_fwd_pair_kernel"): 192,
    ("sliding_window_attention", "descriptors", 128, "flash_bwd_dk_dv_kernel"): 256,
    ("sliding_window_attention", "pointers", 64, "flash_fwd_kernel"): 256,
    ("sliding_window_attention", "pointers", 64, "flash_bwd_dq_kernel"): 704,
    ("sliding_window_attention", "pointers", 128, "flash_fwd_pair_kernel"): 192,
    ("sliding_window_attention", "pointers", 128, "flash_bwd_dk_dv_kernel"): 256,
}


@pytest.mark.long
@pytest.mark.parametrize("name", ["softmax_attention", "sliding_window_attention"])
@pytest.mark.parametrize("loads", ["pointers", "descriptors"])
@pytest.mark.parametrize("K", [64, 128])
@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
def test_on_hopper_only_what_pays_spills_and_every_product_is_a_group_s(
    name: str, loads: str, K: int, pass_: str
) -> None:
    operator = discover().operator(name)
    problem = operator.complete(Problem(T=8192, H=16, K=K, pass_=pass_))
    made = operator.implementations["triton_flash"]
    call = Call(operator, made, problem, {"loads": loads}, meta_inputs(operator, problem))
    capture(call.prepare, "sm_90", compiled=False)
    for launch in capture(call.run, "sm_90"):
        assert launch.status == "ok", launch.reason
        assert launch.binary is not None
        most = SPILLS.get((name, loads, K, launch.kernel), 0)
        assert launch.binary.spill_bytes <= most, launch.kernel
        assert launch.dots is not None
        assert not launch.dots.replicated
        assert launch.binary.mix["hgmma"]
        assert not launch.binary.mix.get("hmma")
        assert launch.binary.mix.get("tma" if loads == "descriptors" else "ldgsts")


@pytest.mark.parametrize("heads", [{"H": 4, "HV": 2}, {"H": 2, "HV": 4}, {"H": 2, "HK": 4, "HV": 4}], ids=str)
@pytest.mark.parametrize(
    "name", ["softmax_attention", "sliding_window_attention", "taylor_attention", "attention_decode"]
)
def test_values_with_heads_of_their_own_are_unsupported_by_every_attention_of_ours(name: str, heads) -> None:
    operator = discover().operator(name)
    problem = operator.complete(Problem(T=64, K=32, **heads, pass_=operator.passes[0]))
    ours = [each for each in operator.implementations.values() if each.origin == "ours"]
    assert ours
    for made in ours:
        reason = made.unsupported(problem, made.default_tunables, operator.axes) or ""
        assert "as many heads of v as of k" in reason or "only no-causal" in reason, made.name
