"""Known faults of combinations of software and hardware: the table known_faults.toml, compared with a machine's facts.

    >>> known = {"triton": "3.6.0", "numpy": "2.5.0", "packages": ["plotly"]}
    >>> [fault.name for fault in faults_of(known)]
    ['interpreter-numpy']

A condition whose fact is not known does not hold: nothing is guessed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from suite.requirement import satisfies

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

TABLE = Path(__file__).with_name("known_faults.toml")
# What a fault does: results may be wrong; nothing can be measured; a part of the suite does not work.
KINDS = ("wrong", "stops", "limits")
# Conditions beside versions of what `facts` in suite/hardware/machine.py names.
GPU, ARCH, ABSENT, STATE = "gpu", "arch", "absent", "state"
VERSIONED = ("python", "torch", "triton", "numpy", "ptxas", "driver")


@dataclass(frozen=True)
class Fault:
    """One entry of the table.

    kind:    one of KINDS
    when:    conditions that must all hold: `gpu` (whether torch finds one), `arch` (one of these), `absent` (none of
             these packages is installed), `state` (one of the machine's), and versions by name, such as "<13.3";
             `ptxas` is the one that compiles for the GPU
    what:    one sentence on what goes wrong
    remedy:  what to do
    sources: where it is reported
    """

    name: str
    kind: str
    when: Mapping[str, Any]
    what: str
    remedy: str
    sources: tuple[str, ...]

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Whether a machine with these facts, and with one GPU's `arch` and `ptxas`, has the fault."""
        return all(_holds(name, wanted, facts) for name, wanted in self.when.items())

    @property
    def of_gpu(self) -> bool:
        """Whether it is a GPU's own fault, and not the whole machine's."""
        return bool({ARCH, "ptxas"} & set(self.when))


@cache
def table() -> tuple[Fault, ...]:
    """The faults of the table, in its order."""
    with TABLE.open("rb") as file:
        entries = tomllib.load(file)["fault"]
    return tuple(Fault(**{**entry, "sources": tuple(entry["sources"])}) for entry in entries)


def faults_of(facts: Mapping[str, Any]) -> list[Fault]:
    """The faults of a machine, as suite/hardware/machine.py describes it: of any of its GPUs, the worst kind first."""
    gpus = facts.get("gpus") or [{}]
    found = [fault for fault in table() if any(fault.holds({**facts, **gpu}) for gpu in gpus)]
    return sorted(found, key=lambda fault: KINDS.index(fault.kind))


def gpus_of(fault: Fault, facts: Mapping[str, Any]) -> list[str]:
    """The names of the GPUs that a GPU's fault is about."""
    return [gpu["name"] for gpu in facts.get("gpus", ()) if fault.of_gpu and fault.holds({**facts, **gpu})]


def _holds(name: str, wanted: Any, facts: Mapping[str, Any]) -> bool:
    if name == GPU:
        return bool(facts.get("gpus")) == wanted
    if name == ARCH:
        return facts.get(ARCH) in wanted
    if name == ABSENT:
        return "packages" in facts and not set(wanted) & set(facts["packages"])
    if name == STATE:
        return wanted in facts.get("states", ())
    version = facts.get(name)
    return version is not None and satisfies(version, wanted)
