"""The gate's page in Chromium."""

from __future__ import annotations

import shutil

import pytest

from suite.gate.page import page
from tests.suite.gate.test_report import HOSTILE, report, timed, verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a report's page and collects what went wrong on it: errors, and requests for anything else."""
    pages = []

    def open_(made, width=1280, scheme="light"):
        path = tmp_path / "gate.html"
        path.write_text(page(made), encoding="utf-8")
        shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown.wrong = []
        shown.on("console", lambda message: shown.wrong.append(message.text) if message.type == "error" else None)
        shown.on("pageerror", lambda error: shown.wrong.append(str(error)))
        shown.on("request", lambda request: None if _own(request.url, path) else shown.wrong.append(request.url))
        shown.goto(path.as_uri())
        pages.append(shown)
        return shown

    yield open_
    for each in pages:
        each.close()


def _own(url, path):
    return url == path.as_uri() or url.startswith(("data:", "blob:"))


def gated():
    cases = [timed(f"case{i}", "slower" if i == 7 else "same", fresh=8 if i == 7 else 0) for i in range(12)]
    return report(*cases, verdict("gone", "missing"), verdict("z", "unchanged"), reproduce="subquad gate --base HEAD")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_it_opens_without_an_error_a_request_or_a_sideways_scroll(opened, width, scheme):
    shown = opened(gated(), width, scheme)
    shown.wait_for_selector(".chart.rounds .main-svg", state="attached")
    shown.wait_for_timeout(300)
    assert shown.wrong == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator("article").nth(0).locator("h3").inner_text().startswith("op/gone/")
    assert shown.locator("article").nth(1).locator(".verdicts strong").inner_text() == "slower"
    assert shown.locator("article").nth(1).locator(".scatterlayer .point").count() == 16


def test_charts_are_drawn_when_they_come_into_view_and_follow_the_colour_scheme(opened):
    shown = opened(gated())
    shown.wait_for_selector(".chart.rounds .main-svg", state="attached")
    drawn = "document.querySelectorAll('.chart.rounds[data-drawn]').length"
    before = shown.evaluate(drawn)
    assert before < 12
    shown.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    shown.locator(".chart.rounds").last.locator(".main-svg").first.wait_for(state="attached")
    assert shown.evaluate(drawn) > before
    colours = """() => [getComputedStyle(document.body).backgroundColor,
                        document.querySelector(".chart[data-drawn]").data.map((each) => each.marker.color).join()]"""
    light = shown.evaluate(colours)
    shown.emulate_media(color_scheme="dark")
    shown.wait_for_timeout(300)
    assert all(one != other for one, other in zip(light, shown.evaluate(colours), strict=True))
    assert shown.wrong == []


def test_hostile_strings_are_shown_and_not_run(opened):
    hostile = timed(HOSTILE, "slower", reason=HOSTILE)
    shown = opened(report(hostile, machine=HOSTILE, notes=(HOSTILE,), reproduce=HOSTILE))
    shown.wait_for_selector(".chart.rounds .main-svg", state="attached")
    assert shown.evaluate("window.hit") is None
    assert shown.locator("img").count() == 0
    assert "<b><img src=x" in shown.text_content("h3")
    assert shown.wrong == []
