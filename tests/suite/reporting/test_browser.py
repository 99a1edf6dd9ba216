import shutil

import pytest

from suite.reporting import render
from tests.suite.reporting.synthetic import failed, on_h200, record, records, run_of, static

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '<b><img src=x onerror="window.hit=1"></script><script>window.hit=2</script>{{7*7}}'

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


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The page of a CPU sweep."""
    floors = [static("linear_attention", "triton_chunk", T) for T in (1024, 8192)]
    return render([run_of(records() + floors)], tmp_path_factory.mktemp("page"), formats=["html"]).page


@pytest.fixture
def opened(browser):
    """Opens a page and collects what went wrong on it: console errors, exceptions and requests for anything else."""
    pages = []

    def open_(path, width=1280, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.wrong = []
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("request", lambda request: page.wrong.append(request.url) if not own(request.url, path) else None)
        page.goto(path.as_uri())
        if page.locator(".panel").count():
            page.wait_for_selector(".panel:not([hidden]) .chart .main-svg", state="attached")
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.close()


def own(url, path):
    return url == path.as_uri() or url.startswith(("data:", "blob:"))


def shown(page):
    """Titles, and drawn traces by chart, of the charts that are visible."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".panel:not([hidden]) .chart")].map((node) =>
             [node.dataset.chart, node.data.map((trace) => trace.name).filter(Boolean)])"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_opens_without_an_error_a_request_or_a_sideways_scroll(opened, example, width, scheme):
    page = opened(example, width, scheme)
    page.wait_for_timeout(300)
    assert page.wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(shown(page)) >= 5


def test_charts_are_drawn_when_they_are_shown_and_the_selector_changes_them(opened, example):
    page = opened(example)
    drawn = "[...document.querySelectorAll('.chart')].filter((node) => node.querySelector('.main-svg')).length"
    before, first = page.evaluate(drawn), shown(page)
    page.select_option("select[data-facet='pass']", "decode")
    page.wait_for_selector(".panel:not([hidden]) .chart .main-svg", state="attached")
    second = shown(page)
    assert page.evaluate(drawn) > before
    assert all("_fwd_" in slug for slug, _ in first)
    assert all("_decode_" in slug and "_K64_" in slug for slug, _ in second)
    page.select_option("select[data-facet='head dims']", "K 128")
    page.wait_for_selector(".panel:not([hidden]) .chart .main-svg", state="attached")
    assert all("_decode_" in slug and "_K128_" in slug for slug, _ in shown(page))
    assert page.wrong == []


def test_the_selector_goes_to_the_nearest_setting_when_a_combination_does_not_exist(opened, tmp_path):
    rows = [record("op", "x", 128), record("op", "x", 128, dtype="bfloat16", K=128)]
    page = opened(render([run_of(rows)], tmp_path, formats=["html"]).page)
    page.select_option("select[data-facet='dtype']", "fp32")
    assert all("fp32" in slug for slug, _ in shown(page))
    assert page.input_value("select[data-facet='head dims']") == "K 64"


@pytest.mark.parametrize("width", [1280, 400])
def test_axis_titles_and_legends_do_not_cover_each_other(opened, example, width):
    page = opened(example, width)
    page.wait_for_timeout(300)
    overlaps = page.evaluate(
        """() => [...document.querySelectorAll(".panel:not([hidden]) .chart")].filter((node) => {
             const title = node.querySelector(".xtitle").getBoundingClientRect();
             const legend = node.querySelector(".legend").getBoundingClientRect();
             const box = node.getBoundingClientRect();
             return title.bottom > legend.top + 4 || legend.bottom > box.bottom + 2 || legend.right > box.right + 2;
           }).map((node) => node.dataset.chart)"""
    )
    assert overlaps == []


def test_a_click_on_a_heading_sorts_by_value_and_a_second_one_turns_it_round(opened, example):
    page = opened(example)
    heading = page.locator("[aria-labelledby='cases'] th").filter(has_text="ms").first
    index = heading.evaluate("node => node.cellIndex")
    column = f"""() => [...document.querySelectorAll("[aria-labelledby='cases'] tbody tr")]
                 .map((row) => row.cells[{index}].dataset.value).filter(Boolean).map(Number)"""
    unsorted = page.evaluate(column)
    last = f"document.querySelector(\"[aria-labelledby='cases'] tbody\").lastElementChild.cells[{index}].textContent"
    heading.locator("button").click()
    rising = page.evaluate(column)
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(last) == ""
    heading.locator("button").press("Enter")
    assert unsorted != sorted(unsorted)
    assert rising == sorted(unsorted)
    assert page.evaluate(column) == rising[::-1]
    assert page.evaluate(last) == ""


def test_the_filter_shows_the_rows_that_contain_all_words(opened, example):
    page = opened(example)
    page.fill("#filter", "oom decode")
    assert page.inner_text("#shown").startswith("0 of ")
    page.fill("#filter", "OOM fwdbwd")
    assert page.inner_text("#shown").startswith("6 of ")
    visible = page.locator("[aria-labelledby='cases'] tbody tr:visible")
    assert all("oom" in text for text in visible.all_inner_texts())


def test_it_can_be_reached_by_keyboard_alone(opened, example):
    page = opened(example)
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.facet ?? document.activeElement.tagName"))
    assert reached[:2] == ["pass", "head dims"]
    page.focus("select[data-facet='pass']")
    page.keyboard.press("ArrowDown")
    assert all("_fwdbwd_" in slug for slug, _ in shown(page))
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every((node) => node.tabIndex === 0)")


def test_dark_and_light_differ_and_follow_the_system(opened, example):
    page = opened(example)
    colours = """() => [getComputedStyle(document.body).backgroundColor,
                       document.querySelector(".chart").layout.font.color,
                       document.querySelector(".chart").data.map((trace) => trace.line?.color).join()]"""
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    dark = page.evaluate(colours)
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_hostile_strings_are_shown_and_not_run(opened, tmp_path):
    row = record(HOSTILE, HOSTILE, 128) | {"bound": HOSTILE, "tunable.x": HOSTILE, "axis.y": HOSTILE}
    rows = [row, failed(HOSTILE, "y", 128, "error", HOSTILE), static(HOSTILE, "z", 128)]
    page = opened(render([run_of(rows, device={"name": HOSTILE})], tmp_path, formats=["html"], title=HOSTILE).page)
    page.hover(".chart .nsewdrag")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    assert page.locator("img").count() == 0
    assert "<b><img src=x" in page.text_content(".legendtext >> nth=0")
    assert page.wrong == []


def test_a_run_without_charts_has_a_working_page(opened, tmp_path):
    rows = [failed("op", name, 128, "error", f"broke {name}") for name in "ba"]
    page = opened(render([run_of(rows)], tmp_path, formats=["html"]).page)
    page.locator("[aria-labelledby='cases'] th button").filter(has_text="implementation").click()
    assert page.locator("[aria-labelledby='cases'] tbody tr").first.locator("td").nth(1).inner_text() == "a"
    assert page.wrong == []


def test_slopes_are_labelled_along_their_line(opened, tmp_path):
    page = opened(render([on_h200()], tmp_path, formats=["html"]).page)
    page.wait_for_timeout(300)
    angles = page.evaluate(
        """() => document.querySelector("figure[data-kind=roofline] .chart").layout.annotations
             .filter((note) => note.name.startsWith("slope")).map((note) => note.textangle)"""
    )
    assert len(angles) == 2
    assert all(-70 < angle < -20 for angle in angles)
