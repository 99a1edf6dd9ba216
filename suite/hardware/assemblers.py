"""ptxas: the assemblers that Triton may use here, by full version, and which of them compiles for an architecture.

Triton brings two, `ptxas` and `ptxas-blackwell`, and takes another in the place of either where a variable names one.
Results depend on it: one Triton gives right and wrong ones with different releases of ptxas.

    >>> version_in("Cuda compilation tools, release 12.8, V12.8.93")
    '12.8.93'
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from suite.errors import UsageError

# Assembler -> the variable that names another one in its place.
VARIABLES = {"ptxas": "TRITON_PTXAS_PATH", "ptxas-blackwell": "TRITON_PTXAS_BLACKWELL_PATH"}
# The first architecture that Triton hands to ptxas-blackwell, unless it says itself which it takes.
BLACKWELL = 100
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Assembler:
    """One ptxas.

    version: "12.8.93"
    given:   whether a variable names it, instead of Triton bringing it
    """

    name: str
    path: str
    version: str
    given: bool = False


def assemblers() -> dict[str, Assembler]:
    """The assemblers that Triton may use here, by name; none without Triton.

    Raises UsageError where a variable names one that does not run: Triton would take its own without saying so.
    """
    found = {name: _assembler(name, os.environ.get(variable)) for name, variable in VARIABLES.items()}
    return {name: each for name, each in found.items() if each}


def versions() -> dict[str, str]:
    """Name -> full version of each of them, as the `versions` of a run's environment have it."""
    return {name: each.version for name, each in assemblers().items()}


def given() -> str | None:
    """Those that a variable names, such as "ptxas 13.4.27", or None: a machine with other ones is another machine."""
    named = [f"{each.name} {each.version}" for each in assemblers().values() if each.given]
    return ", ".join(named) or None


def variables() -> dict[str, str]:
    """What a worker's environment says of them: the same files, whatever folder it is in. Raises as `assemblers`."""
    return {VARIABLES[each.name]: each.path for each in assemblers().values() if each.given}


def version_for(capability: int) -> str | None:
    """The full version of the ptxas that Triton compiles with for an architecture, 90 for sm_90; None without any."""
    found = assemblers()
    if not found:
        return None
    path = _chosen_by_triton(capability)
    if path is not None:
        return _version(path)
    own = found.get("ptxas-blackwell" if capability >= BLACKWELL else "ptxas")
    return own.version if own else None


def is_assembler(path: str) -> bool:
    """Whether a file answers as ptxas does."""
    return _version(path) is not None


def version_in(text: str) -> str | None:
    """The full version in what `ptxas --version` prints, or None."""
    matched = re.search(r"\bV(\d+\.\d+\.\d+)", text)
    return matched[1] if matched else None


def _assembler(name: str, named: str | None) -> Assembler | None:
    if named:
        # A name without a folder is looked up on PATH.
        named = str(Path(named).absolute()) if os.sep in named else named
        version = _version(named)
        if version is None:
            raise UsageError(
                f"{VARIABLES[name]}={named}: this file does not run as ptxas, and Triton would take its own without "
                "saying so; name a ptxas, or unset the variable"
            )
        return Assembler(name, named, version, given=True)
    path = _bundled(name)
    version = _version(str(path)) if path else None
    return Assembler(name, str(path), version) if version else None


def _bundled(name: str) -> Path | None:
    """Where Triton brings it. Triton is not imported for that, which takes a second."""
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
    return path if path.is_file() else None


@cache
def _version(path: str) -> str | None:
    """The version that a ptxas says it is; None where it does not run, or says none."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return version_in(done.stdout)


def _chosen_by_triton(capability: int) -> str | None:
    """The path that Triton takes for an architecture; None where this Triton does not tell."""
    try:
        from triton.backends.nvidia import compiler
    except ImportError:
        return None
    choose: Any = getattr(compiler, "get_ptxas", None)
    return None if choose is None else choose(capability).path
