import pandas as pd
import pytest

from suite.reporting.data.frame import Run, clean, normalise, read
from suite.reporting.data.groups import gather
from tests.suite.reporting.synthetic import failed, record, run_of, static, stored


def groups_of(*rows, runs=1):
    return gather(normalise([run_of(list(rows), f"run{i}") for i in range(runs)]))


def test_operators_that_do_the_same_job_share_a_group_and_settings_do_not():
    rows = [record(op, "naive", 128, K=K) for op in ("softmax_attention", "linear_attention") for K in (64, 128)]
    found = groups_of(*rows)
    assert [group.setting.axes["K"] for group in found] == [64, 128]
    assert [len(group.points) for group in found] == [2, 2]


@pytest.mark.parametrize("column", ["pass", "dtype", "B", "H", "HV", "layout", "state_dtype", "mode"])
def test_every_axis_of_the_setting_splits_groups(column):
    other = {
        "pass": "decode",
        "dtype": "bfloat16",
        "layout": "packed:even8",
        "state_dtype": "bfloat16",
        "mode": "cold-wall",
    }
    found = groups_of(record("a", "x", 128), record("a", "x", 256) | {column: other.get(column, 8)})
    assert len(found) == 2
    assert found[0].setting.title != found[1].setting.title
    assert found[0].setting.slug != found[1].setting.slug


def test_of_several_tunables_the_fastest_is_the_point_with_its_own_memory():
    slow = record("a", "x", 128, time_ms=2.0, memory_mib=1.0) | {"tunable.chunk": 32}
    fast = record("a", "x", 128, time_ms=1.0, memory_mib=9.0) | {"tunable.chunk": 64}
    (group,) = groups_of(slow, fast)
    (point,) = group.points
    assert (point.time_ms, point.memory_mib, point.tunables) == (1.0, 9.0, "chunk 64")


def test_launches_become_their_median_with_the_widest_band():
    rows = [record("a", "x", 128, time_ms=time, launch=i) for i, time in enumerate((1.0, 3.0, 2.0))]
    (group,) = groups_of(*rows)
    (point,) = group.points
    assert point.time_ms == 2.0
    assert (point.p20_ms, point.p80_ms) == (pytest.approx(0.98), pytest.approx(3.15))


def test_an_own_axis_off_its_default_makes_a_line_of_its_own():
    default = record("a", "x", 128) | {"axis.causal": True}
    full = record("a", "x", 128) | {"axis.causal": False}
    full["problem_id"] += "_no-causal"
    (group,) = groups_of(default, full)
    assert sorted(group.lines) == ["a/x", "a/x · no-causal"]


def test_several_runs_lie_over_each_other_by_name():
    (group,) = groups_of(record("a", "x", 128), runs=2)
    assert sorted(group.lines) == ["a/x · run0", "a/x · run1"]


def test_failures_are_kept_and_static_floors_join_the_group_of_their_problem():
    rows = [
        record("a", "x", 128),
        failed("a", "y", 128, "oom", "no"),
        static("a", "z", 128),
        static("a", "z", 128, K=128),
    ]
    timed, computed = groups_of(*rows)
    assert [(f.name, f.T, f.status) for f in timed.failures] == [("a/y", 128, "oom")]
    assert [floor.name for floor in timed.floors] == ["a/z"]
    assert computed.setting.mode == "static"
    assert not computed.points


def test_missing_columns_nulls_and_damaged_values_leave_no_point_and_no_error():
    frames = [
        pd.DataFrame(),
        pd.DataFrame({"status": ["ok"]}),
        pd.DataFrame([record("a", "x", 128) | {"time_ms": float("nan"), "tags": None, "check": None}]),
        pd.DataFrame([record("a", "x", 128) | {"time_ms": "soon"}]),
        pd.DataFrame([record("a", "x", 128) | {"T": None}]),
    ]
    for frame in frames:
        found = gather(normalise([Run("r", frame, {})]))
        assert not [point for group in found for point in group.points]


def test_a_gap_in_a_column_is_no_value():
    gaps = {
        "tunable.chunk": float("nan"),
        "reason": float("nan"),
        "bound": None,
        "axis.window": float("nan"),
        "HV": None,
    }
    (row,) = normalise([Run("r", pd.DataFrame([record("a", "x", 128) | gaps]), {})])
    assert (row["tunables"], row["reason"], row["bound"], row["axes"], row["HV"]) == ("", "", "", "", 4)


def test_a_stored_run_with_gaps_in_its_columns_is_read(tmp_path):
    rows = [record("a", "x", 128) | {"tunable.chunk": 64, "axis.window": 16}, failed("a", "y", 128, "oom", "no")]
    (run,) = read([stored(rows, tmp_path / "run")])
    first, second = normalise([run])
    assert (first["tunables"], second["tunables"]) == ("chunk 64", "")
    assert second["time_ms"] != second["time_ms"]
    assert len(run.digest) == 12


def test_folders_of_one_name_are_told_apart(tmp_path):
    paths = [stored([record("a", "x", 128)], tmp_path / parent / "run") for parent in ("one", "two")]
    assert [run.name for run in read(paths)] == ["one/run", "two/run"]


def test_long_and_unprintable_names_become_one_short_line():
    assert clean("a\nb\x1b[0m") == "a b [0m"
    assert len(clean("x" * 10_000)) == 44
