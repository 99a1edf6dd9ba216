"""Four counts of the bytes of one call, side by side: each shows something that the others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suite.hardware.gpus import known
from suite.profiling.model import Profile
from suite.targets import REPRESENTATIVES

if TYPE_CHECKING:
    from suite.problem import Case


def traffic_of(case: Case, found: Profile, compulsory: float, load: Sequence[str] = ()) -> dict[str, Any]:
    """Bytes by kind, and `issued_ratio`; what could not be had is left out.

    compulsory: each input read once, each output written once (the operator's cost)
    launch:     distinct tensor arguments of every launch, eager operations included (the static profile)
    counted:    bytes that crossed the memory bus, by the GPU's counters
    l2:         bytes that passed the last-level cache, by the GPU's counters
    issued_ratio: what the kernels load and store over compulsory bytes, at the shape where the static profile counts it
    """
    bytes_: dict[str, Any] = {"compulsory": compulsory, "counted": found.counters["dram_bytes"]}
    if "l2_bytes" in found.counters:
        bytes_["l2"] = found.counters["l2_bytes"]
    static = _static(case, found.device, load)
    if static.get("static.traffic_bytes") is not None:
        bytes_["launch"] = static["static.traffic_bytes"] + (static.get("static.eager_bytes") or 0)
    if static.get("static.issued_ratio") is not None:
        bytes_["issued_ratio"] = static["static.issued_ratio"]
    return bytes_


def _static(case: Case, device: str, load: Sequence[str]) -> Mapping[str, Any]:
    """Columns of the case's static profile; none for a GPU that the static profile cannot stand in for."""
    from suite.static.pool import take_profiles
    from suite.static.tasks import Task

    gpu = known(device)
    if gpu is None or gpu.arch not in REPRESENTATIVES:
        return {}
    (computed,) = take_profiles([Task(case, gpu.arch, gpu.name)], load=list(load), jobs=1)
    return {} if computed is None else computed.columns()
