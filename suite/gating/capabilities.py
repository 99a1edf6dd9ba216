"""Capabilities: which cases a revision serves, and with which code. Both revisions answer the same questions.

A case crosses between processes as {operator, implementation, problem, axes, tunables}. Own axes that have their
default are left out, so that a revision that does not know an axis yet serves what had no such choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.errors import UsageError
from suite.problem import Case, Problem

if TYPE_CHECKING:
    from suite.plan import Group, Selection
    from suite.registry import Implementation, Operator, Registry

# Whose implementations are compiled; what PyTorch compiles for itself is not ours to compare.
KERNEL_ORIGINS = ("ours", "peer")


@dataclass(frozen=True)
class Served:
    """A case as a revision's registry has it."""

    operator: Operator
    implementation: Implementation
    case: Case


def described(case: Case) -> dict[str, Any]:
    """A case as data."""
    defaults = {axis.name: axis.default for axis in case.own_axes}
    return {
        "operator": case.operator,
        "implementation": case.implementation,
        "problem": case.problem.columns(),
        "axes": {name: value for name, value in case.problem.axes if value != defaults.get(name)},
        "tunables": dict(case.tunables),
    }


def served(registry: Registry, case: Mapping[str, Any]) -> Served | None:
    """The case in a registry, or None when it has no such operator, implementation, axis or tunable."""
    operator = registry.operators.get(case["operator"])
    made = operator.implementations.get(case["implementation"]) if operator else None
    if operator is None or made is None or set(case["tunables"]) != set(made.tunables):
        return None
    try:
        problem = operator.complete(Problem.from_columns(case["problem"]), case["axes"])
    except UsageError:
        return None
    if problem.pass_ not in operator.passes or problem.pass_ not in made.passes:
        return None
    tunables = tuple((name, case["tunables"][name]) for name in made.tunables)
    return Served(operator, made, Case(operator.name, made.name, problem, tunables, operator.axes))


class Surveyor:
    """Answers for one registry, loaded from `root`.

    device, arch: what the cases are to run on; an architecture stands for a GPU that is not there
    """

    def __init__(self, registry: Registry, root: Path, device: str, arch: str = "") -> None:
        from suite.gating.source_hash import Sources

        self.registry, self.device, self.arch = registry, device, arch
        self._sources = Sources(root)
        self._codes: dict[tuple[str, str], str] = {}

    def look_up(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        """{code, refused, kernels} of a case, None when it is not served.

        code: its code's hash; refused: why the device cannot run it; kernels: whether it has kernels to compile
        """
        found = served(self.registry, case)
        if found is None:
            return None
        made = found.implementation
        kernels = made.origin in KERNEL_ORIGINS and "cuda" in made.devices
        return {"code": self._code(found.operator, made), "refused": self._refused(found), "kernels": kernels}

    def codes(self) -> dict[str, str]:
        """OPERATOR/IMPLEMENTATION -> its code's hash, for everything registered."""
        return {
            f"{operator.name}/{made.name}": self._code(operator, made)
            for operator in self.registry.operators.values()
            for made in operator.implementations.values()
        }

    def _code(self, operator: Operator, made: Implementation) -> str:
        key = operator.name, made.name
        if key not in self._codes:
            self._codes[key] = self._sources.code_of(operator, made)
        return self._codes[key]

    def _refused(self, found: Served) -> str:
        from suite.checks.checker import refusal
        from suite.faults import classify
        from suite.targets import aim

        case = found.case
        try:
            with aim(self.arch) if self.arch else nullcontext():
                why = refusal(found.operator, found.implementation, case.problem, dict(case.tunables), self.device)
        except Exception as error:
            why = ": ".join(classify(error))
        return why or ""


def survey_request(registry: Registry, root: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a worker's `survey`: {served: [a look-up of each case given], extra: [{case, case_id, found}], note}."""
    surveyor = Surveyor(registry, root, request["device"], request["arch"])
    groups, note = _own_plan(registry, request)
    given = {each["case_id"] for each in request["cases"]}
    extra = []
    for case in (case for group in groups for case in group.cases if case.case_id not in given):
        data = described(case)
        extra.append({"case": data, "case_id": case.case_id, "found": surveyor.look_up(data)})
    return {"served": [surveyor.look_up(each["case"]) for each in request["cases"]], "extra": extra, "note": note}


def _own_plan(registry: Registry, request: Mapping[str, Any]) -> tuple[list[Group], str]:
    """The plan that the same preset and flags make here, and a note when there is none."""
    from suite.plan import make_plan
    from suite.presets import load_preset

    try:
        selection = known_part(registry, selection_of(request["selection"]))
        return make_plan(registry, load_preset(request["preset"]), selection), ""
    except UsageError as error:
        return [], f"what only the base has is not known: {error}"


def selection_of(data: Mapping[str, Any]) -> Selection:
    """A Selection that crossed between processes."""
    from suite.plan import Selection

    def restored(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return Selection(**{name: restored(value) for name, value in data.items()})


def known_part(registry: Registry, selection: Selection) -> Selection:
    """The selection without names that this registry does not know; UsageError when it named nothing else."""
    names = {name for operator in registry.operators.values() for name in operator.implementations}
    tunables = {t for o in registry.operators.values() for made in o.implementations.values() for t in made.tunables}
    axes = {axis.name for operator in registry.operators.values() for axis in operator.axes}
    kept = {
        "operators": tuple(name for name in selection.operators if name in registry.operators),
        "implementations": tuple(name for name in selection.implementations if name.rpartition("/")[2] in names),
        "skip": tuple(name for name in selection.skip if name.rpartition("/")[2] in names | set(registry.operators)),
        "axes": {name: each for name, each in selection.axes.items() if name in axes},
        "tunables": {name: each for name, each in selection.tunables.items() if name in tunables},
    }
    for name in ("operators", "implementations"):
        if getattr(selection, name) and not kept[name]:
            raise UsageError(f"it has none of {', '.join(getattr(selection, name))}")
    return replace(selection, **kept)


def cases_of(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The cases of a plan as {case_id, case}."""
    return [{"case_id": case.case_id, "case": described(case)} for group in groups for case in group.cases]
