"""The gate's static part: changed Triton kernels of both revisions, compiled by one compiler and compared.

Without a GPU the plan is that of `subquad static`. With one it is the cases that would be timed, on that GPU's
architecture; a case whose binaries and launches are the same, with no operator beside them, is not timed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.errors import UsageError
from suite.gating.decisions import Decision

if TYPE_CHECKING:
    from suite.gating.options import Base, Options, Plan
    from suite.gating.pairing import Paired, Question
    from suite.static.model import Profile

# Cases that are compiled before the budget is looked at again.
AT_A_TIME = 16


@dataclass(frozen=True)
class Compared:
    """A case's static verdict.

    same:  whether both revisions compile to the same binaries, launched alike
    whole: whether these binaries are all that it does, so that its time is the same too
    """

    case_id: str
    decision: Decision
    same: bool = False
    whole: bool = False


def asked(plan: Plan, arch: str) -> Question | None:
    """The question to both revisions about what `subquad static` would profile; None where the flags leave nothing."""
    from suite.gating.pairing import Question
    from suite.plan import make_plan
    from suite.presets import load_preset
    from suite.static import PRESET

    try:
        groups = make_plan(plan.registry, load_preset(PRESET), plan.selection)
    except UsageError:
        return None
    return Question(groups, PRESET, plan.selection, "cuda", arch)


def compare(pairs: Sequence[Paired], plan: Plan, options: Options, arch: str, base: Base) -> Iterator[Compared]:
    """Static verdicts on cases that both revisions serve and whose code differs; under a budget a few at a time."""
    size = AT_A_TIME if options.budget.seconds else max(1, len(pairs))
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        if options.over:
            yield from (Compared(each.case_id, options.left_out()) for each in part)
        else:
            yield from _compare(part, plan, options, arch, base)


def _compare(pairs: Sequence[Paired], plan: Plan, options: Options, arch: str, base: Base) -> list[Compared]:
    from suite.gating.capabilities import served
    from suite.static.compare import judge
    from suite.static.pool import LEFT_OUT, take_profiles
    from suite.static.tasks import Task

    cases = [found.case for each in pairs if (found := served(plan.registry, each.case))]
    before, after = (
        take_profiles(
            [Task(case, arch, issued=False, root=root) for case in cases],
            load=load,
            jobs=options.jobs,
            progress=options.progress,
            budget=options.budget,
        )
        for root, load in ((str(base.root), base.load), ("", plan.load))
    )
    sides = zip(cases, before, after, strict=True)
    return [
        Compared(case.case_id, options.left_out())
        if LEFT_OUT in {each.status for each in (old, new) if each}
        else _compared(case.case_id, judge(old, new, options.fail_on), new)
        for case, old, new in sides
    ]


def _compared(case_id: str, decision: Decision, after: Profile | None) -> Compared:
    same = decision.verdict == "unchanged" and after is not None and after.status == "ok"
    return Compared(case_id, decision, same, bool(same and after and not after.eager_ops))


def gpu_pairs(pairs: Sequence[Paired]) -> list[Paired]:
    """Of the cases that would be timed on a GPU, those with kernels to compile."""
    return [each for each in pairs if each.kernels and not each.same_code and each.settled() is None]
