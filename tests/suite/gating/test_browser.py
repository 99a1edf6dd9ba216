"""The gate's page in Chromium."""

from __future__ import annotations

import pytest

from suite.gating.page import page
from tests.suite.gating.test_report import HOSTILE, report, timed, verdict

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(open_page, tmp_path):
    """Opens the page of a report."""

    def open_(made, width=1280, scheme="light"):
        path = tmp_path / "gate.html"
        path.write_text(page(made), encoding="utf-8")
        return open_page(path, width, scheme)

    return open_


def gated():
    cases = [timed(f"case{i}", "slower" if i == 7 else "same", fresh=8 if i == 7 else 0) for i in range(12)]
    return report(*cases, verdict("gone", "missing"), verdict("z", "unchanged"), reproduce="subquad gate --base HEAD")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_it_opens_without_an_error_a_request_or_a_sideways_scroll(opened, becomes, width, scheme):
    shown = opened(gated(), width, scheme)
    shown.wait_for_selector(".chart.rounds .main-svg", state="attached")
    becomes(shown, shown.locator("article").nth(1).locator(".scatterlayer .point").count, 16)
    assert shown.wrong == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator("article").nth(0).locator("h3").inner_text().startswith("op/gone/")
    assert shown.locator("article").nth(1).locator(".verdicts strong").inner_text() == "slower"


def test_charts_are_drawn_when_they_come_into_view_and_follow_the_colour_scheme(opened, becomes):
    shown = opened(gated())
    shown.wait_for_selector(".chart.rounds .main-svg", state="attached")
    drawn = "document.querySelectorAll('.chart.rounds[data-drawn]').length"
    before = shown.evaluate(drawn)
    assert before < 12
    shown.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    shown.locator(".chart.rounds").last.locator(".main-svg").first.wait_for(state="attached")
    becomes(shown, lambda: shown.evaluate(drawn), lambda count: count > before)
    colours = """() => [getComputedStyle(document.body).backgroundColor,
                        document.querySelector(".chart[data-drawn]").data.map((each) => each.marker.color).join()]"""
    light = shown.evaluate(colours)
    shown.emulate_media(color_scheme="dark")
    becomes(shown, lambda: shown.evaluate(colours), lambda dark: dark[0] != light[0] and dark[1] != light[1])
    assert shown.wrong == []


def test_hostile_strings_are_shown_and_not_run(opened):
    hostile = timed(HOSTILE, "slower", reason=HOSTILE)
    shown = opened(report(hostile, machine=HOSTILE, notes=(HOSTILE,), reproduce=HOSTILE))
    shown.wait_for_selector(".chart.rounds .main-svg", state="attached")
    assert shown.evaluate("window.hit") is None
    assert shown.locator("img").count() == 0
    assert "<b><img src=x" in shown.text_content("h3")
    assert shown.wrong == []
