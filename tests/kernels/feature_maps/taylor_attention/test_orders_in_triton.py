"""Both orders in Triton's interpreter against the oracle: forward, and every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kernels.feature_maps.taylor_attention.plan import key
from kernels.feature_maps.taylor_attention.register import direct_taylor_attention, efficient_taylor_attention
from kernels.feature_maps.taylor_attention.spec import taylor_attention
from suite import Problem
from suite.checks.checker import check_case
from suite.numerics import difference
from suite.targets import aim
from suite.tuning import forcing
from tests.parameters import with_long

pytestmark = pytest.mark.interpret

FULL = {"causal": False}
GQA = {"H": 4, "HK": 2, "HV": 2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "two_tokens": ({}, {"T": 2}),
    "tail": ({}, {"T": 63, "B": 2, "H": 1}),
    "grouped": ({}, {"T": 40, "K": 60, "V": 100, **GQA}),
    "grouped_full": (FULL, {"T": 70, "K": 100, "V": 60, **GQA}),
    "packed": ({}, {"T": 90, "layout": "packed:ragged", "dtype": "fp16"}),
    "packed_full": (FULL, {"T": 90, "layout": "packed:ragged", "H": 1}),
    "half": ({}, {"T": 130, "K": 64, "V": 64, "dtype": "fp16", "H": 1}),
    "half_full": (FULL, {"T": 150, "dtype": "fp16", "H": 1}),
}


@pytest.mark.parametrize("name", with_long(CASES, "grouped_full", "packed_full", "half_full"))
def test_output_and_gradients(name: str) -> None:
    own, sizes = CASES[name]
    problem = Problem(**{"H": 2, "K": 32, "V": 32, "dtype": "fp32", "pass_": "fwdbwd", **sizes})
    problem = taylor_attention.complete(problem, own)
    for seed in {0, problem.N - 1} if problem.layout != "dense" else {0}:
        found = check_case(taylor_attention, "triton_direct", problem, device="interpret", seed=seed)
        assert found.ok, found.reason
        assert set(found.errors) == {"o", "dq", "dk", "dv", "dtemperature"}
        assert found.repeatable


@pytest.mark.parametrize("causal", [True, False])
def test_any_tile_gives_the_same(causal: bool) -> None:
    problem = taylor_attention.complete(Problem(T=70, K=16, dtype="fp16", pass_="fwdbwd"), {"causal": causal})
    for held, walked in ((16, 64), (64, 16)):
        launch = {"held": held, "walked": walked, "warps": 4, "stages": 1}
        with forcing({key(each, 16, 16, "float16", causal): launch for each in ("direct", "dq", "dk_dv")}):
            found = check_case(taylor_attention, "triton_direct", problem, device="interpret")
        assert found.ok, found.reason


EFFICIENT: dict[str, dict[str, Any]] = {
    "tail": {"T": 63, "K": 7, "V": 20, "B": 2, "H": 1},
    "grouped": {"T": 20, "K": 12, "H": 4, "HK": 2, "HV": 2},
    "packed": {"T": 90, "K": 6, "layout": "packed:ragged", "H": 1},
    "half": {"T": 100, "K": 32, "V": 16, "dtype": "fp16", "H": 1},
    "wide": {"T": 150, "K": 64, "V": 48, "HK": 1, "HV": 1, "dtype": "fp16"},
    "odd": {"T": 90, "K": 100, "V": 60, "H": 1},
}


@pytest.mark.parametrize("name", with_long(EFFICIENT, "packed", "half", "wide", "odd"))
def test_the_efficient_order_without_causality(name: str) -> None:
    problem = Problem(**{"H": 2, "dtype": "fp32", "pass_": "fwdbwd", **EFFICIENT[name]})
    problem = taylor_attention.complete(problem, FULL)
    for seed in {0, problem.N - 1} if problem.layout != "dense" else {0}:
        found = check_case(taylor_attention, "triton_efficient", problem, device="interpret", seed=seed)
        assert found.ok, found.reason
        assert set(found.errors) == {"o", "dq", "dk", "dv", "dtemperature"}
        assert found.repeatable


@pytest.mark.parametrize(
    ("served", "causal"),
    [(direct_taylor_attention, True), (efficient_taylor_attention, False)],
    ids=["direct", "efficient"],
)
def test_gradients_are_those_of_the_square(served: Callable[..., Any], causal: bool) -> None:
    """All T x T weights in float64, which share nothing with the kernels or with the oracle's loop."""
    generator = torch.Generator().manual_seed(3)
    wide = [torch.randn(1, 50, 2, 16, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]
    tau = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    q, k, v = wide
    x = torch.einsum("bihk,bjhk->bhij", F.normalize(q, dim=-1) * tau[:, None], F.normalize(k, dim=-1))
    a = 1 + x + x * x / 2
    a = a.tril() if causal else a
    expected = torch.einsum("bhij,bjhv->bihv", a / a.sum(-1, keepdim=True), v)
    seen = torch.arange(1, 51) if causal else torch.full((50,), 50)
    expected = expected * (seen / 16).sqrt()[:, None, None]
    weight = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    right = torch.autograd.grad((expected * weight).sum(), [*wide, tau])
    leaves = [x.detach().float().requires_grad_() for x in (*wide, tau)]
    with aim("sm_90"):
        o, _ = served(*leaves[:3], temperature=leaves[3], causal=causal)
        got = torch.autograd.grad((o * weight.float()).sum(), leaves)
    for name, out, oracle in zip(("o", "dq", "dk", "dv", "dtau"), (o, *got), (expected, *right), strict=True):
        assert difference(out, oracle).error < 1e-4, name


@pytest.mark.parametrize("served", [direct_taylor_attention, efficient_taylor_attention], ids=["direct", "efficient"])
def test_a_row_of_zeros_is_served(served: Callable[..., Any]) -> None:
    q, k, v = (torch.randn(1, 20, 1, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
    q[0, 3] = 0
    k[0, 5] = 0
    with aim("sm_90"):
        o, _ = served(q.requires_grad_(), k.requires_grad_(), v, temperature=torch.ones(1), causal=False)
        dq, dk = torch.autograd.grad(o.sum(), (q, k))
    assert not dq[0, 3].any()
    assert not dk[0, 5].any()
    assert dq.isfinite().all()
    expected, _ = taylor_attention.oracle(q.double(), k.double(), v.double(), temperature=torch.ones(1), causal=False)
    assert difference(o, expected, token_dim=1).error < 1e-4
