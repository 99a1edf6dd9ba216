"""Chunked SSD in Triton: the public function; its kernels are in kernels/scalar_decay."""

from __future__ import annotations

from collections.abc import Mapping

from kernels.common.arguments import Options, check_given
from kernels.scalar_decay.autograd import Gates, chunk_scalar_decay
from kernels.scalar_decay.register import of_chunk
from kernels.scalar_decay.shape import Shape, of_problem
from kernels.scalar_decay.ssd.spec import given, ssd
from suite import Problem
from suite.problem import Value


def shape_of(problem: Problem, tunables: Mapping[str, Value]) -> Shape:
    """The shape by which a problem is planned."""
    return of_problem(problem, int(tunables["chunk"]), decay="step")


@ssd.implementation("triton_chunk", **of_chunk(shape_of))
def chunk_ssd(
    q,
    k,
    v,
    dt,
    A,
    D=None,
    z=None,
    *,
    skip: bool | None = None,
    gated: bool | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q (C) [B,T,H,K], k (B) [B,T,H,K], v (x) [B,T,HV,V] -> (o [B,T,HV,V], final state S [N,HV,K,V] or None).

    dt [B,T,HV], A, D [HV] and z [B,T,HV,V] are as spec.py defines them. skip and gated say whether D and z are
    given; None: as they are. cu_seqlens_cpu is cu_seqlens on the CPU. chunk is a power of 2 of at least 16.
    Differentiable in every tensor, the initial state included. Raises UsageError on bad input.
    """
    given(D, z, skip, gated)
    check_given(dt=dt, A=A)
    options = Options(initial_state, output_final_state, cu_seqlens, cu_seqlens_cpu, chunk)
    return chunk_scalar_decay(q, k, v, Gates(dt=dt, A=A, skip=D, out_gate=z), scale=1.0, options=options)
