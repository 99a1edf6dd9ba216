"""The profile of a case: what is captured of its real host code, what it costs, and what cannot be captured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from suite.problem import Problem
from suite.static import Profile, profile
from suite.static.profiling import meta_inputs
from suite.store.schema import fault
from tests.suite.static import plugin

PROBLEM = Problem(B=2, T=1024, H=2, K=64)
BYTES = 2 * 2 * 1024 * 2 * 64
L2 = 60 * 2**20


def taken(name: str, problem: Problem = PROBLEM, arch: str = "sm_90", **options) -> Profile:
    made = plugin.double.implementations[name]
    return profile(plugin.double, made, problem, made.default_tunables, arch, **options)


def test_forward() -> None:
    found = taken("triton")
    assert (found.status, [launch.kernel for launch in found.launches]) == ("ok", ["double_kernel"])
    assert found.launches[0].grid == (BYTES // 2 // plugin.BLOCK, 1, 1)
    assert (found.traffic_bytes, found.eager_bytes, found.intermediate_bytes) == (2 * BYTES, 0, 0)
    assert (found.peak_bytes, found.traffic_ratio) == (BYTES, 1.0)


@pytest.mark.parametrize(("pass_", "launches"), [("bwd", 1), ("fwdbwd", 2)])
def test_backward_through_autograd(pass_: str, launches: int) -> None:
    """The forward that builds the graph of a backward pass does not belong to it."""
    found = taken("triton", PROBLEM.replace(pass_=pass_))
    assert (found.status, len(found.launches)) == ("ok", launches)
    assert found.traffic_bytes == launches * 2 * BYTES


def test_what_the_forward_pass_keeps_for_the_backward_pass() -> None:
    """Inputs and outputs are not counted; what host code saves beside them is."""

    class Saves(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            doubled, dropped = v + v, v - v
            ctx.save_for_backward(v, doubled, doubled[:1])
            return doubled + dropped

        @staticmethod
        def backward(ctx, grad):
            return plugin.doubled(grad)

    made = replace(plugin.double.implementations["triton"], fn=lambda q, k, v: (Saves.apply(v), None))
    backward = PROBLEM.replace(pass_="bwd")
    found = profile(plugin.double, made, backward, {}, "sm_90")
    assert (found.status, found.kept_bytes, found.columns()["static.kept_bytes"]) == ("ok", BYTES, BYTES)
    plain = taken("triton", backward)
    assert (plain.kept_bytes, plain.columns()["static.kept_bytes"]) == (0, 0)
    assert "static.kept_bytes" not in taken("triton").columns()


def test_intermediates_and_eager_operations_count() -> None:
    """Two launches with a subtraction between: three reads and writes of eager PyTorch, two intermediates."""
    found = taken("wasteful")
    assert (len(found.launches), found.traffic_bytes, found.eager_bytes) == (2, 4 * BYTES, 3 * BYTES)
    assert (found.intermediate_bytes, found.peak_bytes) == (2 * BYTES, 2 * BYTES)
    assert found.traffic_ratio == 3.5


def test_the_floor_lets_the_cache_keep_intermediates() -> None:
    found = taken("wasteful")
    assert found.floor
    assert BYTES < L2
    assert (found.floor.bytes, found.floor.gpu, found.floor.bound) == (2 * BYTES, "NVIDIA H200", "memory")
    large = taken("wasteful", PROBLEM.replace(T=1024 * 1024))
    assert large.floor
    # The first launch writes an intermediate, the subtraction reads two tensors and writes one, the second reads one;
    # what was given and what is returned crosses once.
    size = 1024 * BYTES
    assert large.floor.bytes == 2 * size + (size - L2) + (3 * size - L2) + (size - L2)
    assert large.floor.traffic_ms == pytest.approx(7 * size / large.floor.bytes * large.floor.memory_ms)


def test_a_lower_bound_of_the_operator_is_asked_for_the_target_s_memory() -> None:
    """An H200 has 228 KiB of shared memory and 256 KiB of registers on each of 132 SMs."""
    assert "static.io_bound_bytes" not in taken("triton").columns()
    bound = replace(plugin.double, io_bound=lambda problem, on_chip: problem.T * 1e9 / on_chip)
    found = profile(bound, plugin.double.implementations["triton"], PROBLEM, {}, "sm_90")
    assert found.columns()["static.io_bound_bytes"] == PROBLEM.T * 1e9 / (132 * (228 + 256) * 1024)


def test_a_state_updated_in_place_costs_at_least_its_compulsory_bytes() -> None:
    found = taken("step", PROBLEM.replace(pass_="decode"))
    assert (found.status, len(found.launches)) == ("ok", 2)
    assert found.launches[0].traffic_bytes == 4 * PROBLEM.N * 2 * 64 * 64
    assert found.floor
    assert found.floor.bytes == found.bytes_compulsory > found.traffic_bytes


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("by_value", "unsupported", "depends on tensor values"),
        ("eager", "unsupported", "launches no Triton kernel"),
        ("cpu", "unsupported", "does not run on a GPU"),
        ("careful", "unsupported", "wrong results with this compiler"),
        ("unfinished", "compile_error", "not_written_yet"),
        ("large", "over_limit", "more than the 232448 of sm_90"),
        ("faulty", "error", "IndexError: a bug in host code"),
    ],
)
def test_statuses_and_reasons(name: str, status: str, reason: str) -> None:
    found = taken(name)
    assert found.status == status
    assert reason in found.reason


def test_a_pass_that_is_not_there_is_unsupported() -> None:
    assert taken("triton", PROBLEM.replace(pass_="decode")).status == "unsupported"


def test_a_compile_error_names_its_kernel_and_leaves_no_hash() -> None:
    found = taken("unfinished")
    assert found.reason.startswith("unfinished_kernel: CompilationError")
    assert found.hash == ""
    assert [launch.status for launch in found.launches] == ["compile_error", "ok"]


def test_the_hash_of_a_case_holds_its_launches() -> None:
    longer = taken("triton", PROBLEM.replace(T=2048))
    assert taken("triton").hash == taken("triton").hash != ""
    assert longer.launches[0].binary == taken("triton").launches[0].binary
    assert longer.hash != taken("triton").hash


def test_a_profile_survives_its_way_through_json() -> None:
    import json

    for name in ("wasteful", "unfinished", "large"):
        found = taken(name)
        assert Profile.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_columns_are_flat_and_of_one_group() -> None:
    columns = taken("wasteful").columns()
    assert all(name.startswith("static.") for name in columns)
    expected = {
        "arch": "sm_90",
        "launches": 2,
        "spill_bytes": 0,
        "floor_source": "datasheet",
        "hgmma": 0,
        "occupancy": 1.0,
    }
    assert {name: columns[f"static.{name}"] for name in expected} == expected
    assert taken("eager").columns() == {"static.arch": "sm_90"}


def test_meta_inputs_are_the_operators_own() -> None:
    problem = Problem(B=1, T=2048, H=2, K=64, pass_="fwdbwd", layout="packed:ragged")
    found = meta_inputs(plugin.double, problem)
    assert {name: (tuple(x.shape), x.device.type) for name, x in found.items()} == {
        "q": ((1, 2048, 2, 64), "meta"),
        "k": ((1, 2048, 2, 64), "meta"),
        "v": ((1, 2048, 2, 64), "meta"),
        "cu_seqlens": ((6,), "meta"),
        "cu_seqlens_cpu": ((6,), "cpu"),
    }
    assert all(found[name].requires_grad and found[name].dtype == torch.bfloat16 for name in "qkv")
    assert found["cu_seqlens_cpu"].tolist() == list(problem.cu_seqlens or ())


def test_nothing_large_is_allocated() -> None:
    """Inputs of 1 TiB each are no obstacle."""
    found = meta_inputs(plugin.double, Problem(B=64, T=1024 * 1024, H=64, K=128))
    assert found["q"].numel() == 64 * 1024 * 1024 * 64 * 128


def test_the_record_of_a_profile_fits_the_schema() -> None:
    from suite.problem import Case
    from suite.registry import Registry
    from suite.static.recording import record_of
    from suite.static.tasks import Task

    registry = Registry({"double": plugin.double})
    for name in ("wasteful", "unfinished", "large", "by_value"):
        record = record_of(registry, Task(Case("double", name, PROBLEM), "sm_90"), taken(name), "abc")
        assert fault(record) is None
        assert (record["kind"], record["mode"], record["device"]) == ("static", "static", "sm_90")
        assert record["status"] == taken(name).status
