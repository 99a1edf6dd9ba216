"""Four counts of the bytes of one call, side by side: each shows something that the others cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from suite.profiling.model import Profile

if TYPE_CHECKING:
    from suite.static.model import Profile as Computed


def traffic_of(found: Profile, compulsory: float, computed: Computed | None) -> dict[str, Any]:
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
    static = {} if computed is None else computed.columns()
    if static.get("static.traffic_bytes") is not None:
        bytes_["launch"] = static["static.traffic_bytes"] + (static.get("static.eager_bytes") or 0)
    if static.get("static.issued_ratio") is not None:
        bytes_["issued_ratio"] = static["static.issued_ratio"]
    return bytes_
