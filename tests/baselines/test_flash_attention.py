"""The adapters to FlashAttention, called on a stand-in for the library that computes with the oracle."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from baselines.attention.softmax_attention.flash_attention import FLASH_2, FLASH_4, supports_4
from kernels.attention.softmax_attention.spec import attention, softmax_attention
from suite import Problem
from suite.checks.checker import Checker
from suite.checks.inputs import draw_inputs
from suite.numerics import difference
from suite.targets import aim

NAMES = ("flash_attn_2", "flash_attn_4")


def flash_attn_func(q, k, v, softmax_scale=None, causal=False):
    return attention(q, k, v, causal=causal, scale=softmax_scale)[0]


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale=None, causal=False
):
    assert q.ndim == k.ndim == v.ndim == 3
    assert torch.equal(cu_seqlens_q, cu_seqlens_k)
    assert cu_seqlens_q.dtype == torch.int32
    assert max_seqlen_q == max_seqlen_k == int(cu_seqlens_q.diff().max())
    return attention(q[None], k[None], v[None], causal=causal, scale=softmax_scale, cu_seqlens=cu_seqlens_q)[0][0]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A flash_attn and a flash_attn.cute in sys.modules, with the keywords that the real entries have."""
    root, cute = ModuleType("flash_attn"), ModuleType("flash_attn.cute")
    for entry in (flash_attn_func, flash_attn_varlen_func):
        setattr(root, entry.__name__, entry)
    cute.flash_attn_func = lambda *args, **words: (flash_attn_func(*args, **words), None)
    monkeypatch.setitem(sys.modules, "flash_attn", root)
    monkeypatch.setitem(sys.modules, "flash_attn.cute", cute)
    return cute


def error_of(name: str, at: Problem) -> float:
    at = softmax_attention.complete(at)
    inputs = draw_inputs(softmax_attention, at, seed=0)
    expected = attention(
        *(inputs[n].double() for n in "qkv"), causal=at.axis("causal"), cu_seqlens=inputs.get("cu_seqlens")
    )
    o, final = softmax_attention.implementations[name].fn(**inputs, causal=at.axis("causal"))
    assert final is None
    return difference(o, expected[0], token_dim=1).error


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["flash_attn_2", "flash_attn_4"])
@pytest.mark.parametrize("causal", [True, False])
def test_dense_calls(name: str, causal: bool) -> None:
    at = Problem(B=2, T=13, H=4, HK=2, HV=2, K=16, dtype="fp32", axes=(("causal", causal),))
    assert error_of(name, at) < 1e-5


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("causal", [True, False])
def test_packed_calls_of_flash_attn_2(causal: bool) -> None:
    at = Problem(T=40, H=4, HK=2, HV=2, K=16, dtype="fp32", layout="packed:ragged", axes=(("causal", causal),))
    assert error_of("flash_attn_2", at) < 1e-5


def refusing(message: str, backward: bool) -> Any:
    """A flash_attn_func of the library's own that asserts in one of its passes."""
    words = {"__name__": "flash_attn.cute.interface", "torch": torch, "message": message, "backward": backward}
    exec(LIBRARY, words)
    return words["flash_attn_func"]


LIBRARY = """
class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        assert backward, message
        return q + k + v

    @staticmethod
    def backward(ctx, do):
        raise AssertionError(message)

def flash_attn_func(q, k, v, **words):
    return Attention.apply(q, k, v), None
"""
ARCH = "Unsupported compute capability. Supported: 9.x, 10.x, 11.x, 12.x"
DIMS = "(head_dim, head_dim_v)=(16, 16) is not supported on SM100/SM110."


@pytest.mark.parametrize(
    ("message", "status"), [(ARCH, "unsupported"), (DIMS, "unsupported"), ("tile_m", "error"), ("", "error")]
)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_what_flash_attn_4_has_no_kernel_for_is_unsupported_in_both_passes(
    message: str, status: str, backward: bool, library: ModuleType
) -> None:
    library.flash_attn_func = refusing(message, backward)
    at = softmax_attention.complete(Problem(T=8, K=16, dtype="fp16", pass_="fwdbwd"))
    checker = Checker(softmax_attention, at, device="cpu", seed=0)
    found = checker.check(softmax_attention.implementations["flash_attn_4"], {})
    assert found.status == status
    assert message in found.reason
    assert found.reason.startswith("flash-attn-4: " if status == "unsupported" else "AssertionError: ")


@pytest.mark.parametrize(
    ("arch", "pass_", "served"),
    [
        ("sm_80", "fwd", True),
        ("sm_80", "bwd", False),
        ("sm_80", "fwdbwd", False),
        ("sm_90", "bwd", True),
        ("sm_100", "fwdbwd", True),
    ],
)
def test_flash_attn_4_has_a_backward_pass_from_hopper_on(arch: str, pass_: str, served: bool) -> None:
    with aim(arch):
        assert (supports_4(Problem(T=8, K=64, pass_=pass_), {}) is None) == served


@pytest.mark.parametrize("requirement", [FLASH_2, FLASH_4], ids=["2", "4"])
def test_an_absent_library_gives_the_command_that_installs_it(requirement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason = requirement.missing()
    assert reason.startswith(f"{requirement.distribution} is not installed: pip install ")
    assert f"'{requirement.distribution}{requirement.versions}'" in reason


def test_each_adapter_is_a_cuda_peer_with_its_requirement() -> None:
    for name in NAMES:
        made = softmax_attention.implementations[name]
        assert (made.origin, made.devices, made.dtypes) == ("peer", {"cuda"}, {"bfloat16", "float16"})
        assert made.requires is (FLASH_4 if name == "flash_attn_4" else FLASH_2)


@pytest.mark.parametrize(
    ("name", "dims", "reason"),
    [
        ("flash_attn_2", {"K": 64, "V": 128}, "one head dimension"),
        ("flash_attn_2", {"K": 512}, "up to 256, not K512"),
        ("flash_attn_4", {"K": 60}, "not K60"),
        ("flash_attn_4", {"K": 64, "V": 264}, "not V264"),
        ("flash_attn_4", {"K": 64, "V": 128}, None),
        ("flash_attn_2", {"H": 4, "HK": 2, "HV": 2}, None),
    ],
)
def test_what_each_library_takes(name: str, dims, reason: str | None) -> None:
    supports = softmax_attention.implementations[name].supports
    assert supports is not None
    found = supports(Problem(T=8, **dims), {})
    assert found is None if reason is None else reason in found
