"""Which metrics are asked for, and what they add up to."""

import pytest

from suite.profiling.counters import COUNTERS, STALLS, base, figures_of, over_call, plan
from suite.profiling.ncu import summed
from suite.profiling.ncu_output import launches, metrics_of
from tests.suite.profiling.recordings import RECORDED, text

LISTED = metrics_of(text("ncu_metrics.txt"))


def test_a_device_that_has_all_of_it_lacks_nothing() -> None:
    chosen = plan(LISTED)
    assert chosen.missing == ()
    assert all(base(metric) in LISTED for metric in chosen.metrics)
    assert len(chosen.metrics) == len(set(chosen.metrics))


def test_an_older_name_is_asked_for_where_the_first_is_absent() -> None:
    names = (LISTED - {"sm__ops_path_tensor_src_fp16"}) | {
        "sm__ops_path_tensor_src_fp16_dst_fp32",
        "sm__ops_path_tensor_src_fp16_dst_fp16",
    }
    chosen = plan(names)
    assert "sm__ops_path_tensor_src_fp16_dst_fp16.sum" in chosen.metrics
    assert chosen.missing == ()


def test_what_a_device_lacks_is_named() -> None:
    chosen = plan(LISTED - {"lts__t_bytes"})
    assert chosen.missing == ("l2_bytes: this device has no lts__t_bytes",)
    assert "lts__t_bytes.sum" not in chosen.metrics
    assert len(plan(set()).missing) == len({counter.name for counter in COUNTERS if not counter.optional})


def test_what_ncu_refuses_is_named_and_no_longer_asked_for() -> None:
    chosen = plan(LISTED).without("smsp__inst_executed_pipe_xu")
    assert chosen.missing == ("special: ncu does not know smsp__inst_executed_pipe_xu",)
    assert all("pipe_xu" not in metric for metric in chosen.metrics)
    assert "dram__bytes_read.sum" in chosen.metrics


def test_a_call_is_the_sum_of_its_kernels() -> None:
    found = summed(launches(text("ncu_raw.csv")), plan(LISTED), RECORDED)
    c = found.counters
    assert c["dram_read_bytes"] == 134_479_872 + 201_719_808 + 2048
    assert c["dram_bytes"] == c["dram_read_bytes"] + 67_239_936 + 67_108_864
    assert c["flops_tensor"] == 17_179_869_184 + 34_359_738_368
    single = 2 * (2_097_152 + 4_194_304) + 1_048_576 + 2_097_152 + 1_048_576
    assert c["flops_fma"] == single + 4 * 524_288
    assert c["flops"] == c["flops_tensor"] + c["flops_fma"]
    assert c["special"] == 32 * (2048 + 4096)
    assert found.missing == ()
    assert "duration_ns" not in c
    assert not [name for name in c if "ms" in name.split("_")]


def test_occupancy_and_stalls_are_weighed_by_time() -> None:
    found = summed(launches(text("ncu_raw.csv")), plan(LISTED), RECORDED)
    times = (212_480, 390_016, 1_792)
    expected = sum(t * o for t, o in zip(times, (0.2431, 0.4987, 0.0625), strict=True)) / sum(times)
    assert found.counters["occupancy"] == pytest.approx(expected)
    state, output = 6.0 / 10.0, 2.0 / 10.0
    waits = (times[0] * state + times[1] * output) / sum(times)
    assert found.counters["stall_long_scoreboard"] == pytest.approx(waits)
    assert found.kernels[0].name == "linear_fwd_output_kernel"
    assert found.kernels[0].counters["stall_gmma"] == pytest.approx(0.4)
    assert found.kernels[0].share == pytest.approx(times[1] / sum(times))
    shares = sum(found.kernels[1].counters[f"stall_{name}"] for name in STALLS)
    assert shares == pytest.approx(1.0)


def test_a_sum_over_some_kernels_is_not_taken_for_the_whole() -> None:
    rows = text("ncu_raw.csv").replace('"67,108,864"', '"n/a"')
    found = summed(launches(rows), plan(LISTED), RECORDED)
    assert "dram_write_bytes" not in found.counters
    assert "dram_bytes" not in found.counters
    assert "dram_read_bytes" in found.counters
    assert found.missing == ("dram_write_bytes: dram__bytes_write.sum not collected",)


def test_a_counter_of_several_metrics_needs_all_of_them() -> None:
    chosen = plan(LISTED)
    values = dict(launches(text("ncu_raw.csv"))[0].values)
    assert "flops_fma" in figures_of(values, chosen)
    del values["smsp__sass_thread_inst_executed_op_fmul_pred_on.sum"]
    assert "flops_fma" not in figures_of(values, chosen)
    without_half = plan(LISTED - {"smsp__sass_thread_inst_executed_op_hfma_pred_on"})
    assert not [metric for metric in without_half.metrics if "_op_f" in metric]
    assert [name.partition(":")[0] for name in without_half.missing] == ["flops_fma"]


def test_no_kernel_has_no_counters() -> None:
    assert over_call([]) == {}
