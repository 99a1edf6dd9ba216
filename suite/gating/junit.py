"""The gate's report as JUnit XML: failing verdicts are failures, inconclusive ones skipped with their reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from suite.gating.decisions import FAILING
from suite.problem import split_case_id
from suite.store.text import harmless

if TYPE_CHECKING:
    from suite.gating.report import CaseVerdict, Report

_NOT_XML = re.compile("[\ufffe\uffff]")


def junit(report: Report) -> str:
    """A test case for each decision."""
    failures = sum(each.decision.verdict in FAILING for each in report.cases)
    skipped = sum(each.decision.verdict == "inconclusive" for each in report.cases)
    counts = {"tests": len(report.cases), "failures": failures, "errors": 0, "skipped": skipped}
    suite = ET.Element("testsuite", {"name": "subquad gate", **{name: str(n) for name, n in counts.items()}})
    _properties(suite, report)
    if report.mismatches and not report.allowed:
        _refused(suite, _differences(report))
    for each in report.cases:
        _case(suite, each)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _properties(suite: ET.Element, report: Report) -> None:
    told = {"machine": report.machine, "reproduce": report.reproduce}
    if report.mismatches and report.allowed:
        told["environments differ"] = _differences(report)
    if any(told.values()):
        properties = ET.SubElement(suite, "properties")
        for name, value in told.items():
            if value:
                ET.SubElement(properties, "property", {"name": name, "value": _xml(value)})


def _differences(report: Report) -> str:
    return "; ".join(str(each) for each in report.mismatches)


def _refused(suite: ET.Element, differences: str) -> None:
    suite.set("tests", "1")
    suite.set("errors", "1")
    case = ET.SubElement(suite, "testcase", {"classname": "gate", "name": "environment"})
    ET.SubElement(case, "error", {"message": _xml(differences)})


def _case(suite: ET.Element, each: CaseVerdict) -> None:
    operator, implementation, problem = split_case_id(each.case_id)
    label = f"{implementation}/{problem} [{each.mode}] {each.metric}"
    case = ET.SubElement(suite, "testcase", {"classname": _xml(f"gate.{operator}"), "name": _xml(label)})
    message = _xml(f"{each.decision.verdict}: {each.decision.reason}")
    if each.decision.verdict in FAILING:
        ET.SubElement(case, "failure", {"message": message, "type": each.decision.verdict})
    elif each.decision.verdict == "inconclusive":
        ET.SubElement(case, "skipped", {"message": message})


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 has no place for, nor those that a terminal would obey."""
    return _NOT_XML.sub("�", harmless(text))
