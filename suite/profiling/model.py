"""A profile: kernels with their share of a call, counters, and the columns that it adds to a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

TOOLS = ("torch", "proton", "ncu")
REPLAYS = ("application", "kernel")


@dataclass(frozen=True)
class Options:
    """How a case is profiled.

    tool:   `torch`, `proton` or `ncu`
    device: `cuda` or `cpu`
    calls:  how many calls are profiled and averaged; ncu profiles one
    seed:   of the inputs
    load:   plug-in files, as for --load
    replay: how ncu collects more counters than fit at once: it runs the whole `application` again, caches as they are,
            or each `kernel` on its own, caches emptied before it
    """

    tool: str = "torch"
    device: str = "cpu"
    calls: int = 5
    seed: int = 0
    load: tuple[str, ...] = ()
    replay: str = "application"


@dataclass(frozen=True)
class Kernel:
    """A kernel, or on a CPU an operator without those it calls, summed over one call of the case.

    calls:    launches in one call
    ms:       time in one call, as the profiler saw it
    share:    of the time of all kernels, 0 to 1
    counters: what was counted, by the names of docs/profiling.md
    """

    name: str
    calls: float
    ms: float
    share: float = 0.0
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """One case as a profiler saw it.

    device:  the name that records have: a GPU's, or "cpu"
    kernels: the longest first
    missing: counters that were asked for and not given, with the reason where one is known
    files:   what the tool wrote, by what it is: `trace`, `tree`, `report`
    predicted: what the static profile predicts beside what was counted, as suite.profiling.predicted.Pair has it
    """

    case_id: str
    tool: str
    version: str
    device: str
    kernels: tuple[Kernel, ...]
    counters: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    replay: str = ""
    commit: str = ""
    created: str = ""
    predicted: tuple[Mapping[str, Any], ...] = ()

    @property
    def launches(self) -> float:
        """Launches of all kernels in one call."""
        return sum(kernel.calls for kernel in self.kernels)

    def columns(self, compulsory: float = 0.0) -> dict[str, Any]:
        """The `profile.*` columns of a record. Times are left out: those of a record come from a timer alone.

        compulsory: bytes_compulsory of the record, for the ratio of the bytes that were counted
        """
        shares = [{"name": k.name, "calls": k.calls, "share": k.share} for k in self.kernels]
        found: dict[str, Any] = {f"{self.tool}_version": self.version, "commit": self.commit, "created": self.created}
        found |= {"kernels": shares, "kernels_from": self.tool}
        if self.device != "cpu":
            found["launches"] = self.launches
        if self.counters:
            found |= {**self.counters, "missing": list(self.missing), "replay": self.replay}
        if self.predicted:
            found["predicted"] = [dict(pair) for pair in self.predicted]
        if compulsory and "dram_bytes" in self.counters:
            found["dram_ratio"] = self.counters["dram_bytes"] / compulsory
        return {f"profile.{name}": value for name, value in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        kernels = [{"name": k.name, "calls": k.calls, "ms": k.ms, "share": k.share, **k.counters} for k in self.kernels]
        return {
            "case_id": self.case_id,
            "tool": self.tool,
            "version": self.version,
            "device": self.device,
            "replay": self.replay,
            "commit": self.commit,
            "created": self.created,
            "launches": self.launches,
            "kernels": kernels,
            "counters": dict(self.counters),
            "missing": list(self.missing),
            "predicted": [dict(pair) for pair in self.predicted],
            "files": dict(self.files),
        }


def ranked(kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    """Kernels with their shares, the longest first."""
    known = list(kernels)
    whole = sum(kernel.ms for kernel in known)
    shared = [replace(kernel, share=kernel.ms / whole if whole else 0.0) for kernel in known]
    return tuple(sorted(shared, key=lambda kernel: (-kernel.ms, kernel.name)))


def totalled(found: Sequence[tuple[str, float]], calls: int) -> tuple[Kernel, ...]:
    """(name, ms) of single launches in `calls` calls as kernels of one call."""
    times: dict[str, list[float]] = {}
    for name, ms in found:
        times.setdefault(name, []).append(ms)
    return ranked(Kernel(name, len(each) / calls, sum(each) / calls) for name, each in times.items())
