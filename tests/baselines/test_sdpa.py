"""One backend of scaled_dot_product_attention at a time, and never another one in its place."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn.attention import SDPBackend

from baselines.attention.softmax_attention.sdpa import BACKENDS, attend
from kernels.attention.softmax_attention.spec import softmax_attention
from suite import Problem
from suite.checks.checker import check_case
from suite.errors import Unsupported

# The ATen operators by which each backend shows in a profile on the CPU.
FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"
MATH = "aten::_scaled_dot_product_attention_math"


def called(implementation: str) -> set[str]:
    q, k, v = (torch.randn(1, 16, 2, 32) for _ in range(3))
    made = softmax_attention.implementations[implementation]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        made.fn(q, k, v)
    return {event.key for event in profile.key_averages()}


def test_each_backend_is_the_one_that_runs() -> None:
    assert FLASH in called("sdpa_flash")
    assert MATH not in called("sdpa_flash")
    assert MATH in called("sdpa_math")
    assert FLASH not in called("sdpa_math")


def test_a_backend_that_refuses_a_call_is_not_replaced() -> None:
    q, v = torch.randn(1, 16, 2, 32), torch.randn(1, 16, 2, 48)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Unsupported, match=r"FLASH_ATTENTION.*same last dimension"):
            attend(SDPBackend.FLASH_ATTENTION, q, q, v, causal=True, scale=None)


@pytest.mark.parametrize("choice", [SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION])
def test_a_backend_that_is_not_on_the_cpu_raises_there(choice: SDPBackend) -> None:
    q = torch.randn(1, 16, 2, 32)
    with pytest.raises(Unsupported, match=choice.name):
        attend(choice, q, q, q, causal=True, scale=None)


def test_an_error_that_is_no_refusal_stays_an_error() -> None:
    q = torch.randn(1, 16, 2, 32)
    with pytest.raises(RuntimeError) as caught:
        attend(SDPBackend.MATH, q, q[:, :, :, :16], q, causal=False, scale=None)
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_every_backend_is_registered(name: str) -> None:
    made = softmax_attention.implementations[f"sdpa_{name}"]
    assert made.origin == "baseline"
    assert made.passes == {"fwd", "bwd", "fwdbwd"}
    assert made.devices == ({"cuda"} if name in ("cudnn", "efficient") else {"cuda", "cpu"})


@pytest.mark.parametrize(
    ("implementation", "at", "reason"),
    [
        ("sdpa_flash", Problem(T=8, K=32, V=48, dtype="fp32"), "one head dimension"),
        ("sdpa_math", Problem(T=8, layout="packed:halves", dtype="fp32"), "no cu_seqlens"),
        ("sdpa_cudnn", Problem(T=8, dtype="bf16"), "only on cuda"),
    ],
)
def test_what_is_known_before_a_call_is_unsupported_with_its_reason(
    implementation: str, at: Problem, reason: str
) -> None:
    check = check_case(softmax_attention, implementation, at)
    assert check.status == "unsupported"
    assert reason in check.reason


def test_cudnn_takes_no_float32() -> None:
    made = softmax_attention.implementations["sdpa_cudnn"]
    at = softmax_attention.complete(Problem(T=8, dtype="fp32"))
    assert made.unsupported(at, {}, softmax_attention.axes) == "sdpa_cudnn does not take float32"
