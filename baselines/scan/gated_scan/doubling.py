"""A parallel scan in PyTorch: all prefixes of h_t = a_t h_{t-1} + b_t by doubling, in log2(T) rounds.

Source: Hillis and Steele 1986, Data parallel algorithms; the operator on pairs: Blelloch 1990, Prefix sums and their
applications.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def doubled(decay: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """h of all tokens from a state of zeros; decay and added are [B, T, …] of one shape, tokens in the second place."""
    T = added.shape[1]
    if T == 1:
        # The decay meets a state of zeros, but its gradient is zero and not missing.
        return added + 0.0 * decay
    reach = 1
    while reach < T:
        added = added + decay * _later(added, reach, 0.0)
        reach *= 2
        if reach < T:
            decay = decay * _later(decay, reach // 2, 1.0)
    return added


def _later(x: torch.Tensor, by: int, fill: float) -> torch.Tensor:
    """x with each token where the one `by` after it was."""
    return F.pad(x[:, :-by], (0, 0) * (x.ndim - 2) + (by, 0), value=fill)


def rounds(T: int) -> int:
    """Rounds that T tokens take."""
    return math.ceil(math.log2(T)) if T > 1 else 0
