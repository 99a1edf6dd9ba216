"""The plan of a run, stored beside its records as plan.json, and the differences for which a resume is refused.

plan.json has every case in the order in which it is measured, and the flags by which they were chosen and are measured,
with the values that presets and defaults gave. `--resume RUN` alone goes on with exactly that, whatever presets and
the registry say by then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from suite.errors import StoreError, UsageError
from suite.plan import Group
from suite.problem import Case, Problem
from suite.registry import Registry
from suite.store import rules
from suite.store.paths import PLAN, run_folder
from suite.store.reading import read_document
from suite.store.rules import COUNT, FLAG, SCALAR, SIZE, TEXT, TEXTS, List, Object, number
from suite.store.schema import version_fault

# What is named by its start alone in an error, such as a digest.
SHOWN = 60
# The fields of plan.json, in the order of StoredPlan's.
PARTS = {"command": str, "flags": dict, "plugins": dict, "problems": list}
_TIME = number(0, 1e9)
# What a resumed run takes from plan.json. Flags that chose cases are only compared with those that are given again.
_RULES = Object(
    {
        "flags": Object(
            {
                "preset": TEXT,
                "preset_digest": TEXT,
                "load": TEXTS,
                "device": TEXT,
                "mode": TEXTS,
                "launches": SIZE,
                "seed": COUNT,
                "gpu": COUNT,
                "lock_clocks": COUNT,
                "energy": FLAG,
                "no_static": FLAG,
                **dict.fromkeys(("warmup", "rep", "cool_down", "timeout"), _TIME),
            },
            required=("preset",),
        ),
        "plugins": Object(others=TEXT),
        "problems": List(
            Object(
                {
                    "operator": TEXT,
                    "problem": Object(others=SCALAR),
                    "axes": Object(others=SCALAR),
                    "cases": List(
                        Object(
                            {"implementation": TEXT, "tunables": Object(others=SCALAR)},
                            required=("implementation", "tunables"),
                        )
                    ),
                },
                required=("operator", "problem", "axes", "cases"),
            )
        ),
    }
)


@dataclass(frozen=True)
class StoredPlan:
    """What a run measures.

    command:  `bench` or `check`
    flags:    name of each flag's value in the parsed command line -> value; with a preset file, its SHA-256 as
              `preset_digest`
    plugins:  path of each file of --load -> SHA-256 of its bytes
    problems: the groups, as JSON
    """

    path: Path
    command: str
    flags: Mapping[str, Any]
    plugins: Mapping[str, str]
    problems: Sequence[Mapping[str, Any]]

    def groups(self, registry: Registry) -> list[Group]:
        """The plan, in its order. UsageError when an operator, an implementation or an axis is no longer there."""
        try:
            return [_group(registry, each) for each in self.problems]
        except UsageError as error:
            raise UsageError(f"{self.path}: {error}; the code has changed, start a new run") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StoreError(f"{self.path} has a problem that cannot be read ({error}); start a new run") from error


def document(command: str, flags: Mapping[str, Any], plugins: Sequence[str], groups: Sequence[Group]) -> dict[str, Any]:
    """plan.json of a run that is about to start."""
    return {
        "command": command,
        "flags": dict(flags),
        "plugins": digests(plugins),
        "problems": [
            {
                "operator": group.operator,
                "problem": group.problem.columns(),
                "axes": dict(group.problem.axes),
                "cases": [
                    {"implementation": case.implementation, "tunables": dict(case.tunables)} for case in group.cases
                ],
            }
            for group in groups
        ],
    }


def digests(files: Sequence[str]) -> dict[str, str]:
    """SHA-256 of files by path; empty for one that is not there."""
    found = {}
    for path in map(Path, files):
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


def read_plan(run: Path, command: str) -> StoredPlan:
    """The plan of a run that `command` made. StoreError when it has none, a damaged one, or another command's."""
    path = run_folder(run) / PLAN
    if not path.exists():
        raise StoreError(
            f"{run} has no {PLAN}: it was made before plans were stored, and cannot be resumed; start a new run with "
            f"--out"
        )
    values = read_document(path, _fault, "restore it from a copy, or start a new run")
    if values["command"] != command:
        raise UsageError(f"{run} was made by `subquad {values['command']}`, not by {command}; resume it with that")
    return StoredPlan(path, *(values[name] for name in PARTS))


def _fault(values: Any) -> str | None:
    if not isinstance(values, dict):
        return "is not a JSON object"
    if wrong := version_fault(values.get("schema")):
        return wrong
    lacking = next((name for name, kind in PARTS.items() if not isinstance(values.get(name), kind)), None)
    if lacking:
        return f"has no {PARTS[lacking].__name__} '{lacking}'"
    wrong = rules.fault(_RULES, values)
    return wrong and f"has {wrong.removeprefix('.')}"


def _group(registry: Registry, stored: Mapping[str, Any]) -> Group:
    operator = registry.operator(stored["operator"])
    problem = operator.complete(Problem.from_columns(stored["problem"]), stored["axes"])
    cases = []
    for each in stored["cases"]:
        made = registry.implementation(operator.name, each["implementation"])
        cases.append(Case(operator.name, made.name, problem, tuple(each["tunables"].items()), operator.axes))
    return Group(operator.name, problem, tuple(cases))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What of commit and fingerprint differs between a run's environment and the present one: name -> [then, now]."""
    sides = [{"commit": each.get("commit", ""), **each["fingerprint"]} for each in (before, now)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    pairs = {name: [side.get(name) for side in sides] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def told(differs: Mapping[str, Sequence[Any]]) -> str:
    """`commit is 1234 in the run and 5678 here; torch is 2.9 in the run and 2.10 here`."""
    return "; ".join(
        f"{name} is {_word(then)} in the run and {_word(now)} here" for name, (then, now) in differs.items()
    )


def _word(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return (text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}...") if text and value is not None else "none"


def finished(before: Mapping[str, Any], left_out: int, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The environment of a run that was resumed: what is left out now, and the seconds of all its parts by phase."""
    plan = dict(before.get("plan") or {})
    known = plan.get("seconds") or {}
    total = {phase: round(known.get(phase, 0.0) + seconds.get(phase, 0.0), 3) for phase in {**known, **seconds}}
    return {**before, "plan": {**plan, "left_out": left_out, "seconds": total}}


def marked(environment: Mapping[str, Any], differs: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The environment of a run that is continued although something differs: `resumed` lists each time it was."""
    before = [each for each in environment.get("resumed") or [] if isinstance(each, dict)]
    if not differs or any(each.get("differs") == differs for each in before):
        return dict(environment)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {**environment, "resumed": [*before, {"at": at, "differs": dict(differs)}]}
