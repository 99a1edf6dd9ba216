"""Where measured ceilings are kept, and when they are measured again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from suite.cachefolder import cache_folder, keep, kept
from suite.ceilings.steadiness import better, disturbed
from suite.errors import StoreError

# What is measured, and how: another version measures again.
VERSION = 4
# The clock of an idle GPU's spin repeats within this part; locked clocks are steps of at least 15 MHz apart and are
# seen from here on.
CLOCK_TOLERANCE = 0.02
# Work beside a measurement seldom ends within seconds, and a run should not start with another try each time.
RETRY_S = 600.0


def ceilings(device: str, identity: Mapping[str, Any], *, refresh: bool = False) -> dict[str, Any]:
    """The ceilings of this device: from the cache when nothing that decides them has changed, else measured now.

    What other work disturbed is measured again when it is asked for RETRY_S later, the better of both kept: a busy hour
    must not lower the roof of later runs.

    device:   `cuda` or `cpu`
    identity: driver, versions, threads, power limit; the clocks that are set are read here and added to it
    refresh:  measure in any case
    Returns, with every measured thing as {its unit, low, high, samples}:
        {"copy": [{bytes, gbs}], "read": {bytes, gbs}, "copy_by_dtype": {dtype: {bytes, gbs}},
        "matmul": {dtype: {tflops}}, "l2": {bytes, gbs}, "special": {function, gops}, "launch": {how: {us}},
        "clocks": {...}, "measured": ISO 8601, "cache": name of the file that keeps them}
    without `l2` on a CPU.
    """
    from suite.ceilings.clocks import clocks_of, spin_mhz, uuid_of
    from suite.ceilings.measuring import measure_ceilings

    clocks = clocks_of(device)
    spin = spin_mhz(device)
    path = _path(device, {**identity, "clocks": clocks, "uuid": uuid_of(device)})
    known = None if refresh else _known(path, spin)
    if known is not None and not (disturbed(known) and _age_s(known) > RETRY_S):
        return known
    found = measure_ceilings(device)
    spun = {} if spin is None else {"spin_mhz": spin}
    found = (better(known, found) if known else found) | {"clocks": clocks | spun, "cache": path.name}
    _keep(path, found)
    return found


def renew(found: Mapping[str, Any]) -> None:
    """Keep ceilings that were confirmed to be higher, where they came from this machine's cache."""
    if found.get("cache"):
        _keep(cache_folder() / found["cache"], found)


def _path(device: str, identity: Mapping[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps([VERSION, device, dict(identity)], sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"ceilings-{device}-{key}.json"


def _known(path: Path, spin: float | None) -> dict[str, Any] | None:
    """What a file of the cache holds, unless it is of another clock. StoreError when it is damaged."""
    text = kept(path)
    try:
        found = json.loads(text) if text is not None else None
    except ValueError as error:
        raise StoreError(f"{path} holds no ceilings ({error}); delete it") from error
    return found if found and _same_clock(found.get("clocks", {}).get("spin_mhz"), spin) else None


def _age_s(found: Mapping[str, Any]) -> float:
    return (datetime.now(timezone.utc) - datetime.fromisoformat(found["measured"])).total_seconds()


def _same_clock(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before == now
    return abs(now / before - 1) <= CLOCK_TOLERANCE


def _keep(path: Path, found: Mapping[str, Any]) -> None:
    keep(path, json.dumps(found, indent=1))
