"""Surveys and pairs: two revisions' registries, told apart without measuring anything."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from suite import Axis, Cost, Operator, Problem
from suite.errors import UsageError
from suite.gating.capabilities import cases_of, described, known_part, selection_of, served, survey_request
from suite.gating.pairing import Paired, Question, pair_cases, uncovered
from suite.plan import Selection, make_plan
from suite.problem import Case
from suite.registry import Registry
from suite.running.budget import Budget

WINDOW = Axis("window", (0, 64))


def registry(
    *names: str,
    axes: tuple[Axis, ...] = (WINDOW,),
    chunks: tuple[int, ...] = (64, 32),
    devices: tuple[str, ...] = ("cpu",),
) -> Registry:
    """An operator `mean` with implementations of these names, each with the tunable chunk."""
    mean = Operator(
        "mean",
        "o = mean v",
        "none",
        inputs=lambda p, g: {},
        oracle=lambda q, k, v: (v, None),
        axes=axes,
        cost=lambda p, t: Cost(1, 1, 1),
        passes=("fwd",),
        stateful=False,
        tags=("linear",),
    )
    for name in names:
        mean.implementation(name, origin="baseline", tunables={"chunk": chunks}, devices=devices)(_mean)
    made = Registry()
    made.add(mean)
    return made


def _mean(q, k, v, *, window=0, chunk=64):
    return v, None


class Asked:
    """A worker of another registry, without the process; requests cross as JSON."""

    killed_by_kernel = False

    def __init__(self, base: Registry, root: Path) -> None:
        self.base, self.root = base, root

    def ask(self, timeout_s: float = 0.0, **request):
        data = json.loads(json.dumps(request))
        if data["do"] == "codes":
            return {"codes": {f"mean/{name}": "other" for name in self.base.operators["mean"].implementations}}
        return json.loads(json.dumps(survey_request(self.base, self.root, data)))

    def how_it_ended(self) -> str:
        return ""

    def tail(self) -> str:
        return ""

    def kill(self) -> None:
        pass


@pytest.fixture
def preset(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text('tags = ["linear"]\n[[sweep]]\nT = [64]\ndtype = ["float32"]\n')
    return str(path)


def pairs(
    here: Registry, base: Registry, preset: str, tmp_path: Path, selection: Selection | None = None
) -> tuple[dict[str, Paired], str]:
    from suite.presets import load_preset

    selection = selection or Selection()
    groups = make_plan(here, load_preset(preset), selection)
    found, note = pair_cases(
        here, tmp_path, Asked(base, tmp_path), Question(groups, preset, selection, "cpu"), Budget()
    )
    return {each.case_id.partition("/")[2]: each for each in found}, note


def verdicts(found: dict[str, Paired]) -> dict[str, str]:
    settled = {name.replace("/B1_T64_H1_K64_V64_fp32_fwd_", " "): each.settled() for name, each in found.items()}
    return {name: each.verdict if each else "judge" for name, each in settled.items()}


def test_a_case_crosses_and_is_the_same_on_the_other_side():
    here = registry("a")
    problem = here.operator("mean").complete(Problem(T=64, dtype="fp32"), {"window": 64})
    case = Case("mean", "a", problem, (("chunk", 32),), (WINDOW,))
    data = json.loads(json.dumps(described(case)))
    found = served(here, data)
    assert found is not None
    assert found.case == case
    assert served(registry("b"), data) is None
    assert served(registry("a", axes=()), data) is None
    assert served(registry("a"), {**data, "tunables": {}}) is None
    assert served(registry("a"), {**data, "problem": {**data["problem"], "pass": "bwd"}}) is None


def test_an_axis_with_its_default_is_no_reason_to_be_another_case():
    here, before = registry("a"), registry("a", axes=())
    case = Case("mean", "a", here.operator("mean").complete(Problem(T=64)), (("chunk", 64),), (WINDOW,))
    found = served(before, described(case))
    assert found is not None
    assert found.case.case_id == case.case_id


def test_new_missing_and_what_has_to_be_judged(preset, tmp_path):
    found, note = pairs(registry("a", "new"), registry("a", "gone"), preset, tmp_path)
    assert (verdicts(found), note) == ({"a C64": "judge", "new C64": "new", "gone C64": "missing"}, "")


def test_another_default_is_judged_on_both_sides_while_both_admit_it(preset, tmp_path):
    here, base = registry("a", chunks=(32, 64)), registry("a", chunks=(64, 32))
    assert verdicts(pairs(here, base, preset, tmp_path)[0]) == {"a C32": "judge", "a C64": "judge"}
    here = registry("a", chunks=(32,))
    assert verdicts(pairs(here, base, preset, tmp_path)[0]) == {"a C32": "judge", "a C64": "missing"}


def test_what_the_base_could_not_run_had_no_number_to_lose(preset, tmp_path):
    base = registry("a", "gone", devices=("cuda",))
    found, _ = pairs(registry("a", devices=("cuda",)), base, preset, tmp_path)
    assert verdicts(found) == {"a C64": "unchanged", "gone C64": "unchanged"}
    assert "does not run on cpu" in found["gone/B1_T64_H1_K64_V64_fp32_fwd_C64"].settled().reason
    found, _ = pairs(registry("a"), registry("a", devices=("cuda",)), preset, tmp_path)
    assert verdicts(found) == {"a C64": "judge"}


def test_names_that_the_base_does_not_know_are_left_out_of_its_plan(preset, tmp_path):
    here, base = registry("a", "new"), registry("a")
    found, note = pairs(here, base, preset, tmp_path, Selection(implementations=("a", "new")))
    assert (verdicts(found), note) == ({"a C64": "judge", "new C64": "new"}, "")
    found, note = pairs(here, base, preset, tmp_path, Selection(implementations=("new",)))
    assert verdicts(found) == {"new C64": "new"}
    assert note == "what only the base has is not known: it has none of new"


def test_a_selection_crosses_whole():
    selection = Selection(("mean",), ("a",), ("b",), {"T": (64, 128)}, {"window": (64,)}, {"chunk": (32,)}, ({"K": 8},))
    assert selection_of(json.loads(json.dumps(asdict(selection)))) == selection
    kept = known_part(registry("a", axes=()), selection)
    assert (kept.operators, kept.skip, kept.axes, kept.values) == (("mean",), (), {}, {"T": (64, 128)})
    with pytest.raises(UsageError, match="none of mean"):
        known_part(Registry(), selection)


def test_what_changed_and_is_in_no_case_is_named(preset, tmp_path):
    here, base = registry("a", "b", "c"), registry("a", "b", "c")
    found, _ = pairs(here, base, preset, tmp_path, Selection(skip=("b",)))
    judged = [each for each in found.values() if "/a/" in each.case_id]
    asked = Asked(base, tmp_path)
    assert uncovered(here, tmp_path, asked, judged, Selection(skip=("b",)), Budget()) == ["mean/c"]
    assert uncovered(here, tmp_path, asked, judged, Selection(implementations=("a", "mean/b")), Budget()) == ["mean/b"]
    assert uncovered(here, tmp_path, asked, judged, Selection(operators=("other",)), Budget()) == []


def test_the_cases_of_a_plan_are_named_as_the_plan_names_them(preset):
    from suite.presets import load_preset

    groups = make_plan(registry("a"), load_preset(preset), Selection())
    assert [each["case_id"] for each in cases_of(groups)] == [case.case_id for group in groups for case in group.cases]
