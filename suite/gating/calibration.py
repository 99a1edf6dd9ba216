"""Calibration: every case gated against itself by the gate's own protocol, for what it would claim of nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from suite.discovery import ROOT
from suite.gating import floors
from suite.gating.estimates import paired
from suite.gating.pairing import pair_cases
from suite.gating.revision import worker_of
from suite.gating.schedule import Contest, Match
from suite.gating.sequential_test import Trial
from suite.gating.sides import OutOfBudget, answer_of, start_worker

if TYPE_CHECKING:
    from suite.gating.options import Options, Plan


@dataclass(frozen=True)
class Calibrated:
    """A case's floor, or the reason why it has none."""

    case_id: str
    floor: floors.Floor | None
    reason: str = ""


def calibrate(plan: Plan, options: Options, *, root: Path = ROOT) -> list[Calibrated]:
    """Gate the cases of a plan against themselves and keep their floors for this machine.

    Cases that the device can not run are left out.
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
    matches = [Match(each.case_id, each.case, Trial(options.limits, (rounds,))) for each in pairs if not each.settled()]
    Contest(matches, (start, start), options.terms, options.budget, options.timeout_s, False, options.progress).run()
    found = [of_match(match) for match in matches]
    floors.keep(device, fingerprint, {(each.case_id, options.terms.mode): each.floor for each in found if each.floor})
    return found


def of_match(match: Match) -> Calibrated:
    """What the rounds of a case against itself say."""
    for answer in (*match.before, *match.after):
        if answer["status"] != "ok":
            return Calibrated(match.case_id, None, f"{answer['status']}: {answer['reason']}")
    rounds = [*match.trial.rounds, *match.trial.confirmation]
    if len(rounds) < 2:
        return Calibrated(match.case_id, None, "the budget ended before its second round")
    return Calibrated(match.case_id, floors.floor_of(paired([each.log_ratio for each in rounds])))
