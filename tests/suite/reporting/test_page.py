import base64
import gzip
import json
import re
import time
from html.parser import HTMLParser

import pandas as pd
import pytest

from suite.errors import StoreError, UsageError
from suite.reporting import render, report
from suite.reporting.data.frame import Run, clean
from suite.reporting.rendering import MOST_PICTURES
from tests.suite.reporting.synthetic import (
    CEILINGS,
    ENVIRONMENT,
    failed,
    many_records,
    on_h200,
    record,
    records,
    run_of,
    static,
    stored,
)

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\"'{{7*7}}"


class Reader(HTMLParser):
    """Collects a page's text, tags with their attributes, and the rows of its tables by the heading above them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.path: list[str] = []
        self.packed: dict[str, list[str]] = {}
        self.packing = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.path.append(tag)
        given = dict(attrs)
        self.packing = given.get("id") or given.get("class") or "figures" if given.get("type") == "text/plain" else ""

    def handle_endtag(self, tag):
        self.path.append(f"/{tag}")

    def handle_data(self, data):
        if self.packing:
            self.packed.setdefault(self.packing, []).append(data)
            self.packing = ""
        if self.path and self.path[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    @property
    def cases(self) -> dict[str, list]:
        """The columns of the table of cases by label, texts as texts."""
        data = unpacked(self.packed["cases-data"][0])
        return {
            column["label"] or column["name"]: [column["words"][i] for i in column["at"]]
            if column["kind"] == "text"
            else column["values"]
            for column in data["columns"]
        }

    @property
    def details(self) -> list[dict]:
        """What stands behind each case."""
        blocks = [unpacked(text) for text in self.packed["case-block"]]
        return [
            dict(zip(block, values, strict=True)) for block in blocks for values in zip(*block.values(), strict=True)
        ]


def unpacked(text: str):
    """What the page's script reads of an element."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def page_of(tmp_path, *runs, **options) -> Reader:
    rendered = render(list(runs), tmp_path, formats=["html"], **options)
    reader = Reader()
    reader.feed(rendered.page.read_text())
    return reader


def test_the_page_names_the_machine_and_opens_with_sentences_from_the_data(tmp_path):
    rows = [record("linear_attention", "x", T, time_ms=T / 1000) for T in (500, 2000)]
    rows += [record("softmax_attention", "y", T, time_ms=(T / 1000) ** 2) for T in (500, 2000)]
    text = page_of(tmp_path, run_of(rows)).text
    assert "Example CPU · torch 2.13.0 · triton 3.6.0 · 2026-01-02 · commit 0123456789ab" in text
    assert "At T = 2,000, K = V = 64, fp32, forward" in text
    assert "linear_attention/x is faster than softmax_attention/y: from T = 1,000" in text


def test_every_status_reason_and_count_is_on_the_page(tmp_path):
    statuses = [
        "unsupported",
        "oom",
        "incorrect",
        "implausible",
        "over_limit",
        "compile_error",
        "crashed",
        "timeout",
        "error",
    ]
    rows = [failed("op", "x", 128 * i, status, f"because of {status}") for i, status in enumerate(statuses, 1)]
    reader = page_of(tmp_path, run_of([*rows, record("op", "x", 4096)]))
    for status in statuses:
        assert f"because of {status}" in reader.text
        assert f"1 timed {status}" in reader.text
    assert reader.cases["status"] == [*statuses, "ok"]
    assert reader.cases["reason"] == [*(f"because of {status}" for status in statuses), ""]
    assert reader.cases["ms"] == [None] * 9 + [1.0]


@pytest.mark.parametrize("rows", [[], [failed("op", "x", 128, "error", "it broke")]], ids=["empty", "all failed"])
def test_a_run_without_a_single_time_is_reported_with_its_reasons(tmp_path, rows):
    rendered = render([run_of(rows)], tmp_path)
    text = rendered.page.read_text()
    assert "No record has a figure that can be drawn" in text
    assert rendered.pictures == ()
    assert any("no timed case has a time" in note for note in rendered.notes)
    assert all(row["reason"] in text for row in rows)


def test_a_single_record_is_enough_for_every_chart(tmp_path):
    rendered = render([run_of([record("op", "x", 128)])], tmp_path)
    assert [path.name.partition("_")[0] for path in rendered.pictures] == ["time", "roofline", "memory", "tflops"]
    assert rendered.notes == rendered.faults == ()


def test_missing_columns_are_reported_as_charts_that_have_no_data(tmp_path):
    row = record("op", "x", 128)
    without_range = {
        key: value for key, value in row.items() if key not in ("memory_mib", "intensity", "p20_ms", "check", "tags")
    }
    rendered = render([run_of([without_range])], tmp_path)
    assert any(note.startswith("no memory chart for 1 of 1 settings") for note in rendered.notes)
    assert any(note.startswith("no roofline chart for 1 of 1 settings") for note in rendered.notes)
    rendered = render([Run("without_range", pd.DataFrame([{"status": "ok", "T": 5}]), {})], tmp_path)
    assert "unknown device" in rendered.page.read_text()


def test_more_than_the_roof_is_said_on_the_page_and_in_the_notes(tmp_path):
    run = run_of([record("op", "x", 128, roof_pct=105.1), record("op", "x", 256, roof_pct=104.9)])
    rendered = render([run], tmp_path, formats=["html"])
    (note,) = rendered.notes
    assert "_T128_" in note
    assert "105 % of the roofline" in note
    assert rendered.faults == (note,)
    assert "Before you believe this report" in rendered.page.read_text()
    assert "Before you believe" not in render([run_of([record("op", "x", 1)])], tmp_path).page.read_text()


def test_hostile_names_reasons_and_titles_stay_text(tmp_path):
    row = record(HOSTILE, HOSTILE, 128) | {"axis.x": HOSTILE, "tunable.y": HOSTILE, "bound": HOSTILE, "layout": HOSTILE}
    bad = failed(HOSTILE, "y", 128, "error", HOSTILE + "z" * 10_000)
    environment = {"device": {"name": HOSTILE}, "argv": [HOSTILE], "commit": HOSTILE, "absent": [{"module": HOSTILE}]}
    reader = page_of(tmp_path, run_of([row, bad, static(HOSTILE, "z", 128)], HOSTILE, **environment), title=HOSTILE)
    tags = [tag for tag, _ in reader.tags]
    assert "img" not in tags
    assert tags.count("script") == len(reader.packed["figures"]) + 2 + 2
    assert reader.cases["operator"] == [clean(HOSTILE, 80)] * 2
    assert max(len(text) for text in reader.cases["reason"]) <= 300
    assert all(len(json.dumps(each)) < 20_000 for each in reader.details)
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert "<img src=x onerror=alert(1)>" in reader.text
    assert "49" not in reader.text.partition("Charts")[0]
    assert max(len(text) for text in reader.texts) < 2000


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    reader = page_of(tmp_path, on_h200())
    links = [attributes[name] for _, attributes in reader.tags for name in ("src", "href") if name in attributes]
    assert links == ["data:,"]
    (policy,) = [a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]


def test_every_chart_has_a_text_that_describes_it(tmp_path):
    charts = [attributes for _, attributes in page_of(tmp_path, on_h200()).tags if "data-chart" in attributes]
    assert len({chart["data-chart"] for chart in charts}) == len(charts) == 9
    assert all(a["role"] == "group" and "linear_attention/triton_chunk" in a["aria-label"] for a in charts)


def test_the_static_profile_is_there_only_when_there_is_one(tmp_path):
    broken = static("op", "y", 128) | {"status": "compile_error", "reason": "no such register"}
    assert page_of(tmp_path, run_of([record("op", "x", 128), broken])).text.count("no such register") == 2
    text = page_of(tmp_path, on_h200()).text
    assert "Static profile" in text
    assert "210" in text
    assert "Static profile" not in page_of(tmp_path, run_of([record("op", "x", 128)])).text


def test_ceilings_stand_beside_the_datasheet_and_the_environment_is_complete(tmp_path):
    text = page_of(tmp_path, on_h200()).text
    assert "copy of 2 GiB 4,100 GB/s (4,080 to 4,110) 4,800 GB/s" in text
    assert "matrix product, float32 not measured 67.0 TFLOP/s" in text
    assert "fingerprint.driver 570.0" in text
    assert "absent: baselines.fla fla is not installed" in text


def test_ceilings_that_other_work_disturbed_are_named(tmp_path):
    steady = run_of([record("op", "x", 128)])
    assert "other work ran while" not in page_of(tmp_path, steady).text
    matmul = {"float32": {"tflops": 0.4, "low": 0.004, "high": 0.41}}
    text = page_of(tmp_path, run_of([record("op", "x", 128)], ceilings=CEILINGS | {"matmul": matmul})).text
    assert (
        "Note: other work ran while these ceilings were measured, and they may be off by 1.5x or more: matmul float32;"
        in text
    )


def test_two_runs_are_told_apart(tmp_path):
    runs = [run_of([record("op", "x", 128)], name, commit=name * 6) for name in ("first", "second")]
    text = page_of(tmp_path, *runs).text
    assert "commit firstfirstfi" in text
    assert "second against first: 1 same, of 1 cases that both have" in text
    reader = page_of(tmp_path, *runs)
    assert reader.cases["run"] == ["first", "second"]


def test_a_report_is_the_same_bytes_each_time(tmp_path):
    first, second = (render([on_h200()], tmp_path / name, formats=["html"]).page.read_bytes() for name in "ab")
    assert first == second


def test_report_reads_stored_runs_and_returns_the_page(tmp_path):
    run = stored(records()[:14], tmp_path / "run")
    page = report(run, tmp_path / "out", formats=("html",))
    assert page == tmp_path / "out" / "index.html"
    assert not (tmp_path / "out" / "png").exists()
    assert report([run], tmp_path / "out", formats=("png",)) == tmp_path / "out"
    assert (tmp_path / "out" / "png").is_dir()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"baseline": "softmax_attention/naiv"}, "did you mean 'softmax_attention/naive'"),
        ({"formats": ("pfd",)}, "unknown format 'pfd'; did you mean 'pdf'"),
        ({"formats": ()}, "no format"),
    ],
)
def test_a_wrong_option_is_one_clear_line(tmp_path, options, words):
    with pytest.raises(UsageError, match=words) as caught:
        render([run_of(records()[:14])], tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_no_run_and_an_unwritable_folder_are_errors_too(tmp_path):
    with pytest.raises(UsageError, match="name at least one run"):
        report([], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--out"):
        render([run_of([])], tmp_path / "file" / "below")


def test_pngs_are_bounded_and_the_rest_is_named_while_the_page_has_all(tmp_path, monkeypatch):
    monkeypatch.setattr("suite.reporting.renderers.picture.draw", lambda chart, path, footer: path.touch())
    rendered = render([run_of(many_records(1300))], tmp_path)
    assert len(rendered.pictures) == MOST_PICTURES
    assert sum(path.name.startswith("time_") for path in rendered.pictures) == 7
    text = rendered.page.read_text()
    charts = text.count('data-chart="')
    assert charts > MOST_PICTURES
    (note,) = [note for note in rendered.notes if "have no picture" in note]
    assert note.startswith(f"{charts - MOST_PICTURES} charts have no picture")


@pytest.mark.long
def test_fifty_thousand_records_take_less_than_thirty_seconds_of_one_core_and_twenty_megabytes(tmp_path):
    folder = stored(many_records(50_000), tmp_path / "run")
    start = time.process_time()
    page = report(folder, tmp_path / "out", formats=("html",))
    assert time.process_time() - start < 30
    assert page.stat().st_size < 20e6


def test_the_environment_used_here_has_what_the_contract_names():
    assert {"schema", "created", "commit", "fingerprint", "device", "ceilings", "datasheet", "plan"} <= set(ENVIRONMENT)
