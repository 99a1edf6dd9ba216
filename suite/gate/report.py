"""What a gate found: the report, its exit code, and its forms as JSON, Markdown and JUnit XML."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from suite.errors import Exit, worst
from suite.gate.decisions import FAILING, JUDGED, Decision

if TYPE_CHECKING:
    from suite.store.pairs import Mismatch, Source

SCHEMA = "1.0"
Metric = Literal["time", "memory", "error", "static"]
# What a reader has to see first.
ORDER = ("broken", "missing", "slower", "inconclusive", "faster", "new", "unchanged", "same")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class CaseVerdict:
    """One decision on one metric of one case."""

    case_id: str
    mode: str
    metric: Metric
    decision: Decision

    def to_json(self) -> dict[str, Any]:
        own = {"case_id": self.case_id, "mode": self.mode, "metric": self.metric}
        return own | vars(self.decision)


@dataclass(frozen=True)
class Report:
    """All decisions of a gate, in the order of the baseline's cases."""

    base: Source
    candidate: Source
    mismatches: tuple[Mismatch, ...]
    allowed: bool
    cases: tuple[CaseVerdict, ...]

    @property
    def exit(self) -> Exit:
        """The exit code: INCOMPARABLE for a mismatch that is not allowed, INCONCLUSIVE when nothing was judged."""
        if self.mismatches and not self.allowed:
            return Exit.INCOMPARABLE
        judged = any(each.decision.verdict in JUDGED for each in self.cases)
        nothing = [] if judged else [Exit.INCONCLUSIVE]
        return worst([*(each.decision.exit for each in self.cases), *nothing])

    @property
    def sorted_cases(self) -> list[CaseVerdict]:
        """The cases, what fails first."""
        return sorted(self.cases, key=lambda each: ORDER.index(each.decision.verdict))

    @property
    def headline(self) -> str:
        """The outcome in one line: `regression: 1 broken, 2 slower, 197 same`."""
        if self.exit == Exit.INCOMPARABLE:
            return (
                "environments differ: nothing was compared; measure both on one machine, or pass --allow-env-mismatch"
            )
        counts = Counter(each.decision.verdict for each in self.cases)
        told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])
        return f"{self.exit.name.lower()}: {told or 'no case in either run'}"

    def to_json(self) -> dict[str, Any]:
        """The report as docs/gate.md describes it."""
        return {
            "schema": SCHEMA,
            "exit": int(self.exit),
            "base": vars(self.base),
            "candidate": vars(self.candidate),
            "environment": {
                "match": not self.mismatches,
                "allowed": self.allowed,
                "differences": [vars(each) for each in self.mismatches],
            },
            "cases": [each.to_json() for each in self.cases],
        }

    def to_markdown(self) -> str:
        """A step summary: the outcome, the environment's differences, and a table of all that is not `same`."""
        lines = ["## Gate", "", f"**{_cell(self.headline)}**", ""]
        lines += [f"Baseline {_cell(_told(self.base))}, candidate {_cell(_told(self.candidate))}.", ""]
        if self.mismatches:
            lines += ["Environments differ:", "", *(f"- {_cell(str(each))}" for each in self.mismatches), ""]
        rows = [each for each in self.sorted_cases if each.decision.verdict != "same"]
        if rows:
            lines += ["| verdict | case | mode | metric | reason |", "|---|---|---|---|---|"]
            lines += [f"| {' | '.join(_cell(cell) for cell in row_of(each))} |" for each in rows]
        return "\n".join(lines).rstrip() + "\n"

    def to_junit(self) -> str:
        """JUnit XML: a test case for each decision; failing verdicts are failures, inconclusive ones skipped."""
        from xml.etree import ElementTree as ET

        failures = sum(each.decision.verdict in FAILING for each in self.cases)
        skipped = sum(each.decision.verdict == "inconclusive" for each in self.cases)
        counts = {"tests": len(self.cases), "failures": failures, "errors": 0, "skipped": skipped}
        suite = ET.Element("testsuite", {"name": "subquad gate", **{name: str(n) for name, n in counts.items()}})
        if self.mismatches:
            _junit_environment(suite, "; ".join(str(each) for each in self.mismatches), self.allowed)
        for each in self.cases:
            _junit_case(suite, each)
        return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def row_of(case: CaseVerdict) -> tuple[str, str, str, str, str]:
    """Verdict, case, mode, metric, reason: the columns of every table."""
    return case.decision.verdict, case.case_id, case.mode, case.metric, case.decision.reason


def _junit_environment(suite: Any, differences: str, allowed: bool) -> None:
    from xml.etree import ElementTree as ET

    if allowed:
        properties = ET.SubElement(suite, "properties")
        ET.SubElement(properties, "property", {"name": "environments differ", "value": _xml(differences)})
        return
    suite.set("tests", "1")
    suite.set("errors", "1")
    case = ET.SubElement(suite, "testcase", {"classname": "gate", "name": "environment"})
    ET.SubElement(case, "error", {"message": _xml(differences)})


def _junit_case(suite: Any, each: CaseVerdict) -> None:
    from xml.etree import ElementTree as ET

    operator, _, name = each.case_id.partition("/")
    label = f"{name} [{each.mode}] {each.metric}"
    case = ET.SubElement(suite, "testcase", {"classname": _xml(f"gate.{operator}"), "name": _xml(label)})
    message = _xml(f"{each.decision.verdict}: {each.decision.reason}")
    if each.decision.verdict in FAILING:
        ET.SubElement(case, "failure", {"message": message, "type": each.decision.verdict})
    elif each.decision.verdict == "inconclusive":
        ET.SubElement(case, "skipped", {"message": message})


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 has no place for."""
    return _NOT_XML.sub("�", text)


def _cell(text: str) -> str:
    """Untrusted text for one cell of a Markdown table: no line break, no markup."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_|\[\]<>&#~])", r"\\\1", flat)


def _told(source: Source) -> str:
    return f"{source.run} ({source.commit})" if source.commit else source.run
