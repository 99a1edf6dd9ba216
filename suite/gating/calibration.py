"""Calibration: gate every case against itself, to measure the slowdown that the gate would claim without a change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from suite.discovery import ROOT
from suite.gating import noise_floors
from suite.gating.estimates import paired
from suite.gating.pairing import pair_cases
from suite.gating.revision import worker_of
from suite.gating.schedule import CasePair, Schedule
from suite.gating.sequential_test import Trial
from suite.gating.sides import OutOfBudget, answer_of, start_worker

if TYPE_CHECKING:
    from suite.gating.options import Options, Plan


@dataclass(frozen=True)
class Calibrated:
    """A case's floor, or the reason why it has none."""

    case_id: str
    floor: noise_floors.NoiseFloor | None
    reason: str = ""


def calibrate(plan: Plan, options: Options, *, root: Path = ROOT) -> list[Calibrated]:
    """Gate the cases of a plan against themselves and keep their floors for this machine.

    Cases that the device cannot run are left out.
    """
    device = options.terms.device
    start = partial(start_worker, root, device, plan.load, options.budget, base=False)
    try:
        with worker_of(start) as worker:
            fingerprint = answer_of(worker, options.budget, do="describe", device=device)["fingerprint"]
            pairs, _ = pair_cases(plan.registry, root, worker, plan.asked(device), options.budget)
    except OutOfBudget:
        cases = [case for group in plan.groups for case in group.cases]
        return [Calibrated(case.case_id, None, options.left_out().reason) for case in cases]
    rounds = options.looks[-1]
    contenders = [
        CasePair(each.case_id, each.case, Trial(options.limits, (rounds,))) for each in pairs if not each.settled()
    ]
    Schedule(
        contenders, (start, start), options.terms, options.budget, options.timeout_s, False, options.progress
    ).run()
    found = [of_pair(pair) for pair in contenders]
    noise_floors.keep(
        device, fingerprint, {(each.case_id, options.terms.mode): each.floor for each in found if each.floor}
    )
    return found


def of_pair(pair: CasePair) -> Calibrated:
    """What the rounds of a case against itself say."""
    for answer in (*pair.before, *pair.after):
        if answer["status"] != "ok":
            return Calibrated(pair.case_id, None, f"{answer['status']}: {answer['reason']}")
    rounds = [*pair.trial.rounds, *pair.trial.confirmation]
    if len(rounds) < 2:
        return Calibrated(pair.case_id, None, "the budget ended before its second round")
    return Calibrated(pair.case_id, noise_floors.noise_floor_of(paired([each.log_ratio for each in rounds])))
