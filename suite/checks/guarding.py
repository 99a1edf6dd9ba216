"""Guarded memory: what a checked call allocates is filled with NaN where it is uninitialised, and fenced on both sides.

What is not written can then not pass as an answer, and what is written beside a tensor is seen instead of lost in the
allocator's slack.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Large enough for a store that is one block of rows off, and a multiple of every allocator's alignment.
FENCE_BYTES = 4096
# A bit pattern that is neither zero nor a plausible float, index or mask.
PATTERN = 0xA5
_EMPTY = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"})
_FILLED = frozenset(
    {"zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full"}
)


class Guard(TorchDispatchMode):
    """Fences every tensor that is allocated inside the block; `broken()` tells which fences were written to."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import its compiler, for a second, to leave out what it leaves out under any mode."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self._fenced: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        if name not in _EMPTY | _FILLED or out.device.type == "meta" or out.numel() == 0:
            return out
        fenced = self._fence(out)
        if name in _FILLED:
            return fenced.copy_(out)
        return fenced.fill_(torch.nan) if fenced.is_floating_point() else fenced

    def broken(self) -> str:
        """What was written beside, as a reason; empty when every fence holds. Waits for the device."""
        for buffer, tensor in self._fenced:
            sides = {"before": buffer[:FENCE_BYTES], "past": buffer[-FENCE_BYTES:]}
            for side, fence in sides.items():
                if bool((fence != PATTERN).any()):
                    return f"it writes {side} a tensor of shape {list(tensor.shape)} that it allocated"
        return ""

    def _fence(self, out: torch.Tensor) -> torch.Tensor:
        size = out.untyped_storage().nbytes()
        buffer = torch.empty(size + 2 * FENCE_BYTES, dtype=torch.uint8, device=out.device).fill_(PATTERN)
        inside = buffer[FENCE_BYTES : FENCE_BYTES + size].view(out.dtype)
        fenced = inside.as_strided(out.size(), out.stride(), inside.storage_offset() + out.storage_offset())
        self._fenced.append((buffer, fenced))
        return fenced
