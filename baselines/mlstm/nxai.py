"""mLSTM by its authors: adapters to the package mlstm_kernels 2, tiled flash linear attention in Triton for CUDA.

It takes [B,H,T,D] with equal heads, and gates before their activation; transposing and repeating belong to the time.
eps is set to 0, as the equation has none. Its state is (C, n, m) with m [N,H,1], and starts from m = 0 where none is
given. Its backward pass leaves out the gradient through |n . q| and the gradients of n: that is exact only where
exp(-m) is the larger term of the denominator, as it is with a trained model's gate biases. Else they are `incorrect`.
Forget gates' gradients are sums of q dq - k dk there, to which the gradient of the final state is not added.
Source: Beck et al. 2025, arXiv:2503.14376, github.com/NX-AI/mlstm_kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import torch

from baselines.mlstm.gates import State
from kernels.common.heads import expand_heads
from kernels.mlstm.spec import EXP, mlstm
from suite import Problem, Requirement
from suite.problem import Value

# Its kernels use block pointers, which Triton 3.9 has no more.
PACKAGE = Requirement(
    "mlstm_kernels",
    "mlstm_kernels",
    ">=2,<3",
    "pip install 'mlstm_kernels>=2,<3' einops",
    extra="peers-wheels",
    triton="<3.9",
)
CHUNKWISE = "mlstm_kernels.torch.chunkwise"
HALVES = ("bfloat16", "float16")
CHUNKS = (128, 64, 256)
BLOCK = 64


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the package cannot serve a problem, or None."""
    p = problem
    for name, size in (("K", p.K), ("V", p.V)):
        if size % BLOCK and size not in (16, 32):
            return f"mlstm_kernels takes head dims that are multiples of {BLOCK}, not {name}{size}"
    if p.pass_ == "decode":
        return None
    chunk = int(tunables["chunk"])
    if p.T % chunk:
        return f"mlstm_kernels takes lengths that are multiples of the chunk, {chunk}, not T{p.T}"
    if p.differentiates and p.initial_state:
        lacking = "the gradients of n" if p.axis("gate") == EXP else "the final state's in those of the forget gate"
        return f"mlstm_kernels leaves {lacking} out"
    return None


def _rows(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B,T,H,…] -> [B,heads,T,…]."""
    return expand_heads(x, heads).transpose(1, 2).contiguous()


def _scaled(q: torch.Tensor, scale: float | None) -> torch.Tensor:
    # The package divides by sqrt(K) and takes no other scale.
    return q if scale is None else q * (scale * q.shape[-1] ** 0.5)


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@mlstm.implementation(
    "tfla_chunk",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=HALVES,
    tunables={"chunk": CHUNKS},
    requires=PACKAGE,
    supports=supports,
)
def tfla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    input_gate: torch.Tensor,
    forget_gate: torch.Tensor,
    *,
    gate: str = EXP,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    chunk: int = 128,
) -> tuple[torch.Tensor, State | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], gates [B,T,HS] -> (o [B,T,HS,V], state or None) by xl_chunk."""
    exponential = import_module(f"{CHUNKWISE}.triton_xl_chunk").mlstm_chunkwise__xl_chunk
    sigmoid = import_module(f"{CHUNKWISE}.triton_xl_chunk_siging").mlstm_siging_chunkwise__xl_chunk

    heads = max(q.shape[2], v.shape[2])
    rows = [_rows(x, heads) for x in (_scaled(q, scale), k, v)]
    gates = [x.transpose(1, 2).contiguous() for x in (input_gate, forget_gate)]
    words = {"chunk_size": chunk, "return_last_states": output_final_state, "autocast_kernel_dtype": q.dtype}
    if gate == EXP:
        C, n, m = (None, None, None) if initial_state is None else initial_state
        m = None if m is None else m[..., None]
        found = exponential(*rows, *gates, C, n, m, eps=0.0, **words)
    else:
        C = initial_state
        n = None if C is None else C.new_zeros(C.shape[:3])  # pyright: ignore[reportAttributeAccessIssue]
        found = sigmoid(*rows, *gates, C, n, None, normalize=False, eps=0.0, **words)
    if not output_final_state:
        return found.transpose(1, 2), None
    o, (C, *more) = found
    final = (C, more[0], more[1].squeeze(-1)) if gate == EXP else C
    return o.transpose(1, 2), final


@mlstm.implementation(
    "tfla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=PACKAGE, supports=supports
)
def tfla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    input_gate: torch.Tensor,
    forget_gate: torch.Tensor,
    *,
    state: State,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], gates [B,1,HS] -> o [B,1,HS,V], with the exponential gate.

    The package returns a new state; copying it into `state` belongs to the cost of a step that updates in place.
    """
    entry = import_module("mlstm_kernels.torch.recurrent.triton_step").mlstm_recurrent_step__triton

    C, n, m = state
    heads = C.shape[1]
    q, k, v = (expand_heads(x, heads).squeeze(1).contiguous() for x in (_scaled(q, scale), k, v))
    gates = [x.transpose(1, 2).contiguous() for x in (input_gate, forget_gate)]
    o, new = entry(q, k, v, *gates, C, n, m[..., None], eps=0.0, dtype_state=C.dtype)
    for mine, other in zip((C, n, m), (new[0], new[1], new[2].squeeze(-1)), strict=True):
        mine.copy_(other)
    return o[:, None]
