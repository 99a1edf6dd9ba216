"""Cost: the algorithm FLOPs and compulsory bytes of a problem, and the FLOPs that an implementation executes.

Algorithm FLOPs depend only on the problem; utilisation and the roofline use them. Executed FLOPs depend on the
implementation and its tunables; time floors use them. A multiply-add counts 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from suite import dtypes
from suite.problem import Problem


@dataclass(frozen=True)
class Cost:
    """FLOPs and bytes of one call of a pass.

    flops_alg:        FLOPs of the algorithm, independent of any code
    flops_exec:       FLOPs that an implementation executes with its tunables
    bytes_compulsory: each input read once, each output written once
    bytes_state:      the part of bytes_compulsory that is recurrent state or cache
    special:          special-function evaluations (exp, log, …), if they may bound the time
    """

    flops_alg: float
    flops_exec: float
    bytes_compulsory: float
    bytes_state: float = 0.0
    special: float = 0.0

    def executing(self, flops: float) -> Cost:
        """The same cost with other executed FLOPs."""
        return replace(self, flops_exec=flops)


def io_bytes(problem: Problem) -> float:
    """Compulsory bytes of q, k, v read once and o written once, for the tokens of one call."""
    p = problem
    width = p.H * p.K + p.HK * p.K + p.HV * p.V + p.HS * p.V
    return float(p.itemsize * p.tokens * width)


def grad_io_bytes(problem: Problem) -> float:
    """Compulsory bytes of a backward pass: q, k, v, do read once; dq, dk, dv written once."""
    p = problem
    width = 2 * (p.H * p.K + p.HK * p.K + p.HV * p.V) + p.HS * p.V
    return float(p.itemsize * p.tokens * width)


def state_bytes(problem: Problem, extra: int = 0) -> float:
    """Bytes of one copy of all [K, V] states, with `extra` more columns of K elements each."""
    p = problem
    return float(dtypes.BYTES[p.state_dtype] * p.N * p.HS * p.K * (p.V + extra))
