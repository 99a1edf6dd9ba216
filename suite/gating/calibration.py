"""Calibration: gate every case against itself, to measure what the times of this machine do by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from suite.discovery import ROOT
from suite.gating import history
from suite.gating.pairing import pair_cases
from suite.gating.revision import worker_of
from suite.gating.schedule import CasePair, Schedule
from suite.gating.sequential_test import Trial
from suite.gating.sides import OutOfBudget, answer_of, start_worker

if TYPE_CHECKING:
    from suite.gating.options import Options, Plan


@dataclass(frozen=True)
class Calibrated:
    """A case's calibration and its history with it, or the reason why it has none."""

    case_id: str
    found: history.Calibration | None
    past: history.History | None = None
    reason: str = ""


def calibrate(plan: Plan, options: Options, *, root: Path = ROOT) -> list[Calibrated]:
    """Gate the cases of a plan against themselves and add what is found to the history of this machine.

    Cases that the device cannot run are left out.
    """
    device, mode = options.terms.device, options.terms.mode
    start = partial(start_worker, root, device, plan.load, options.budget, base=False)
    try:
        with worker_of(start) as worker:
            fingerprint = answer_of(worker, options.budget, do="describe", device=device)["fingerprint"]
            pairs, _ = pair_cases(plan.registry, root, worker, plan.asked(device), options.budget)
    except OutOfBudget:
        cases = [case for group in plan.groups for case in group.cases]
        return [Calibrated(case.case_id, None, reason=options.left_out().reason) for case in cases]
    rounds = options.looks[-1]
    asked = [each for each in pairs if not each.settled()]
    contenders = [CasePair(each.case_id, each.case, Trial(options.limits, (rounds,))) for each in asked]
    Schedule(
        contenders, (start, start), options.terms, options.budget, options.timeout_s, False, options.progress
    ).run()
    day = datetime.now(timezone.utc).date().isoformat()
    codes = [each.after["code"] if each.after else "" for each in asked]
    found = [of_pair(pair, code, day) for pair, code in zip(contenders, codes, strict=True)]
    history.keep(device, fingerprint, {(each.case_id, mode): each.found for each in found if each.found})
    past = history.load(device, fingerprint)
    return [Calibrated(each.case_id, each.found, past.get((each.case_id, mode)), each.reason) for each in found]


def of_pair(pair: CasePair, code: str, day: str) -> Calibrated:
    """What the rounds of a case against itself say."""
    for answer in (*pair.before, *pair.after):
        if answer["status"] != "ok":
            return Calibrated(pair.case_id, None, reason=f"{answer['status']}: {answer['reason']}")
    rounds = [*pair.trial.rounds, *pair.trial.confirmation]
    if len(rounds) < 2:
        return Calibrated(pair.case_id, None, reason="the budget ended before its second round")
    return Calibrated(pair.case_id, history.calibration_of(rounds, code=code, day=day))
