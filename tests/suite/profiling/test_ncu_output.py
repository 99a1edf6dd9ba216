"""ncu's raw page and messages, in the form of its documentation and of public logs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.profiling.ncu_output import launches, messages, metrics_of, unknown_metric
from tests.suite.profiling.recordings import text

READ, WRITTEN, TIME = "dram__bytes_read.sum", "dram__bytes_write.sum", "gpu__time_duration.sum"


def test_a_row_a_launch_with_thousands_separated() -> None:
    found = launches(text("ncu_raw.csv"))
    assert [launch.name for launch in found][:2] == ["linear_fwd_state_kernel", "linear_fwd_output_kernel"]
    assert found[0].values[READ] == 134_479_872
    assert found[0].values[TIME] == pytest.approx(0.212480)
    assert found[1].values["sm__warps_active.avg.pct_of_peak_sustained_active"] == 49.87
    assert "array<char *, 1>" in found[2].name
    assert not any(launch.absent for launch in found)


def test_scaled_units_say_the_same() -> None:
    plain, scaled = launches(text("ncu_raw.csv")), launches(text("ncu_raw_scaled.csv"))
    assert [launch.name for launch in plain] == [launch.name for launch in scaled]
    for one, other in zip(plain, scaled, strict=True):
        assert other.values == pytest.approx(dict(one.values))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("byte", 1),
        ("Kbyte", 1e3),
        ("Mbyte", 1e6),
        ("Gbyte", 1e9),
        ("ns", 1e-6),
        ("nsecond", 1e-6),
        ("us", 1e-3),
        ("usecond", 1e-3),
        ("ms", 1),
        ("msecond", 1),
        ("second", 1e3),
        ("inst", 1),
        ("Kinst", 1e3),
        ("%", 1),
        ("", 1),
    ],
)
def test_units(unit: str, factor: float) -> None:
    (launch,) = launches(f'"ID","Kernel Name","a__b.sum"\n"","","{unit}"\n"0","k","1,234.5"\n')
    assert launch.values["a__b.sum"] == pytest.approx(1234.5 * factor)


@pytest.mark.parametrize(
    ("cell", "unit", "reason"),
    [
        ("n/a", "byte", "not collected"),
        ("", "byte", "not collected"),
        ("(!) nan", "byte", "not collected"),
        ("12", "furlong", "a unit that is not known, 'furlong'"),
        ("lots", "byte", "no number: 'lots'"),
    ],
)
def test_what_is_not_there_says_why(cell: str, unit: str, reason: str) -> None:
    (launch,) = launches(f'"ID","Kernel Name","a__b.sum","c__d.sum"\n"","","{unit}","byte"\n"0","k","{cell}","7"\n')
    assert reason in launch.absent["a__b.sum"]
    assert launch.values == {"c__d.sum": 7}


def test_messages() -> None:
    assert "ERR_NVGPUCTRPERM" in messages(text("ncu_refused.txt"), "ERROR")[0]
    assert messages(text("ncu_empty.txt"), "WARNING") == ["No kernels were profiled."]
    assert messages(text("ncu_raw.csv"), "ERROR") == []
    assert unknown_metric(text("ncu_unknown.txt")) == "smsp__inst_executed_pipe_xu"
    assert unknown_metric(text("ncu_refused.txt")) is None


def test_listed_metrics() -> None:
    found = metrics_of(text("ncu_metrics.txt"))
    assert {"dram__bytes_read", "lts__t_bytes", "sm__warps_active"} <= found
    assert not {name for name in found if " " in name or name.startswith(("Device", "Metric", "-"))}


@given(st.lists(st.sampled_from(["==PROF== x", "==ERROR== y, z", "noise", 'a,"b', "1,2", '"', ""]), max_size=8))
def test_noise_around_the_table_changes_nothing(noise: list[str]) -> None:
    table = text("ncu_raw.csv")
    lines = [line for line in noise if line.count('"') % 2 == 0]
    around = "\n".join([*lines, table, *lines])
    assert [launch.values for launch in launches(around)] == [launch.values for launch in launches(table)]


@given(st.text(max_size=400))
def test_any_text_is_read_without_an_exception(anything: str) -> None:
    launches(anything)
    metrics_of(anything)
    unknown_metric(anything)
    launches('"ID","Kernel Name","a__b.sum"\n' + anything)
