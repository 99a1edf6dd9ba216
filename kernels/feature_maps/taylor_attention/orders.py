"""Both orders of evaluating Taylor-softmax attention, what they cost, and the length at which they cross.

    direct:    the T x T weights 1 + x + x^2/2, then their product with V: quadratic in T
    efficient: V against the F features of all keys, then the features of each query: linear in T, cubic in K

F = 1 + K + K(K+1)/2: a product of two different elements is kept once. Counts are FLOPs with 2 a multiply-add, and
elements of memory at the peak; `paper_counts` is the paper's own convention, where d = K = V and both orders of a
product are kept. All crossovers are lengths T: above them the efficient order needs less.
Source: Nauen et al. 2024, arXiv:2403.02920, sections 3 and 4.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from kernels.feature_maps.maps import taylor_count

# A fused direct order takes q k^T and a v forward; q k^T and do v^T twice, and three sums, backward. (of K, of V)
PRODUCTS = {"fwd": (1, 1), "bwd": (4, 3), "fwdbwd": (5, 4)}


class Counts(NamedTuple):
    """What one head of one sequence costs in each order."""

    direct: float
    efficient: float


def pair_flops(K: int, V: int) -> int:
    """One (query, key) pair: q . k, 1 + x (1 + x/2), its sum, its product with v."""
    return 2 * K + 5 + 2 * V


def fused_flops(pass_: str, K: int, V: int) -> int:
    """One pair's products in a direct order that keeps no weights and makes them again for dq, and for dk and dv."""
    of_K, of_V = PRODUCTS[pass_]
    return 2 * (of_K * K + of_V * V)


def token_flops(K: int, V: int) -> int:
    """One token in the efficient order: K(K+1) for each of two rows' features, 2FV and F in, 2FV and 2F out."""
    F = taylor_count(K)
    return 2 * K * (K + 1) + 4 * F * V + 3 * F


def pairs(T: int, causal: bool) -> float:
    """(query, key) pairs of one sequence."""
    return T * (T + 1) / 2 if causal else float(T * T)


def flops(T: int, K: int, V: int, causal: bool) -> Counts:
    """FLOPs of one head of T tokens."""
    return Counts(pairs(T, causal) * pair_flops(K, V), T * token_flops(K, V))


def entries(T: int, K: int, V: int) -> Counts:
    """Elements in memory at the peak, beside q, k and v: T^2 weights twice, or the state and a tensor's features."""
    F = taylor_count(K)
    return Counts(2.0 * T * T, F * (V + 1) + T * F)


def speed_crossover(K: int, V: int, causal: bool) -> float:
    """The T at which both orders need as many FLOPs: F K / (K + V), nearly, and twice that where causal."""
    balance = token_flops(K, V) / pair_flops(K, V)
    return 2 * balance - 1 if causal else balance


def memory_crossover(K: int, V: int) -> float:
    """The T at which both orders need as much memory: the root of 2 T^2 = F (V + 1) + F T."""
    F = taylor_count(K)
    return (F + sqrt(F * F + 8 * F * (V + 1))) / 4


def paper_counts(T: int, d: int) -> tuple[Counts, Counts]:
    """Operations and matrix entries of one head as the paper counts them."""
    operations = Counts(4 * T * T * d + 6 * T * T, T * (4 * d**3 + 10 * d**2 + 9 * d + 4))
    held = Counts(d * T + 2 * T * T, d * d * (d + 1) + 2 * d * T + (d + 1) * T + d * d * T)
    return operations, held


def paper_crossovers(d: int) -> tuple[float, float]:
    """(N_0, N_1) of the paper, for operations and for entries; at most d^2 + d + 3/4 and d^2/2 + 2d + 1/2."""
    speed = (4 * d**3 + 10 * d**2 + 9 * d + 4) / (4 * d + 6)
    memory = ((d + 1) ** 2 + sqrt(d**4 + 12 * d**3 + 14 * d**2 + 4 * d + 1)) / 4
    return speed, memory
