"""Ceilings beside copy and matrix product: reads from memory and the last-level cache, special functions, launches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from suite.ceilings.timing import single, span

if TYPE_CHECKING:
    import torch

MIB = 1024 * 1024
BLOCK = 1024
# Programs on each SM: with four warps each they fill it.
PROGRAMS = 16
SPECIAL_REPEATS = 1024
L2_BLOCK = 4096
L2_REPEATS = 256
L2_PROGRAMS = 8
# Elements that are drawn for a buffer, which repeats them.
DRAWN = 1 << 20
# Elements of a CPU's operand: from inside L1 to inside L2.
ELEMENTS = (2**12, 2**14, 2**16)
NODES = 100


def special(device: str) -> dict[str, Any]:
    """Evaluations of one special function in 10^9 a second: exp2 on a GPU, torch.exp on a CPU."""
    return _special_cuda() if device == "cuda" else _special_cpu()


def _special_cpu() -> dict[str, Any]:
    import torch

    best: dict[str, Any] = {"gops": 0.0}
    for count in ELEMENTS:
        x = -torch.rand(count)
        out = torch.empty_like(x)
        found = span(lambda x=x, out=out: torch.exp(x, out=out), "cpu").rate("gops", count)
        best = max(best, found, key=lambda each: each["gops"])
    return {"function": "exp", **best}


def _special_cuda() -> dict[str, Any]:
    import torch

    from suite.ceilings.kernels import special_ceiling_kernel

    programs = PROGRAMS * _sms()
    sink = torch.empty(programs * BLOCK, device="cuda")
    one = span(lambda: special_ceiling_kernel[(programs,)](sink, SPECIAL_REPEATS, BLOCK=BLOCK), "cuda")  # type: ignore[reportIndexIssue]
    return {"function": "exp2", **one.rate("gops", programs * BLOCK * SPECIAL_REPEATS)}


def l2() -> dict[str, Any]:
    """Bytes that kernels read from the last-level cache a second, in GB/s, of the best of two working sets in it."""
    import torch

    size = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    largest = 2 ** (max(size // 2, MIB).bit_length() - 1)
    return max((_l2_read(bytes_) for bytes_ in (largest, largest // 2)), key=lambda each: each["gbs"])


def _l2_read(size: int) -> dict[str, Any]:
    return _tiles_read(size, L2_REPEATS)


def read(device: str, size: int) -> dict[str, Any]:
    """Bytes that are read from memory a second, in GB/s, and nothing is written; size is a power of two, in bytes."""
    if device == "cuda":
        tiles = size // 4 // L2_BLOCK
        # Each tile once: what is read again would come from the cache.
        return _tiles_read(size, tiles // (L2_PROGRAMS * _sms() | 1))
    source = _drawn(size, device)
    return {"bytes": size, **span(lambda: source.sum(), device).rate("gbs", size)}


def _drawn(size: int, device: str) -> torch.Tensor:
    """A buffer of `size` bytes, a power of two, of random floats; drawing them all would take longer than reading."""
    import torch

    count = min(size // 4, DRAWN)
    return torch.randn(count, device=device).repeat(size // 4 // count)


def _tiles_read(size: int, repeats: int) -> dict[str, Any]:
    """The rate at which programs that fill the GPU read `repeats` tiles each of a buffer of this size, past L1."""
    import torch

    from suite.ceilings.kernels import read_ceiling_kernel

    programs = L2_PROGRAMS * _sms()
    source = _drawn(size, "cuda")
    sink = torch.empty(programs, device="cuda")
    tiles = source.numel() // L2_BLOCK

    def run() -> None:
        read_ceiling_kernel[(programs,)](source, sink, tiles, repeats, BLOCK=L2_BLOCK)  # type: ignore[reportIndexIssue]

    return {"bytes": size, **span(run, "cuda").rate("gbs", programs * repeats * L2_BLOCK * 4)}


def launch(device: str) -> dict[str, dict[str, float]]:
    """What a call of nothing costs, in microseconds, by how it is made.

    torch:     an operator of PyTorch that does next to nothing, one call after another
    triton:    an empty Triton kernel through Triton's launcher, one after another (GPU)
    graph:     an empty kernel as one node of a CUDA graph (GPU)
    roundtrip: an empty kernel from the call until the host knows that it ended (GPU)
    """
    return _launch_cuda() if device == "cuda" else {"torch": _operator_call("cpu", "warm-cpu")}


def _operator_call(device: str, mode: str) -> dict[str, float]:
    import torch

    x = torch.zeros(1, device=device)
    with torch.inference_mode():
        return span(lambda: torch.neg(x, out=x), device, mode).microseconds()


def _launch_cuda() -> dict[str, dict[str, float]]:
    import torch

    from suite.ceilings.kernels import empty_kernel

    x = torch.zeros(1, device="cuda")

    def empty() -> None:
        empty_kernel[(1,)](x)  # type: ignore[reportIndexIssue]

    empty()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(NODES):
            empty()
    node = span(graph.replay, "cuda").microseconds()
    return {
        "torch": _operator_call("cuda", "warm-wall"),
        "triton": span(empty, "cuda", "warm-wall").microseconds(),
        "graph": {name: value if name == "samples" else value / NODES for name, value in node.items()},
        "roundtrip": single(empty, "cuda", "warm-wall").microseconds(),
    }


def _sms() -> int:
    import torch

    return torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count
