"""Attention over a KV cache in Triton, with the work shared out in two ways: fixed splits of each cache, or a stream.

o = step_split(q, state=(keys, values))                                     # caches [B, T, HK, D], all of T
o = step_stream(q, state=pools, lengths=lengths, block_table=table, page=64)  # pools [pages, 64, HK, D]
"""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from kernels.attention.attention_decode.combine import attention_decode_combine_kernel
from kernels.attention.attention_decode.device import Partials
from kernels.attention.attention_decode.plan import (
    MANY,
    MAX_DIM,
    MAX_SEQUENCES,
    SPLIT,
    STREAM,
    WIDTH,
    Shape,
    candidates,
    describe,
    plan,
    shape_of,
    supports,
)
from kernels.attention.attention_decode.spec import attention_decode
from kernels.attention.attention_decode.split import attention_decode_split_kernel
from kernels.attention.attention_decode.stream import attention_decode_stream_kernel
from kernels.common.arguments import fit
from kernels.common.pages import check_entries, check_lengths, check_table
from kernels.common.shapes import power_of_2
from suite import Problem, dtypes
from suite.errors import UsageError
from suite.problem import Value

LOG2E = math.log2(math.e)
State = tuple[torch.Tensor, torch.Tensor]


def _registration(schedule: str) -> dict[str, Any]:
    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        return describe(shape_of(problem), schedule)

    def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        return candidates(shape_of(problem), schedule)

    return {
        "origin": "ours",
        "devices": {"cuda", "interpret"},
        "passes": {"decode"},
        "supports": supports,
        "configuration": configuration,
        "search": search,
    }


@attention_decode.implementation("triton_split", **_registration(SPLIT))
def step_split(q, *, state: State, block_table=None, lengths=None, page: int = 0, scale: float | None = None):
    """q [B,Q,H,K] over a KV cache -> o [B,Q,H,V]: each cache in equal splits, then their combination (FlashDecoding).

    state:       contiguous, (keys [B,T,HK,K], values [B,T,HV,V]) with row n of sequence n; paged, two pools
                 [pages, page, heads, D]. The Q newest tokens are in it. Nothing is written.
    lengths:     [B] int32, tokens of each sequence; None: all rows. Host code reads them only if they lie on the CPU.
    block_table: [B, P] int32, the pages of each sequence in order; only read where `page` is given. Entries beyond a
                 sequence's length are not read.
    page:        rows of a page, a power of 2 of at least 16; 0 for contiguous caches
    Raises UsageError on other shapes. Sources: Dao et al. 2023, "Flash-Decoding for long-context inference"; pages as
    in Kwon et al. 2023, arXiv:2309.06180.
    """
    shape = check_tensors(q, state, block_table, lengths, page, scale)
    return _step(SPLIT, shape, q, state, block_table, lengths, scale)


@attention_decode.implementation("triton_stream", **_registration(STREAM))
def step_stream(q, *, state: State, block_table=None, lengths=None, page: int = 0, scale: float | None = None):
    """The same as step_split with an equal share of all tiles for each program, however lengths differ.

    Source: Sanovar et al. 2024, LeanAttention, arXiv:2405.10480.
    """
    shape = check_tensors(q, state, block_table, lengths, page, scale)
    return _step(STREAM, shape, q, state, block_table, lengths, scale)


def _step(schedule: str, shape: Shape, q, state: State, table, lengths, scale: float | None):
    s = shape
    if not s.B:
        return q.new_empty(s.B, s.Q, s.H, s.V)
    tile, number = plan(shape, schedule)
    k, v = state
    q = q.contiguous()
    # With one split, or if equal caches fill equal shares, each program finishes its pairs alone.
    whole = number == 1 if schedule == SPLIT else lengths is None and s.pairs % number == 0
    o = q.new_empty(s.B, s.Q, s.H, s.V)
    partials = Partials(None, None, None) if whole else _partials(schedule, shape, number, q)
    common = {"Q": s.Q, "H": s.H, "HK": s.HK, "V": s.V, "BN": tile.width, "R": s.block, "BLOCKS": s.blocks}
    options = {
        "T": s.T,
        "PAGES": 0 if table is None else table.shape[1],
        "factor": (s.K**-0.5 if scale is None else scale) * LOG2E,
        "K": s.K,
        "BK": power_of_2(s.K),
        "BV": power_of_2(s.V),
        "BM": power_of_2(s.block),
        "PAGE": s.page,
        "PRECISION": "tf32x3" if s.dtype == "float32" else "tf32",
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
    tensors = {"q": q, "k": k, "v": v, "table": table if s.page else None, "lengths": lengths, "o": o}
    tensors |= partials._asdict()
    BB = power_of_2(s.B)
    if schedule == SPLIT:
        attention_decode_split_kernel[(s.pairs * number,)](**tensors, SPLITS=number, **common, **options)
    else:
        attention_decode_stream_kernel[(number,)](**tensors, B=s.B, BB=BB, **common, **options)
    if not whole:
        sizes = common | {"SPLITS": number * (schedule == SPLIT), "BB": BB}
        combine(partials, lengths, o, shape, programs=number, options=sizes)
    return o


def _partials(schedule: str, shape: Shape, number: int, q) -> Partials:
    count = shape.pairs * number if schedule == SPLIT else shape.pairs + number - 1
    o = q.new_empty(count, shape.block, shape.V, dtype=torch.float32)
    l, m = (q.new_empty(count, shape.block, dtype=torch.float32) for _ in range(2))
    return Partials(o, l, m)


def combine(partials: Partials, lengths, o, shape: Shape, *, programs: int, options: Mapping[str, int]) -> None:
    """Write o from partial results: those of options["SPLITS"] splits, or where that is 0 of so many programs."""
    width = min(WIDTH, power_of_2(shape.V))
    attention_decode_combine_kernel[(shape.B * shape.H * shape.Q * -(-shape.V // width),)](
        **partials._asdict(),
        lengths=lengths,
        o=o,
        B=shape.B,
        T=shape.T,
        programs=programs,
        WIDTH=width,
        MANY=MANY,
        num_warps=4,
        **options,
    )


def check_tensors(q, state: State, table, lengths, page: int, scale: float | None) -> Shape:
    """The shape of a call. Raises UsageError, naming the tensor and the remedy, on one that does not fit."""
    if not isinstance(page, int) or isinstance(page, bool):
        raise UsageError(f"page = {page!r} is not supported; use a power of 2 of at least 16, or 0")
    if not isinstance(state, tuple) or len(state) != 2:
        raise UsageError("the state has the wrong form; pass the pair (keys, values)")
    k, v = state
    caches = {"cache of keys": (k, "caches rows HK K"), "cache of values": (v, "caches rows HK V")}
    sizes = fit({"q": (q, "B Q H K"), **caches}, scale=scale)
    B, Q, H, K, pages, rows, HK, V = (sizes[name] for name in ("B", "Q", "H", "K", "caches", "rows", "HK", "V"))
    if not (k.is_contiguous() and v.is_contiguous()):
        raise UsageError("the cache is not contiguous; it is read as it lies, so pass contiguous tensors")
    if H % HK:
        raise UsageError(f"{H} query heads do not share {HK} kv heads evenly; choose a multiple")
    if max(K, V) > MAX_DIM or B > MAX_SEQUENCES:
        raise UsageError(f"K {K}, V {V}, B {B}: the kernels take head dims to {MAX_DIM}, {MAX_SEQUENCES} sequences")
    if not page and pages != B:
        raise UsageError(f"{pages} caches for {B} sequences; pass page= if the cache is a pool of pages")
    if page:
        if page != rows or page < 16 or page & (page - 1):
            raise UsageError(
                f"page = {page} for pools with pages of {rows} rows; pages have a power of 2 of at least 16"
            )
        if table is None or lengths is None:
            raise UsageError("a paged cache came without block_table or lengths; pass both")
        check_table(q, table, B)
    T = table.shape[1] * page if page else rows
    if lengths is not None:
        check_lengths(q, lengths, B, T)
    if page:
        check_entries(table, lengths, pages, page)
    return Shape(B, Q, T, H, HK, K, V, dtypes.canonical(str(q.dtype).removeprefix("torch.")), page)
