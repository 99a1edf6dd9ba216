"""Pairing two revisions' cases: what only one of them serves, what is the same code in both, what must be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.gating.capabilities import Surveyor, cases_of
from suite.gating.decisions import Decision
from suite.gating.sides import OutOfBudget, answer_of
from suite.problem import split_case_id

if TYPE_CHECKING:
    from suite.gating.sides import Process
    from suite.plan import Group, Selection
    from suite.registry import Registry
    from suite.running.budget import Budget


@dataclass(frozen=True)
class Paired:
    """One case, and each revision's look-up of it as in `Surveyor.look_up`, None where it is not served."""

    case_id: str
    case: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def kernels(self) -> bool:
        """Whether a revision has kernels to compile for it."""
        return any(each["kernels"] for each in (self.before, self.after) if each)

    @property
    def same_code(self) -> bool:
        return bool(self.before and self.after and self.before["code"] == self.after["code"])

    @property
    def is_new(self) -> bool:
        """Whether only this tree serves it, on this device."""
        return self.before is None and self.after is not None and not self.after["refused"]

    def settled(self) -> Decision | None:
        """The decision that needs no measurement, but for cases of the same code; None when one is needed."""
        if self.before is None:
            return Decision("new", "not in the base")
        if self.before["refused"] and (self.after is None or self.after["refused"]):
            return Decision("unchanged", f"no number to lose: {self.before['refused']}")
        if self.after is None:
            return Decision("missing", "the base serves it, this tree does not")
        return None


@dataclass(frozen=True)
class Question:
    """What is asked of both revisions: a plan, and the device it is for.

    preset, selection: what the plan was made from, so that the base can make its own
    arch:              the architecture that stands for a GPU that is not there
    """

    groups: Sequence[Group]
    preset: str
    selection: Selection
    device: str
    arch: str = ""


def pair_cases(
    registry: Registry, root: Path, base: Process, asked: Question, budget: Budget
) -> tuple[list[Paired], str]:
    """The cases of this tree's plan, then those that only the base's plan has; and a note where that is not known.

    base: a worker of the base revision, as in suite.gating.worker
    Raises OutOfBudget when the budget ends before all is known.
    """
    cases = cases_of(asked.groups)
    answer = answer_of(
        base,
        budget,
        do="survey",
        device=asked.device,
        arch=asked.arch,
        preset=asked.preset,
        selection=asdict(asked.selection),
        cases=cases,
    )
    here = Surveyor(registry, root, asked.device, asked.arch)
    found = []
    for each, before in zip(cases, answer["served"], strict=True):
        if budget.over:
            raise OutOfBudget
        found.append(Paired(each["case_id"], each["case"], before, here.look_up(each["case"])))
    for each in answer["extra"]:
        found.append(Paired(each["case_id"], each["case"], each["found"], _admitted(registry, here, each["case"])))
    return found, answer["note"]


def uncovered(
    registry: Registry, root: Path, base: Process, pairs: Sequence[Paired], selection: Selection, budget: Budget
) -> list[str]:
    """OPERATOR/IMPLEMENTATION of what both revisions have, whose code differs, and that no case of the pairs judges.

    Only what the selection's names leave in: the rest was left out on purpose.
    """
    before, here = answer_of(base, budget, do="codes")["codes"], Surveyor(registry, root, "cpu").codes()
    covered = {"/".join(split_case_id(each.case_id)[:2]) for each in pairs if not each.settled()}
    changed = [name for name, code in here.items() if before.get(name, code) != code]
    return [name for name in changed if name not in covered and _named(name, selection)]


def _named(name: str, selection: Selection) -> bool:
    operator, _, implementation = name.partition("/")
    names = {name, implementation}
    if (names | {operator}) & set(selection.skip):
        return False
    chosen = not selection.operators or operator in selection.operators
    return chosen and (not selection.implementations or bool(names & set(selection.implementations)))


def _admitted(registry: Registry, here: Surveyor, case: dict[str, Any]) -> dict[str, Any] | None:
    """The look-up of a case that this tree's plan has not: its tunables must be among those still admissible."""
    found = here.look_up(case)
    if found is None:
        return None
    tunables = registry.implementation(case["operator"], case["implementation"]).tunables
    return found if all(value in tunables[name] for name, value in case["tunables"].items()) else None
