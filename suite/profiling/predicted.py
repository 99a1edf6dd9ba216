"""Predicted against counted, kernel by kernel: what the static profile expects of a call, beside what ncu counted.

    for pair in pairs(static.launches, found.kernels):
        print(pair.kernel, pair.figure, pair.predicted, pair.counted)

Launches of one kernel are taken together, as ncu's sums are. Only figures that both sides have are told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from suite.hardware.gpus import known
from suite.profiling.counters import STALL
from suite.targets import REPRESENTATIVES

if TYPE_CHECKING:
    from suite.problem import Case
    from suite.profiling.model import Kernel
    from suite.static.model import Launch, Prediction, Profile

# Figures that are shares; all others are amounts.
BUSY = ("issue", "alu", "fma", "special", "tensor", "shared")
SHARES = (*(f"{name}_busy" for name in BUSY), "waits")
# What the walk names, as ncu's stall reasons have it.
REASONS = {
    "load": "long_scoreboard", "copy": "long_scoreboard", "tma": "long_scoreboard", "shared": "short_scoreboard",
    "special": "short_scoreboard", "operands": "short_scoreboard", "barrier": "barrier", "l2": "lg_throttle",
    "alu": "math_pipe_throttle", "fma": "math_pipe_throttle", "tensor": "gmma",
    "issue": "not_selected", "selected": "selected", "stall": "wait",
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One figure of one kernel, over all its launches in a call.

    figure: ms, instructions (of warps), l2_bytes, dram_bytes, *_busy (shares of time), or `stall_` and a reason
    """

    kernel: str
    figure: str
    predicted: float
    counted: float

    @property
    def ratio(self) -> float | None:
        """Counted over predicted."""
        return self.counted / self.predicted if self.predicted else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pairs(launches: Sequence[Launch], kernels: Sequence[Kernel]) -> Iterator[Pair]:
    """The pairs of a call, in the order of ncu's kernels. Kernels of PyTorch have no prediction, and no pair."""
    by_name: dict[str, list[Prediction]] = {}
    for launch in launches:
        if launch.predicted is not None and launch.predicted.ms is not None:
            by_name.setdefault(launch.kernel, []).append(launch.predicted)
    for kernel in kernels:
        if kernel.name in by_name:
            expected = _figures(by_name[kernel.name])
            counted = {"ms": kernel.ms, **kernel.counters}
            for figure, value in expected.items():
                if figure in counted:
                    yield Pair(kernel.name, figure, value, counted[figure])


def _figures(found: Sequence[Prediction]) -> dict[str, float]:
    """Amounts of all launches together; shares weighted by time."""
    whole = sum(each.ms or 0.0 for each in found)
    figures = {
        "ms": whole,
        "instructions": sum(each.issued for each in found),
        "l2_bytes": sum(each.l2_bytes for each in found),
        "dram_bytes": sum(each.dram_bytes for each in found),
    }
    for name in BUSY:
        figures[f"{name}_busy"] = sum(each.busy.get(name, 0.0) * (each.ms or 0.0) for each in found) / whole
    for reason in dict.fromkeys(REASONS.values()):
        share = sum(_waits(each.waits).get(reason, 0.0) * (each.ms or 0.0) for each in found) / whole
        if share:
            figures[f"{STALL}{reason}"] = share
    return figures


def _waits(waits: Mapping[str, float]) -> dict[str, float]:
    """Shares by ncu's reasons."""
    found = dict[str, float]()
    for name, share in waits.items():
        reason = REASONS.get(name, "misc")
        found[reason] = found.get(reason, 0.0) + share
    return found


def static_of(case: Case, device: str, load: Sequence[str] = ()) -> Profile | None:
    """The case's static profile for the GPU that was profiled; None for one that no static profile stands for."""
    from suite.static.pool import take_profiles
    from suite.static.tasks import Task

    gpu = known(device)
    if gpu is None or gpu.arch not in REPRESENTATIVES:
        return None
    return take_profiles([Task(case, gpu.arch, gpu.name)], load=list(load), jobs=1)[0]
