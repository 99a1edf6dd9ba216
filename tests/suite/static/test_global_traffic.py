"""Issued traffic: every byte that interpreted kernels load and store, counted by what they must move."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder

from suite.checks.calling import make_call
from suite.discovery import discover
from suite.interpreting.host_code import interpreted_on
from suite.problem import Problem
from suite.static.global_traffic import Tally, counting, issued
from suite.static.model import Issued
from suite.static.probe_shape import lengths, shrunk, small
from suite.static.stub_driver import target_of
from suite.targets import target
from tests.suite.static import plugin

N = 512
HAS_BLOCK_POINTERS = pytest.mark.skipif(
    not hasattr(InterpreterBuilder, "create_make_block_ptr"), reason="this Triton has no block pointers any more"
)


@triton.jit
def masked_kernel(x, y, LIMIT, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(x + at, mask=at < LIMIT, other=0.0))


@triton.jit
def broadcast_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(x + at * 0) + tl.load(x))


@triton.jit
def adding_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.atomic_add(y + at, tl.load(x + at))


@triton.jit
def block_pointer_kernel(x, y, ROWS, N: tl.constexpr):
    source = tl.make_block_ptr(x, (ROWS, N), (N, 1), (0, 0), (16, N), (1, 0))
    sink = tl.make_block_ptr(y, (ROWS, N), (N, 1), (0, 0), (16, N), (1, 0))
    tl.store(sink, tl.load(source, boundary_check=(0,)), boundary_check=(0,))


@triton.jit
def descriptor_kernel(x, y, ROWS, N: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [ROWS, N], [N, 1], [16, N])
    sink = tl.make_tensor_descriptor(y, [ROWS, N], [N, 1], [16, N])
    sink.store([0, 0], source.load([0, 0]))


@triton.jit
def product_kernel(x, y, M: tl.constexpr):
    m = tl.arange(0, M)
    a = tl.load(x + m[:, None] * M + m[None, :])
    tl.store(y + m[:, None] * M + m[None, :], tl.dot(a, a))


def counted(kernel, *arguments, dtype: torch.dtype = torch.float32, size: int = N, grid: int = 1) -> Tally:
    x, y = torch.ones(size, dtype=dtype), torch.zeros(size, dtype=dtype)
    with counting() as tally:
        kernel[(grid,)](x, y, *arguments)
    return tally


@pytest.mark.interpret
def test_masked_lanes_move_nothing() -> None:
    tally = counted(masked_kernel, 100, N)
    assert (tally.bytes, tally.traffic_bytes, list(tally.kernels)) == (4 * (100 + N), 4 * 2 * N, ["masked_kernel"])


@pytest.mark.interpret
@pytest.mark.parametrize(("dtype", "width"), [(torch.float16, 2), (torch.bfloat16, 2), (torch.float32, 4)])
def test_bytes_follow_the_dtype(dtype: torch.dtype, width: int) -> None:
    assert counted(masked_kernel, N, N, dtype=dtype).bytes == width * 2 * N


@pytest.mark.interpret
def test_lanes_that_read_one_address_count_once() -> None:
    assert counted(broadcast_kernel, N).bytes == 4 * (N + 1 + 1)


@pytest.mark.interpret
def test_every_program_counts() -> None:
    assert counted(masked_kernel, N, N, grid=3).bytes == 3 * 4 * 2 * N


@pytest.mark.interpret
def test_an_atomic_reads_and_writes() -> None:
    assert counted(adding_kernel, N).bytes == 4 * 3 * N


@pytest.mark.interpret
@pytest.mark.parametrize("kernel", [pytest.param(block_pointer_kernel, marks=HAS_BLOCK_POINTERS), descriptor_kernel])
def test_block_pointers_and_descriptors_count_what_is_inside(kernel) -> None:
    assert counted(kernel, 10, 32).bytes == 4 * 2 * 10 * 32


@pytest.mark.interpret
def test_products_are_counted_as_they_are_executed() -> None:
    assert counted(product_kernel, 16).dot_flops == 2 * 16**3


@pytest.mark.interpret
def test_nothing_is_counted_outside() -> None:
    with counting() as tally:
        pass
    masked_kernel[(1,)](torch.ones(N), torch.ones(N), N, N)
    assert tally.bytes == 0


def issue(name: str, problem: Problem, T: int = 256, **tunables):
    made = plugin.double.implementations[name]
    return issued(plugin.double, made, problem, tunables, target_of("sm_90"), T)


@pytest.mark.interpret
def test_an_operators_passes() -> None:
    """Only the pass is counted, not the forward that builds its graph."""
    problem = Problem(B=4, T=8192, H=8, K=64)
    forward = issue("triton", problem)
    both = issue("triton", problem.replace(pass_="fwdbwd"))
    backward = issue("triton", problem.replace(pass_="bwd"))
    assert forward.bytes == backward.bytes == both.bytes / 2 == 2 * 2 * 256 * 64
    assert forward.compulsory_bytes == forward.traffic_bytes == forward.bytes


@pytest.mark.interpret
def test_what_the_interpreter_can_not_run_has_a_reason() -> None:
    found = issue("unfinished", Problem(T=512))
    assert "interpreter cannot run it" in found.reason
    assert issue("eager", Problem(T=512)).reason == "launches no Triton kernel"


@pytest.mark.interpret
def test_host_code_is_told_of_the_smaller_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = plugin.doubled
    monkeypatch.setattr(plugin, "doubled", lambda *args: (seen.append(target().sms), original(*args))[1])
    issue("wasteful", Problem(B=4, T=512, H=8))
    assert set(seen) == {5}


def test_the_small_problem() -> None:
    problem = Problem(B=4, T=8192, H=16, HK=4, HV=4, K=128, dtype="bf16")
    counted = small(problem, 512)
    assert (counted.B, counted.T, counted.H, counted.HK, counted.HV, counted.dtype) == (1, 512, 4, 1, 1, "bfloat16")
    assert list(lengths(problem, {})) == [256, 512, 1024, 2048]
    assert list(lengths(problem, {"chunk": 128})) == [512, 1024, 2048]
    assert list(lengths(problem.replace(T=300), {})) == [256, 300]
    assert list(lengths(problem.replace(T=100), {})) == [100]


@pytest.mark.parametrize(
    ("B", "H", "blocks"), [(1, 16, 8), (1, 16, 9), (3, 11, 3), (3, 11, 4), (3, 11, 5), (1, 200, 1)]
)
def test_the_smaller_gpu_is_filled_when_the_whole_one_is(B: int, H: int, blocks: int) -> None:
    """With as many blocks a head as at full size: enough for the SMs in both cases, or in neither."""
    problem = Problem(B=B, T=8192, H=H)
    counted = small(problem, 256)
    whole = target_of("sm_90")
    assert (blocks >= shrunk(whole, problem, counted).sms) == (blocks * B * H >= whole.sms)


def peer_issues(name: str, T: int) -> Issued:
    """What a peer's own kernels issue for a forward pass of 64 channels; skips where it is not installed."""
    operator, _, implementation = name.partition("/")
    op = discover().operator(operator)
    made = op.implementations[implementation]
    if missing := made.missing():
        pytest.skip(missing)
    at = op.complete(Problem(T=2048, H=4, K=64, V=64, dtype="bf16"))
    with interpreted_on(target_of("sm_90")) as gpu:
        return issued(op, made, at, made.default_tunables, gpu, T)


@pytest.mark.interpret
def test_peers_are_counted_too() -> None:
    found = peer_issues("linear_attention/fla_fused_recurrent", 256)
    # Token by token: q, k and v of 2 bytes, and o in float32.
    assert (found.reason, found.bytes) == ("", 256 * 64 * (3 * 2 + 4))
    assert found.kernels == ("fused_recurrent_fwd_kernel",)


@pytest.mark.interpret
@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("linear_attention/fla_chunk", {"chunk_fwd_kernel_h", "chunk_fwd_kernel_o"}),
        ("lightning_attention/lightning_attn", {"_fwd_kernel"}),
        ("ssd/mamba_chunk_scan", {"_chunk_state_fwd_kernel", "_state_passing_fwd_kernel", "_chunk_scan_fwd_kernel"}),
    ],
)
def test_peers_that_work_in_chunks_read_more_than_once(name: str, kernels: set[str]) -> None:
    found = peer_issues(name, 256)
    assert found.reason == ""
    assert kernels <= set(found.kernels)
    assert found.bytes > found.compulsory_bytes
    assert found.dot_flops > 0


@pytest.mark.interpret
def test_fla_takes_the_tiles_of_the_gpu_that_it_is_told_of() -> None:
    """It asks for the shared memory of a tensor's own device, whose index is None without a GPU."""
    op = discover().operator("retention")
    made = op.implementations["fla_chunk"]
    if missing := made.missing():
        pytest.skip(missing)
    at = op.complete(Problem(T=16, K=16, dtype="bf16"))
    with interpreted_on(target_of("sm_90")):
        make_call(op, made, at, {}, seed=0, device="cpu")
        from fla.utils import check_shared_mem  # pyright: ignore[reportMissingImports]

        assert check_shared_mem("hopper", None)
        assert check_shared_mem("hopper", 0)
