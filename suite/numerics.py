"""Numerics: the error of a result against the oracle, and the largest error that is allowed.

error = RMS(out - oracle) / max(RMS(oracle), 1e-6). NaN never passes. In addition, the RMS error of a single
token may not exceed 10 times the limit times RMS(oracle), because the mean would hide one wrong row of thousands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

EPS = 1e-6
TOKEN_FACTOR = 10.0
LIMITS = {"float64": 1e-9, "float32": 1e-4, "float16": 3e-3, "bfloat16": 8e-3}
# A gate's gradient sums products over the state: it loses more of a short mantissa than q, k, v do.
GATE_LIMITS = {"bfloat16": 1.5e-2}
PLAIN = {"o", "final_state", "state", "dq", "dk", "dv", "dinitial_state"}


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from the oracle's.

    error: RMS error over the oracle's RMS; infinity for a NaN, a wrong shape or a missing tensor
    token: the worst token's RMS error over the oracle's RMS
    why:   what is wrong, in words, if it is not just the size of the error
    """

    error: float
    token: float = 0.0
    why: str = ""

    def exceeds(self, limit: float) -> bool:
        return not (self.error <= limit and self.token <= TOKEN_FACTOR * limit)

    def describe(self, name: str, limit: float) -> str:
        """`o: error 2.3e-02, limit 1.0e-04`."""
        if self.why:
            return f"{name}: {self.why}"
        if self.error <= limit:
            return f"{name}: error of one token {self.token:.1e}, limit {TOKEN_FACTOR * limit:.1e}"
        return f"{name}: error {self.error:.1e}, limit {limit:.1e}"


def difference(
    out: torch.Tensor | None, oracle: torch.Tensor, token_dim: int | None = None, floor: float = EPS
) -> Difference:
    """Compare one tensor with the oracle's.

    token_dim: the dimension that counts tokens, or None where there is none
    floor:     errors are divided by at least this
    """
    if out is None:
        return Difference(math.inf, why="missing")
    if out.shape != oracle.shape:
        return Difference(math.inf, why=f"shape {list(out.shape)}, not {list(oracle.shape)}")
    out, oracle = out.detach().double(), oracle.detach().double()
    if why := not_finite(out):
        return Difference(math.inf, why=why)
    scale = max(rms(oracle), EPS, floor)
    error = rms(out - oracle) / scale
    if token_dim is None:
        return Difference(error)
    others = [d for d in range(out.ndim) if d != token_dim]
    token = (out - oracle).square().mean(dim=others).sqrt().max().item() / scale
    return Difference(error, token)


def limit_of(dtype: str, name: str, limits: Mapping[str, float] | None = None) -> float:
    """The largest error allowed for an output or gradient.

    dtype:  the problem's
    name:   `o`, `final_state[0]`, `dq`, `dbeta`, …
    limits: an operator's own, by dtype
    """
    own = (limits or {}).get(dtype, LIMITS[dtype])
    gate = name.partition("[")[0] not in PLAIN
    return max(own, GATE_LIMITS.get(dtype, own)) if gate else own


def not_finite(out: torch.Tensor) -> str:
    """How many values are NaN or infinite, and where the first is; "" when none is."""
    bad = ~torch.isfinite(out)
    if not bad.any():
        return ""
    first = tuple(int(i) for i in torch.unravel_index(bad.flatten().byte().argmax(), bad.shape))
    return f"{int(bad.sum())} of {out.numel()} values not finite, first at {first}"


def rms(x: torch.Tensor) -> float:
    """The root of the mean square; 0 of nothing."""
    return x.square().mean().sqrt().item() if x.numel() else 0.0
