"""Sliding-window attention in PyTorch against the oracle on the CPU, and FlashAttention on a stand-in."""

from __future__ import annotations

import shutil
import sys
from types import ModuleType

import pytest
import torch

import baselines.attention.sliding_window_attention.flash_attention
import baselines.attention.sliding_window_attention.flash_linear_attention
import baselines.attention.sliding_window_attention.naive
import baselines.attention.sliding_window_attention.sdpa  # noqa: F401  (registers)
from baselines.attention.sliding_window_attention import flex
from baselines.attention.softmax_attention.flash_linear_attention import FLA
from kernels.attention.sliding_window_attention.spec import sliding_window_attention, windowed_attention
from kernels.attention.softmax_attention.spec import attention, softmax_attention
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.numerics import difference

SEQUENCES = ("naive", "sdpa_math")
BANDS = [(True, 7, 1), (False, 13, 1), (True, 7, 3), (False, 7, 2), (True, 1, 1), (False, 128, 1), (True, 64, 16)]


def problem(band: tuple[bool, int, int] = (True, 7, 1), **changes) -> Problem:
    causal, window, dilation = band
    axes = (("causal", causal), ("window", window), ("dilation", dilation))
    return Problem(**{"T": 63, "H": 2, "K": 32, "dtype": "fp32", "axes": axes} | changes)


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("band", BANDS)
def test_output_and_gradients_match_the_oracle(implementation: str, band) -> None:
    # A token that sees itself alone has no gradient in q and k.
    pass_ = "fwd" if band[1] == 1 else "fwdbwd"
    at = problem(band, H=4, HK=2, HV=2, B=2, V=48, pass_=pass_)
    for seed in range(4):
        check = check_case(sliding_window_attention, implementation, at, seed=seed)
        assert check.status == "ok", check.reason


@pytest.mark.parametrize("band", [(True, 7, 3), (False, 13, 1)])
def test_naive_keeps_packed_sequences_apart(band) -> None:
    at = problem(band, T=70, layout="packed:ragged", pass_="fwdbwd")
    for seed in range(at.N):
        check = check_case(sliding_window_attention, "naive", at, seed=seed)
        assert check.status == "ok", check.reason


def test_a_window_of_the_whole_sequence_is_softmax_attention() -> None:
    q, k, v = (torch.randn(1, 40, 2, 8, dtype=torch.float64) for _ in range(3))
    for causal in (True, False):
        o, _ = windowed_attention(q, k, v, causal=causal, window=40)
        assert torch.allclose(o, attention(q, k, v, causal=causal)[0])


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
def test_flex_sees_the_band() -> None:
    check = check_case(sliding_window_attention, "flex", problem((False, 7, 3), T=40))
    assert check.status == "ok", check.reason


def test_flex_skips_blocks_outside_of_the_band() -> None:
    mask = flex._mask(1024, True, 128, 1, torch.device("cpu"))
    assert flex._mask(1024, True, 128, 1, torch.device("cpu")) is mask
    # Of 8 x 8 blocks of 128 those on the diagonal and beside it.
    assert (
        int(mask.kv_num_blocks.sum() + (0 if mask.full_kv_num_blocks is None else mask.full_kv_num_blocks.sum())) == 15
    )


def flash_attn_func(q, k, v, softmax_scale=None, causal=False, window_size=(-1, -1)):
    left, right = window_size
    assert right == (0 if causal else left)
    return windowed_attention(q, k, v, causal=causal, window=left + 1, scale=softmax_scale)[0]


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
):
    left, right = window_size
    assert right == (0 if causal else left)
    o, _ = windowed_attention(
        q[None], k[None], v[None], causal=causal, window=left + 1, scale=softmax_scale, cu_seqlens=cu_seqlens_q
    )
    return o[0]


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """flash_attn and flash_attn.cute in sys.modules, with the keywords that the real entries have."""
    found = {name: ModuleType(name) for name in ("flash_attn", "flash_attn.cute")}
    for entry in (flash_attn_func, flash_attn_varlen_func):
        setattr(found["flash_attn"], entry.__name__, entry)
    found["flash_attn.cute"].__dict__["flash_attn_func"] = lambda *x, **words: (flash_attn_func(*x, **words), None)
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)


def error_of(name: str, at: Problem) -> float:
    at = sliding_window_attention.complete(at)
    inputs = draw_inputs(sliding_window_attention, at, seed=0)
    words = sliding_window_attention.kwargs_of(at)
    wide = {n: inputs[n].double() for n in "qkv"}
    expected, _ = windowed_attention(**wide, **words, cu_seqlens=inputs.get("cu_seqlens"))
    made = sliding_window_attention.implementations[name]
    tensors = {n: x for n, x in inputs.items() if n in made.parameters}
    o, final = made.fn(**tensors, **{n: word for n, word in words.items() if n in made.parameters})
    assert final is None
    return difference(o, expected, token_dim=1).error


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["flash_attn_2", "flash_attn_4"])
@pytest.mark.parametrize("causal", [True, False])
def test_libraries_get_the_window_in_their_own_terms(name: str, causal: bool) -> None:
    assert error_of(name, problem((causal, 7, 1), B=2, T=20, H=4, HK=2, HV=2, K=16)) < 1e-5


@pytest.mark.usefixtures("libraries")
def test_packed_calls_of_flash_attn_2() -> None:
    assert error_of("flash_attn_2", problem(T=40, K=16, layout="packed:ragged")) < 1e-5


@pytest.mark.parametrize("name", ["flash_attn_2", "flash_attn_4", "fla_parallel"])
def test_dilation_is_refused_by_name(name: str) -> None:
    made = sliding_window_attention.implementations[name]
    assert (made.origin, made.dtypes) == ("peer", {"bfloat16", "float16"})
    reason = made.unsupported(problem((True, 7, 2), dtype="bf16"), {}, sliding_window_attention.axes)
    assert reason == f"{name} serves only dilation-1, not dilation-2"


def test_fla_refuses_full_attention_and_wide_keys_and_tells_how_it_is_installed(monkeypatch) -> None:
    made = softmax_attention.implementations["fla_parallel"]
    assert made.supports is not None
    assert "not K512" in str(made.supports(Problem(T=8, K=512), {}))
    assert made.supports(Problem(T=8, K=256), {}) is None
    full = softmax_attention.complete(Problem(T=8, axes=(("causal", False),)))
    assert made.unsupported(full, {}, softmax_attention.axes) == "fla_parallel serves only causal, not no-causal"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    command = "pip install 'fla-core>=0.6,<0.7' einops (set peers of docs/peers.md)"
    assert FLA.missing() == f"fla-core is not installed: {command}"


def test_naive_executes_the_whole_square() -> None:
    at = sliding_window_attention.complete(problem(T=10, H=3, K=4, V=8, B=2))
    cost = sliding_window_attention.cost_of(at, sliding_window_attention.implementations["naive"], {})
    assert cost.flops_exec == 2 * 2 * 3 * 10 * 10 * (4 + 8)
    assert cost.flops_alg < cost.flops_exec
