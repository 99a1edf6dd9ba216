"""What the static profile predicts beside what ncu counted: kernel by kernel, on figures that are known."""

from __future__ import annotations

import pytest

from suite.profiling import Kernel, Profile, rows
from suite.profiling.counters import COUNTERS, figures_of, plan
from suite.profiling.predicted import REASONS, pairs
from suite.static.model import Launch, Prediction
from suite.store.columns import GROUPS, OPTIONAL
from suite.store.schema import fault
from tests.suite.reporting.synthetic import record


def launch(kernel: str, ms: float, **values: object) -> Launch:
    return Launch(kernel, (8, 1, 1), predicted=Prediction(ms, "chain", **values))  # type: ignore[arg-type]


LAUNCHES = (
    launch("state_kernel", 1.0, busy={"issue": 0.4, "tensor": 0.2}, issued=100.0, l2_bytes=10.0, dram_bytes=4.0),
    launch("state_kernel", 3.0, busy={"issue": 0.8, "tensor": 0.2}, issued=300.0, l2_bytes=30.0, dram_bytes=4.0,
           waits={"load": 0.25, "copy": 0.25, "selected": 0.5}),
    launch("output_kernel", 2.0),
    Launch("lost_kernel", (1, 1, 1), predicted=Prediction(reason="its path depends on data")),
)  # fmt: skip


def test_launches_of_one_kernel_are_taken_together() -> None:
    counted = {"instructions": 440.0, "l2_bytes": 50.0, "dram_bytes": 8.0, "issue_busy": 0.35, "stall_selected": 0.5}
    found = {pair.figure: pair for pair in pairs(LAUNCHES, [Kernel("state_kernel", 2, 5.0, 0.7, counted)])}
    assert (found["ms"].predicted, found["ms"].counted, found["ms"].ratio) == (4.0, 5.0, 1.25)
    assert (found["instructions"].predicted, found["instructions"].counted) == (400.0, 440.0)
    assert (found["l2_bytes"].predicted, found["dram_bytes"].predicted) == (40.0, 8.0)
    # Shares are weighted by time.
    assert found["issue_busy"].predicted == pytest.approx((0.4 * 1 + 0.8 * 3) / 4)
    assert found["stall_selected"].predicted == pytest.approx(0.5 * 3 / 4)
    # What was not counted is not told.
    assert "tensor_busy" not in found
    assert "stall_long_scoreboard" not in found


def test_waits_for_data_are_one_reason() -> None:
    kernel = Kernel("state_kernel", 2, 5.0, 0.7, {"stall_long_scoreboard": 0.6})
    (found,) = (pair for pair in pairs(LAUNCHES, [kernel]) if pair.figure.startswith("stall_"))
    assert (found.figure, found.predicted) == ("stall_long_scoreboard", pytest.approx(0.5 * 3 / 4))


def test_kernels_that_were_not_predicted_have_no_pair() -> None:
    kernels = [Kernel("lost_kernel", 1, 1.0), Kernel("at::native::fill", 1, 1.0), Kernel("output_kernel", 1, 2.5)]
    assert [(pair.kernel, pair.figure, pair.ratio) for pair in pairs(LAUNCHES, kernels)] == [
        ("output_kernel", "ms", 1.25)
    ]


def test_every_reason_is_one_of_ncus() -> None:
    known = {counter.name for counter in COUNTERS}
    assert {f"stall_{reason}" for reason in REASONS.values()} <= known


def test_busy_shares_and_instructions_are_read_where_the_device_has_them() -> None:
    metrics = ["smsp__inst_executed", "smsp__issue_active", "sm__inst_executed_pipe_tensor"]
    chosen = plan(metrics)
    values = {
        "smsp__inst_executed.sum": 1000.0,
        "smsp__issue_active.avg.pct_of_peak_sustained_active": 42.0,
        "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active": 25.0,
    }
    assert figures_of(values, chosen) == {"instructions": 1000.0, "issue_busy": 0.42, "tensor_busy": 0.25}
    assert not {"instructions", "issue_busy", "tensor_busy", "alu_busy"} & set(chosen.missing)


def test_pairs_print_and_fit_a_record() -> None:
    counted = {"instructions": 440e6, "issue_busy": 0.5, "stall_selected": 0.001}
    kernel = Kernel("state_kernel", 2, 5.0, 0.7, counted)
    launches = [launch("state_kernel", 4.0, busy={"issue": 0.4}, issued=400e6, waits={"selected": 0.002})]
    found = Profile("a/x/T1", "ncu", "2025.3", "NVIDIA H200", (kernel,), counted,
                    predicted=tuple(pair.to_dict() for pair in pairs(launches, [kernel])))  # fmt: skip
    printed = [tuple(row) for row in rows.predicted(found)]
    assert printed == [
        ("state_kernel", "ms", "4", "5", "1.25"),
        ("state_kernel", "instructions, million", "400", "440", "1.10"),
        ("state_kernel", "issue busy", "40%", "50%", "1.25"),
    ]
    row = record("a", "x", 128) | found.columns()
    assert fault(row) is None
    assert "profile.predicted" in OPTIONAL
    assert any(name.startswith("profile.stall_") for name in GROUPS)
    assert found.to_dict()["predicted"][0]["figure"] == "ms"
