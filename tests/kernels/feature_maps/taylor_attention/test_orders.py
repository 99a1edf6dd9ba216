"""Both orders of evaluating Taylor-softmax attention: one result, and the lengths at which their costs cross."""

from __future__ import annotations

from itertools import count

import pytest
import torch
import torch.nn.functional as F

from kernels.feature_maps.maps import taylor_count, taylor_features
from kernels.feature_maps.taylor_attention.orders import (
    entries,
    flops,
    fused_flops,
    memory_crossover,
    pair_flops,
    paper_counts,
    paper_crossovers,
    speed_crossover,
    token_flops,
)
from kernels.feature_maps.taylor_attention.spec import attention, taylor_attention
from suite import Problem
from suite.checks.inputs import draw_inputs


@pytest.mark.parametrize("causal", [True, False])
def test_the_efficient_order_is_the_direct_one_to_rounding(causal: bool) -> None:
    problem = taylor_attention.complete(Problem(T=30, H=2, K=7, V=5, dtype="fp32"), {"causal": causal})
    inputs = {name: x.double() for name, x in draw_inputs(taylor_attention, problem, seed=0).items()}
    direct, _ = attention(**inputs, causal=causal)
    # Features divide each row by K^(1/4): with that undone, their product is the series of x.
    q = F.normalize(inputs["q"], dim=-1) * inputs["temperature"][:, None] * 7**0.25
    k = F.normalize(inputs["k"], dim=-1) * 7**0.25
    of_q, of_k, v = (x.transpose(1, 2) for x in (taylor_features(q), taylor_features(k), inputs["v"]))
    S, z = torch.einsum("bhtf,bhtv->bhtfv", of_k, v).cumsum(2), of_k.cumsum(2)
    if not causal:
        S, z = S[:, :, -1:].expand_as(S), z[:, :, -1:].expand_as(z)
    efficient = torch.einsum("bhtf,bhtfv->bhtv", of_q, S) / (of_q * z).sum(-1, keepdim=True)
    seen = torch.arange(1, 31) if causal else torch.full((30,), 30)
    efficient = efficient * (seen.double() / 7).sqrt()[:, None]
    torch.testing.assert_close(efficient.transpose(1, 2), direct, rtol=1e-12, atol=1e-12)


def crossing(direct_and_efficient) -> int:
    """The smallest T at which the efficient order needs less, by trying each."""
    return next(T for T in count(1) if direct_and_efficient(T).efficient < direct_and_efficient(T).direct)


@pytest.mark.parametrize(("K", "V"), [(4, 4), (8, 16), (16, 16), (20, 7)])
@pytest.mark.parametrize("causal", [True, False])
def test_speed_crosses_where_the_formula_says(K: int, V: int, causal: bool) -> None:
    assert crossing(lambda T: flops(T, K, V, causal)) == int(speed_crossover(K, V, causal)) + 1


@pytest.mark.parametrize(("K", "V"), [(4, 4), (8, 16), (16, 16), (20, 7)])
def test_memory_crosses_where_the_formula_says(K: int, V: int) -> None:
    assert crossing(lambda T: entries(T, K, V)) == int(memory_crossover(K, V)) + 1


@pytest.mark.parametrize("d", [4, 8, 16, 24])
def test_the_paper_s_crossovers_are_those_of_its_counts(d: int) -> None:
    speed, memory = paper_crossovers(d)
    assert crossing(lambda T: paper_counts(T, d)[0]) == int(speed) + 1
    assert crossing(lambda T: paper_counts(T, d)[1]) == int(memory) + 1
    assert speed <= d * d + d + 0.75
    assert memory <= d * d / 2 + 2 * d + 0.5


def test_flops_are_what_the_formulas_do() -> None:
    """Counted one operation at a time, on one pair and on one token."""
    K, V = 5, 3
    pair = K + (K - 1) + 1  # q . k, and its scale
    pair += 4  # 1 + x (1 + x / 2)
    pair += 1 + 2 * V  # the sum of weights; a v added
    assert pair_flops(K, V) == pair
    distinct = [(i, j) for i in range(K) for j in range(i, K)]
    row = sum(2 for _ in distinct)  # a product and its weight
    width = 1 + K + len(distinct)
    assert width == taylor_count(K)
    assert token_flops(K, V) == 2 * row + width * (2 * V + 1) + width * (2 * V + 2)


def test_the_cost_takes_the_cheaper_order() -> None:
    found = {}
    for T in (64, 128, 1024, 2048):
        problem = taylor_attention.complete(Problem(T=T, H=2, K=16, V=16, dtype="fp32"), {"causal": False})
        found[T] = taylor_attention.cost_of(problem).flops_alg
    assert found[128] > 3.5 * found[64]
    assert found[2048] == 2 * found[1024]


def test_fused_products() -> None:
    K, V = 5, 3
    forward = 2 * K + 2 * V
    # dq: q k^T, do v^T, dx k. dk and dv: k q^T, a do, v do^T, dx q.
    backward = (2 * K + 2 * V + 2 * K) + (2 * K + 2 * V + 2 * V + 2 * K)
    assert [fused_flops(pass_, K, V) for pass_ in ("fwd", "bwd", "fwdbwd")] == [forward, backward, forward + backward]
