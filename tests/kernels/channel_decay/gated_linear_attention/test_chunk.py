"""triton_chunk of GLA against the oracle, in Triton's interpreter: what its family shares is tested here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kernels.channel_decay.gated_linear_attention.chunk import chunk_gated_linear_attention
from kernels.channel_decay.gated_linear_attention.spec import gated_linear_attention, recurrence
from kernels.channel_decay.plan import of_problem, plan, search
from suite import Problem
from suite.numerics import difference
from suite.tuning import forcing
from tests.kernels.channel_decay.cases import SMS, STATE, aimed, check

pytestmark = pytest.mark.interpret

GQA = {"H": 4, "HK": 2, "HV": 2}
PACKED = {"layout": "packed:ragged", **STATE}

# regime, chunk, sizes. Between them, every pair of regime and feature occurs.
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "one_token": ("on-chip", 16, {"T": 1}),
    "tail": ("on-chip", 16, {"T": 40, **STATE, "K": 24, "V": 48}),
    "odd": ("on-chip", 16, {"T": 20, "K": 60, "V": 100}),
    "grouped": ("on-chip", 16, {"T": 18, **GQA}),
    "value_heads": ("on-chip", 16, {"T": 18, "H": 1, "HV": 4}),
    "beyond": ("on-chip", 64, {"T": 20, "H": 1, "HV": 2, "dtype": "fp16"}),
    "packed": ("on-chip", 16, {"T": 70, **PACKED}),
    "half": ("on-chip", 16, {"T": 40, "dtype": "fp16", "state_dtype": "fp16", **STATE}),
    "segments": ("segments", 16, {"T": 130, **STATE}),
    "segments_no_state": ("segments", 16, {"T": 66, "H": 1, "HV": 2}),
    "segments_odd": ("segments", 16, {"T": 66, "K": 60, "V": 20, "dtype": "fp16"}),
    "segments_packed": ("segments", 16, {"T": 160, **PACKED}),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_gradients(name: str) -> None:
    regime, chunk, sizes = CASES[name]
    found = check(gated_linear_attention, regime, sizes, chunk)
    assert found.ok, found.reason
    assert {"o", "dq", "dk", "dv", "dlog_decay"} <= set(found.errors)
    assert found.repeatable


@pytest.mark.parametrize("regime", SMS)
def test_the_tile_of_bf16(regime: str) -> None:
    """The tiles of 64 tokens that bf16 takes, in two slices of K: fp32's are shorter."""
    sizes = {"T": 270 if regime == "segments" else 70, "K": 20, **STATE}
    shape = of_problem(Problem(H=1, V=16, dtype="fp32", **sizes), 64)
    wide = {"width": 16, "warps": 4, "stages": 2, "rows": 64}
    with aimed(regime):
        keys = search(shape, tuple(plan(shape).sweeps))
    with forcing(dict.fromkeys(keys, wide)):
        found = check(gated_linear_attention, regime, sizes, 64)
    assert found.ok, found.reason


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_large_heads(regime: str, size: int) -> None:
    found = check(gated_linear_attention, regime, {"T": 500, "K": size, "V": size, "dtype": "fp16", **STATE}, 64)
    assert found.ok, found.reason


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def gates(kind: str, T: int, K: int) -> torch.Tensor:
    """[1, T, 1, K]: none at all, strong ones, or weak ones among which some forget everything."""
    if kind == "none":
        return torch.zeros(1, T, 1, K)
    if kind == "strong":
        return torch.full((1, T, 1, K), -20.0)
    if kind == "long":
        return torch.full((1, T, 1, K), -1e-4)
    mixed = -0.05 * draw(1, T, 1, K).abs()
    mixed[:, 5::17, :, ::2] = -torch.inf
    mixed[:, 9::23] = -1e4
    mixed[:, 3::13, :, 1::2] = -20
    return mixed


def all_of(run: Callable[..., Any], dtype: torch.dtype, g: torch.Tensor, K: int) -> dict[str, torch.Tensor]:
    """o, the final state and every gradient, with both outputs in the loss."""
    T = g.shape[1]
    inputs = [draw(1, T, 1, K, dtype=dtype), draw(1, T, 1, K, dtype=dtype) / 2, draw(1, T, 1, 20, dtype=dtype)]
    leaves = [x.requires_grad_() for x in (*inputs, g.to(dtype).clone(), draw(1, 1, K, 20, dtype=dtype))]
    o, end = run(*leaves[:4], initial_state=leaves[4], output_final_state=True)
    loss = (o * draw(*o.shape, dtype=dtype)).sum() + (end * draw(*end.shape, dtype=dtype)).sum()
    found = torch.autograd.grad(loss, leaves)
    return dict(zip(("o", "end", "dq", "dk", "dv", "dg", "dS"), (o, end, *found), strict=True))


@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("kind", ["none", "strong", "mixed"])
def test_extreme_gates(kind: str, regime: str) -> None:
    g = gates(kind, 66, 16)
    with aimed(regime):
        found = all_of(lambda *a, **w: chunk_gated_linear_attention(*a, chunk=16, **w), torch.float32, g, 16)
    expected = all_of(recurrence, torch.float64, g, 16)
    # Where gates forget all, their gradients are what remains of sums of terms as large as the other gradients.
    floor = 1e-2 * max(x.square().mean().sqrt().item() for name, x in expected.items() if name.startswith("d"))
    for name, right in expected.items():
        assert difference(found[name], right, floor=floor).error < 1e-4, name


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
def test_long_memory(regime: str) -> None:
    g = gates("long", 2000, 16)
    with aimed(regime):
        found = all_of(lambda *a, **w: chunk_gated_linear_attention(*a, chunk=64, **w), torch.float32, g, 16)
    for name, right in all_of(recurrence, torch.float64, g, 16).items():
        assert difference(found[name], right).error < 1e-4, name


@pytest.mark.parametrize("regime", SMS)
def test_two_halves_with_the_carried_state_are_the_whole(regime: str) -> None:
    inputs = [draw(1, 80, 1, 16), draw(1, 80, 1, 16), draw(1, 80, 1, 20), gates("mixed", 80, 16)]
    options = {"output_final_state": True, "chunk": 16}
    with aimed(regime):
        whole, end = chunk_gated_linear_attention(*inputs, **options)
        first, state = chunk_gated_linear_attention(*(x[:, :37] for x in inputs), **options)
        second, last = chunk_gated_linear_attention(*(x[:, 37:] for x in inputs), initial_state=state, **options)
    assert difference(torch.cat([first, second], 1), whole, 1).error < 3e-5
    assert difference(last, end).error < 3e-5


def quadratic(q, k, v, log_decay) -> torch.Tensor:
    """The T x T form, which shares nothing with the recurrence or the chunks."""
    G = log_decay.cumsum(1)
    pairs = (G[:, :, None] - G[:, None]).clamp_max(0).exp()
    scores = torch.einsum("bihk,bjhk,bijhk->bhij", q, k, pairs).tril() * q.shape[-1] ** -0.5
    return torch.einsum("bhij,bjhv->bihv", scores, v)


def test_gradients_are_those_of_the_quadratic_form() -> None:
    exact = [draw(1, 40, 2, d, dtype=torch.float64) for d in (16, 16, 24)]
    exact = [x.requires_grad_() for x in (*exact, torch.nn.functional.logsigmoid(draw(1, 40, 2, 16).double()))]
    single = [x.detach().float().requires_grad_() for x in exact]
    with aimed("on-chip"):
        o, _ = chunk_gated_linear_attention(*single, chunk=16)
        expected = quadratic(*exact)
        weight = draw(*o.shape)
        found = torch.autograd.grad((o * weight).sum(), single)
    right = torch.autograd.grad((expected * weight).sum(), exact)
    for name, mine, oracle in zip(("q", "k", "v", "log_decay"), found, right, strict=True):
        assert difference(mine, oracle, 1).error < 1e-5, name


def test_gradient_of_the_final_state_alone() -> None:
    def gradients(run: Callable[..., Any], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        leaves = [x.to(dtype).requires_grad_() for x in (draw(1, 30, 1, 16), draw(1, 30, 1, 20))]
        g = gates("mixed", 30, 16).to(dtype).requires_grad_()
        _, end = run(leaves[0], leaves[0], leaves[1], g, output_final_state=True)
        return torch.autograd.grad(end.square().sum(), [*leaves, g])

    with aimed("on-chip"):
        found = gradients(lambda *a, **w: chunk_gated_linear_attention(*a, chunk=16, **w), torch.float32)
    for out, oracle in zip(found, gradients(recurrence, torch.float64), strict=True):
        assert difference(out, oracle).error < 1e-4


@pytest.mark.parametrize("spoiled", range(4), ids=["q", "k", "v", "log_decay"])
def test_nan_is_not_hidden(spoiled: int) -> None:
    inputs = [draw(1, 20, 1, 16), draw(1, 20, 1, 16), draw(1, 20, 1, 16), gates("strong", 20, 16) / 100]
    inputs[spoiled][0, 7, 0, 3] = torch.nan
    with aimed("on-chip"):
        o, _ = chunk_gated_linear_attention(*inputs, chunk=16)
    assert torch.isnan(o[:, 7]).any()
    assert torch.isnan(o[:, 7:]).any(-1).all() or spoiled == 0
