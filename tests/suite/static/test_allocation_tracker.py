"""The ledger: eager traffic by formula, allocations and their peak."""

from __future__ import annotations

import pytest
import torch

from suite.static.allocation_tracker import AllocationTracker, distinct, extent

N = 1024


def ledger_of(fn, *tensors: torch.Tensor) -> AllocationTracker:
    with AllocationTracker() as ledger:
        fn(*tensors)
    return ledger


def x(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape or (N,), dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("fn", "elements"),
    [
        (lambda a, b: a + b, 3),
        (lambda a, b: a.add_(b), 3),
        (lambda a, b: a.zero_(), 1),
        (lambda a, b: torch.zeros_like(a), 1),
        (lambda a, b: torch.empty_like(a), 0),
        (lambda a, b: a.view(2, -1)[1:].t(), 0),
        (lambda a, b: a.clone(), 2),
        (lambda a, b: a.cumsum(0), 2),
        (lambda a, b: a * 2.0, 2),
        (lambda a, b: a * a, 2),
        (lambda a, b: b.copy_(a), 2),
        (lambda a, b: torch.mul(a, a, out=b), 2),
        (lambda a, b: a[:1].expand(N) * b, 2 + 1 / N),
        (lambda a, b: a.detach(), 0),
    ],
)
def test_eager_bytes(fn, elements: float) -> None:
    assert ledger_of(fn, x(), x()).eager_bytes == elements * N * 4


def test_converting_counts_both_widths() -> None:
    assert ledger_of(lambda a: a.to(torch.bfloat16), x()).eager_bytes == N * (4 + 2)


def test_tensors_on_the_cpu_are_not_the_devices_traffic() -> None:
    assert ledger_of(lambda: torch.ones(N) + 1).eager_bytes == 0


def test_memory_total_live_and_peak() -> None:
    def host() -> torch.Tensor:
        a, b = x(), x()
        del a
        c = x()
        assert ledger.memory.live == 2 * N * 4
        del b
        return c

    with AllocationTracker() as ledger:
        kept = host()
    assert kept.numel() == N
    assert (ledger.memory.total, ledger.memory.peak, ledger.memory.live) == (3 * N * 4, 2 * N * 4, N * 4)


def test_views_allocate_nothing_and_keep_memory_alive() -> None:
    with AllocationTracker() as ledger:
        view = x().view(2, -1)[1:]
        assert ledger.memory.live == N * 4
        del view
        assert ledger.memory.live == 0
    assert ledger.memory.total == N * 4


def test_inputs_are_no_allocations() -> None:
    given = x()
    ledger = ledger_of(lambda a: a.add_(1), given)
    assert ledger.memory.total == 0
    assert ledger.outside == {ledger.number(given)}


def test_a_storage_is_recognised_by_the_next_step_and_not_after_it_is_freed() -> None:
    with AllocationTracker() as ledger:
        a = x()
        ledger.touch([a])
        ledger.touch([a[: N // 2]])
        del a
        ledger.touch([x()])
    first, second, third = ledger.touches
    assert first.keys() == second.keys()
    assert (list(first.values()), list(second.values())) == ([N * 4], [N * 2])
    assert not third.keys() & first.keys()


def test_extent_and_distinct() -> None:
    a = x(8, 16)
    assert extent(a[:, :1].expand(8, 16)) == 8 * 4
    assert extent(a[:0]) == 0
    assert [t.shape for t in distinct([a, a, a.view(8, 16), a[1:], a[1:], a.view(-1)])] == [(8, 16), (7, 16), (128,)]
