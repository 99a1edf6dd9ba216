"""Both orders on tensors, differentiable: checks the call and launches the kernels."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kernels.common.arguments import check_flags
from kernels.common.heads import sum_heads
from kernels.common.packed import packing, without_tokens
from kernels.common.shapes import power_of_2
from kernels.feature_maps.taylor_attention.direct import taylor_fwd_direct_kernel
from kernels.feature_maps.taylor_attention.direct_backward import taylor_bwd_dk_dv_kernel, taylor_bwd_dq_kernel
from kernels.feature_maps.taylor_attention.efficient import taylor_fwd_product_kernel, taylor_fwd_state_kernel
from kernels.feature_maps.taylor_attention.efficient_backward import (
    taylor_bwd_efficient_dk_dv_kernel,
    taylor_bwd_efficient_dq_kernel,
    taylor_bwd_efficient_state_kernel,
)
from kernels.feature_maps.taylor_attention.plan import tile
from kernels.scalar_decay.autograd import check_tensors
from suite.errors import UsageError


@dataclass(frozen=True)
class Call:
    """One call's shapes, as every launch needs them; cu_seqlens [N + 1] is on q's device, or is None."""

    sequences: int
    longest: int
    T: int
    H: int
    HK: int
    K: int
    V: int
    dtype: str
    causal: bool
    cu_seqlens: torch.Tensor | None

    def blocks(self, kernel: str) -> int:
        """Blocks of the longest sequence that a kernel's programs hold."""
        return -(-self.longest // tile(kernel, self.K, self.V, self.dtype, self.causal).held)

    def grid(self, kernel: str) -> tuple[int]:
        return (self.sequences * self.H * self.blocks(kernel),)

    def options(self, kernel: str) -> dict[str, Any]:
        """Sizes, tile and precision of a launch; dk_dv holds keys, the others queries."""
        t = tile(kernel, self.K, self.V, self.dtype, self.causal)
        rows = {"BT": t.walked, "BS": t.held} if kernel == "dk_dv" else {"BT": t.held, "BS": t.walked}
        return {
            "cu_seqlens": self.cu_seqlens,
            "T": self.T,
            "blocks": self.blocks(kernel),
            "H": self.H,
            "HK": self.HK,
            "K": self.K,
            "V": self.V,
            **rows,
            "BK": power_of_2(self.K),
            "BV": power_of_2(self.V),
            "CAUSAL": self.causal,
            "PRECISION": "tf32x3" if self.dtype == "float32" else "tf32",
            "num_warps": t.warps,
            "num_stages": t.stages,
        }

    @property
    def features(self) -> tuple[int]:
        """The grid of a state of the efficient order: a block of features of a head of keys."""
        return (self.sequences * self.HK * (self.K + 1),)

    def rowwise(self, kernel: str) -> dict[str, Any]:
        """Options of a kernel of the efficient order that holds rows, without the heads."""
        return {key: each for key, each in self.options(kernel).items() if key not in ("H", "HK", "CAUSAL", "BS")}

    def blockwise(self, kernel: str) -> dict[str, Any]:
        """Options of one that holds a block of features and walks over rows, without the heads."""
        return self.rowwise(kernel) | {"blocks": self.K + 1, "BT": self.options(kernel)["BS"]}


def call_of(q, k, v, temperature, *, causal: bool, cu_seqlens, cu_seqlens_cpu) -> Call:
    """The call that these tensors make. UsageError if shapes or dtypes do not fit together."""
    check_flags(causal=causal)
    s = check_tensors(q, k, v, {"temperature": (temperature, "H")})
    T, H, HK, HV, K, V = (s[name] for name in ("T", "H", "HK", "HV", "K", "V"))
    if s["HS"] != H or HV != HK:
        raise UsageError(f"heads H = {H}, HK = {HK}, HV = {HV}: give k and v the same, at most H")
    sequences, longest, _ = packing(cu_seqlens, cu_seqlens_cpu, q)
    dtype = str(q.dtype).removeprefix("torch.")
    sizes = {"sequences": sequences, "longest": longest, "T": T, "H": H, "HK": HK, "K": K, "V": V}
    return Call(**sizes, dtype=dtype, causal=causal, cu_seqlens=cu_seqlens)


def taylor_direct(q, k, v, temperature, call: Call):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V], temperature [H] -> o [B,T,H,V] in q's dtype."""
    if not q.shape[0] * call.T:
        return _without_tokens(q, k, v, temperature)
    return _Direct.apply(q, k, v, temperature, call)


def taylor_efficient(q, k, v, temperature, call: Call):
    """The same result from one state of all keys. Raises UsageError if causal."""
    if call.causal:
        raise UsageError("the efficient order keeps one state of all keys, so it is full; use the direct one")
    if not q.shape[0] * call.T:
        return _without_tokens(q, k, v, temperature)
    training = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, temperature))
    return _Efficient.apply(q, k, v, temperature, call, training)


def _without_tokens(q, k, v, temperature):
    (o,) = without_tokens((q.new_empty(*q.shape[:3], v.shape[3]),), (q, k, v, temperature), ())
    return o


class _Direct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, temperature, call):
        q, k, v, temperature = (x.contiguous() for x in (q, k, v, temperature))
        o = q.new_empty(*q.shape[:3], call.V)
        den = q.new_empty(q.shape[:3], dtype=torch.float32)
        inputs = {"q": q, "k": k, "v": v, "temperature": temperature}
        taylor_fwd_direct_kernel[call.grid("direct")](**inputs, o=o, den=den, **call.options("direct"))
        ctx.save_for_backward(q, k, v, temperature, o, den)
        ctx.call = call
        return o

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        q, k, v, temperature, o, den = ctx.saved_tensors
        call, do = ctx.call, gradients[0].contiguous()
        dq, delta = torch.empty_like(q), torch.empty_like(den)
        # Packed, the blocks of a short sequence that lie beyond its end write nothing.
        parts = q.new_zeros(call.sequences * call.blocks("dq"), call.H, dtype=torch.float32)
        both = {"q": q, "k": k, "v": v, "temperature": temperature, "do": do, "den": den, "delta": delta}
        taylor_bwd_dq_kernel[call.grid("dq")](**both, o=o, dq=dq, d_temperature=parts, **call.options("dq"))
        dk, dv = (q.new_empty(*q.shape[:3], size) for size in (call.K, call.V))
        taylor_bwd_dk_dv_kernel[call.grid("dk_dv")](**both, dk=dk, dv=dv, **call.options("dk_dv"))
        return dq, sum_heads(dk, k), sum_heads(dv, v), parts.sum(0).to(temperature.dtype), None


class _Efficient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, temperature, call, training):
        q, k, v, temperature = (x.contiguous() for x in (q, k, v, temperature))
        S, z = _states(call, q)
        taylor_fwd_state_kernel[call.features](k=k, v=v, S=S, z=z, H=call.HK, **call.blockwise("efficient"))
        o = q.new_empty(*q.shape[:3], call.V)
        den = q.new_empty(q.shape[:3], dtype=torch.float32) if training else None
        state = {"S": S, "z": z, "H": call.H, "HK": call.HK}
        taylor_fwd_product_kernel[call.grid("efficient")](
            q=q, temperature=temperature, **state, o=o, den=den, **call.rowwise("efficient")
        )
        ctx.save_for_backward(q, k, v, temperature, o, den, S, z)
        ctx.call = call
        return o

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        q, k, v, temperature, o, den, S, z = ctx.saved_tensors
        call, do = ctx.call, gradients[0].contiguous()
        dq, delta = torch.empty_like(q), torch.empty_like(den)
        # Packed, the blocks of a short sequence that lie beyond its end write nothing.
        parts = q.new_zeros(call.sequences * call.blocks("efficient_dq"), call.H, dtype=torch.float32)
        both = {"q": q, "temperature": temperature, "do": do, "den": den, "delta": delta, "H": call.H, "HK": call.HK}
        taylor_bwd_efficient_dq_kernel[call.grid("efficient_dq")](
            **both, S=S, z=z, o=o, dq=dq, d_temperature=parts, **call.rowwise("efficient_dq")
        )
        G, g = _states(call, q)
        taylor_bwd_efficient_state_kernel[call.features](**both, G=G, g=g, **call.blockwise("efficient_dq"))
        dk, dv = torch.empty_like(k), torch.empty_like(v)
        taylor_bwd_efficient_dk_dv_kernel[(call.sequences * call.HK * call.blocks("efficient_dk_dv"),)](
            k=k, v=v, G=G, g=g, dk=dk, dv=dv, H=call.HK, **call.rowwise("efficient_dk_dv")
        )
        return dq, dk, dv, parts.sum(0).to(temperature.dtype), None, None


def _states(call: Call, like):
    """Room for a state and its normaliser of every head of keys, fp32; the entry after the last block is of values."""
    S = like.new_empty(call.sequences, call.HK, call.K + 2, call.K, call.V, dtype=torch.float32)
    return S, like.new_empty(S.shape[:-1], dtype=torch.float32)
