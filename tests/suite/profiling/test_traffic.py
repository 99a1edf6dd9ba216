"""Counted bytes beside compulsory, launch and issued ones: how they print, and how they reach a roofline."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from suite.cli import main
from suite.cli import profile as command
from suite.problem import Case, Problem
from suite.profiling import Kernel, Profile, rows
from suite.profiling.predicted import static_of
from suite.profiling.traffic import traffic_of
from suite.reporting.charts.palette import assign
from suite.reporting.charts.roofline import roofline
from suite.reporting.data.frame import normalise, read
from suite.reporting.data.groups import gather
from suite.static import pool
from suite.store import create
from tests.suite.profiling.recordings import fake_ncu, on_path
from tests.suite.reporting.synthetic import H200, record
from tests.suite.store.runs import environment

CASE = Case("linear_attention", "triton_chunk", Problem(T=128), (("chunk", 64),))
STATIC = {"static.traffic_bytes": 300, "static.eager_bytes": 20, "static.issued_ratio": 3.5}
COUNTERS = {
    "dram_read_bytes": 200.0,
    "dram_write_bytes": 50.0,
    "dram_bytes": 250.0,
    "l2_bytes": 700.0,
    "occupancy": 0.25,
    "stall_wait": 0.2,
    "stall_gmma": 0.7,
    "stall_barrier": 0.1,
}


def counted(device: str = "NVIDIA H200", **counters: float) -> Profile:
    kernels = tuple(Kernel(f"k{i}", 1, 2.0 - i, share, COUNTERS) for i, share in enumerate((2 / 3, 1 / 3)))
    return Profile(CASE.case_id, "ncu", "2025.3", device, kernels, counters or COUNTERS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list:
    """The static profile without its compiling: the tasks that were asked for."""
    tasks: list = []

    def take(wanted, **_: object) -> list:
        tasks.extend(wanted)
        return [SimpleNamespace(columns=lambda: STATIC, launches=())]

    monkeypatch.setattr(pool, "take_profiles", take)
    return tasks


def test_four_counts_side_by_side(asked: list) -> None:
    found = traffic_of(counted(), 100.0, static_of(CASE, "NVIDIA H200"))
    assert found == {"compulsory": 100.0, "counted": 250.0, "l2": 700.0, "launch": 320, "issued_ratio": 3.5}
    assert (asked[0].arch, asked[0].gpu) == ("sm_90", "NVIDIA H200")
    printed = {row[0].partition(":")[0]: row[1:] for row in rows.traffic(found)}
    assert printed["launch"] == ("320", "3.20")
    assert printed["issued"] == ("", "3.50")
    assert [row[2] for row in rows.traffic(found)] == ["1.00", "3.20", "2.50", "7.00", "3.50"]


@pytest.mark.parametrize("device", ["NVIDIA H777", "NVIDIA L4"])
def test_a_gpu_that_has_no_static_profile_has_the_rest(asked: list, device: str) -> None:
    computed = static_of(CASE, device)
    assert computed is None
    found = traffic_of(counted(device, dram_bytes=250.0), 100.0, computed)
    assert found == {"compulsory": 100.0, "counted": 250.0}
    assert not asked


def test_kernels_print_what_was_counted_and_the_rest_is_one_row() -> None:
    first, rest = rows.kernels(counted(), top=1)
    assert first == ("k0", "1", "2.0000", "66.7%", "0.0002", "5e-05", "0.0007", "25%", "gmma 70%")
    assert rest[:4] == ("and 1 more", "1", "1.0000", "33.3%")
    assert len(first) == len(rest) == len(rows.columns(counted()))
    plain = Profile(CASE.case_id, "torch", "2.13", "cpu", (Kernel("aten::mm", 1.5, 1.0, 1.0),))
    assert list(rows.kernels(plain, top=5)) == [("aten::mm", "1.5", "1.0000", "100.0%")]
    assert rows.columns(plain) == ("operator", "calls", "ms", "share")


def test_counters_print_stalls_in_one_row() -> None:
    printed = dict(rows.counters(counted()))
    assert printed["dram_bytes"] == "250"
    assert printed["occupancy"] == "25.0%"
    assert printed["warps wait for"] == "gmma 70%, wait 20%, barrier 10%"
    assert not [name for name in printed if name.startswith("stall")]


def test_from_ncu_to_the_roofline(
    asked: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way, with an ncu that plays its recording: command, table, stored run, filled marker."""
    fake_ncu(tmp_path / "bin", result={"status": "ok", "reason": "", "device": "NVIDIA H200"})
    monkeypatch.setenv("PATH", on_path(tmp_path / "bin"))
    monkeypatch.setattr(command, "device_of", lambda args: "cuda")
    run = tmp_path / "run"
    timed = record("linear_attention", "triton_chunk", 8192, dtype="bfloat16", device="NVIDIA H200", time_ms=1.0)
    timed |= {"case_id": "linear_attention/triton_chunk/B1_T8192_H16_K128_V128_bf16_fwd_C64"}
    with create(run, environment() | H200) as writer:
        writer.append(timed)
    words = ["profile", "linear_attention", "--impl", "triton_chunk", "--tool", "ncu", "--chunk", "64"]
    assert main([*words, "--run", str(run), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "linear_fwd_output_kernel\t1\t" in told.out
    assert "dram_bytes\t470,550,528" in told.out
    assert "launch: arguments of every launch\t320\t" in told.out
    assert "joined to 1 record(s)" in told.err
    runs = read([run])
    rows_ = normalise(runs)
    (group,) = gather(rows_)
    chart = roofline(group, runs, assign((r["name"] for r in rows_), (r["variant"] for r in rows_)))
    assert chart
    (filled,) = [series for series in chart.series if not series.hollow]
    assert filled.x == pytest.approx((timed["flops_alg"] / 470_550_528,))
