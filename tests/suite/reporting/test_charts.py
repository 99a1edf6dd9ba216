"""The charts beside those over T: accuracy against speed, tunables, compiling, where lines cross, what changed."""

import pytest

from suite.reporting.charts.crossover_chart import crossover
from suite.reporting.charts.durations import durations
from suite.reporting.charts.model import as_shown
from suite.reporting.charts.sweeps import sweeps, swept
from suite.reporting.charts.tradeoffs import frontier, pareto
from suite.reporting.data.crossings import crossings
from suite.reporting.data.differences import changes, difference_table, differences, mismatches, said
from suite.reporting.data.frame import normalise
from tests.suite.reporting.synthetic import CEILINGS, failed, prepared, record, run_of, static


def test_the_frontier_is_what_none_beats_in_both():
    errors = {"fast": (1.0, 1e-3), "exact": (4.0, 1e-6), "between": (2.0, 1e-4), "beaten": (3.0, 1e-3)}
    rows = [record("a", name, 256, time_ms=time, check={"o": error}) for name, (time, error) in errors.items()]
    (group,), styles = prepared(run_of([*rows, record("a", "fast", 512, check={"o": 1.0})]))
    chart = pareto(group, styles)
    assert {series.name: (series.x[0], series.y[0]) for series in chart.series} == {
        f"a/{name}": figures for name, figures in errors.items()
    }
    assert "T = 256" in chart.title
    assert chart.alt.endswith("Pareto-optimal: a/fast, a/between, a/exact.")
    flats = {(step.x, step.y) for step in chart.ceilings}
    assert ((1.0, 2.0), (1e-3, 1e-3)) in flats
    assert ((2.0, 2.0), (1e-4, 1e-3)) in flats


def test_of_two_as_exact_the_faster_is_on_the_frontier_and_one_point_makes_no_chart():
    rows = [record("a", name, 128, time_ms=time, check={"o": 1e-5}) for name, time in (("x", 1.0), ("y", 2.0))]
    (group,), styles = prepared(run_of(rows))
    assert [p.name for p in frontier(sorted(group.points, key=lambda p: p.time_ms))] == ["a/x"]
    (group,), styles = prepared(run_of(rows[:1]))
    assert pareto(group, styles) is None


def chunked(times, **more):
    """Records of one implementation at T = 1024, a chunk size each."""
    return [
        record("linear_attention", "x", 1024, time_ms=time, **more) | {"tunable.chunk": chunk}
        for chunk, time in times.items()
    ]


def test_the_fastest_chunk_is_ringed_beside_the_one_that_the_floors_predict():
    rows = chunked({32: 3.0, 64: 1.0, 128: 2.0}, dtype="bfloat16")
    for chunk, floor in ((32, 2.0), (64, 1.5), (128, 0.5)):
        computed = static("linear_attention", "x", 1024, dtype="bfloat16") | {"tunable.chunk": chunk}
        rows.append(computed | {"static.floor_ms": floor})
    run = run_of(rows, device={"arch": "sm_90", "name": "GPU"})
    (group,), styles = prepared(run)
    (chart,) = sweeps(group, [run], styles)
    measured, predicted = chart.series
    assert (measured.x, measured.y) == ((32.0, 64.0, 128.0), (3.0, 1.0, 2.0))
    assert (predicted.y, predicted.hollow, predicted.style.dash) == ((2.0, 1.5, 0.5), True, "dash")
    rings = {note.text: note.x for note in chart.annotations if note.ring}
    assert rings == {"64": 64.0}
    assert [note.x for note in chart.annotations if note.text == "predicted 128"] == [128.0]
    assert "fastest at 64, predicted 128" in chart.alt


def test_without_floors_executed_flops_predict_and_one_chunk_is_no_sweep():
    rows = chunked({32: 3.0, 64: 1.0})
    for row, factor in zip(rows, (1.0, 4.0), strict=True):
        row["flops_exec"] = factor * 1e9
    run = run_of(rows)
    (group,), styles = prepared(run)
    (line,) = swept(group, [run])["chunk"]
    # 0.4 TFLOP/s for float32, as the ceilings say.
    assert line.predicted_ms == pytest.approx((1e9 / 0.4e9, 4e9 / 0.4e9))
    assert (line.best, line.predicted) == (64.0, 32.0)
    (group,), styles = prepared(run_of(rows[:1]))
    assert sweeps(group, [run], styles) == []


def test_a_prediction_that_tells_no_chunk_from_another_is_not_drawn():
    run = run_of(chunked({32: 3.0, 64: 1.0}))
    (group,), styles = prepared(run)
    (chart,) = sweeps(group, [run], styles)
    assert len(chart.series) == 1


def test_other_tunables_are_held_fixed_in_a_sweep():
    rows = [row | {"tunable.splits": 2} for row in chunked({32: 3.0})] + chunked({64: 1.0})
    run = run_of(rows)
    (group,), _ = prepared(run)
    assert swept(group, [run]) == {}


def test_seconds_of_compiling_and_tuning_have_their_range_over_lengths():
    rows = [
        record("a", "x", T, compile_s=s) | {"tuning.seconds": s / 2} for T, s in ((128, 1.0), (256, 4.0), (512, 9.0))
    ]
    rows.append(record("a", "y", 128, compile_s=0.5))
    (group,), styles = prepared(run_of(rows))
    chart = durations(group, styles)
    found = {series.name: (series.left[0], series.x[0], series.right[0], series.hollow) for series in chart.series}
    assert found == {
        "a/x: first calls, with compiling": (1.0, 4.0, 9.0, False),
        "a/x: autotuning": (0.5, 2.0, 4.5, True),
        "a/y: first calls, with compiling": (0.5, 0.5, 0.5, False),
    }
    assert [text for _, text in chart.y.ticks] == ["a/y", "a/x"]
    (group,), styles = prepared(run_of([record("a", "x", 128)]))
    assert durations(group, styles) is None


def test_rows_that_a_picture_hides_are_closed_up_with_their_dots(monkeypatch):
    monkeypatch.setattr("suite.reporting.data.groups.MOST_LINES", 2)
    times = {"op0/fast": 1.0, "op0/slow": 2.0, "op1/other": 3.0}
    rows = [record(*name.split("/"), 128, time_ms=time, compile_s=time) for name, time in times.items()]
    (group,), styles = prepared(run_of(rows))
    chart = as_shown(durations(group, styles))
    assert chart.y.ticks == ((0, "op0/fast"), (1, "op1/other"))
    assert {series.owner.label: series.y for series in chart.series} == {"op0/fast": (0.0,), "op1/other": (1.0,)}
    assert chart.y.low == 1.5


def test_each_crossing_is_drawn_with_its_interval_and_its_prediction():
    lengths = (128, 512, 2048, 8192)
    rows = [record("linear_attention", "x", T, time_ms=T / 1000, K=256) for T in lengths]
    rows += [record("linear_attention", "never", T, time_ms=1e6, K=256) for T in lengths]
    rows += [record("softmax_attention", "y", T, time_ms=(T / 1000) ** 2, K=256) for T in lengths]
    rows = [row | {"ci_low_ms": row["time_ms"] * 0.9, "ci_high_ms": row["time_ms"] * 1.1} for row in rows]
    run = run_of(rows, ceilings=CEILINGS)
    (group,), styles = prepared(run)
    met = crossings(group, [run])
    chart = crossover(group, met, styles)
    measured = next(series for series in chart.series if series.name == "linear_attention/x: faster, measured")
    assert measured.x[0] == pytest.approx(1000)
    assert (measured.left[0], measured.right[0]) == (pytest.approx(1000 * 0.9 / 1.1), pytest.approx(1000 * 1.1 / 0.9))
    predicted = next(series for series in chart.series if "x: faster, predicted" in series.name)
    # Both are bound by FLOPs there: 4 K^2 T against 2 K T (T + 1).
    assert (predicted.hollow, predicted.x[0]) == (True, pytest.approx(2 * 256, rel=0.01))
    assert {note.text for note in chart.annotations} == {"from 1,000", "not in range"}
    assert chart.x.low < 128 < 8192 < chart.x.high
    assert crossover(group, [], styles) is None


def two_runs():
    """A later run in which one case is half as fast, one the same, one lost, one new."""
    before = [record("a", name, 128, time_ms=1.0) for name in ("slower", "same", "lost")]
    after = [record("a", "slower", 128, time_ms=2.0, memory_mib=3.0), record("a", "same", 128, time_ms=1.01)]
    after += [failed("a", "lost", 128, "oom", "no memory"), record("a", "own", 128)]
    before.append(failed("a", "found", 128, "error", "broke"))
    after.append(record("a", "found", 128))
    fingerprint = {"device": "Example CPU", "torch": "2.14.0"}
    return [run_of(before, "old"), run_of(after, "new", fingerprint=fingerprint)]


def test_differences_are_told_by_the_rule_of_compare_the_largest_first():
    runs = two_runs()
    found = differences(normalise(runs), runs)
    assert [each.change for each in found] == ["lost", "new time", "slower", "same"]
    slower = found[2].row
    assert (slower["before"], slower["after"], slower["ratio"], slower["memory"]) == (1.0, 2.0, 2.0, 3.0)
    assert found[0].row["reason"] == "oom: no memory"
    (sentence,) = said(found, runs)
    assert "new against old: 1 lost, 1 new time, 1 slower, 1 same, of 4 cases" in sentence
    assert [row[0].text for row in difference_table(found).rows] == ["lost", "new time", "slower", "same"]


def test_environments_that_differ_are_named():
    (line,) = mismatches(two_runs())
    assert "torch (2.13.0 and 2.14.0)" in line
    assert mismatches(two_runs()[:1] * 2) == []


def test_the_chart_of_changes_has_the_ratio_and_a_band_from_both_intervals():
    runs = two_runs()
    (group,), styles = prepared(*runs)
    (chart,) = changes(group, runs, styles)
    found = {series.owner.label: (series.y, series.low, series.high) for series in chart.series}
    assert found["a/slower · new"] == ((2.0,), (2.0,), (2.0,))
    assert "a/own · new" not in found
    assert changes(group, runs[:1], styles) == []


def test_a_crossover_chart_is_drawn_only_where_something_meets():
    def chart(quadratic):
        rows = [record("linear_attention", "x", T, time_ms=T / 1000, memory_mib=T) for T in (512, 1024)]
        rows += [record("softmax_attention", "y", T, time_ms=quadratic(T), memory_mib=2 * T) for T in (512, 1024)]
        run = run_of(rows, ceilings={})
        (group,), styles = prepared(run)
        return crossover(group, crossings(group, [run]), styles)

    assert chart(lambda T: (T / 700) ** 4) is not None
    assert chart(lambda T: T / 100) is None
