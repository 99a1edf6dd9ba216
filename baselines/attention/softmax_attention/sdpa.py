"""PyTorch's scaled_dot_product_attention, forced to one backend at a time.

`sdpa_kernel` with a single backend makes PyTorch raise where that backend cannot serve a call; it never takes another
one. What only PyTorch knows (the GPU, its dtypes and head dimensions) so surfaces as `unsupported` in PyTorch's words.
Entry:
torch.nn.functional.scaled_dot_product_attention inside torch.nn.attention.sdpa_kernel, torch 2.9 and later.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from baselines.attention.softmax_attention.naive import square_flops
from baselines.attention.softmax_attention.shapes import same_dims
from kernels.attention.softmax_attention.spec import softmax_attention
from suite import Problem
from suite.errors import Unsupported
from suite.problem import Value

HALVES = ("bfloat16", "float16")
# How PyTorch and cuDNN say that a backend cannot serve a call.
REFUSALS = ("No available kernel", "No viable backend", "No execution plans")


@dataclass(frozen=True)
class Backend:
    """One backend of scaled_dot_product_attention, as far as it is known before a call."""

    choice: SDPBackend
    devices: tuple[str, ...]
    dtypes: tuple[str, ...] = (*HALVES, "float32")
    supports: Callable[[Problem, Mapping[str, Value]], str | None] | None = None
    flops_exec: Callable[[Problem, Mapping[str, Value]], float] | None = None
    deterministic: bool = False


BACKENDS = {
    # On a GPU flash takes half precision only; PyTorch says so when called. Fused backward passes add dq atomically.
    "flash": Backend(SDPBackend.FLASH_ATTENTION, ("cuda", "cpu"), supports=same_dims),
    "cudnn": Backend(SDPBackend.CUDNN_ATTENTION, ("cuda",), HALVES),
    "efficient": Backend(SDPBackend.EFFICIENT_ATTENTION, ("cuda",)),
    "math": Backend(SDPBackend.MATH, ("cuda", "cpu"), flops_exec=square_flops, deterministic=True),
}


def attend(
    choice: SDPBackend,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool,
    scale: float | None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention by one backend on transposed views: q [B,T,H,K], k [B,S,HK,K], v [B,S,HK,V] -> o [B,T,H,V].

    mask [T,S] is true where a query sees a key; with one, causal is False.
    Raises Unsupported with PyTorch's reason when that backend cannot serve the call.
    """
    qh, kh, vh = (x.transpose(1, 2) for x in (q, k, v))
    grouped = q.shape[2] != k.shape[2]

    def call() -> torch.Tensor:
        with sdpa_kernel(choice):
            return F.scaled_dot_product_attention(
                qh, kh, vh, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
            )

    try:
        return call().transpose(1, 2)
    except RuntimeError as error:
        if not any(words in str(error) for words in REFUSALS):
            raise
        raise Unsupported(f"PyTorch's {choice.name} backend: {_reason(call) or error}") from error


def _reason(call: Callable[[], torch.Tensor]) -> str:
    """What PyTorch warns of while it refuses a call, joined into one line."""
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(RuntimeError):
        warnings.simplefilter("always")
        call()
    lines = [str(each.message).partition(" (Triggered internally")[0].strip() for each in caught]
    return " ".join(line for line in lines if not line.endswith(":"))


def _register(name: str, backend: Backend) -> None:
    @softmax_attention.implementation(
        f"sdpa_{name}",
        origin="baseline",
        devices=backend.devices,
        dtypes=backend.dtypes,
        supports=backend.supports,
        flops_exec=backend.flops_exec,
        deterministic=backend.deterministic,
    )
    def sequence(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = True, scale: float | None = None
    ) -> tuple[torch.Tensor, None]:
        return attend(backend.choice, q, k, v, causal=causal, scale=scale), None


for _name, _backend in BACKENDS.items():
    _register(_name, _backend)
