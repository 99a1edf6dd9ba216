"""Both attention operators' triton_flash against their oracles, in Triton's interpreter: forward and every gradient."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

import kernels.attention.sliding_window_attention.flash
import kernels.attention.softmax_attention.flash  # noqa: F401  (registers)
from baselines.attention.sliding_window_attention import naive as naive_window
from baselines.attention.softmax_attention import naive as naive_softmax
from kernels.attention import configs, launch, plan
from kernels.attention.autograd import flash_attention
from kernels.attention.sliding_window_attention.spec import sliding_window_attention
from kernels.attention.softmax_attention.spec import softmax_attention
from kernels.attention.tiles import FORWARD, Tile
from suite import Operator, Problem
from suite.checks.checker import check_case
from suite.checks.guarding import Guard
from suite.numerics import difference
from suite.static.global_traffic import issued
from suite.targets import REPRESENTATIVES, aim

pytestmark = pytest.mark.interpret

FULL = {"causal": False}
GQA = {"H": 4, "HK": 2, "HV": 2}
RAGGED, HALVES = {"layout": "packed:ragged"}, {"layout": "packed:halves"}
HALF = {"dtype": "fp16"}
POINTERS = "pointers"

# Axes, sizes, way of loading. fp32 has blocks of 64 queries and 32 keys, fp16 of 128 and 64 at K = 64: between them the
# cases have whole and ragged blocks, those that need a mask on either side, and those that need none.
SOFTMAX: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # A token that sees only itself has no gradient in q and k; fp32's rounding of 0 is above its limit.
    "one_token": ({}, {"T": 1, **HALF}, "auto"),
    "ragged": ({}, {"T": 63}, POINTERS),
    "blocks": ({}, {"T": 130, "H": 1}, "auto"),
    "full": (FULL, {"T": 100, "B": 2}, POINTERS),
    "full_blocks": (FULL, {"T": 128, "H": 1}, "auto"),
    "grouped": ({}, {"T": 100, **GQA}, "auto"),
    "grouped_full": (FULL, {"T": 70, "H": 4, "HK": 1, "HV": 1}, POINTERS),
    "odd_dims": ({}, {"T": 70, "K": 60, "V": 100, "H": 1}, "auto"),
    "odd_dims_full": (FULL, {"T": 40, "K": 100, "V": 60, "H": 1}, POINTERS),
    "dims_by_descriptors": (FULL, {"T": 70, "K": 96, "V": 40, "H": 1}, "descriptors"),
    "packed": ({}, {"T": 150, **RAGGED}, "auto"),
    "packed_full": (FULL, {"T": 130, **HALVES, "H": 2, "HK": 1, "HV": 1}, "auto"),
    "half": ({}, {"T": 300, "H": 1, **HALF}, "auto"),
    "half_pointers": ({}, {"T": 200, "K": 128, "V": 128, "H": 1, **HALF}, POINTERS),
    "half_grouped": (FULL, {"T": 140, **HALF, **GQA}, POINTERS),
    "wide": ({}, {"T": 70, "K": 256, "V": 256, "H": 1, **HALF}, "auto"),
}
WINDOW: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one_token": ({"window": 7}, {"T": 1, **HALF}, "auto"),
    "only_itself": ({"window": 1}, {"T": 40, "H": 1, **HALF}, "auto"),
    "short": ({"window": 7}, {"T": 100}, POINTERS),
    "short_both": ({"window": 13, **FULL}, {"T": 130, "H": 1}, "auto"),
    "whole_tiles": ({"window": 64}, {"T": 200, "H": 1}, "auto"),
    "odd": ({"window": 100}, {"T": 250, "H": 1}, POINTERS),
    "odd_both": ({"window": 100, **FULL}, {"T": 260, "H": 1}, "auto"),
    "beyond": ({"window": 1024}, {"T": 70}, "auto"),
    "beyond_both": ({"window": 128, **FULL}, {"T": 70, "H": 1}, POINTERS),
    "dilated": ({"window": 7, "dilation": 2}, {"T": 101, **GQA}, "auto"),
    "dilated_both": ({"window": 13, "dilation": 3, **FULL}, {"T": 100, "H": 1}, "auto"),
    "dilated_more_than_tokens": ({"window": 7, "dilation": 8}, {"T": 5, "H": 1, **HALF}, "auto"),
    "dilated_blocks": ({"window": 64, "dilation": 2}, {"T": 270, "H": 1}, "auto"),
    "packed": ({"window": 13}, {"T": 150, **RAGGED, "HK": 1, "HV": 1}, "auto"),
    "packed_dilated": ({"window": 7, "dilation": 2, **FULL}, {"T": 100, **HALVES, "H": 1}, "auto"),
    "odd_dims": ({"window": 64}, {"T": 100, "K": 60, "V": 100, "H": 1}, "auto"),
    "half": ({"window": 100}, {"T": 300, "H": 1, **HALF}, "auto"),
    "half_both": ({"window": 64, **FULL}, {"T": 300, "H": 1, **HALF}, POINTERS),
}
CASES = [
    pytest.param(operator, *case, id=f"{operator.name}-{name}")
    for operator, cases in ((softmax_attention, SOFTMAX), (sliding_window_attention, WINDOW))
    for name, case in cases.items()
]


@pytest.mark.parametrize(("operator", "axes", "sizes", "loads"), CASES)
def test_outputs_and_gradients(operator: Operator, axes: dict[str, Any], sizes: dict[str, Any], loads: str) -> None:
    at = Problem(**{"H": 2, "K": 64, "dtype": "fp32", "pass_": "fwdbwd"} | sizes, axes=tuple(axes.items()))
    check = check_case(operator, "triton_flash", at, {"loads": loads}, device="interpret")
    assert check.status == "ok", check.reason
    assert set(check.errors) == {"o", "dq", "dk", "dv"}
    assert check.repeatable


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


Pairs = list[tuple[torch.Tensor, torch.Tensor]]


def both(inputs: list[torch.Tensor], causal: bool, window: int = 0, **words: Any) -> Pairs:
    """(ours in fp32, the naive form in fp64) of o, dq, dk, dv on the same inputs."""

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        if dtype == torch.float32:
            o = flash_attention(*leaves, causal=causal, window=window, **words)
        elif window:
            o, _ = naive_window.naive(*leaves, causal=causal, window=window, **words)
        else:
            o, _ = naive_softmax.naive(*leaves, causal=causal, **words)
        return [o, *torch.autograd.grad(o, leaves, draw(*o.shape, seed=9).to(dtype))]

    with aim("sm_90"):
        return list(zip(run(torch.float32), run(torch.float64), strict=True))


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("words", [{}, {"window": 13}, {"window": 20, "dilation": 3}], ids=["all", "window", "dilated"])
@pytest.mark.parametrize("bounds", [None, (0, 1, 30, 100, 140)], ids=["dense", "packed"])
def test_gradients_are_those_of_the_naive_form(causal: bool, words: dict[str, int], bounds) -> None:
    B, T = (2, 70) if bounds is None else (1, 140)
    inputs = [draw(B, T, 2, 32, seed=1), draw(B, T, 1, 32, seed=2), draw(B, T, 1, 48, seed=3)]
    packing: dict[str, Any] = {} if bounds is None else {"cu_seqlens": torch.tensor(bounds, dtype=torch.int32)}
    for found, expected in both(inputs, causal, **words, **packing):
        assert difference(found, expected, token_dim=1).error < 1e-5


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("words", [{}, {"window": 13}, {"window": 20, "dilation": 3}], ids=["all", "window", "dilated"])
@pytest.mark.parametrize("T", [150, 70])
def test_two_blocks_of_queries_a_program_give_the_same(
    monkeypatch, causal: bool, words: dict[str, int], T: int
) -> None:
    # Of 32 queries each: there are whole pairs, ragged ones, and such whose second block is empty.
    pair = asdict(Tile(64, 16, 4, 3, parts=2))
    monkeypatch.setattr(configs, "choice", lambda key: pair if key.startswith(f"attention/{FORWARD}/") else None)
    monkeypatch.setattr(plan, "FILLED", 0.0)
    launched = []
    monkeypatch.setattr(launch, "flash_fwd_pair_kernel", noted(launch.flash_fwd_pair_kernel, launched))
    inputs = [draw(2, T, 2, 32, seed=1), draw(2, T, 1, 32, seed=2), draw(2, T, 1, 48, seed=3)]
    for found, expected in both(inputs, causal, **words):
        assert difference(found, expected, token_dim=1).error < 1e-5
    assert launched


def noted(kernel: Any, launched: list[Any]) -> Any:
    """The kernel; each launch adds its grid to `launched`."""

    class Noted:
        def __getitem__(self, grid: Any) -> Any:
            launched.append(grid)
            return kernel[grid]

    return Noted()


@pytest.mark.parametrize("window", [0, 13])
@pytest.mark.parametrize("sign", [1, -1])
def test_logits_of_ten_thousand_give_numbers(window: int, sign: int) -> None:
    # All keys of a query score near sign x 1e4: exponentials that are not taken of differences over- or underflow.
    q, k, v = torch.full((1, 70, 1, 64), 35.0), sign * torch.full((1, 70, 1, 64), 35.0), draw(1, 70, 1, 64)
    (o, expected), *gradients = both([q, k + 1e-3 * draw(1, 70, 1, 64, seed=5), v], True, window)
    # fp32 knows such a score to 1e-3; dq and dk cancel to less than that.
    assert difference(o, expected).error < 5e-3
    assert difference(*gradients[2]).error < 5e-3
    assert all(torch.isfinite(found).all() for found, _ in gradients)


def test_a_winner_takes_all() -> None:
    inputs = [100 * draw(1, 70, 1, 64, seed=seed) for seed in (1, 2)]
    (o, expected), *gradients = both([*inputs, draw(1, 70, 1, 64, seed=3)], True)
    assert difference(o, expected).error < 1e-3
    assert all(torch.isfinite(found).all() for found, _ in gradients)


def test_a_nan_reaches_those_who_see_it_and_no_others() -> None:
    q, k, v = (draw(1, 70, 1, 32, seed=seed) for seed in (1, 2, 3))
    k[0, 40] = torch.nan
    with aim("sm_90"):
        o = flash_attention(q, k, v, causal=True, window=13)
    wrong = torch.isnan(o).any(-1).flatten()
    assert wrong.nonzero().flatten().tolist() == list(range(40, 53))


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
def test_every_block_is_computed_whatever_the_sections(causal: bool) -> None:
    inputs = [draw(2, 70, 2, 32, seed=seed) for seed in (1, 2, 3)]

    def run(l2_bytes: int) -> list[torch.Tensor]:
        leaves = [x.clone().requires_grad_() for x in inputs]
        # Guarded memory is NaN at first: what an earlier run left there cannot stand for a block.
        with Guard(), aim(replace(REPRESENTATIVES["sm_90"], l2_bytes=l2_bytes)):
            o = flash_attention(*leaves, causal=causal)
            return [o, *torch.autograd.grad(o, leaves, draw(*o.shape, seed=9))]

    whole = run(50 << 20)
    # Keys and values of a head take 70 x 64 x 4 bytes: here all 4 rows are a section, there 3 of them and 1.
    for bytes_ in (1, 2 * 3 * 70 * 64 * 4):
        assert all(torch.equal(a, b) for a, b in zip(run(bytes_), whole, strict=True))


@pytest.mark.parametrize(
    ("operator", "own"),
    [
        (softmax_attention, {}),
        (softmax_attention, FULL),
        (sliding_window_attention, {"window": 100}),
        (sliding_window_attention, {"window": 64, "dilation": 2, **FULL}),
    ],
)
@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
def test_executed_flops_are_those_of_the_products(operator: Operator, own: dict[str, Any], pass_: str) -> None:
    made = operator.implementations["triton_flash"]
    problem = operator.complete(Problem(T=300, K=64, dtype="fp16", pass_=pass_), own)
    tunables = made.default_tunables
    target = REPRESENTATIVES["sm_90"]
    found = issued(operator, made, problem, tunables, target, 300)
    assert not found.reason
    with aim(target):
        assert operator.cost_of(problem, made, tunables).flops_exec == found.dot_flops


def test_views_and_a_scale_are_served_as_they_are() -> None:
    parts = draw(1, 50, 2, 96).split(32, dim=-1)
    with aim("sm_90"):
        o = flash_attention(*parts, causal=True, scale=0.5)
        q, k, v = (x.contiguous() for x in parts)
        expected = flash_attention(2 * q, k, v, causal=True, scale=0.25)
    assert torch.allclose(o, expected, atol=1e-6)


def test_without_gradients_no_log_sum_exp_is_kept() -> None:
    q = draw(1, 20, 1, 32)
    with aim("sm_90"):
        plain = flash_attention(q, q, q, causal=True)
        trained = flash_attention(q, q, q.clone().requires_grad_(), causal=True)
    assert plain.grad_fn is None
    assert torch.equal(plain, trained.detach())
