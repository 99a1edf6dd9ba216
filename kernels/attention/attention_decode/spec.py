"""Attention decode: the newest tokens of each sequence attend to its KV cache, contiguous or paged.

    o_i = sum_j softmax_j(s q_i . k_j) v_j,   j < L - Q + 1 + i

for the Q newest of a sequence's L tokens, i = 0 … Q - 1: Q = 1 is a decoding step, more are checked together in
speculative decoding. s is `scale`, 1/sqrt(K) by default. H is a multiple of HK = HV (GQA). A query that sees nothing
(L = 0) has o = 0.

The cache already holds the step's own tokens; nothing is written to it. It is the state, a pair of pools
(keys [pages, page, HK, K], values [pages, page, HV, V]), and `block_table` [B, M] names the pages of a sequence in
order. A contiguous cache [B, T, HK, K] is the same with one page of T rows per sequence: the axis `page` is then 0, and
code for contiguous caches leaves the table aside. `lengths` [B] holds each L, with a copy on the CPU beside it; where
it is left out, every row of the table's pages counts. What lies in rows beyond L, or in pages that no table names,
means nothing: inputs hold large values there, so that a check sees who reads them.
Sources: Vaswani et al. 2017, arXiv:1706.03762; Shazeer 2019, arXiv:1911.02150; Ainslie et al. 2023, arXiv:2305.13245;
pages: Kwon et al. 2023, arXiv:2309.06180.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from suite import Axis, Cost, Operator, Problem
from suite.draw import normal
from suite.problem import Value

# In rows that nobody may read: large, and finite, since the suite compares caches before and after.
UNUSED = 1e4
PAGES = (0, 16, 64, 128, 256)
QUERIES = (1, 2, 4, 8)
# Spreads ragged lengths evenly over (0, 1] for any number of sequences: the golden ratio's low-discrepancy sequence.
GOLDEN = 0.6180339887498949
LENGTH_BYTES = 4


def lengths_of(problem: Problem) -> tuple[int, ...]:
    """Tokens in each cache: T; if `ragged`, one cache has T, one as few as possible, the others in between."""
    p, shortest = problem, int(problem.axis("queries"))
    if not p.axis("ragged"):
        return (p.T,) * p.B
    between = [max(shortest, round(p.T * (n * GOLDEN % 1))) for n in range(2, p.B)]
    return (p.T, shortest, *between)[: p.B]


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q [B,Q,H,K] as projections give it, and a cache with its pages in random order."""
    p, lengths, page = problem, lengths_of(problem), int(problem.axis("page")) or problem.T
    counts = [-(-length // page) for length in lengths]
    # Pages of a pool lie anywhere, and one of them is nobody's.
    spare = 1 if p.axis("page") else 0
    order = torch.arange(sum(counts), dtype=torch.int32, device=generator.device)
    if spare:
        order = torch.randperm(len(order) + spare, generator=generator, device=generator.device, dtype=torch.int32)
    q = normal(generator, p.B, int(p.axis("queries")), p.H, p.K, dtype=p.dtype)
    state = tuple(normal(generator, len(order), page, h, d, dtype=p.dtype) for h, d in ((p.HK, p.K), (p.HV, p.V)))
    table = torch.zeros(p.B, max(counts), dtype=torch.int32, device=generator.device)
    first = 0
    for n, (count, length) in enumerate(zip(counts, lengths, strict=True)):
        table[n, :count] = order[first : first + count]
        first += count
        _discard(state, order[first - 1 : first], length - (count - 1) * page)
    _discard(state, order[first:], 0)
    inputs: dict[str, Any] = {"q": q, "state": state, "block_table": table}
    if p.axis("page") or p.axis("ragged"):
        cpu = torch.tensor(lengths, dtype=torch.int32)
        inputs |= {"lengths": cpu.to(generator.device), "lengths_cpu": cpu}
    return inputs


def _discard(state: tuple[torch.Tensor, ...], pages: torch.Tensor, row: int) -> None:
    """Fill pages with UNUSED from a row on."""
    if len(pages) and row < state[0].shape[1]:
        for pool in state:
            pool[pages.long(), row:] = UNUSED


def decode(q, *, state, block_table, lengths=None, lengths_cpu=None, scale=None):
    """One query at a time: q [B,Q,H,K] -> o [B,Q,H,V]."""
    B, Q, H, K = q.shape
    scale = K**-0.5 if scale is None else scale
    known = lengths_cpu if lengths_cpu is not None else lengths
    whole = [block_table.shape[1] * state[0].shape[1]] * B if known is None else known.tolist()
    o = q.new_zeros(B, Q, H, state[1].shape[-1])
    for n, length in enumerate(whole):
        # [P page, HK, D]
        keys, values = (pool[block_table[n].long()].flatten(0, 1) for pool in state)
        for i in range(Q):
            seen = length - Q + 1 + i
            if seen > 0:
                grouped = q[n, i].unflatten(0, (keys.shape[1], -1)) * scale
                scores = torch.einsum("hgk,jhk->hgj", grouped, keys[:seen])
                o[n, i] = torch.einsum("hgj,jhv->hgv", scores.softmax(-1), values[:seen]).flatten(0, 1)
    return o


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs 2 (K + V) for each query, head and row it sees; bytes of q, o, every row in use once, lengths and table."""
    p, lengths, Q = problem, lengths_of(problem), int(problem.axis("queries"))
    pairs = float(p.H * sum(Q * length - Q * (Q - 1) // 2 for length in lengths))
    flops = 2.0 * pairs * (p.K + p.V)
    cache = float(p.itemsize * sum(lengths) * (p.HK * p.K + p.HV * p.V))
    tokens = p.itemsize * p.B * Q * p.H * (p.K + p.V)
    page = int(p.axis("page"))
    table = LENGTH_BYTES * sum(-(-length // page) for length in lengths) if page else 0
    given = LENGTH_BYTES * p.B if page or p.axis("ragged") else 0
    return Cost(flops, flops, cache + tokens + table + given, cache, special=pairs)


def defined_on(problem: Problem) -> str | None:
    """Queries may share keys and values, in groups; keys and values come in pairs; the queries lie in the cache."""
    p, Q = problem, int(problem.axis("queries"))
    if p.HK != p.HV or p.HK > p.H:
        return f"attention over a cache has HK = HV <= H, not H = {p.H}, HK = {p.HK}, HV = {p.HV}"
    if p.T < Q:
        return f"a cache of T = {p.T} tokens does not hold {Q} queries"
    return None


attention_decode = Operator(
    name="attention_decode",
    tags=("quadratic", "softmax", "cache"),
    paper="Vaswani et al. 2017, arXiv:1706.03762; pages: Kwon et al. 2023, arXiv:2309.06180",
    equation="o_i = sum_{j < L-Q+1+i} softmax_j(q_i . k_j / sqrt(K)) v_j over a cache of L tokens",
    inputs=make_inputs,
    oracle=decode,
    step=decode,
    cost=cost,
    axes=(
        Axis("page", PAGES, "rows of a page; 0: each sequence has one contiguous cache"),
        Axis("ragged", (False, True), "whether cache lengths differ over the batch, T the longest", drawn=True),
        Axis("queries", QUERIES, "newest tokens of a sequence that attend together", drawn=True),
    ),
    dims={
        "q": "B Q H K",
        "state": ("P S HK K", "P S HV V"),
        "block_table": "B M",
        "lengths": "B",
        "lengths_cpu": "B",
    },
    # A contiguous cache belongs to its sequence; pages of a pool are found by the block table, wherever they lie.
    moves=lambda p: {} if p.axis("page") else {"state": ("B S HK K", "B S HV V"), "block_table": "1 M"},
    passes=("decode",),
    stateful=False,
    supports=defined_on,
)
