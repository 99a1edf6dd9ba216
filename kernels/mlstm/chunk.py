"""Chunked mLSTM in Triton, differentiable: checks the call, plans it, and gives autograd one function."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from kernels.common.arguments import check_chunk, check_given, check_states
from kernels.common.heads import sum_heads
from kernels.common.packed import packing, room, without_tokens
from kernels.mlstm.launch import Call, Inputs, Kept, Segments, State, backward, forward
from kernels.mlstm.plan import MAX_K, MAX_V, plan, registered
from kernels.mlstm.spec import EXP, SIGMOID, mlstm
from kernels.scalar_decay.autograd import check_tensors
from kernels.scalar_decay.shape import Shape
from suite.errors import UsageError, unknown


@mlstm.implementation(
    "triton_chunk", origin="ours", devices={"cuda", "interpret"}, tunables={"chunk": (64, 32, 128, 256)}, **registered()
)
def chunk_mlstm(
    q,
    k,
    v,
    input_gate,
    forget_gate,
    *,
    gate: str = EXP,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], gates [B,T,HS] -> (o [B,T,HS,V], final state or None), as in spec.py.

    The state is (C [N,HS,K,V], n [N,HS,K], m [N,HS]), with gate = "sigmoid" C alone; cu_seqlens_cpu is cu_seqlens on
    the CPU. chunk is a power of 2 of at least 16. Differentiable in q, k, v, the gates, and the initial C and n.
    Raises UsageError on bad input.
    """
    if gate not in (EXP, SIGMOID):
        raise unknown("gate", gate, (EXP, SIGMOID))
    tensors = q, k, v, input_gate, forget_gate
    call = _call(tensors, gate, scale, cu_seqlens, cu_seqlens_cpu, chunk)
    start = check_state(q, initial_state, gate, call.shape.sequences, call.shape.heads, call.shape.K, call.shape.V)
    if not call.shape.tokens:
        return _without_tokens(call, tensors, start, output_final_state)
    training = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (*tensors, *start))
    o, *final = _Chunked.apply(*tensors, *start, call, output_final_state, training)
    if not output_final_state:
        return o, None
    return o, (tuple(final) if gate == EXP else final[0])


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        *tensors, call, output_final_state, training = arguments
        tensors = [None if each is None else each.contiguous() for each in tensors]
        x, start = Inputs(*tensors[:5]), State(*tensors[5:])  # pyright: ignore[reportArgumentType] - no input is None
        end = _room(call, x.q, start, start) if output_final_state else State()
        o, kept, segments = forward(call, x, start, end, training)
        ctx.save_for_backward(*x, *start, *kept, *segments)
        ctx.call = call
        ctx.set_materialize_grads(False)
        if end.m is not None:
            ctx.mark_non_differentiable(end.m)
        return o, *end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        do, dC, dn, _dm = gradients
        saved, call = list(ctx.saved_tensors), ctx.call
        x, start, kept, segments = Inputs(*saved[:5]), State(*saved[5:8]), Kept(*saved[8:13]), Segments(*saved[13:])
        s = call.shape
        if do is None:
            do = x.q.new_zeros(*x.q.shape[:2], s.heads, s.V)
        if s.normalised and (dC is None) != (dn is None):
            dC = torch.zeros(s.sequences, s.heads, s.K, s.V, device=do.device) if dC is None else dC
            dn = torch.zeros(s.sequences, s.heads, s.K, device=do.device) if dn is None else dn
        do, dC, dn = (None if each is None else each.contiguous() for each in (do, dC, dn))
        d_start = State() if start.C is None else _room(call, x.q, start, State(dC, dn))
        found = backward(call, x, kept, segments, do, start, State(dC, dn), d_start)
        shared = (sum_heads(dx, y) for dx, y in zip(found[:3], x[:3], strict=True))
        return *shared, *found[3:], d_start.C, d_start.n, None, None, None, None


def _room(call: Call, like: torch.Tensor, start: State, passed: State) -> State:
    """Room for a state in the dtype of the given one; m is fp32. passed: what empty sequences pass on."""
    s, empty = call.shape, call.some_empty
    dtype, each = torch.float32 if start.C is None else start.C.dtype, (s.sequences, s.heads)
    C = room(like, (*each, s.K, s.V), dtype, passed.C, empty)
    if not s.normalised:
        return State(C)
    n = room(like, (*each, s.K), dtype, passed.n, empty)
    return State(C, n, room(like, each, torch.float32, passed.m, empty, nothing=-torch.inf))


def _without_tokens(call: Call, tensors, start: State, output_final_state: bool):
    """What a call without tokens returns; m has no gradient."""
    s, q = call.shape, tensors[0]
    o = q.new_empty(*q.shape[:2], s.heads, s.V)
    if not output_final_state:
        return *without_tokens((o,), tensors, start[:2]), None
    end = _room(call, q, start, start)
    o, C, n = without_tokens((o, *end[:2]), tensors, start[:2])
    return o, ((C, n, end.m) if s.normalised else C)


def _call(tensors, gate: str, scale, cu_seqlens, cu_seqlens_cpu, chunk: int) -> Call:
    check_chunk(chunk)
    q, *_ = tensors
    s = check_sizes(*tensors, scale=scale)
    if scale == 0:
        raise UsageError("scale = 0 makes every output 0; use another scale, or None for 1/sqrt(K)")
    B, T, heads, K, V = (s[name] for name in ("B", "T", "HS", "K", "V"))
    sequences, longest, some_empty = packing(cu_seqlens, cu_seqlens_cpu, q)
    dtype = str(q.dtype).removeprefix("torch.")
    shape = Shape(
        sequences, longest, B * T, heads, K, V, chunk, dtype, gate == EXP, "identity", cu_seqlens is not None, "token"
    )
    scale = K**-0.5 if scale is None else scale
    return Call(shape, plan(shape), T, s["H"], s["HK"], s["HV"], cu_seqlens, scale, some_empty)


def check_sizes(q, k, v, input_gate, forget_gate, *, scale) -> dict[str, int]:
    """The sizes of a call; UsageError on shapes, dtypes, heads, head dims or a scale that cannot be served."""
    gates = {"input_gate": (input_gate, "B T HS"), "forget_gate": (forget_gate, "B T HS")}
    sizes = check_tensors(q, k, v, gates, scale=scale, largest=MAX_V)
    if sizes["K"] > MAX_K:
        raise UsageError(f"head dim K = {sizes['K']} is too large; use at most {MAX_K}")
    return sizes


def check_state(like: torch.Tensor, state, gate: str, sequences: int, heads: int, K: int, V: int) -> State:
    """The parts of a call's state. UsageError if its form is not the gate's, or a part has another shape."""
    if state is None:
        return State()
    if isinstance(state, tuple) != (gate == EXP) or (gate == EXP and len(state) != 3):
        expected = "the tuple (C, n, m)" if gate == EXP else "C alone"
        raise UsageError(f"the state has the wrong form; gate = {gate} takes {expected}")
    parts = State(*state) if gate == EXP else State(state)
    check_given(**{f"state {name}": x for name, x in parts._asdict().items() if gate == EXP or name == "C"})
    check_states(like, {f"state {name}": x for name, x in parts._asdict().items()})
    for name, x, dims in (("C", parts.C, (K, V)), ("n", parts.n, (K,)), ("m", parts.m, ())):
        if x is not None and x.shape != (sequences, heads, *dims):
            raise UsageError(f"state {name} is {tuple(x.shape)}; it must be {(sequences, heads, *dims)}")
    return parts
