import json
import math
import time
from csv import reader

import pytest

from suite.reporting import render
from tests.suite.reporting.synthetic import failed, many_records, on_h200, record, records, run_of, static

HOSTILE = '<b><img src=x onerror="window.hit=1"></script><script>window.hit=2</script>{{7*7}}'

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The page of a CPU sweep."""
    floors = [static("linear_attention", "triton_chunk", T) for T in (1024, 8192)]
    return render([run_of(records() + floors)], tmp_path_factory.mktemp("page"), formats=["html"]).page


@pytest.fixture
def opened(open_page):
    """Opens a report and waits until it is drawn."""

    def open_(path, width=1280, scheme="light"):
        page = open_page(path, width, scheme)
        settled(page)
        return page

    return open_


def settled(page):
    """Waits until the panel shown has drawn all its charts, and the table its rows."""
    if page.locator(".panel").count():
        page.wait_for_selector(".panel:not([hidden])[data-drawn]", state="attached")
    page.wait_for_selector("#cases-head th", state="attached")


FORGET = "document.querySelectorAll('.panel').forEach((node) => delete node.dataset.drawn)"


def choose(page, select, value):
    """Selects, and waits until the charts that it changes are drawn."""
    page.evaluate(FORGET)
    page.select_option(select, value)
    settled(page)


def text_of(page, selector):
    return lambda: page.inner_text(selector)


def shown(page):
    """Titles, and drawn traces by chart, of the charts that are visible."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".panel:not([hidden]) figure:not([hidden]) .chart")].map((node) =>
             [node.dataset.chart, node.data.map((trace) => trace.name).filter(Boolean)])"""
    )


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_it_opens_without_an_error_a_request_or_a_sideways_scroll(opened, example, width, scheme):
    page = opened(example, width, scheme)
    assert page.wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(shown(page)) >= 5


def test_charts_are_drawn_when_they_are_shown_and_the_selector_changes_them(opened, example):
    page = opened(example)
    drawn = "[...document.querySelectorAll('.chart')].filter((node) => node.querySelector('.main-svg')).length"
    before, first = page.evaluate(drawn), shown(page)
    choose(page, "select[data-facet='pass']", "decode")
    second = shown(page)
    assert page.evaluate(drawn) > before
    assert all("_fwd_" in slug for slug, _ in first)
    assert all("_decode_" in slug and "_K64_" in slug for slug, _ in second)
    choose(page, "select[data-facet='head dims']", "K 128")
    assert all("_decode_" in slug and "_K128_" in slug for slug, _ in shown(page))
    assert page.wrong == []


def test_the_selector_goes_to_the_nearest_setting_when_a_combination_does_not_exist(opened, tmp_path):
    rows = [record("op", "x", 128), record("op", "x", 128, dtype="bfloat16", K=128)]
    page = opened(render([run_of(rows)], tmp_path, formats=["html"]).page)
    choose(page, "select[data-facet='dtype']", "fp32")
    assert all("fp32" in slug for slug, _ in shown(page))
    assert page.input_value("select[data-facet='head dims']") == "K 64"


LINES = """() => [...document.querySelectorAll(".panel:not([hidden]) figure[data-kind=time] .chart")]
    .flatMap((node) => node.data.map((trace) => trace.meta?.line).filter(Boolean))"""


def test_an_operator_is_shown_beside_the_quadratic_lines_and_its_notes_go_with_it(opened, tmp_path):
    names = ("linear_attention", "other")
    rows = [record(op, "x", T, time_ms=T / 500, tags=["linear"]) for op in names for T in (128, 2048)]
    rows += [record("softmax_attention", "y", T, time_ms=(T / 500) ** 2) for T in (128, 2048)]
    page = opened(render([run_of(rows)], tmp_path, formats=["html"]).page)
    assert set(page.evaluate(LINES)) == {"linear_attention/x", "other/x", "softmax_attention/y"}
    rings = """() => document.querySelector("figure[data-kind=time] .chart").data
        .flatMap((trace) => trace.meta?.notes ? trace.x : []).length"""
    assert page.evaluate(rings) == 1
    choose(page, "select[data-owner='operator']", "other")
    assert set(page.evaluate(LINES)) == {"other/x", "softmax_attention/y"}
    assert page.evaluate(rings) == 0
    choose(page, "select[data-owner='operator']", "linear_attention")
    assert page.evaluate(rings) == 1
    rows = "document.querySelector('figure[data-kind=heatmap] .chart').layout.yaxis.ticktext"
    assert page.evaluate(rows) == ["linear_attention/x"]
    assert page.wrong == []


def test_a_device_is_selected_among_several_runs(opened, tmp_path):
    runs = [run_of([record("a", "x", 128)], name, device={"name": f"CPU {name}"}) for name in ("one", "two")]
    page = opened(render(runs, tmp_path, formats=["html"]).page)
    assert len(page.evaluate(LINES)) == 4
    choose(page, "select[data-owner='device']", "CPU two")
    assert set(page.evaluate(LINES)) == {"a/x · two"}


def test_a_point_of_known_intensity_lies_where_it_should_on_the_screen(opened, tmp_path):
    row = record("a", "x", 256) | {"flops_alg": 6.4e9, "bytes_compulsory": 2e8, "intensity": 32.0, "tflops": 6.4}
    page = opened(render([run_of([row])], tmp_path, formats=["html"]).page)
    x, y, axes = page.evaluate(
        """() => {
             const node = document.querySelector("figure[data-kind=roofline] .chart");
             const plot = node.querySelector(".nsewdrag").getBoundingClientRect();
             const point = node.querySelector(".scatterlayer .points path").getBoundingClientRect();
             return [(point.x + point.width / 2 - plot.x) / plot.width,
                     1 - (point.y + point.height / 2 - plot.y) / plot.height,
                     [node.layout.xaxis.range, node.layout.yaxis.range]];
           }"""
    )
    for place, value, (low, high) in ((x, 32.0, axes[0]), (y, 6.4, axes[1])):
        assert place == pytest.approx((math.log10(value) - low) / (high - low), abs=0.01)


@pytest.mark.parametrize("width", [1280, 400])
def test_axis_titles_and_legends_do_not_cover_each_other(opened, example, width):
    page = opened(example, width)
    overlaps = page.evaluate(
        """() => [...document.querySelectorAll(".panel:not([hidden]) .chart")].filter((node) => {
             if (!node.querySelector(".legend")) return false;
             const title = node.querySelector(".xtitle").getBoundingClientRect();
             const legend = node.querySelector(".legend").getBoundingClientRect();
             const box = node.getBoundingClientRect();
             return title.bottom > legend.top + 4 || legend.bottom > box.bottom + 2 || legend.right > box.right + 2;
           }).map((node) => node.dataset.chart)"""
    )
    assert overlaps == []


CELLS = """(name) => {
    const index = [...document.querySelectorAll("#cases-head th")].find((th) => th.dataset.name === name).cellIndex;
    return [...document.querySelectorAll("#cases-body tr")].map((row) => row.cells[index].textContent);
}"""


def cells(page, name):
    return lambda: page.evaluate(CELLS, name)


def test_a_click_on_a_heading_sorts_all_rows_by_value_and_a_second_one_turns_it_round(opened, becomes, tmp_path):
    times = [3.0, 0.02, 1500.0, 20.0, 1.0]
    rows = [record("op", f"x{i}", 128, time_ms=time) for i, time in enumerate(times)]
    rows.append(failed("op", "none", 128, "oom", "no memory"))
    page = opened(render([run_of(rows)], tmp_path, formats=["html"]).page)
    heading = page.locator("#cases-head th[data-name=time_ms]")
    heading.locator("button").click()
    becomes(page, lambda: heading.get_attribute("aria-sort"), "ascending")
    becomes(page, cells(page, "time_ms"), ["0.0200", "1.00", "3.00", "20.0", "1,500", ""])
    heading.locator("button").press("Enter")
    becomes(page, lambda: heading.get_attribute("aria-sort"), "descending")
    becomes(page, cells(page, "time_ms"), ["1,500", "20.0", "3.00", "1.00", "0.0200", ""])


def test_search_and_choices_show_the_rows_that_have_them_all(opened, becomes, example):
    page = opened(example)
    count = text_of(page, "#shown")
    page.fill("#filter", "oom decode")
    becomes(page, count, lambda text: text.startswith("0 of "))
    page.fill("#filter", "OOM fwdbwd")
    becomes(page, count, lambda text: text.startswith("6 of "))
    assert set(page.evaluate(CELLS, "status")) == {"oom"}
    page.fill("#filter", "4096")
    becomes(page, cells(page, "T"), lambda lengths: set(lengths) == {"4,096"})
    page.fill("#filter", "")
    page.select_option("#picks select[name=status]", label="incorrect")
    becomes(page, cells(page, "status"), lambda statuses: set(statuses) == {"incorrect"})
    page.select_option("#picks select[name=pass]", label="decode")
    becomes(page, count, lambda text: text.startswith("1 of "))


def test_rows_come_a_hundred_at_a_time(opened, becomes, example):
    page = opened(example)
    rows, more = page.locator("#cases-body tr"), page.locator("#more")
    for count in (100, 200, 252):
        becomes(page, rows.count, count)
        if count < 252:
            more.click()
    becomes(page, more.is_hidden, True)


def test_the_rows_shown_are_copied_as_markdown_and_downloaded_with_all_that_is_known(opened, becomes, example):
    page = opened(example)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#filter", "sdpa_flash decode 512")
    becomes(page, text_of(page, "#shown"), lambda text: text.startswith("2 of "))
    page.click("#copy")
    page.locator("#said", has_text="2 rows copied").wait_for(state="attached")
    head, rule, *rows = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert head.startswith("| operator | implementation |")
    assert rule.count("|") == head.count("|")
    assert [row.split(" | ")[1] for row in rows] == ["sdpa\\_flash"] * 2
    with page.expect_download() as csv:
        page.click("#csv")
    table = list(reader(csv.value.path().read_text().splitlines()))
    assert len(table) == 3
    assert dict(zip(table[0], table[1], strict=True))["T"] == "512"
    with page.expect_download() as file:
        page.click("#json")
    first, _ = json.loads(file.value.path().read_text())
    assert first["samples"] == [pytest.approx(first["time_ms"], rel=1e-3)]
    assert first["command"].startswith("subquad bench --op softmax_attention --impl sdpa_flash")


def test_a_case_opens_with_all_that_is_known_and_has_an_address(opened, becomes, tmp_path):
    rows = [
        record("op", "x", 128, launch=i, time_ms=1.0 + i, samples=[1.0, 1.5, 2.0]) | {"telemetry.power_w": 321.0}
        for i in range(2)
    ]
    rows[0] |= {"check": {"o": 1e-6, "dq": 2e-5}, "configuration": {"warps": 8}, "profile.launches": 3}
    path = render([run_of([*rows, record("op", "y", 128)])], tmp_path, formats=["html"]).page
    page = opened(path)
    page.locator("#cases-body a").first.click()
    page.wait_for_selector("dialog[open] .samples .main-svg")
    text = page.inner_text("#case-body")
    for said in (
        "3 samples in their order: 1.00 to 2.00 ms",
        "launch 1\n2.00 ms",
        "warps 8",
        "dq\n2.00e-5",
        "321",
        "profile.launches\n3",
        "subquad bench --op op --impl x --shape B=1,T=128",
    ):
        assert said in text
    address = page.evaluate("location.href")
    assert "#case=" in address
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="hidden")
    # The dialog's close event, which takes the case off the address, comes after the dialog is gone.
    becomes(page, lambda: page.evaluate("location.href"), path.as_uri())
    other = opened(path)
    other.goto(address)
    other.wait_for_selector("dialog[open]")
    assert other.inner_text("#case-title") == "op/x: ok"
    other.evaluate("location.hash = '#case=nothing'")
    other.locator("#said", has_text="No case here is called nothing").wait_for(state="attached")
    assert page.wrong == other.wrong == []


SLOWLY = """() => {
    const text = Response.prototype.text;
    Response.prototype.text = async function () {
        await new Promise((go) => { window.go = go; });
        const packed = await text.call(this);
        // All that waits for this text goes on before a timer does.
        setTimeout(() => { window.unpacked = true; });
        return packed;
    };
}"""


def test_a_case_that_was_left_while_it_was_unpacked_does_not_open(opened, becomes, tmp_path):
    page = opened(render([run_of([record("op", "x", 128)])], tmp_path, formats=["html"]).page)
    page.evaluate(SLOWLY)
    page.locator("#cases-body a").first.click()
    becomes(page, lambda: page.evaluate("typeof window.go"), "function")
    page.evaluate("location.hash = ''")
    becomes(page, lambda: page.evaluate("location.hash"), "")
    page.evaluate("window.go()")
    becomes(page, lambda: page.evaluate("window.unpacked"), True)
    assert not page.locator("dialog").is_visible()
    assert page.wrong == []


def test_a_text_in_the_downloaded_table_is_no_formula(opened, tmp_path):
    starts = ["=1+1", "+1", "-1", "@SUM(A1)"]
    page = opened(render([run_of([record("op", start, 128) for start in starts])], tmp_path, formats=["html"]).page)
    with page.expect_download() as csv:
        page.click("#csv")
    head, *rows = reader(csv.value.path().read_text().splitlines())
    assert {dict(zip(head, row, strict=True))["implementation"] for row in rows} == {f"'{start}" for start in starts}


# What the quick tests leave out has no element and no colour that they do not see.
@pytest.mark.parametrize(
    ("part", "scheme"),
    [
        ("page", "light"),
        ("case", "dark"),
        pytest.param("page", "dark", marks=pytest.mark.long),
        pytest.param("case", "light", marks=pytest.mark.long),
    ],
)
def test_axe_finds_nothing_to_mend(opened, tmp_path, part, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    rows = [row for row in records() if row["K"] == 64 and row["pass"] == "fwd" and row["T"] in (256, 4096)]
    runs = [run_of([*rows, static("op", "x", 128)], name, fingerprint={"torch": name}) for name in ("one", "two")]
    page = opened(render(runs, tmp_path, formats=["html"]).page, 1280, scheme)
    if part == "case":
        page.locator("#cases-body a").first.click()
        page.wait_for_selector("dialog[open] .samples .main-svg")
    # The policy of the page lets no other script in; the tool's own is put in past it.
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found] == []


def test_it_can_be_reached_by_keyboard_alone(opened, becomes, example):
    page = opened(example)
    focused = "document.activeElement.dataset.facet ?? document.activeElement.tagName"
    for reached in ("pass", "head dims", "SELECT"):
        page.keyboard.press("Tab")
        becomes(page, lambda: page.evaluate(focused), reached)
    page.focus("select[data-facet='pass']")
    page.evaluate(FORGET)
    page.keyboard.press("ArrowDown")
    settled(page)
    assert all("_fwdbwd_" in slug for slug, _ in shown(page))
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every((node) => node.tabIndex === 0)")


def test_dark_and_light_differ_and_follow_the_system(opened, example):
    page = opened(example)
    colours = """() => [getComputedStyle(document.body).backgroundColor,
                       document.querySelector(".chart").layout.font.color,
                       document.querySelector(".chart").data.map((trace) => trace.line?.color).join()]"""
    light = page.evaluate(colours)
    page.evaluate(FORGET)
    page.emulate_media(color_scheme="dark")
    settled(page)
    dark = page.evaluate(colours)
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_hostile_strings_are_shown_and_not_run(opened, tmp_path):
    row = record(HOSTILE, HOSTILE, 128) | {"bound": HOSTILE, "tunable.x": HOSTILE, "axis.y": HOSTILE}
    rows = [row, failed(HOSTILE, "y", 128, "error", HOSTILE), static(HOSTILE, "z", 128)]
    page = opened(render([run_of(rows, device={"name": HOSTILE})], tmp_path, formats=["html"], title=HOSTILE).page)
    page.hover(".chart .nsewdrag")
    page.locator("#cases-body a").first.click()
    page.wait_for_selector("dialog[open] .samples .main-svg")
    assert page.evaluate("window.hit") is None
    assert page.locator("img").count() == 0
    assert "<b><img src=x" in page.text_content(".legendtext >> nth=0")
    assert page.wrong == []


def test_a_run_without_charts_has_a_working_page(opened, becomes, tmp_path):
    rows = [failed("op", name, 128, "error", f"broke {name}") for name in "ba"]
    page = opened(render([run_of(rows)], tmp_path, formats=["html"]).page)
    page.locator("#cases-head th button").filter(has_text="implementation").click()
    becomes(page, cells(page, "implementation"), ["a", "b"])
    assert page.wrong == []


def test_slopes_are_labelled_along_their_line(opened, tmp_path):
    page = opened(render([on_h200()], tmp_path, formats=["html"]).page)
    angles = page.evaluate(
        """() => document.querySelector("figure[data-kind=roofline] .chart").layout.annotations
             .filter((note) => note.name.startsWith("slope")).map((note) => note.textangle)"""
    )
    assert len(angles) == 2
    assert all(-70 < angle < -20 for angle in angles)


@pytest.mark.long
def test_of_fifty_thousand_records_the_first_chart_is_there_in_five_seconds(browser, tmp_path):
    path = render([run_of(many_records(50_000))], tmp_path, formats=["html"]).page
    page = browser.new_page()
    start = time.monotonic()
    page.goto(path.as_uri(), wait_until="commit")
    page.wait_for_selector(".panel:not([hidden]) .chart .main-svg", state="attached")
    assert time.monotonic() - start < 5
    page.wait_for_selector("#cases-body tr", state="attached")
    assert page.inner_text("#shown") == "50,000 rows"
    assert page.locator(".chart .main-svg").count() < 100
