"""Numerics: the error of a result against the oracle, and the largest error that is allowed.

error = RMS(out - oracle) / max(RMS(oracle), 1e-6). NaN never passes.

The mean would hide one wrong token of thousands. So the RMS error of a single token may not exceed 10 times the limit
times RMS(oracle). And because a token of a long sum may be far smaller than the others, its error may also not exceed
10 times the limit (50 times in a gradient, whose terms cancel) times its own norm. That norm is the largest of: the
token's RMS, 0.3 times the RMS of the 17 tokens around it, and a thousandth of RMS(oracle).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

EPS = 1e-6
TOKEN_FACTOR = 10.0
# ... of the limit, for a token's error over its own norm. Over all CPU implementations, the largest error that was met
# is 2 times the limit in an output and 20 times in a gradient.
OWN_FACTOR, OWN_GRADIENT_FACTOR = 10.0, 50.0
# A token's own norm is at least these parts of the RMS of its neighbours and of the whole: by chance it may be 0.
NEIGHBOURS, OF_NEIGHBOURS, OF_ALL = 8, 0.3, 1e-3
# Elements that are in float64 at once.
BLOCK_ELEMENTS = 1 << 24
LIMITS = {"float64": 1e-9, "float32": 1e-4, "float16": 3e-3, "bfloat16": 8e-3}
# A gate's gradient sums products over the state: it loses more of a short mantissa than q, k, v do.
GATE_LIMITS = {"bfloat16": 1.5e-2}
PLAIN = {"o", "final_state", "state", "dq", "dk", "dv", "dinitial_state"}


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from the oracle's.

    error: RMS error over the oracle's RMS; infinity for a NaN, a wrong shape or a missing tensor
    token: the worst token's RMS error over the oracle's RMS
    own:   the worst token's RMS error over that token's own norm, and `at` which token that is
    why:   what is wrong, in words, if it is not just the size of the error
    """

    error: float
    token: float = 0.0
    own: float = 0.0
    at: int = 0
    own_factor: float = OWN_FACTOR
    why: str = ""

    def exceeds(self, limit: float) -> bool:
        return not (self.error <= limit and self.token <= TOKEN_FACTOR * limit and self.own <= self.own_factor * limit)

    def describe(self, name: str, limit: float) -> str:
        """`o: error 2.3e-02, limit 1.0e-04`."""
        if self.why:
            return f"{name}: {self.why}"
        if not self.error <= limit:
            return f"{name}: error {self.error:.1e}, limit {limit:.1e}"
        if not self.token <= TOKEN_FACTOR * limit:
            return f"{name}: error of one token {self.token:.1e}, limit {TOKEN_FACTOR * limit:.1e}"
        return f"{name}: error of token {self.at} {self.own:.1e} of its own norm, limit {self.own_factor * limit:.1e}"


def difference(
    out: torch.Tensor | None,
    oracle: torch.Tensor,
    token_dim: int | None = None,
    floor: float = EPS,
    gradient: bool = False,
) -> Difference:
    """Compare one tensor with the oracle's.

    token_dim: the dimension that counts tokens, or None where there is none
    floor:     errors are divided by at least this
    gradient:  whether it is one: a token's terms may cancel in it
    """
    if out is None:
        return Difference(math.inf, why="missing")
    if out.shape != oracle.shape:
        return Difference(math.inf, why=f"shape {list(out.shape)}, not {list(oracle.shape)}")
    if why := not_finite(out):
        return Difference(math.inf, why=why)
    if not out.numel():
        return Difference(0.0)
    squares = _squares(out.detach(), oracle.detach(), token_dim or 0)
    each = out.numel() // squares[0].numel()
    wrong, size = (each_sum.div(each) for each_sum in squares)
    scale = max(float(size.mean().sqrt()), EPS, floor)
    error = float(wrong.mean().sqrt()) / scale
    if token_dim is None:
        return Difference(error)
    around = torch.nn.functional.avg_pool1d(
        size[None, None], 2 * NEIGHBOURS + 1, 1, NEIGHBOURS, count_include_pad=False
    )[0, 0]
    norm = torch.maximum(size.sqrt(), OF_NEIGHBOURS * around.sqrt()).clamp(min=max(OF_ALL * scale, EPS, floor))
    own = wrong.sqrt() / norm
    at = int(own.argmax())
    factor = OWN_GRADIENT_FACTOR if gradient else OWN_FACTOR
    return Difference(error, float(wrong.max().sqrt()) / scale, float(own[at]), at, factor)


def _squares(out: torch.Tensor, oracle: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The sums of the squared errors and of the oracle's squares by index of one dimension, in float64, on the CPU."""
    if not out.ndim:
        out, oracle = out[None], oracle[None]
    step = max(1, BLOCK_ELEMENTS * out.shape[dim] // out.numel())
    wrong, size = [], []
    for a, b in zip(out.split(step, dim), oracle.split(step, dim), strict=True):
        others = [d for d in range(a.ndim) if d != dim]
        a, b = a.double(), b.double()
        wrong.append((a - b).square().sum(dim=others) if others else (a - b).square())
        size.append(b.square().sum(dim=others) if others else b.square())
    return torch.cat(wrong).cpu(), torch.cat(size).cpu()


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
