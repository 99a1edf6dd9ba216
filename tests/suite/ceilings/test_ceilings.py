"""Ceilings: when they are measured again, what they are made of, what stands under them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from suite import Problem
from suite.ceilings import cache, ceilings, clocks, confirm, disturbed, measuring, timing, units, warning
from suite.ceilings.steadiness import better
from suite.ceilings.timing import Span, span
from suite.cli import device
from suite.cli.device import ceiling_rows
from suite.cost import Cost
from suite.discovery import ROOT, discover
from suite.hardware.gpus import known
from suite.measuring import case
from suite.roof import place, special_ms

# As runs had them before intervals had counts of samples, and without launches and special functions.
OLD = {
    "copy": [
        {"bytes": 2**18, "gbs": 110.6, "low": 110.2, "high": 111.7},
        {"bytes": 2**29, "gbs": 33.6, "low": 31.2, "high": 36.1},
    ],
    "matmul": {
        "bfloat16": {"tflops": 0.764, "low": 0.746, "high": 0.769},
        "float16": {"tflops": 0.00238, "low": 0.00228, "high": 0.00251},
        "float32": {"tflops": 0.173, "low": 0.168, "high": 0.175},
    },
    "measured": "2026-01-02T03:04:05+00:00",
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Ceilings without the measuring: what was asked for is listed."""
    asked: list[str] = []
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path))
    monkeypatch.setattr(measuring, "measure_ceilings", lambda device: asked.append(device) or {"n": len(asked)})
    return asked


def test_ceilings_are_measured_again_when_their_identity_changes(measured: list[str]) -> None:
    assert ceilings("cpu", {"driver": 1})["n"] == 1
    assert ceilings("cpu", {"driver": 1})["n"] == 1
    assert ceilings("cpu", {"driver": 2})["n"] == 2
    assert ceilings("cpu", {"driver": 1}, refresh=True)["n"] == 3
    assert ceilings("cpu", {"driver": 1})["n"] == 3
    assert len(measured) == 3


def test_ceilings_are_measured_again_when_a_clock_or_a_limit_is_set(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for setting in ({"power_limit_w": 700}, {"power_limit_w": 500}, {"power_limit_w": 500}, {"max_sm_mhz": 1200}):
        monkeypatch.setattr(clocks, "clocks_of", lambda device, setting=setting: setting)
        seen.append(ceilings("cpu", {})["n"])
    assert seen == [1, 2, 2, 3]


def test_ceilings_are_measured_again_when_a_gpu_spins_at_another_clock(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "clocks_of", lambda device: {"max_sm_mhz": 1980})
    monkeypatch.setattr(clocks, "uuid_of", lambda device: "GPU-1")
    seen = []
    for mhz in (1980.0, 1978.0, 1500.0, 1500.0, None, 1500.0):
        monkeypatch.setattr(clocks, "spin_mhz", lambda device, mhz=mhz: mhz)
        seen.append(ceilings("cuda", {})["n"])
    assert seen == [1, 1, 2, 2, 3, 4]
    monkeypatch.setattr(clocks, "uuid_of", lambda device: "GPU-2")
    assert ceilings("cuda", {})["n"] == 5


def ceiling(value: float, low: float, high: float, unit: str = "gbs") -> dict[str, float]:
    return {unit: value, "low": low, "high": high, "samples": 7}


def with_copy(**each: dict[str, float]) -> dict[str, Any]:
    """Ceilings of two copies and one launch, all steady but for what is given."""
    small, large = each.get("small", ceiling(90, 89, 91)), each.get("large", ceiling(50, 49, 51))
    return {
        "copy": [{"bytes": 2**18, **small}, {"bytes": 2**26, **large}],
        "launch": {"torch": each.get("torch", ceiling(1, 0.9, 1.1, "us"))},
        "measured": "now",
    }


def test_disturbed_ceilings_are_named_with_the_remedy() -> None:
    assert disturbed(with_copy()) == []
    assert warning(with_copy()) == ""
    found = with_copy(large=ceiling(2.5, 2.0, 3.1), torch=ceiling(1, 0.9, 35, "us"))
    assert disturbed(found) == ["copy 64 MiB", "launch torch"]
    assert "copy 64 MiB, launch torch" in warning(found)
    assert "subquad device --refresh" in warning(found)


def copies(*rates: float) -> dict[str, Any]:
    """Ceilings of copies of 256 KiB, 1 MiB, 4 MiB and so on, each with a narrow interval."""
    return {"copy": [{"bytes": 2 ** (18 + 2 * i), **ceiling(r, 0.99 * r, 1.01 * r)} for i, r in enumerate(rates)]}


@pytest.mark.parametrize(
    ("rates", "names"),
    [
        ((62.8, 0.13, 70.1, 2.1, 8.4, 11.3, 11.2), ["copy 1 MiB", "copy 16 MiB"]),
        ((62.8, 0.13, 0.12, 70.1, 11.3), ["copy 1 MiB", "copy 4 MiB"]),
        # A GPU's launch is paid for by a large copy alone; caches make small ones fast.
        ((400, 1500, 5000, 9000, 4000, 4100), []),
        ((90, 80, 70, 30, 11.3, 11.2), []),
        ((62.8, 50, 70), []),
        ((62.8, 0.13), []),
        ((), []),
    ],
)
def test_a_copy_between_two_faster_ones_was_disturbed(rates: tuple[float, ...], names: list[str]) -> None:
    assert disturbed(copies(*rates)) == names


def test_device_says_which_ceilings_were_disturbed(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"device": {"name": "CPU"}, "fingerprint": {}, "datasheet": None}
    for found in (with_copy(), with_copy(large=ceiling(2.5, 2.0, 3.1))):
        device._print(facts | {"ceilings": found})
        said = capsys.readouterr().err
        assert said == (f"note: {warning(found)}\n" if disturbed(found) else "")


def test_of_two_measurements_the_better_one_is_kept() -> None:
    before = with_copy(small=ceiling(95, 94, 96), large=ceiling(10, 5, 60), torch=ceiling(0.8, 0.7, 0.9, "us"))
    found = better(before, with_copy() | {"measured": "later"})
    assert [each["gbs"] for each in found["copy"]] == [95, 50]
    assert found["launch"]["torch"]["us"] == 0.8
    assert found["measured"] == "later"
    # A wide interval that holds a narrow one says nothing against it; one that lies above it does.
    assert better(with_copy(large=ceiling(52, 5, 60)), with_copy())["copy"][1]["gbs"] == 50
    assert better(with_copy(large=ceiling(80, 60, 100)), with_copy())["copy"][1]["gbs"] == 80


def test_what_other_work_disturbed_is_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    busy, steady = with_copy(small=ceiling(95, 94, 96), large=ceiling(2, 1, 60)), with_copy()
    told = iter([busy, steady])
    now = datetime.now(timezone.utc)
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path))
    monkeypatch.setattr(measuring, "measure_ceilings", lambda device: next(told) | {"measured": now.isoformat()})
    seen = []
    for ago in (0, 60, 660, 60_000):
        seen.append(ceilings("cpu", {})["copy"][1]["gbs"])
        (path,) = tmp_path.iterdir()
        path.write_text(json.dumps(json.loads(path.read_text()) | {"measured": str(now - timedelta(seconds=ago))}))
    # Not again within ten minutes, then once more; then there is nothing to mend.
    assert seen == [2, 2, 2, 50]
    assert next(told, None) is None
    found = ceilings("cpu", {})
    assert found["cache"] == path.name
    # What the busy hour did not touch was the better one.
    assert found["copy"][0]["gbs"] == 95


def test_the_cache_folder_is_known_without_torch() -> None:
    code = "import sys; from suite.cachefolder import cache_folder; cache_folder(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_cache_of_another_version_is_not_read(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ceilings("cpu", {})["n"] == 1
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    assert ceilings("cpu", {})["n"] == 2


def test_confirm_keeps_the_higher_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_copy", lambda device, size: {"bytes": size, "gbs": 5.0, "low": 5.0, "high": 5.0})
    monkeypatch.setattr(measuring, "_matmul", lambda device, dtype: {"tflops": 5.0, "low": 5.0, "high": 5.0})
    monkeypatch.setattr(measuring, "read", lambda device, size: {"bytes": size, "gbs": 5.0, "low": 5.0, "high": 5.0})
    size = measuring.SIZES["cpu"][2]
    for before, after in ((1.0, 5.0), (9.0, 9.0)):
        rate = {"tflops": before, "low": before, "high": before}
        found = {
            "copy": [{"bytes": s, "gbs": before, "low": before, "high": before} for s in measuring.SIZES["cpu"]],
            "read": {"bytes": measuring.SIZES["cpu"][-1], "gbs": before},
            "matmul": {"float32": rate, "tf32": rate, "bfloat16": rate},
        }
        again = confirm("cpu", "float32", size, found)
        assert [p["gbs"] for p in again["copy"] if p["bytes"] == size] == [after]
        assert [again["matmul"][name]["tflops"] for name in ("float32", "tf32", "bfloat16")] == [after, after, before]
        assert again["read"]["gbs"] == after
        assert sum(p["gbs"] != before for p in again["copy"]) == (after != before)


def test_the_read_ceiling_reads_the_whole_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def measured(run, device: str) -> Span:
        calls.append(run())
        return Span(2.0, 1.0, 4.0, 7)

    monkeypatch.setattr(units, "span", measured)
    monkeypatch.setattr(units, "_drawn", lambda size, device: torch.ones(size // 4, device=device))
    assert units.read("cpu", 2**20)["gbs"] == pytest.approx(2**20 / 2e-3 / 1e9)
    assert calls == [2**18]


def test_each_ceiling_has_its_interval_and_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measuring.SIZES, "cpu", (2**16, 2**18))
    monkeypatch.setitem(measuring.MATRIX, "cpu", (32,))
    monkeypatch.setattr(timing, "ROUNDS", 1)
    found = measuring.measure_ceilings("cpu")
    known_ones = [
        *found["copy"],
        found["read"],
        *found["copy_by_dtype"].values(),
        *found["matmul"].values(),
        found["special"],
        *found["launch"].values(),
    ]
    for each in known_ones:
        (name,) = {"gbs", "tflops", "gops", "us"} & set(each)
        assert 0 < each["low"] <= each[name] <= each["high"]
        assert each["samples"] >= 7
    assert set(found["copy_by_dtype"]) == {"float32", "bfloat16", "float16"}
    assert found["copy_by_dtype"]["float32"] is found["copy"][-1]
    assert set(found["matmul"]) == {"float32", "bfloat16", "float16"}
    assert found["special"]["function"] == "exp"
    assert 0.01 < found["launch"]["torch"]["us"] < 1000
    assert "l2" not in found


class Clockwork:
    """A timer of calls that take what they say, in ms."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.prepared = 0

    def prepare(self, run) -> None:
        self.prepared += 1

    def samples(self, run, n: int) -> list[float]:
        taken = []
        for _ in range(n):
            before = self.spent
            run()
            taken.append(self.spent - before)
        return taken


def test_a_span_is_of_one_call_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Clockwork()
    monkeypatch.setattr(timing, "make_timer", lambda mode, device: timer)

    def call() -> None:
        timer.spent += 0.01

    found = span(call, "cpu")
    assert (found.ms, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert timer.prepared == 2


def test_a_rate_is_low_where_the_time_is_long() -> None:
    rate = Span(2.0, 1.0, 4.0, 9).rate("gbs", 8e6)
    assert rate == {"gbs": 4.0, "low": 2.0, "high": 8.0, "samples": 9}
    assert Span(2.0, 1.0, 4.0, 9).microseconds() == {"us": 2000.0, "low": 1000.0, "high": 4000.0, "samples": 9}


def test_a_matrix_product_of_known_time_has_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measuring.MATRIX, "cpu", (100,))
    monkeypatch.setattr(measuring, "span", lambda run, device: Span(1.0, 1.0, 1.0, 7))
    assert measuring._matmul("cpu", "float32")["tflops"] == pytest.approx(2 * 100**3 / 1e-3 / 1e12)
    assert measuring._copy("cpu", 2**20)["gbs"] == pytest.approx(2**20 / 1e-3 / 1e9)


def test_precision_is_put_back() -> None:
    import torch

    before = torch.get_float32_matmul_precision()
    with measuring._precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


class RefusedError(Exception):
    pass


def refuse(*_: object) -> int:
    raise RefusedError


def test_settings_of_a_gpu_are_read_as_far_as_they_may_be() -> None:
    nvml = SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVMLError=RefusedError,
        nvmlDeviceGetMaxClockInfo=lambda handle, kind: {1: 1980, 2: 3201}[kind],
        nvmlDeviceGetApplicationsClock=refuse,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
    )
    assert clocks.read_nvml(nvml, None) == {"max_sm_mhz": 1980, "max_memory_mhz": 3201, "power_limit_w": 700.0}


def test_settings_of_a_cpu(tmp_path: Path) -> None:
    folder = tmp_path / "cpu0" / "cpufreq"
    folder.mkdir(parents=True)
    assert clocks._of_cpu(folder) == {}
    (folder / "scaling_governor").write_text("performance\n")
    (folder / "scaling_max_freq").write_text("3700000\n")
    (tmp_path / "cpufreq").mkdir()
    (tmp_path / "cpufreq" / "boost").write_text("0\n")
    assert clocks._of_cpu(folder) == {"governor": "performance", "max_mhz": 3700, "boost": "0"}


ROOF = {
    "copy": [{"bytes": 2**31, "gbs": 4000.0}],
    "matmul": {"float32": {"tflops": 50.0}, "tf32": {"tflops": 400.0}, "bfloat16": {"tflops": 700.0}},
    "special": {"function": "exp2", "gops": 4000.0},
}


def at(tflops: float, dtype: str = "float32", special: float = 0.0, roof: dict = ROOF) -> dict:
    cost = Cost(flops_alg=tflops * 1e9, flops_exec=tflops * 1e9, bytes_compulsory=1e6, special=special)
    return place(cost, 1.0, dtype, roof, 50 * 2**20)


def test_float32_above_its_own_units_stands_under_tensor_cores() -> None:
    assert at(40.0)["roof_pct"] == pytest.approx(80.0)
    assert at(52.0)["above"] == ""
    assert (at(120.0)["above"], at(120.0)["roof_pct"]) == ("", pytest.approx(30.0))
    assert "1.10 of the measured float32" in at(440.0)["above"]
    assert "2.40 of the measured float32" in at(120.0, roof={**ROOF, "matmul": {"float32": {"tflops": 50.0}}})["above"]
    assert "1.10 of the measured bfloat16" in at(770.0, "bfloat16")["above"]


def test_special_functions_bound_what_they_take_longest_of() -> None:
    found = at(300.0, "bfloat16", special=3.2e9)
    assert (found["bound"], found["special_pct"]) == ("special", pytest.approx(80.0))
    assert at(600.0, "bfloat16", special=3.2e9)["bound"] == "compute"
    assert at(100.0, "bfloat16", special=0.4e9)["bound"] == "latency"
    assert at(300.0, "bfloat16", special=8e9)["above"] == ""
    assert "special_pct" not in at(300.0, "bfloat16")
    assert special_ms(4e12, ROOF) == pytest.approx(1000.0)
    assert special_ms(4e12, OLD) is None


def test_ceilings_of_an_earlier_run_still_judge_and_print() -> None:
    assert at(0.1, roof=OLD)["bound"] == "compute"
    rows = ceiling_rows(OLD, {})
    assert [row[0] for row in rows[:3]] == [f"matrix product, {name}" for name in ("bfloat16", "float16", "float32")]
    assert len(rows) == len(OLD["matmul"]) + len(OLD["copy"])
    assert all(row[4] == "" for row in rows)


def test_all_ceilings_are_printed_beside_the_datasheet() -> None:
    span_ = {"low": 1.0, "high": 2.0, "samples": 9}
    copy = [{"bytes": 2**20, "gbs": 900.0, **span_}, {"bytes": 2**31, "gbs": 4100.0, **span_}]
    found = {
        "copy": copy,
        "read": {"bytes": 2**31, "gbs": 4400.0, **span_},
        "copy_by_dtype": {"float32": copy[-1], "bfloat16": {"bytes": 2**31, "gbs": 4090.0, **span_}},
        "matmul": {"bfloat16": {"tflops": 720.0, **span_}},
        "l2": {"bytes": 2**24, "gbs": 5500.0, **span_},
        "special": {"function": "exp2", "gops": 3900.0, **span_},
        "launch": {"torch": {"us": 2.1, **span_}, "graph": {"us": 0.9, **span_}},
    }
    sheet = known("NVIDIA H200")
    assert sheet
    rows = {row[0]: row[1:] for row in ceiling_rows(found, sheet.datasheet())}
    assert rows["matrix product, bfloat16"] == ("720", "1", "2", "9", "TFLOP/s", "989.5")
    assert rows["copy of 1 MiB"][-1] == ""
    assert rows["copy of 2048 MiB"][-1] == "4800"
    assert rows["copy of 2048 MiB, bfloat16"][0] == "4090"
    assert (rows["reads of 2048 MiB"][0], rows["reads of 2048 MiB"][-1]) == ("4400", "4800")
    assert rows["reads of 16 MiB in L2"][0] == "5500"
    assert rows["special function, exp2"][4:] == ("10^9/s", "3864.96")
    assert rows["an empty kernel as a node of a CUDA graph"][0] == "0.9"
    assert len(rows) == 9


def test_a_roof_that_was_too_low_is_measured_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases after the one that showed it are judged by what was found, and so is the rest of the sweep."""
    asked, renewed, told = [], [], []

    def again(device: str, dtype: str, size: int, found: dict[str, Any]) -> dict[str, Any]:
        asked.append((device, dtype, size))
        return ROOF

    monkeypatch.setattr(case, "confirm", again)
    monkeypatch.setattr(case, "renew", renewed.append)
    low = {"copy": [{"bytes": 2**31, "gbs": 4e-3}], "matmul": {"float32": {"tflops": 5e-5}}}
    operator = discover().operator("linear_attention")
    problem = operator.complete(Problem(T=64, K=32, dtype="fp32"))
    settings = case.Settings("cpu", "cpu", ("warm-cpu",), ceilings=low)
    run = case.ProblemRun(operator, problem, [], settings, "timed", told.append, print, told.append)
    for _ in range(3):
        assert not run._place(Cost(1e9, 1e9, 1e6), 1.0)["above"]
    assert asked == [("cpu", "float32", 1_000_000)]
    assert renewed == told == [ROOF]


def test_the_kernels_do_what_their_rates_count() -> None:
    """Compiled for sm_90: special functions and nothing slower in the loop, wide loads past L1, no spills."""
    import torch

    from suite.ceilings import kernels
    from suite.ceilings.units import BLOCK, L2_BLOCK
    from suite.static import capture

    sink = torch.empty(2**20, device="meta")

    def launch() -> None:
        kernels.special_ceiling_kernel[(16,)](sink, 1024, BLOCK=BLOCK)  # type: ignore[reportArgumentType]
        kernels.read_ceiling_kernel[(16,)](sink, sink, 256, 256, BLOCK=L2_BLOCK)  # type: ignore[reportArgumentType]
        kernels.empty_kernel[(1,)](sink)

    special, reads, empty = (each.binary for each in capture(launch, "sm_90"))
    assert special
    assert reads
    assert empty
    threads = 128
    assert special.mix["mufu"] % (BLOCK // threads) == 0
    # A special function issues at a quarter of the rate of an addition or less: three others beside it cost nothing.
    assert special.instructions <= 4 * special.mix["mufu"]
    assert reads.mix["ldg_128"] == L2_BLOCK // threads // 4
    assert sum(count for name, count in reads.mix.items() if name.startswith("ldg_")) == reads.mix["ldg_128"]
    assert not any(each.spill_bytes for each in (special, reads))
    assert empty.instructions < 8
