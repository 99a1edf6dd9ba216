from dataclasses import replace

import pytest
from PIL import Image

from suite.reporting.charts.model import Annotation, Owner
from suite.reporting.data.frame import normalise
from suite.reporting.renderers.picture import FORMATS, MOST_IN_LEGEND, compose, draw, plain
from suite.reporting.rendering import footer, render
from tests.suite.reporting.synthetic import on_h200, record, records, run_of

HOSTILE = r"_$x^2$ \frac{} <b>&amp; " + "long" * 2500


def test_each_kind_of_chart_becomes_an_image_with_something_on_it(tmp_path, monkeypatch):
    monkeypatch.setattr("suite.reporting.renderers.picture.DPI", 40)
    rows = [row for row in records() if row["K"] == 64 and row["pass"] == "fwd"]
    rows += [row for row in records() if row["K"] == 64 and row["pass"] == "decode" and row["T"] < 512]
    rendered = render([run_of(rows)], tmp_path, formats=["png"])
    assert rendered.page is None
    kinds = {path.name.partition("_")[0] for path in rendered.pictures}
    every = "time memory tflops tokens bytes speedup heatmap crossover pareto roofline gbs"
    assert kinds == set(every.split())
    for path in rendered.pictures:
        with Image.open(path) as image:
            assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 50


def test_a_picture_has_the_dots_that_print_needs(tmp_path, time_chart):
    draw(time_chart, tmp_path / "chart.png", [])
    with Image.open(tmp_path / "chart.png") as image:
        assert image.size == (2000, 1200)
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_the_footer_says_machine_date_commit_timer_cache_and_hash():
    run = on_h200()
    (line,) = footer([run], normalise([run]), "cold-events")
    assert line == (
        "NVIDIA H200 · 2026-01-02 · commit 0123456789ab · events timer, L2 cold · records sha256 0123456789ab"
    )


def test_the_footer_of_a_chart_names_only_the_timer_of_its_own_setting():
    run = run_of([record("a", "x", 128), record("a", "x", 128, mode="cold-wall", timer="wall", l2="cold")])
    assert "wall timer, L2 cold" in footer([run], normalise([run]), "cold-wall")[0]
    assert "cpu timer" not in footer([run], normalise([run]), "cold-wall")[0]


def test_the_figure_carries_its_words(time_chart):
    written = [text.get_text() for text in compose(time_chart, ["where from"]).texts]
    assert time_chart.title in written
    assert time_chart.subtitle in written
    assert "where from" in written


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_as_they_stand(tmp_path):
    (path, *_) = render([run_of([record(HOSTILE, HOSTILE, 128)])], tmp_path, formats=["png"]).pictures
    assert path.stat().st_size > 0
    assert plain("_a$b$").endswith(r"_a\$b\$")
    assert not plain("_a").startswith("_")


def test_a_crowded_legend_is_cut_and_says_how_many_are_missing(time_chart):
    crowd = replace(time_chart, series=time_chart.series * 40)
    (legend,) = compose(crowd, []).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == MOST_IN_LEGEND + 1
    assert texts[-1] == "and 10 more: see the page"


def test_each_format_is_what_its_suffix_says_and_the_same_bytes_each_time(tmp_path, time_chart):
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert set(starts) == set(FORMATS)
    for name, start in starts.items():
        first, second = (tmp_path / f"{i}.{name}" for i in "ab")
        for path in (first, second):
            draw(time_chart, path, ["where from"])
        assert first.read_bytes().startswith(start)
        assert first.read_bytes() == second.read_bytes()
    assert "where from" in (tmp_path / "a.svg").read_text()


def test_what_a_crowded_chart_hides_is_not_in_its_picture(time_chart):
    (line,) = time_chart.series
    hidden = replace(line, name="hidden", owner=Owner("hidden", shown=False))
    note = Annotation(128.0, 1.28, "of what is hidden", of=("hidden",))
    figure = compose(replace(time_chart, series=(line, hidden), annotations=(note,)), [])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a/x"]
    assert "of what is hidden" not in [text.get_text() for text in figure.axes[0].texts]
