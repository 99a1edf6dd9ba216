"""What the specifications of the attention operators share: one query over its keys, costs, and the I/O bound."""

from __future__ import annotations

import torch

from suite import Cost, Problem
from suite.cost import grad_io_bytes, io_bytes


def attend(q, k, v):
    """One query of each head over its keys: q [B,H,K] already scaled, k [B,J,H,K], v [B,J,H,V] -> [B,H,V]."""
    scores = torch.einsum("bhk,bjhk->bhj", q, k)
    return torch.einsum("bhj,bjhv->bhv", scores.softmax(-1), v)


def defined_on(problem: Problem) -> str | None:
    """Queries may share keys and values, in groups; keys and values come in pairs."""
    p = problem
    if p.HK != p.HV or p.HK > p.H:
        return f"softmax attention has HK = HV <= H, not H = {p.H}, HK = {p.HK}, HV = {p.HV}"
    return None


def sequence_cost(problem: Problem, pairs: float) -> Cost:
    """Cost of the forward or backward pass over so many (query, key) pairs of one head.

    FLOPs 2 (K + V) a pair and head; backward 2 (3K + 2V), which is 2.5 times that at K = V. One exponential a pair.
    """
    p = problem
    width, moved = (p.K + p.V, io_bytes(p)) if p.pass_ == "fwd" else (3 * p.K + 2 * p.V, grad_io_bytes(p))
    flops = 2.0 * pairs * p.H * width
    return Cost(flops, flops, moved, special=pairs * p.H)


def io_bound_bytes(problem: Problem, pairs: float, on_chip_bytes: float) -> float:
    """A lower bound, up to a constant, of the bytes that exact attention moves through an on-chip memory of that size.

    With M elements on chip and d^2 = K V, a head's forward pass moves pairs d^2 / M elements where M >= d^2 and
    pairs d / sqrt(M) below. Convention: the constant, which the theorem leaves open, is 1; pairs counts what is seen,
    so T (T + 1) / 2 where causal; all heads and sequences run through the same memory one after the other. It is a
    bound on scores computed by products, not on the inputs: compulsory bytes hold beside it.
    Source: Saha and Ye 2024, arXiv:2402.07443.
    """
    p = problem
    elements, area = on_chip_bytes / p.itemsize, p.K * p.V
    a_pair = area / elements if elements >= area else (area / elements) ** 0.5
    return p.itemsize * p.H * pairs * a_pair
