"""A round: both revisions, alive together, measure one case in alternating blocks A B B A.

What drifts evenly over a round hits both alike: the blocks of each have the same mean place in time. Which revision
begins is drawn again in each round. A block's first call is not counted; it finds its way back into the caches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from statistics import fmean, median
from typing import Any

from suite.gating.sequential_test import Round
from suite.gating.sides import Answer, Side

BLOCK_MS = 5.0
LARGEST_BLOCK = 200
# Times that A B B A is run through.
FEWEST, MOST = 2, 64


@dataclass(frozen=True)
class RoundSettings:
    """How cases are measured in a round.

    device, mode: as in suite.measuring.case.Settings
    warmup_ms:    calls before the first block, ms
    rep_ms:       how long each revision is timed in a round, about, ms
    seed:         of the inputs
    recheck_pick: as in suite.measuring.case.Settings
    """

    device: str
    mode: str
    warmup_ms: float = 5.0
    rep_ms: float = 60.0
    seed: int = 0
    recheck_pick: int = 0


@dataclass(frozen=True)
class RoundResult:
    """What a round of one case yielded: each revision's status, reason and figures, and the times when both are ok."""

    before: Answer
    after: Answer
    times: Round | None = None


def play(
    sides: tuple[Side, Side], case: dict[str, Any], terms: RoundSettings, draw: Random, *, check: bool
) -> RoundResult:
    """One round of one case. `check` adds the numerics and the memory, which are the same in every round."""
    settings = {
        "device": terms.device,
        "mode": terms.mode,
        "warmup_ms": terms.warmup_ms,
        "seed": terms.seed,
        "recheck_pick": terms.recheck_pick,
        "check": check,
        "time": True,
    }
    order = [0, 1] if draw.random() < 0.5 else [1, 0]
    found: list[Answer] = [{}, {}]
    for i in order:
        found[i] = sides[i].ask(do="open", case=case, settings=settings)
    times, failed = None, {}
    if _ok(found):
        times, failed = _alternate(sides, order, max(each["typical_ms"] for each in found), terms.rep_ms)
    for i in order:
        if i in failed:
            found[i] |= failed[i]
        elif _ok([found[i]]):
            found[i] |= _told(sides[i].ask(do="close", recheck=check and times is not None))
    return RoundResult(found[0], found[1], times if _ok(found) else None)


def _told(answer: Answer) -> Answer:
    return {"status": answer["status"], "reason": answer["reason"]}


def _ok(answers: list[Answer]) -> bool:
    return all(each["status"] == "ok" for each in answers)


def _alternate(
    sides: tuple[Side, Side], order: list[int], typical_ms: float, rep_ms: float
) -> tuple[Round | None, dict[int, Answer]]:
    """The round's times, or which side failed and how."""
    samples, turns = blocks(typical_ms, rep_ms)
    taken: tuple[list[float], list[float]] = ([], [])
    clocks: tuple[list[float], list[float]] = ([], [])
    for i in [*order, *reversed(order)] * turns:
        answer = sides[i].ask(do="block", samples=samples)
        if answer["status"] != "ok":
            return None, {i: _told(answer)}
        if wrong := [each for each in answer["samples"] if not 0 < each < math.inf]:
            return None, {i: {"status": "error", "reason": f"the timer gave a sample of {wrong[0]} ms"}}
        taken[i].extend(answer["samples"])
        if answer["mhz"]:
            clocks[i].append(answer["mhz"])
    mhz = [fmean(each) if len(each) == 2 * turns else None for each in clocks]
    return Round(median(taken[0]), median(taken[1]), *mhz), {}


def blocks(typical_ms: float, rep_ms: float) -> tuple[int, int]:
    """(samples of a block, times that A B B A is run through) for calls of about `typical_ms`."""
    samples = max(1, min(LARGEST_BLOCK, int(BLOCK_MS / max(typical_ms, 1e-4))))
    # A block makes one call more than it counts, and A B B A has two blocks of each.
    turns = int(rep_ms / (2 * (samples + 1) * max(typical_ms, 1e-4)))
    return samples, max(FEWEST, min(MOST, turns))
