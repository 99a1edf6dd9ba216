"""Triton's interpreter as a GPU computes: bfloat16 and TF32 with their rounding, loops counted in int32.

Example::

    suite.interpreting.install()          # once the interpreter is on; again costs nothing
    suite.interpreting.fault("bfloat16")  # None, or what this Triton's interpreter still computes wrongly

The interpreter itself keeps a bfloat16 block as the 16 bits of each element and computes with them as with integers,
multiplies float32 exactly whatever `input_precision` says, and counts loops in Python's integers. docs/interpreter.md
lists what each Triton gets wrong.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from suite.interpreting.wrapping import install, uninstall

# The versions with which all probes passed.
KNOWN = "3.6 to 3.9"

__all__ = ["fault", "install", "uninstall"]


@cache
def fault(dtype: str) -> str | None:
    """What this process's interpreter computes wrongly for problems of a dtype, as one line; None when nothing.

    Installs, and runs the probes of the dtype once. Requires the interpreter to be on.
    """
    from suite.interpreting.probes import PROBES

    install()
    for probe in PROBES:
        if (probe.of != "bfloat16" or dtype == "bfloat16") and (wrong := probe.wrong()):
            remedy = f"use Triton {KNOWN}" + (", or fp32 or fp16" if probe.of == "bfloat16" else "")
            what = f"{probe.of} wrongly in {probe.name}: {wrong}"
            return f"the interpreter of Triton {version('triton')} computes {what}; {remedy}"
    return None
