"""The gate's numerics without a GPU: changed Triton kernels of both revisions, checked in Triton's interpreter.

The problems are those of the preset `interpret`, short ones in fp32 and bf16: a second here is a microsecond on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from suite.errors import UsageError
from suite.gating.decisions import judge_status
from suite.gating.report import CaseVerdict
from suite.gating.sides import OutOfBudget, Starts, both
from suite.gating.stored import errors, moved_limit, statuses

if TYPE_CHECKING:
    from suite.gating.options import Options, Plan
    from suite.gating.pairing import Paired, Question

PRESET = "interpret"
DEVICE = "interpret"


def asked(plan: Plan) -> Question | None:
    """The question to both revisions about small problems; flags choose operators, implementations and passes."""
    from suite.gating.pairing import Question
    from suite.plan import make_plan
    from suite.presets import load_preset

    passes = {axis: given for axis, given in plan.selection.values.items() if axis == "pass"}
    selection = replace(plan.selection, values=passes, shapes=())
    try:
        groups = make_plan(plan.registry, load_preset(PRESET), selection)
    except UsageError:
        return None
    return Question(groups, PRESET, selection, DEVICE)


def check(pairs: Sequence[Paired], starts: Starts, options: Options) -> Iterator[CaseVerdict]:
    """Verdicts on the errors of cases that both revisions serve."""
    settings = {
        "device": DEVICE,
        "mode": DEVICE,
        "warmup_ms": 0.0,
        "seed": options.terms.seed,
        "check": True,
        "time": False,
    }
    if not pairs or options.over:
        yield from (CaseVerdict(each.case_id, DEVICE, "error", options.left_out()) for each in pairs)
        return
    waiting = list(pairs)
    with (
        suppress(OutOfBudget),
        both(starts, options.timeout_s, options.budget) as sides,
        options.progress("checking numerics", len(pairs)) as step,
    ):
        while waiting and not options.over:
            each = waiting[0]
            before, after = ([side.ask(do="open", case=each.case, settings=settings)] for side in sides)
            waiting.pop(0)
            yield from _judged(each.case_id, before, after)
            step(each.case_id)
    yield from (CaseVerdict(each.case_id, DEVICE, "error", options.left_out()) for each in waiting)


def _judged(case_id: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[CaseVerdict]:
    decision = judge_status(statuses(before), statuses(after)) or errors(before, after)
    if decision:
        yield CaseVerdict(case_id, DEVICE, "error", decision, note=moved_limit(before, after))
