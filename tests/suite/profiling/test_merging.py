"""A profile beside the records of its case."""

from pathlib import Path

import pytest

from suite.errors import IncomparableError, StoreError, UsageError
from suite.hardware.environment import cpu_name
from suite.profiling import Kernel, Profile, join
from suite.profiling.merging import doubts
from suite.store import SCHEMA, create, load, open_for_append, read_records
from tests.suite.store.runs import environment, failed, record

CASE = record()["case_id"]
COUNTED = Profile(
    CASE,
    "ncu",
    "2025.3.1.0",
    "NVIDIA H200",
    (Kernel("k", 2, 0.25, 1.0),),
    {"dram_bytes": 6e5, "occupancy": 0.5},
    ("l2_bytes: not collected",),
    replay="kernel",
    commit="0123abc",
    created="2020-01-02T00:00:00+00:00",
)
ON_CPU = Profile(CASE, "torch", "2.13.0", "cpu", (Kernel("aten::mm", 1, 0.5, 1.0),), commit="0123abc")


def run(path: Path, records: list, device: str = "NVIDIA H200") -> Path:
    with create(path, environment() | {"device": {"name": device}}) as writer:
        for each in records:
            writer.append(each)
    return path


def on_gpu(**changes: object) -> dict:
    return record(**{"device": "NVIDIA H200", "mode": "cold-events", **changes})


def test_counters_stand_beside_the_time(tmp_path: Path) -> None:
    before = [on_gpu(), on_gpu(launch=1), on_gpu(mode="warm-graph"), record("C128", device="NVIDIA H200")]
    folder = run(tmp_path / "run", before)
    assert len(join(folder, COUNTED)) == 3
    after = read_records(folder)
    assert len(after) == 4
    for row, old in zip(after[:3], before[:3], strict=True):
        assert {name: value for name, value in row.items() if not name.startswith("profile.")} == {
            "schema": SCHEMA,
            **old,
        }
        assert (row["profile.dram_bytes"], row["profile.dram_ratio"]) == (6e5, 2.0)
        assert (row["profile.launches"], row["profile.kernels_from"]) == (2, "ncu")
        assert row["profile.kernels"] == [{"name": "k", "calls": 2, "share": 1.0}]
        assert row["profile.missing"] == ["l2_bytes: not collected"]
    assert not [name for name in after[3] if name.startswith("profile.")]
    frame = load(folder)
    assert frame["profile.dram_bytes"].tolist()[:3] == [6e5] * 3


def test_two_tools_leave_both_their_columns(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", [on_gpu()])
    join(folder, COUNTED)
    join(folder, Profile(CASE, "torch", "2.13.0", "NVIDIA H200", (Kernel("k", 3, 1.0, 1.0),)))
    (row,) = read_records(folder)
    assert row["profile.dram_bytes"] == 6e5
    assert (row["profile.ncu_version"], row["profile.torch_version"]) == ("2025.3.1.0", "2.13.0")
    assert (row["profile.kernels_from"], row["profile.launches"]) == ("torch", 3)


def test_a_case_that_is_measured_again_loses_the_profile_of_its_earlier_code(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", [on_gpu()])
    join(folder, COUNTED)
    with open_for_append(folder) as writer:
        writer.append(on_gpu(time_ms=0.9))
    (row,) = read_records(folder)
    assert row["time_ms"] == 0.9
    assert not [name for name in row if name.startswith("profile.")]


def test_on_the_cpu_too(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", [record()], device=cpu_name())
    join(folder, ON_CPU)
    (row,) = read_records(folder)
    assert row["profile.kernels"] == [{"name": "aten::mm", "calls": 1, "share": 1.0}]
    assert "profile.launches" not in row


@pytest.mark.parametrize(
    ("records", "profile", "device", "error", "said"),
    [
        ([on_gpu()], COUNTED, "NVIDIA B200", IncomparableError, "was measured on NVIDIA B200, this is NVIDIA H200"),
        ([record()], ON_CPU, "Another CPU", IncomparableError, "was measured on Another CPU"),
        ([on_gpu(T=65, case_id=CASE + "x")], COUNTED, "NVIDIA H200", UsageError, f"it has {CASE}x"),
        ([], COUNTED, "NVIDIA H200", UsageError, "no case of this implementation"),
        ([on_gpu(device="NVIDIA B200")], COUNTED, "NVIDIA H200", UsageError, "has no record of"),
        ([on_gpu(kind="check", mode="cuda")], COUNTED, "NVIDIA H200", UsageError, "has no record of"),
        ([failed(device="NVIDIA H200", status="oom")], COUNTED, "NVIDIA H200", UsageError, "is oom in"),
    ],
)
def test_what_has_no_place_for_a_profile(tmp_path: Path, records, profile, device, error, said) -> None:
    folder = run(tmp_path / "run", records, device)
    before = (folder / "records.jsonl").read_bytes()
    with pytest.raises(error, match=said):
        join(folder, profile)
    assert (folder / "records.jsonl").read_bytes() == before


def test_doubts(tmp_path: Path) -> None:
    copy = [{"bytes": 2**20, "gbs": 9.0}, {"bytes": 2**31, "gbs": 0.5}]
    folder = tmp_path / "run"
    with create(folder, environment() | {"device": {"name": "NVIDIA H200"}, "ceilings": {"copy": copy}}):
        pass
    assert not list(doubts(folder, [on_gpu(time_ms=1.2)], COUNTED))
    (said,) = doubts(folder, [on_gpu(time_ms=1.1)], COUNTED)
    assert "0.5455 GB/s, more than the 0.5 GB/s" in said
    (said,) = doubts(folder, [on_gpu(time_ms=1.2), on_gpu(commit="fedcba9", time_ms=1.2)], COUNTED)
    assert "measured commit fedcba9, this profile is of 0123abc" in said


def test_a_run_that_a_sweep_is_writing_is_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", [on_gpu()])
    with open_for_append(folder), pytest.raises(StoreError, match="is being written by another process"):
        join(folder, COUNTED)
