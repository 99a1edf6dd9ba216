"""The static profile: what a kernel will cost, read from its machine code without a GPU. See docs/static.md.

Example::

    from suite.static import capture
    launches = capture(lambda: my_host_code(q, k, v), "sm_90")      # q, k, v on the meta device
    launches[0].binary.registers, launches[0].binary.spill_bytes   # (168, 0)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.static.model import Binary, Floor, Issued, Launch, Profile, Residency

# What is profiled when nothing else is said.
PRESET = str(Path(__file__).parent / "static.toml")

if TYPE_CHECKING:
    from suite.static.capturing import capture
    from suite.static.profiling import profile
    from suite.static.recording import records

__all__ = [
    "PRESET",
    "Binary",
    "Floor",
    "Issued",
    "Launch",
    "Profile",
    "Residency",
    "capture",
    "profile",
    "records",
]

_LAZY = {"capture": "suite.static.capturing", "profile": "suite.static.profiling", "records": "suite.static.recording"}


def __getattr__(name: str) -> Any:
    # torch and Triton load only when they are used.
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'suite.static' has no attribute {name!r}")
