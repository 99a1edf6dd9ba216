"""Chunked linear recurrences on tensors, differentiable: checks the call, plans it, and gives autograd one function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable

from kernels.common.arguments import Given, Options, check_chunk, check_flags, check_heads, check_states, fit, given
from kernels.common.heads import sum_heads
from kernels.common.packed import packing, room, without_tokens
from kernels.common.shapes import MAX_DIM
from kernels.scalar_decay.launch import Call, Inputs, Kept, Segments, State, backward, forward
from kernels.scalar_decay.plan import plan
from kernels.scalar_decay.shape import Shape
from suite.errors import UsageError


class Gates(NamedTuple):
    """Decay, skip and output gate of a recurrence, each None where there is none.

        S_t = exp(g_t) S_{t-1} + w_t k_t v_t^T      o_t = (s q_t^T S_t + skip v_t) silu(out_gate_t)

    log_decay: g <= 0 in natural logarithms, [HS], a constant without gradient, or [B, T, HS]; then w = 1
    dt, A:     step sizes [B, T, HS] and rates <= 0 [HS]: g = dt A, w = dt; instead of log_decay
    skip:      [HS]
    out_gate:  [B, T, HS, V] in v's dtype
    """

    log_decay: torch.Tensor | None = None
    dt: torch.Tensor | None = None
    A: torch.Tensor | None = None
    skip: torch.Tensor | None = None
    out_gate: torch.Tensor | None = None

    @property
    def decay(self) -> str:
        """The kind of decay, as the kernels name it; see device.py."""
        if self.dt is not None:
            return "step"
        if self.log_decay is None:
            return "none"
        return "head" if self.log_decay.ndim == 1 else "token"

    @property
    def gate(self) -> torch.Tensor | None:
        """The tensor that kernels load per token: dt or log_decay [B, T, HS], or None."""
        return self.log_decay if self.decay == "token" else self.dt

    @property
    def rate(self) -> torch.Tensor | None:
        """The tensor that kernels load per head: A or log_decay [HS], or None."""
        return self.log_decay if self.decay == "head" else self.A

    def check(self, v: torch.Tensor) -> None:
        """UsageError on a learned log_decay [HS], and on an out_gate of another dtype than v [B, T, HV, V]."""
        if self.decay == "head" and self.log_decay is not None and self.log_decay.requires_grad:
            raise UsageError("log_decay [HS] has no gradient here; detach it, or expand it to [B, T, HS]")
        if self.out_gate is not None and self.out_gate.dtype != v.dtype:
            raise UsageError(f"out_gate is {self.out_gate.dtype}, v is {v.dtype}; make them agree")

    @property
    def dims(self) -> dict[str, Given]:
        """The given tensors with their dimensions, as `fit` takes them. UsageError on mixed decays."""
        if (self.dt is None) != (self.A is None) or (self.dt is not None and self.log_decay is not None):
            raise UsageError("decays are mixed; give log_decay, or dt and A, or none of them")
        log_decay = "HS" if self.decay == "head" else "B T HS"
        return given(
            {
                "log_decay": (self.log_decay, log_decay),
                "dt": (self.dt, "B T HS"),
                "A": (self.A, "HS"),
                "skip": (self.skip, "HS"),
                "out_gate": (self.out_gate, "B T HS V"),
            }
        )


NO_GATES = Gates()
DEFAULTS = Options()


def chunk_scalar_decay(
    q,
    k,
    v,
    gates: Gates = NO_GATES,
    *,
    feature_map: str = "identity",
    normalised: bool = False,
    causal: bool = True,
    scale: float | None = None,
    eps: float = 0.0,
    options: Options = DEFAULTS,
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V] in q's dtype, final state or None).

    The initial state is S [N,HS,K,V], or the pair (S, z [N,HS,K]) when normalised, or None for zeros; the final state
    has its form and dtype (fp32 for None). cu_seqlens [N+1] cuts the tokens of B = 1 into sequences, cu_seqlens_cpu is
    its copy on the CPU, from which grids are made. If not causal, every token reads the sum over its whole sequence,
    and there are no states. Gradients flow to q, k, v, the gates and the initial state. Raises UsageError on shapes,
    dtypes, a scale or a chunk that cannot be served, on a normaliser beside a decay, and on gates or states without
    causality.
    """
    check_flags(normalised=normalised, causal=causal)
    initial_state, output_final_state = options.initial_state, options.output_final_state
    if normalised and any(x is not None for x in gates):
        raise UsageError("a normalised recurrence takes no gates; leave the gates or the normaliser out")
    if not causal and (initial_state is not None or output_final_state or any(x is not None for x in gates)):
        raise UsageError("without causality there are no gates and no states; leave them out, or set causal")
    call = _call(
        q,
        k,
        v,
        gates,
        feature_map=feature_map,
        normalised=normalised,
        causal=causal,
        scale=scale,
        eps=eps,
        options=options,
    )
    S, z = _states(call, initial_state, q)
    tensors = q, k, v, gates.gate, gates.rate, gates.skip, gates.out_gate
    if not call.shape.tokens:
        o = q.new_empty(*q.shape[:2], call.shape.heads, call.shape.V)
        end = _room(call, q, S, State(S, z)) if output_final_state else ()
        o, *final = without_tokens((o, *end), tensors, (S, z))
        return o, (None if not final else tuple(final) if normalised else final[0])
    training = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (*tensors, S, z))
    o, *final = _Chunked.apply(*tensors, S, z, call, output_final_state, training)
    if not output_final_state:
        return o, None
    return o, (tuple(final) if normalised else final[0])


class Saved(NamedTuple):
    """What the forward pass leaves for the backward one: Inputs, the initial State and Kept, side by side."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    gate: torch.Tensor | None
    rate: torch.Tensor | None
    skip: torch.Tensor | None
    out_gate: torch.Tensor | None
    S: torch.Tensor | None
    z: torch.Tensor | None
    o: torch.Tensor | None
    den: torch.Tensor | None
    y: torch.Tensor | None
    states: torch.Tensor | None
    totals: torch.Tensor | None

    @property
    def inputs(self) -> Inputs:
        return Inputs(self.q, self.k, self.v, self.gate, self.rate, self.skip, self.out_gate)

    @property
    def kept(self) -> Kept:
        return Kept(self.o, self.den, self.y, Segments(self.states, self.totals))


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        *tensors, S, z, call, output_final_state, training = arguments
        q, k, v, *more = (None if each is None else each.contiguous() for each in tensors)
        x = Inputs(q, k, v, *more)  # pyright: ignore[reportArgumentType] - q, k and v are never None
        start = State(*(None if each is None else each.contiguous() for each in (S, z)))
        end = _room(call, x.q, start.S, start) if output_final_state else State()
        o, kept = forward(call, x, start, end, training)
        ctx.save_for_backward(*Saved(*x, *start, kept.o, kept.den, kept.y, *kept.segments))
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, *end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        do, *d_end = (None if each is None else each.contiguous() for each in gradients)
        d_end = State(*d_end)
        saved, call = Saved(*ctx.saved_tensors), ctx.call
        x, start = saved.inputs, State(saved.S, saved.z)
        if do is None:
            do = x.q.new_zeros(*x.q.shape[:2], call.shape.heads, call.shape.V)
        d_start = State() if start.S is None else _room(call, x.q, start.S, d_end)
        d = backward(call, x, saved.kept, do, start, d_start=d_start, d_end=d_end)
        shared = sum_heads(d.q, x.q), sum_heads(d.k, x.k), sum_heads(d.v, x.v)
        gates = (d.gate, x.gate), (d.rate, x.rate), (d.skip, x.skip), (d.out_gate, x.out_gate)
        small = (None if dx is None or y is None else dx.to(y.dtype) for dx, y in gates)
        return *shared, *small, *d_start, None, None, None


def _room(call: Call, like: torch.Tensor, S: torch.Tensor | None, passed: State) -> State:
    """Room for a state in the dtype of S; passed: what empty sequences pass on."""
    s, dtype = call.shape, torch.float32 if S is None else S.dtype
    sizes = s.sequences, s.heads, s.K
    z = room(like, sizes, dtype, passed.z, call.some_empty) if s.normalised else None
    return State(room(like, (*sizes, s.V), dtype, passed.S, call.some_empty), z)


def _call(q, k, v, gates: Gates, *, feature_map, normalised, causal, scale, eps, options: Options) -> Call:
    _, _, cu_seqlens, cu_seqlens_cpu, chunk = options
    check_chunk(chunk)
    s = check_tensors(q, k, v, gates.dims, scale=scale)
    gates.check(v)
    if scale == 0:
        raise UsageError("scale = 0 makes every output 0; use another scale, or None for 1/sqrt(K)")
    B, T, K, V, heads = s["B"], s["T"], s["K"], s["V"], s["HS"]
    sequences, longest, some_empty = packing(cu_seqlens, cu_seqlens_cpu, q)
    dtype = str(q.dtype).removeprefix("torch.")
    shape = Shape(
        sequences=sequences,
        longest=longest,
        tokens=B * T,
        heads=heads,
        K=K,
        V=V,
        chunk=chunk,
        dtype=dtype,
        normalised=normalised,
        feature_map=feature_map,
        packed=cu_seqlens is not None,
        decay=gates.decay,
        causal=causal,
    )
    scale = K**-0.5 if scale is None else scale
    return Call(shape, plan(shape), T, s["H"], s["HK"], s["HV"], cu_seqlens, scale, eps, some_empty)


def check_tensors(
    q, k, v, gates: Mapping[str, Given] | None = None, *, scale=None, largest: int = MAX_DIM
) -> dict[str, int]:
    """Sizes of a call, from `fit`. UsageError where `fit` raises it, or on heads or head dims that do not fit."""
    s = fit({"q": (q, "B T H K"), "k": (k, "B T HK K"), "v": (v, "B T HV V")}, gates, scale=scale)
    H, HK, HV, K, V, heads = (s[name] for name in ("H", "HK", "HV", "K", "V", "HS"))
    check_heads(H, HK, HV, heads)
    if max(K, V) > largest:
        raise UsageError(f"head dims K = {K}, V = {V} are too large; use at most {largest}")
    return s


def parts_of(name: str, state, normalised: bool) -> tuple:
    """S and z, or S and None. UsageError if a state does not have the form that `normalised` requires."""
    parts = state if isinstance(state, tuple) else (state,)
    if isinstance(state, tuple) != normalised or len(parts) != 1 + normalised or any(x is None for x in parts):
        expected = "the pair (S, z)" if normalised else "S alone"
        raise UsageError(f"{name} has the wrong form; normalised = {normalised} takes {expected}")
    return parts if normalised else (state, None)


def _states(call: Call, initial_state, like: torch.Tensor) -> State:
    s = call.shape
    if initial_state is None:
        return State()
    S, z = parts_of("initial_state", initial_state, s.normalised)
    check_states(like, {"initial state S": S, "initial state z": z})
    for name, x, dims in (("S", S, (s.K, s.V)), ("z", z, (s.K,))):
        if x is not None and x.shape != (s.sequences, s.heads, *dims):
            expected = (s.sequences, s.heads, *dims)
            raise UsageError(f"initial state {name} is {tuple(x.shape)}; it must be {expected}")
    return State(S, z)
