"""The floor: which bytes have to cross the memory bus, and where its ceilings come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.hardware.gpus import Gpu, known
from suite.static.floor import Ceilings, ceilings_of, floor_of, forced_bytes
from suite.store.writing import write_environment


def sheet() -> Gpu:
    found = known("NVIDIA H200")
    assert found
    return found


def test_an_input_that_is_read_twice_crosses_once_when_the_cache_holds_it() -> None:
    touches, sizes = [{0: 100}, {0: 100}], {0: 100}
    assert forced_bytes(touches, {0}, sizes, l2=100) == 100
    assert forced_bytes(touches, {0}, sizes, l2=60) == 140
    assert forced_bytes(touches, {0}, sizes, l2=0) == 200


def test_an_intermediate_crosses_only_as_far_as_the_cache_is_too_small() -> None:
    """Step 1 reads input 0 and writes intermediate 1; step 2 reads it and writes output 2."""
    touches, sizes = [{0: 10, 1: 300}, {1: 300, 2: 10}], {0: 10, 1: 300, 2: 10}
    assert forced_bytes(touches, {0, 2}, sizes, l2=1000) == 20
    assert forced_bytes(touches, {0, 2}, sizes, l2=100) == 20 + 2 * 200
    assert forced_bytes(touches, {0, 2}, sizes, l2=0) == 20 + 600


def test_two_halves_of_an_input_are_both_new() -> None:
    assert forced_bytes([{0: 50}, {0: 50}, {0: 50}], {0}, {0: 100}, l2=1000) == 100


STEPS = st.lists(st.dictionaries(st.integers(0, 5), st.integers(0, 1000), max_size=6), max_size=8)


@given(STEPS, st.sets(st.integers(0, 5)), st.integers(0, 4000), st.integers(0, 4000))
def test_forced_bytes_are_bounded_and_fall_with_the_cache(steps, lasting, l2, more) -> None:
    sizes = dict.fromkeys(range(6), 1000)
    forced = forced_bytes(steps, lasting, sizes, l2)
    assert forced_bytes(steps, lasting, sizes, l2 + more) <= forced <= sum(sum(step.values()) for step in steps)
    assert forced_bytes(steps, lasting, sizes, 0) == sum(sum(step.values()) for step in steps)


def floor(flops: float, forced: int, dtype: str = "bfloat16", tensor_cores: bool = True, special: float = 0.0):
    peaks = {"bfloat16": 1000.0, "tf32": 500.0, "float32": 60.0}
    ceilings = Ceilings("g", "datasheet", 4000.0, peaks, {"gops": 2000.0})
    return floor_of(
        ceilings,
        forced=forced,
        traffic=2 * forced,
        flops=flops,
        dtype=dtype,
        tensor_cores=tensor_cores,
        special=special,
    )


def test_memory_and_compute() -> None:
    """4 GB at 4 TB/s is a millisecond, and so is a PFLOP/s for a TFLOP."""
    bound = floor(flops=5e11, forced=4_000_000_000)
    assert (bound.memory_ms, bound.compute_ms, bound.traffic_ms) == pytest.approx((1.0, 0.5, 2.0))
    assert (bound.ms, bound.bound) == (pytest.approx(1.0), "memory")
    assert (floor(2e12, 4_000_000_000).ms, floor(2e12, 4_000_000_000).bound) == (pytest.approx(2.0), "compute")


def test_float32_runs_at_the_peak_of_what_the_kernel_uses() -> None:
    assert floor(6e10, 0, "float32", tensor_cores=False).compute_ms == pytest.approx(1.0)
    assert floor(5e11, 0, "float32", tensor_cores=True).compute_ms == pytest.approx(1.0)


def test_without_tensor_cores_any_dtype_runs_on_the_float32_units() -> None:
    assert floor(6e10, 0, "bfloat16", tensor_cores=False).compute_ms == pytest.approx(1.0)


def test_special_functions_bind_where_they_take_longest() -> None:
    """2e9 evaluations at 2000 in 10^9 a second are a millisecond."""
    bound = floor(flops=5e11, forced=3_200_000_000, special=2e9)
    assert bound.parts == pytest.approx({"memory": 0.8, "compute": 0.5, "special": 1.0})
    assert (bound.ms, bound.bound) == (pytest.approx(1.0), "special")
    assert floor(flops=5e11, forced=3_200_000_000).parts["special"] == 0.0
    unknown = floor_of(
        Ceilings("g", "datasheet", 4000.0, {}),
        forced=0,
        traffic=0,
        flops=0,
        dtype="bfloat16",
        tensor_cores=True,
        special=1e12,
    )
    assert unknown.special_ms == 0.0


def stored(folder: Path, name: str, gbs: float, device: str = "NVIDIA H200", special: float | None = None) -> None:
    run = folder / "nvidia-h200" / name
    run.mkdir(parents=True)
    copy = [{"bytes": 2**20, "gbs": 9000.0}, {"bytes": 2**31, "gbs": gbs}]
    ceilings = {"copy": copy, "matmul": {"bfloat16": {"tflops": 700.0}}}
    if special:
        ceilings["special"] = {"function": "exp2", "gops": special}
    write_environment(run, {"device": {"name": device}, "fingerprint": {}, "ceilings": ceilings})


def test_measured_ceilings_come_first_and_the_fastest_run_stands(tmp_path: Path) -> None:
    stored(tmp_path, "one", 4300.0)
    stored(tmp_path, "two", 4100.0)
    stored(tmp_path, "other", 4500.0, device="NVIDIA B200")
    found = ceilings_of("NVIDIA H200", tmp_path)
    assert found
    assert (found.source, found.gbs, found.tflops["bfloat16"]) == ("measured", 4300.0, 700.0)
    assert found.tflops["tf32"] == sheet().tflops["tf32"]
    assert found.special == {"gops": sheet().special_gops}
    stored(tmp_path, "three", 4400.0, special=3500.0)
    again = ceilings_of("NVIDIA H200", tmp_path)
    assert again
    assert again.special == {"gops": 3500.0}


def test_the_datasheet_stands_in_and_says_so(tmp_path: Path) -> None:
    found = ceilings_of("NVIDIA H200", tmp_path)
    assert found
    assert (found.source, found.gbs, found.special["gops"]) == ("datasheet", sheet().gbs, sheet().special_gops)
    assert ceilings_of("NVIDIA H777", tmp_path) is None
