"""Floors: how far measured times are above the static floors, and whether floors and times rank cases alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from suite.analysis.comparisons import geometric
from suite.analysis.entries import Entry

# Fewer cases have no order to compare.
FEWEST = 4


@dataclass(frozen=True)
class Standing:
    """Our implementations of one operator's pass against their floors.

    above:    time over floor, geometric mean, least and largest
    roof_pct: median percent of the attainable roof
    launches: of a call, the largest
    traffic:  launch traffic over compulsory bytes, geometric mean
    counted:  bytes that the hardware counted over the floor's bytes, geometric mean; NaN without counters
    rank:     Spearman's rank correlation of floors and times (Spearman 1904); NaN for fewer than FEWEST cases
    """

    operator: str
    pass_: str
    cases: int
    above: tuple[float, float, float]
    roof_pct: float
    launches: int
    traffic: float
    counted: float
    rank: float


def standings(found: Sequence[Entry], origins: Sequence[str] = ("ours",)) -> list[Standing]:
    """A standing for each operator and pass that has cases with a time and a floor."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for each in found:
        if each.origin in origins and each.status == "ok" and each.figure("static.floor_ms") > 0:
            groups.setdefault((each.operator, each.pass_), []).append(each)
    return [_standing(*key, group) for key, group in groups.items()]


def _standing(operator: str, pass_: str, group: Sequence[Entry]) -> Standing:
    above = [each.time_ms / each.figure("static.floor_ms") for each in group]
    counted = [each.figure("profile.dram_bytes") / each.figure("static.floor_bytes") for each in group]
    traffic = [each.figure("static.traffic_ratio") for each in group]
    return Standing(
        operator,
        pass_,
        len(group),
        (geometric(above), min(above), max(above)),
        median(each.figure("roof_pct") for each in group),
        max(int(each.figure("static.launches")) for each in group),
        geometric([each for each in traffic if each > 0]),
        geometric([each for each in counted if each > 0]),
        rank_correlation(group),
    )


def rank_correlation(group: Sequence[Entry]) -> float:
    """Spearman's correlation of floors and times over entries that have both."""
    pairs = [(each.figure("static.floor_ms"), each.time_ms) for each in group]
    pairs = [(floor, time) for floor, time in pairs if floor > 0 and time > 0]
    if len(pairs) < FEWEST or len({floor for floor, _ in pairs}) == 1 or len({time for _, time in pairs}) == 1:
        return math.nan
    from scipy.stats import spearmanr

    floors, times = zip(*pairs, strict=True)
    # scipy has no types: its result is a tuple with names.
    return float(spearmanr(floors, times)[0])  # pyright: ignore[reportArgumentType]
