"""The report: its exit code, its Markdown, its page."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from suite.errors import Exit, IncomparableError, UsageError, worst
from suite.gating.decisions import Decision
from suite.gating.junit import junit
from suite.gating.markdown import MOST_ROWS, markdown
from suite.gating.page import page
from suite.gating.report import CaseVerdict, Evidence, Report
from suite.store.pairs import Mismatch, Source

HOSTILE = '<b><img src=x onerror="window.hit=1"></script><script>window.hit=2</script>{{7*7}}'
DIFFERS = (Mismatch("torch", "2.13", "2.9"),)


def verdict(name: str, name_of_verdict: str, metric="time", **more) -> CaseVerdict:
    reason = more.pop("reason", f"{name_of_verdict} for a reason")
    figures = {"ratio": 1.1, "lower": 1.05, "upper": 1.15, "margin": 0.02, "rounds": 8} if metric == "time" else {}
    return CaseVerdict(
        f"op/{name}/B1_T64_fp32_fwd", "warm-cpu", metric, Decision(name_of_verdict, reason, **figures), **more
    )


def timed(name: str, name_of_verdict: str, fresh: int = 0, **more) -> CaseVerdict:
    count = 2 * (fresh or 4)
    evidence = Evidence((1.0,) * count, tuple(1.1 + i / 100 for i in range(count)), paired=True, fresh=fresh)
    return verdict(name, name_of_verdict, evidence=evidence, **more)


def report(*cases: CaseVerdict, **more) -> Report:
    more = {"mismatches": (), "allowed": False, "machine": "Test GPU, torch 2.13.0", **more}
    return Report(Source("HEAD", "0123abc"), Source("working tree", "456def"), cases=cases, **more)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (("same",), Exit.PASS),
        (("faster", "new"), Exit.PASS),
        (("same", "inconclusive"), Exit.INCONCLUSIVE),
        (("inconclusive", "slower"), Exit.REGRESSION),
        (("inconclusive", "broken", "same"), Exit.REGRESSION),
        (("missing",), Exit.REGRESSION),
        (("new",), Exit.INCONCLUSIVE),
        (("unchanged",), Exit.INCONCLUSIVE),
        ((), Exit.INCONCLUSIVE),
    ],
)
def test_the_exit_code_of_verdicts(verdicts, code):
    assert report(*(verdict(str(i), each) for i, each in enumerate(verdicts))).exit == code


def test_the_same_code_is_a_pass_although_nothing_was_measured():
    assert report(verdict("a", "unchanged", same_code=True)).exit == Exit.PASS


def test_environments_that_differ_come_before_a_regression():
    assert report(verdict("a", "slower"), mismatches=DIFFERS).exit == Exit.INCOMPARABLE
    assert report(verdict("a", "slower"), mismatches=DIFFERS, allowed=True).exit == Exit.REGRESSION


def test_the_precedence_is_2_4_1_3_0():
    order = [2, 4, 1, 3, 0]
    for one, other in itertools.combinations(order, 2):
        assert worst([Exit(other), Exit(one)]) == one
    assert worst(map(Exit, order)) == 2
    assert (UsageError.exit_code, IncomparableError.exit_code) == (2, 4)


def test_markdown_holds_what_a_reviewer_needs():
    made = report(
        verdict("a", "same"),
        verdict("b", "slower"),
        verdict("c", "unchanged"),
        notes=("a note",),
        reproduce="subquad gate --base HEAD",
    )
    text = markdown(made)
    assert "**regression: 1 slower, 1 unchanged, 1 same**" in text
    assert "Baseline HEAD (0123abc), candidate working tree (456def)." in text
    assert "Measured on Test GPU, torch 2.13.0." in text
    assert "- a note" in text
    assert "    subquad gate --base HEAD\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "verdict" not in line]
    assert [row.split(" | ")[0] for row in rows] == ["| slower"]


def test_markdown_of_many_changes_fits_a_step_summary():
    made = report(*(verdict(str(i), "slower", reason="x" * 5000) for i in range(2000)))
    text = markdown(made)
    assert len(text.encode()) < 2**20
    assert text.count("| slower |") == MOST_ROWS
    assert f"{2000 - MOST_ROWS} more rows are in the JSON report." in text


def test_junit_names_machine_and_command():
    text = junit(report(verdict("a", "same"), reproduce="subquad gate --base HEAD"))
    assert 'name="machine" value="Test GPU, torch 2.13.0"' in text
    assert 'value="subquad gate --base HEAD"' in text


def figures(text: str) -> dict:
    return json.loads(re.findall(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)[0])


def test_the_page_draws_each_round_of_what_was_timed():
    text = page(
        report(
            timed("a", "same"),
            timed("b", "slower", fresh=8),
            verdict("c", "unchanged"),
            verdict("b", "slower", "memory"),
            reproduce="subquad gate",
        )
    )
    drawn = list(figures(text).values())
    assert len(drawn) == 2
    slower = next(each for each in drawn if len(each["series"]) == 2)
    assert [(each["name"], len(each["x"]), each["x"][0]) for each in slower["series"]] == [
        ("rounds", 8, 1),
        ("fresh rounds, to confirm", 8, 9),
    ]
    assert slower["series"][0]["y"][:2] == pytest.approx([10.0, 11.0])
    assert (slower["margin"], slower["ratio"], slower["low"]) == pytest.approx((2.0, 10.0, 5.0))
    assert text.index("op/b/") < text.index("op/a/") < text.index("op/c/")
    assert "Test GPU, torch 2.13.0" in text
    assert "subquad gate" in text


def test_launches_of_stored_runs_are_drawn_side_by_side():
    evidence = Evidence((1.0, 1.02, 0.98), (1.1, 1.12))
    (figure,) = figures(page(report(verdict("a", "slower", evidence=evidence)))).values()
    assert [(each["name"], len(each["x"])) for each in figure["series"]] == [("baseline", 3), ("candidate", 2)]
    assert figure["series"][1]["y"] == pytest.approx([10.0, 12.0])


def test_the_page_holds_untrusted_text_as_text():
    hostile = timed(HOSTILE, "slower", reason=HOSTILE)
    text = page(report(hostile, machine=HOSTILE, notes=(HOSTILE,), reproduce=HOSTILE))
    assert "<img src=x" not in text
    assert "{{7*7}}" in text
    assert text.count("</script>") == text.count("<script")


def test_a_page_without_rounds_carries_no_charts():
    text = page(report(verdict("a", "missing"), mismatches=DIFFERS, allowed=True))
    assert len(text) < 50_000
    assert "environments differ: torch: 2.13 against 2.9" in text
