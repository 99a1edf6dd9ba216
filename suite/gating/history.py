"""The A/A history: what the times of a case do by themselves, calibration by calibration. It is kept here, per machine.

Example::

    keep("cuda", fingerprint, {("retention/…", "cold-events"): calibration_of(rounds, code="1f3a…", day="2026-01-31")})
    load("cuda", fingerprint)["retention/…", "cold-events"].floor   # 0.006
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from suite.cachefolder import cache_folder, kept
from suite.cachefolder import keep as keep_text
from suite.errors import StoreError
from suite.gating.decisions import LARGEST_LOG, SLOWER_LEVEL
from suite.gating.estimates import Shift, autocorrelation, paired

if TYPE_CHECKING:
    from suite.gating.sequential_test import Round

# (case_id, mode)
Key = tuple[str, str]
# Rounds from which the correlation of a case counts: fewer tell it too badly.
TELLING = 32
DAYS_KEPT = 60


@dataclass(frozen=True)
class Calibration:
    """A case gated against itself.

    day:    when, in UTC: `2026-01-31`
    code:   hash of the code that was measured
    noise:  standard deviation of a round's log-ratio
    rho:    correlation of two successive rounds, corrected for its bias; may be negative
    floor:  the largest slowdown that Student's bound would have claimed: a fraction
    level:  mean logarithm of the times of both sides, ms
    rounds: rounds that it rests on
    """

    day: str
    code: str
    noise: float
    rho: float
    floor: float
    level: float
    rounds: int


@dataclass(frozen=True)
class History:
    """The calibrations of one case in one mode, the oldest first."""

    calibrations: tuple[Calibration, ...]

    @property
    def floor(self) -> float:
        """The newest A/A floor."""
        return self.calibrations[-1].floor

    @property
    def least_rho(self) -> float:
        """The correlation of two successive rounds that is known of the case: 0 where too few rounds tell it."""
        rounds = sum(each.rounds for each in self.calibrations)
        if rounds < TELLING:
            return 0.0
        return max(0.0, sum(each.rho * each.rounds for each in self.calibrations) / rounds)

    @property
    def shift(self) -> Shift | None:
        """The shift between days, from calibrations of the same code; None where no code has two."""
        levels: dict[str, list[float]] = {}
        for each in self.calibrations:
            levels.setdefault(each.code, []).append(each.level)
        df = sum(len(each) - 1 for each in levels.values())
        if not df:
            return None
        squares = sum((level - fmean(each)) ** 2 for each in levels.values() for level in each)
        return Shift(math.sqrt(squares / df), df)


def calibration_of(rounds: Sequence[Round], *, code: str, day: str) -> Calibration:
    """What at least two rounds of a case against itself say."""
    ratios = [each.log_ratio for each in rounds]
    time = paired(ratios)
    level = fmean(math.log(each.before_ms * each.after_ms) / 2 for each in rounds)
    floor = math.expm1(min(LARGEST_LOG, abs(time.mean) + time.reach(SLOWER_LEVEL)))
    return Calibration(day, code, time.noise, autocorrelation(ratios), floor, level, len(rounds))


def load(device: str, fingerprint: Mapping[str, Any]) -> dict[Key, History]:
    """The history of a machine with this fingerprint; empty where there is none. StoreError when damaged."""
    path = _path(device, fingerprint)
    text = kept(path)
    if text is None:
        return {}
    found: dict[Key, list[Calibration]] = {}
    try:
        for row in json.loads(text):
            key = str(row.pop("case_id")), str(row.pop("mode"))
            found.setdefault(key, []).append(_checked(Calibration(**row)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} holds no A/A history ({error}); delete it and run `gate --calibrate`") from error
    return {key: History(tuple(sorted(each, key=lambda one: one.day))) for key, each in found.items()}


def _checked(one: Calibration) -> Calibration:
    if not (isinstance(one.day, str) and isinstance(one.code, str)):
        raise ValueError("a day or a code is no text")
    if not all(math.isfinite(each) for each in (one.noise, one.rho, one.floor, one.level)) or one.rounds < 2:
        raise ValueError("a figure is out of its range")
    return one


def keep(device: str, fingerprint: Mapping[str, Any], found: Mapping[Key, Calibration]) -> Path:
    """Add calibrations to those that are there; one of the same case, code and day is replaced. Returns the file."""
    path = _path(device, fingerprint)
    known = {key: list(each.calibrations) for key, each in load(device, fingerprint).items()}
    for key, new in found.items():
        others = [each for each in known.get(key, []) if (each.day, each.code) != (new.day, new.code)]
        known[key] = sorted([*others, new], key=lambda one: one.day)[-DAYS_KEPT:]
    rows = [{"case_id": key[0], "mode": key[1], **asdict(each)} for key, those in known.items() for each in those]
    keep_text(path, json.dumps(rows, indent=1))
    return path


def _path(device: str, fingerprint: Mapping[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps([device, dict(fingerprint)], sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"aa-history-{device}-{key}.json"
