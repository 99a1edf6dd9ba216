"""FlexAttention: compiled or not at all."""

from __future__ import annotations

import shutil

import pytest
import torch

from baselines.attention.softmax_attention import flex
from baselines.attention.softmax_attention.naive import naive
from kernels.attention.softmax_attention.spec import softmax_attention
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.guarding import Guard
from suite.errors import Unsupported

compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")


@compiles
def test_compiled_output_matches_the_oracle() -> None:
    at = Problem(B=2, T=63, H=4, HK=2, HV=2, K=32, V=48, dtype="fp32")
    for seed in range(4):
        check = check_case(softmax_attention, "flex", at, seed=seed)
        assert check.status == "ok", check.reason


@compiles
@pytest.mark.long
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("causal", [True, False])
def test_other_shapes_and_dtypes(causal: bool, dtype: str) -> None:
    at = Problem(T=130, H=2, K=64, dtype=dtype, axes=(("causal", causal),))
    check = check_case(softmax_attention, "flex", at)
    assert check.status == "ok", check.reason


@compiles
def test_what_runs_is_compiled_even_under_a_dispatch_mode() -> None:
    q = torch.randn(1, 63, 2, 32)
    with Guard(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        o, _ = flex.flex(q, q, q, scale=0.5)
    assert torch.allclose(o, naive(q, q, q, scale=0.5)[0], atol=1e-5)
    events = {event.key for event in profile.key_averages()}
    assert any("Torch-Compiled Region" in event for event in events)
    # What the uncompiled form multiplies and exponentiates with.
    assert not events & {"aten::matmul", "aten::bmm", "aten::softmax", "aten::exp2"}


def test_the_limit_on_compiled_shapes_is_raised_and_never_lowered() -> None:
    flex._compiled()
    assert torch._dynamo.config.recompile_limit >= flex.MAX_SHAPES


def test_the_mask_of_a_length_is_made_once() -> None:
    first = flex._causal_mask(70, torch.device("cpu"))
    assert flex._causal_mask(70, torch.device("cpu")) is first
    dense = torch.nn.attention.flex_attention.create_mask(first.mask_mod, None, None, 3, 3, device="cpu")
    assert torch.equal(dense.squeeze(), torch.ones(3, 3, dtype=torch.bool).tril())


def test_gradients_on_a_cpu_are_unsupported() -> None:
    check = check_case(softmax_attention, "flex", Problem(T=16, K=32, dtype="fp32", pass_="fwdbwd"))
    assert check.status == "unsupported"
    assert "backward" in check.reason


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    q = torch.randn(1, 8, 1, 32)
    with pytest.raises(Unsupported, match="install no-such-compiler"):
        flex.flex(q, q, q)


@pytest.mark.parametrize("dims", [{"K": 8, "V": 32}, {"K": 32, "V": 8}])
def test_small_head_dims_are_unsupported(dims) -> None:
    check = check_case(softmax_attention, "flex", Problem(T=16, dtype="fp32", **dims))
    assert check.status == "unsupported"
    assert "at least 16" in check.reason
