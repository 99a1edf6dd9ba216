"""Capturing: launches are those of a real call, and nothing of the pretence stays behind."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

import suite
from suite.errors import UsageError
from suite.static import binary, capture
from suite.static.binary import StaticError
from suite.static.capturing import Recorder
from suite.static.stub_driver import pretending, target_of
from tests.suite.static import toys


def test_grid_warps_stages_and_order() -> None:
    def host() -> None:
        toys.copy_kernel[(3, 2)](toys.meta(4096), toys.meta(4096), 1, 256, num_warps=2, num_stages=4)
        toys.exp2_kernel[lambda words: (4096 // words["N"],)](toys.meta(4096), toys.meta(4096), 512)

    first, second = capture(host, "sm_90")
    assert (first.kernel, first.grid, first.warps, first.stages) == ("copy_kernel", (3, 2, 1), 2, 4)
    assert (second.kernel, second.grid) == ("exp2_kernel", (8, 1, 1))


def test_traffic_counts_each_argument_once() -> None:
    x = toys.meta(1024)

    def host() -> None:
        toys.copy_kernel[(1,)](x, x, 1, 1024)
        toys.copy_kernel[(1,)](x[:512], x[512:], 1, 512)
        toys.copy_kernel[(1,)](toys.meta(1).expand(1024), x, 1, 1024)

    same, halves, expanded = capture(host, "sm_90", compiled=False)
    assert same.traffic_bytes == 4 * 1024
    assert halves.traffic_bytes == 4 * 1024
    assert expanded.traffic_bytes == 4 * 1024 + 4


def test_alignment_is_that_of_a_real_launch() -> None:
    """A view that starts 4 bytes in is not aligned to 16: the same kernel loads it element by element."""
    x, y = toys.meta(1024), toys.meta(1024)
    aligned, shifted = capture(
        lambda: (toys.copy_kernel[(1,)](x, y, 1, 512), toys.copy_kernel[(1,)](x[1:], y, 1, 512)), "sm_90"
    )
    assert aligned.binary
    assert shifted.binary
    assert (aligned.binary.mix["ldg_128"], shifted.binary.mix["ldg_128"]) == (1, 0)
    assert shifted.binary.mix["ldg_32"] == 4


def test_an_autotuner_takes_the_configuration_with_the_least_predicted_time() -> None:
    chosen, *tried = capture(lambda: toys.tuned(4000), "sm_90", all_configs=True)
    assert [each.warps for each in tried] == [8, 2, 1]
    times = [each.predicted.ms for each in tried if each.predicted and each.predicted.ms]
    assert len(times) == 3
    best = tried[times.index(min(times))]
    assert (chosen.config, chosen.grid, chosen.warps) == (best.config, best.grid, best.warps)
    assert len(set(times)) > 1
    # What was chosen for one problem is not kept for the next.
    assert toys.tuned_kernel.cache == {}
    assert capture(lambda: toys.tuned(4000), "sm_90")[0].config == chosen.config


def test_an_autotuner_takes_its_first_configuration_where_no_time_is_predicted() -> None:
    (launch,) = capture(lambda: toys.tuned(4000), "sm_80", gpu="NVIDIA A100 80GB PCIe")
    assert (launch.grid, launch.warps, launch.predicted) == ((4, 1, 1), 8, None)
    assert "BLOCK: 1024" in launch.config


def test_all_configurations_are_tried_every_time() -> None:
    for _ in range(2):
        _, *tried = capture(lambda: toys.tuned(6000), "sm_90", all_configs=True)
        assert [each.warps for each in tried] == [8, 2, 1]
        assert [each.grid[0] for each in tried] == [6, 24, 12]


@pytest.mark.parametrize(("count", "few"), [(1, [0]), (4, [0, 1, 2, 3]), (12, [0, 3, 6, 9]), (5, [0, 1, 2, 3])])
def test_of_many_configurations_a_few_are_tried(count: int, few: list[int]) -> None:
    assert Recorder(target_of("sm_90"), compiled=False)._few(range(count)) == few
    assert Recorder(target_of("sm_90"), compiled=False, all_configs=True)._few(range(count)) == list(range(count))


def test_heuristics_are_followed() -> None:
    kernel = triton.heuristics({"N": lambda words: 64})(toys.exp2_kernel)
    (launch,) = capture(lambda: kernel[lambda words: (words["N"],)](toys.meta(64), toys.meta(64)), "sm_90")
    assert launch.grid == (64, 1, 1)


def test_a_warmup_by_host_code_is_no_launch() -> None:
    def host() -> None:
        toys.exp2_kernel.warmup(torch.float32, torch.float32, 512, grid=(1,))
        toys.copy()

    assert [launch.kernel for launch in capture(host, "sm_90")] == ["copy_kernel"]


def test_a_compile_error_carries_the_message_and_the_rest_goes_on() -> None:
    def host() -> None:
        toys.broken_kernel[(1,)](toys.meta(128), toys.meta(128), 128)
        toys.copy()

    broken, copied = capture(host, "sm_90")
    assert broken.status == "compile_error"
    assert re.search(r"no_such_name is not defined", broken.reason)
    assert copied.status == "ok"


def test_an_empty_grid_launches_nothing() -> None:
    def host() -> None:
        toys.copy_kernel[(0, 2)](toys.meta(1024), toys.meta(1024), 1, 256)
        toys.exp2_kernel[(2,)](toys.meta(1024), toys.meta(1024), 512)

    assert [launch.kernel for launch in capture(host, "sm_90")] == ["exp2_kernel"]
    assert [launch.kernel for launch in capture(host, "sm_90", compiled=False)] == ["exp2_kernel"]


def test_a_grid_that_cuda_refuses_is_over_a_limit() -> None:
    (launch,) = capture(lambda: toys.copy_kernel[(1, 65536)](toys.meta(1024), toys.meta(1024), 1, 256), "sm_90")
    assert launch.status == "over_limit"
    assert launch.reason == "a grid of 65536 blocks along y: CUDA launches at most 65535"


def test_clusters_of_blocks_have_no_predicted_time() -> None:
    (launch,) = capture(lambda: toys.copy_kernel[(8,)](toys.meta(4096), toys.meta(4096), 1, 256, num_ctas=2), "sm_90")
    assert launch.predicted is not None
    assert launch.predicted.ms is None
    assert "launch it with num_ctas=1" in launch.predicted.reason


def test_a_lock_is_told() -> None:
    (launch,) = capture(lambda: toys.lock_kernel[(8,)](toys.meta(1024), toys.meta(1, dtype=torch.int32)), "sm_90")
    assert launch.predicted is not None
    assert launch.predicted.ms is not None
    assert any("lock is taken at the first try" in note for note in launch.predicted.notes)


@pytest.mark.parametrize(("arch", "sms"), [("sm_80", 108), ("sm_90", 132), ("sm_100", 148)])
def test_host_code_is_answered_for_the_target(arch: str, sms: int) -> None:
    seen: dict[str, object] = {}

    def host() -> None:
        seen["suite"] = suite.target().sms, suite.target().arch
        seen["torch"] = torch.cuda.get_device_properties(0).multi_processor_count, torch.cuda.get_device_capability()
        seen["triton"] = driver.active.utils.get_device_properties(0)["multiprocessor_count"]
        seen["available"] = torch.cuda.is_available()

    capture(host, arch)
    capability = divmod(int(arch.removeprefix("sm_")), 10)
    assert seen == {"suite": (sms, arch), "torch": (sms, capability), "triton": sms, "available": True}


def test_a_named_gpu_answers_with_its_own_size() -> None:
    seen: list[int] = []
    capture(lambda: seen.append(suite.target().sms), "sm_90", gpu="NVIDIA H100 PCIe")
    assert seen == [114]


def test_waves_are_blocks_over_what_the_gpu_holds() -> None:
    """Four warps without a limit but threads: 16 blocks an SM."""

    def host() -> None:
        toys.copy_kernel[(16 * 132 * 3,)](toys.meta(16 * 132 * 3 * 128), toys.meta(16 * 132 * 3 * 128), 1, 128)

    (launch,) = capture(host, "sm_90")
    assert launch.residency
    assert (launch.residency.blocks, launch.residency.waves, launch.residency.occupancy) == (16, 3.0, 1.0)


def test_nothing_stays_behind() -> None:
    before = JITFunction.run, Autotuner.run, Autotuner._bench, torch.cuda.is_available, driver._active

    def fail() -> None:
        raise KeyError("host code")

    with pytest.raises(KeyError):
        capture(fail, "sm_90")
    assert (JITFunction.run, Autotuner.run, Autotuner._bench, torch.cuda.is_available, driver._active) == before


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no static profile is taken of sm_70"):
        capture(lambda: None, "sm_70")
    with pytest.raises(UsageError, match="NVIDIA H200"):
        capture(lambda: None, "sm_90", gpu="NVIDIA B200")


def test_it_is_refused_under_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton.knobs.runtime.interpret", True)
    with pytest.raises(StaticError, match="unset TRITON_INTERPRET"):
        capture(lambda: None, "sm_90")


def test_it_is_refused_where_a_gpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    with pytest.raises(StaticError, match="fresh"), pretending(target_of("sm_90")):
        pass


def test_the_hash_does_not_depend_on_the_cache_or_the_place(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kernel further down in another file, compiled into a cold cache, has the same binary."""
    import importlib.util
    import inspect

    source = inspect.getsource(toys.copy_kernel.fn)
    hashes = []
    for i, above in enumerate(("", "\n" * 40)):
        monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / f"cache{i}"))
        path = tmp_path / f"kernels{i}.py"
        path.write_text(f"import triton\nimport triton.language as tl\n{above}\n{source}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        x = toys.meta(512)
        (launch,) = capture(lambda module=module, x=x: module.copy_kernel[(1,)](x, x, 1, 512), "sm_90")
        assert launch.binary
        hashes.append(launch.binary.hash)
    assert hashes[0] == hashes[1]


def test_spills_are_known_though_only_triton_has_the_binary(own_cache) -> None:
    """Where our own analysis is gone and Triton's binary is not, ptxas is asked again."""

    def host() -> torch.Tensor:
        return toys.dot(dtype=torch.float32, precision="ieee")

    (first,) = capture(host, "sm_90")
    assert first.binary
    (own_cache / "static" / "binaries" / f"{first.binary.hash}.json").unlink()
    (again,) = capture(host, "sm_90")
    assert again.binary == first.binary
    assert first.binary.spill_bytes > 0


@pytest.mark.parametrize("damaged", [b"garbage", b"\xff\xfe", b"[]", b"{}"])
def test_a_damaged_analysis_is_replaced(damaged: bytes, own_cache) -> None:
    (first,) = capture(toys.copy, "sm_90")
    assert first.binary
    file = own_cache / "static" / "binaries" / f"{first.binary.hash}.json"
    whole = file.read_bytes()
    file.write_bytes(damaged)
    (again,) = capture(toys.copy, "sm_90")
    assert again.binary == first.binary
    assert file.read_bytes() == whole


def test_a_binary_s_listing_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def told(command: list[str], **_: Any) -> Any:
        asked.append(Path(command[-1]).read_text())
        return subprocess.CompletedProcess(command, 0, f"listing of {asked[-1]}", "")

    binary._compressed.cache_clear()
    monkeypatch.setattr(subprocess, "run", told)
    found = [binary.listing(cubin) for cubin in (b"one", b"two", b"one", b"two")]
    assert found == ["listing of one", "listing of two"] * 2
    assert asked == ["one", "two"]
