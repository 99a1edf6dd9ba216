"""Profiles of one case by torch.profiler, Triton's proton or NVIDIA's ncu. See docs/profiling.md.

Example::

    from suite.profiling import Options, profile
    found = profile(case, Options(tool="torch", device="cpu"), out="results/local/profiles/one")
    [(kernel.name, kernel.share) for kernel in found.kernels]

Nothing is timed under a profiler: a profile's times say which part of a call a kernel is, never how long a call takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from suite.profiling.model import TOOLS, Kernel, Options, Profile

if TYPE_CHECKING:
    from suite.profiling.merging import join
    from suite.profiling.running import profile

__all__ = ["TOOLS", "Kernel", "Options", "Profile", "join", "profile"]

_LAZY = {"join": "suite.profiling.merging", "profile": "suite.profiling.running"}


def __getattr__(name: str) -> Any:
    # The command line reads TOOLS for its help; pandas and torch load only when they are used.
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'suite.profiling' has no attribute {name!r}")
