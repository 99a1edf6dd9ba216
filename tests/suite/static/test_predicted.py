"""Predicted times of calls: what a profile makes of its launches' times, and what the tables show."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from suite import Problem
from suite.discovery import discover
from suite.static import capture
from suite.static.model import Floor, Launch, Prediction, Profile
from suite.static.profiling import _eager_ms
from suite.static.profiling import profile as profile_of
from suite.static.rows import CASE_COLUMNS, LAUNCH_COLUMNS, case_row, launch_rows, markdown, notes
from suite.static.stub_driver import target_of
from tests.suite.static import toys

FLOOR = Floor("NVIDIA H200", "datasheet", 10**6, 0.02, 0.01, 0.03)


def launch(kernel: str, us: float | None, bound: str = "chain", **values: object) -> Launch:
    predicted = Prediction(None if us is None else us / 1e3, bound, cycles=100.0, **values)  # type: ignore[arg-type]
    return Launch(kernel, (8, 1, 1), predicted=predicted)


def profile(*launches: Launch, **values: object) -> Profile:
    return replace(Profile("op/impl/case", "sm_90", launches=launches, floor=FLOOR), **values)  # type: ignore[arg-type]


def test_launches_and_eager_operations_add_up_and_the_longest_bounds() -> None:
    found = profile(launch("a", 40.0, "memory"), launch("b", 60.0, "tensor"), eager_ms=0.005).predicted
    assert found is not None
    assert (found.ms, found.bound) == (pytest.approx(0.105), "tensor")
    assert found.cycles == 200.0


def test_a_predicted_time_is_never_below_the_floor() -> None:
    found = profile(launch("a", 1.0)).predicted
    assert found is not None
    assert found.ms == FLOOR.ms


def test_one_launch_without_a_time_leaves_the_call_without_one() -> None:
    unknown = profile(launch("a", 40.0), launch("b", None, "", reason="its path depends on data"))
    assert unknown.predicted is not None
    assert (unknown.predicted.ms, unknown.predicted.reason) == (None, "b: its path depends on data")
    assert unknown.columns()["static.predicted_reason"] == "b: its path depends on data"
    assert "static.predicted_ms" not in unknown.columns()
    assert "op/impl/case sm_90: time not predicted: b: its path depends on data" in list(notes([unknown]))
    assert profile(Launch("a", (1, 1, 1))).predicted is None
    assert profile().predicted is None


def test_columns_have_the_time_its_range_and_what_was_assumed() -> None:
    found = profile(launch("a", 40.0, notes=("the shorter way was taken",))).columns()
    assert found["static.predicted_ms"] == pytest.approx(0.04)
    assert FLOOR.ms <= found["static.predicted_low_ms"] < 0.04 < found["static.predicted_high_ms"]
    assert found["static.predicted_bound"] == "chain"
    assert found["static.predicted_notes"] == ["a: the shorter way was taken"]


def test_eager_operations_take_their_bytes_and_a_launch_each() -> None:
    target = target_of("sm_90", "NVIDIA H200")
    alone, moved = _eager_ms(0, 3, target), _eager_ms(4320 * 10**6, 0, target)
    assert alone == pytest.approx(0.003)
    assert moved == pytest.approx(1.0)
    assert _eager_ms(10**9, 3, target_of("sm_80", "NVIDIA A100 80GB PCIe")) == 0.0


def test_tables_show_the_time_and_its_bound() -> None:
    (copied,) = capture(toys.copy, "sm_90")
    assert copied.predicted is not None
    assert copied.predicted.ms is not None
    found = Profile("op/impl/case", "sm_90", launches=(copied,), floor=FLOOR)
    case = dict(zip(CASE_COLUMNS, case_row(found), strict=True))
    assert (case["predicted us"], case["by"]) == ("20.0", copied.predicted.bound)
    (row,) = (dict(zip(LAUNCH_COLUMNS, each, strict=True)) for each in launch_rows([copied]))
    assert (row["predicted us"], row["by"]) == (f"{copied.predicted.ms * 1e3:.1f}", copied.predicted.bound)
    assert "| predicted us |" in markdown([found])
    assert Profile.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_gpu_without_a_machine_table_has_no_predicted_times() -> None:
    (copied,) = capture(toys.copy, "sm_80", gpu="NVIDIA A100 80GB PCIe")
    assert copied.binary is not None
    assert copied.predicted is None


def test_a_loop_that_ends_where_data_say_so_is_told() -> None:
    """One of both answers never ends; by the other the loop is passed."""
    (found,) = capture(toys.searching, "sm_90")
    assert found.predicted is not None
    assert found.predicted.ms is not None
    (note,) = found.predicted.notes
    assert note.startswith("the shorter way was taken where `@")
    assert "depends on" in note


def test_twice_the_work_takes_longer() -> None:
    """A loop of a run-time bound: the time goes with it, and the floor of the kernel does not."""
    times = [capture(lambda rows=rows: toys.looped(rows), "sm_90")[0].predicted for rows in (64, 128)]
    short, long = (each.ms for each in times if each and each.ms)
    assert long > 1.6 * short


@pytest.mark.parametrize("name", ["retention", "gated_delta_rule"])
def test_a_packed_sequence_takes_the_time_of_the_same_dense_one(name: str) -> None:
    """Its bounds lie in memory: what cu_seqlens holds is known, so each program's trips are."""
    operator = discover().operator(name)
    implementation = operator.implementations["triton_chunk"]
    ms = {}
    for layout in ("dense", "packed:single", "packed:halves"):
        problem = operator.complete(Problem(B=1, T=16384, H=8, K=64, layout=layout))
        found = profile_of(operator, implementation, problem, {"chunk": 64}, "sm_90", counted=False)
        assert found.predicted
        assert not any("shorter way" in note for launch in found.launches for note in launch.predicted.notes)  # type: ignore[union-attr]
        ms[layout] = found.predicted.ms
    assert ms["packed:single"] == pytest.approx(ms["dense"], rel=0.2)
    assert ms["packed:halves"] == pytest.approx(ms["dense"], rel=0.2)
