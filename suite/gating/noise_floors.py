"""A/A floors: how slow a case looks when it is gated against itself. They are computed and stored here, per machine.

Example::

    keep("cuda", fingerprint, {("retention/…", "cold-events"): NoiseFloor(noise=0.004, floor=0.006, rounds=16)})
    load("cuda", fingerprint)["retention/…", "cold-events"].floor   # 0.006
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cachefolder import cache_folder, kept
from suite.cachefolder import keep as keep_text
from suite.errors import StoreError
from suite.gating.decisions import SLOWER_LEVEL

if TYPE_CHECKING:
    from suite.gating.estimates import Estimate

# (case_id, mode)
Key = tuple[str, str]


@dataclass(frozen=True)
class NoiseFloor:
    """A case gated against itself.

    noise:  standard deviation of a round's log-ratio
    floor:  the largest slowdown that its bound would have claimed: a fraction
    rounds: rounds that it rests on
    """

    noise: float
    floor: float
    rounds: int


def noise_floor_of(time: Estimate) -> NoiseFloor:
    """The floor of an A/A estimate: its mean, either way, and the reach of the bound that a `slower` needs."""
    return NoiseFloor(time.noise, math.expm1(abs(time.mean) + time.reach(SLOWER_LEVEL)), time.rounds)


def load(device: str, fingerprint: Mapping[str, Any]) -> dict[Key, NoiseFloor]:
    """The floors measured on a machine with this fingerprint; empty where none were. StoreError when damaged."""
    path = _path(device, fingerprint)
    text = kept(path)
    if text is None:
        return {}
    try:
        rows = json.loads(text)
        return {(row["case_id"], row["mode"]): NoiseFloor(row["noise"], row["floor"], row["rounds"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} holds no A/A floors ({error}); delete it and run `gate --calibrate`") from error


def keep(device: str, fingerprint: Mapping[str, Any], found: Mapping[Key, NoiseFloor]) -> Path:
    """Store floors beside those that are there, in the place of older ones of the same cases; returns the file."""
    path = _path(device, fingerprint)
    known = {**load(device, fingerprint), **found}
    rows = [{"case_id": case_id, "mode": mode, **asdict(floor)} for (case_id, mode), floor in known.items()]
    keep_text(path, json.dumps(rows, indent=1))
    return path


def _path(device: str, fingerprint: Mapping[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps([device, dict(fingerprint)], sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"noise-floors-{device}-{key}.json"
