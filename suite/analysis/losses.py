"""Losses: problems in which a peer is faster than our fastest, and what the profiles of both say about why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suite.analysis.entries import Entry, best, by_problem

# Times within this of one another are no loss.
TIE = 0.02
# Of the FLOPs that products need, those that are executed for them, from which on it is told; and how far a measured
# time may be above the predicted one.
REPLICATED, UNPREDICTED = 1.1, 1.5
# A launch and what the GPU idles around it, ms: what a call of few microseconds consists of.
LAUNCH_MS = 0.004
FAR, LOW_OCCUPANCY = 2.0, 0.25


@dataclass(frozen=True)
class Loss:
    """One problem. ratio: our time over the peer's; why: what the profiles say, the strongest first."""

    ours: Entry
    peer: Entry
    ratio: float
    why: tuple[str, ...]


def losses(found: Sequence[Entry]) -> list[Loss]:
    """All losses, the largest ratio first."""
    lost = []
    for each in by_problem(found).values():
        ours, peer = (best(e for e in each if e.origin == origin) for origin in ("ours", "peer"))
        if ours and peer and ours.time_ms > (1 + TIE) * peer.time_ms:
            lost.append(Loss(ours, peer, ours.time_ms / peer.time_ms, tuple(why(ours, peer))))
    return sorted(lost, key=lambda loss: -loss.ratio)


def why(ours: Entry, peer: Entry) -> list[str]:
    """Findings about a loss, each with its figures. Comparisons with a figure that is not known find nothing."""
    found = []
    floor, launches = ours.figure("static.floor_ms"), ours.figure("static.launches")
    theirs = peer.figure("static.launches")
    if floor > peer.time_ms:
        found.append(f"its floor of {floor:.3g} ms is above the peer's time: it needs fewer bytes or FLOPs")
    if ours.figure("static.spill_bytes") > 0:
        found.append(
            f"it spills {ours.figure('static.spill_bytes'):.0f} bytes per thread: narrower tiles or more warps"
        )
    if ours.figure("static.dots_ratio") > REPLICATED:
        times = ours.figure("static.dots_ratio")
        found.append(f"warps execute {times:.2f} times the FLOPs of its dots: fewer warps or larger tiles")
    predicted = [each.figure("static.predicted_ms") for each in (ours, peer)]
    if predicted[0] > (1 + TIE) * predicted[1]:
        found.append(
            f"predicted {predicted[0]:.3g} ms against {predicted[1]:.3g} ms, bound by "
            f"{ours.static.get('static.predicted_bound')}: `subquad static --explain` names the instructions"
        )
    if ours.time_ms > UNPREDICTED * predicted[0]:
        found.append(f"{ours.time_ms / predicted[0]:.1f} times its predicted time: profile it for what is not modelled")
    if launches > theirs and ours.time_ms < FAR * LAUNCH_MS * launches:
        found.append(f"{launches:.0f} launches against {theirs:.0f} in a call this short: launches to merge")
    if ours.figure("static.traffic_ratio") > 1.1 * peer.figure("static.traffic_ratio"):
        ratios = [each.figure("static.traffic_ratio") for each in (ours, peer)]
        found.append(f"launch traffic {ratios[0]:.2f}x against {ratios[1]:.2f}x of compulsory bytes")
    if ours.time_ms > FAR * floor and ours.figure("static.occupancy") <= LOW_OCCUPANCY:
        at = ours.figure("static.occupancy")
        found.append(f"{ours.time_ms / floor:.1f} times its floor at {at:.0%} occupancy: waits for latency; more warps")
    if not found and ours.time_ms > FAR * floor:
        found.append(
            f"{ours.time_ms / floor:.1f} times its floor, and no spill, launch or traffic explains it: profile it"
        )
    return found or ["nothing in the profiles explains it: tune it, or profile it"]
