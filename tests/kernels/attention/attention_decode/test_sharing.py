"""Sharing out the work does not change the result: partial results in any order, any number of SMs, any block table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kernels.attention.attention_decode import decode as steps
from kernels.attention.attention_decode.plan import MANY
from tests.kernels.attention.attention_decode.caches import STEPS, Cache, paged, with_sms

LENGTHS = st.lists(st.integers(0, 150), min_size=1, max_size=4).filter(lambda lengths: max(lengths) > 0)


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
@settings(max_examples=20, phases=[Phase.generate])
@given(
    seed=st.integers(0, 10**6),
    lengths=LENGTHS,
    page=st.sampled_from([16, 64]),
    shared=st.integers(0, 3),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2)]),
    Q=st.sampled_from([1, 2]),
    sms=st.integers(1, 7),
)
def test_any_block_table(schedule, seed, lengths, page, shared, heads, Q, sms) -> None:
    H, HK = heads
    cache = paged(seed, lengths, page, shared=shared, H=H, HK=HK, Q=Q)
    with with_sms(sms):
        o = cache.run(schedule)
    expected = cache.expected()
    assert o.isfinite().all()
    assert (o - expected).abs().max() < 1e-5


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
def test_pages_hold_what_a_contiguous_cache_holds(schedule: str) -> None:
    drawn = paged(5, [130, 77], 16, H=4, HK=2)
    rows = [pool[drawn.table.clamp(0).clamp(max=len(pool) - 1).long()].flatten(1, 2) for pool in drawn.state]
    whole = Cache(drawn.q, (rows[0].contiguous(), rows[1].contiguous()), drawn.table, drawn.lengths, 0)
    with with_sms(3):
        assert torch.equal(drawn.run(schedule), whole.run(schedule))


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
def test_any_number_of_sms(schedule: str) -> None:
    drawn = paged(6, [150, 1, 33], 16, H=2, HK=2)
    found = []
    for sms in (1, 3, 4, 132):
        with with_sms(sms):
            found.append(drawn.run(schedule))
    for each in found[1:]:
        torch.testing.assert_close(each, found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
def test_more_partial_results_than_are_combined_at_a_time(schedule: str) -> None:
    drawn = paged(8, [700], 64)
    with with_sms(132):
        # In 22 tiles of 32 tokens, a partial result each.
        assert MANY < 700 / 32
        assert drawn.error(schedule) < 1e-5


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
def test_partial_results_combine_in_any_order(schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = paged(7, [130], 16, H=2, HK=1)
    kept: list[Any] = []
    original: Callable[..., None] = steps.combine

    def combine(*given: Any, **options: Any) -> None:
        kept.extend(given)
        kept.append(options)
        original(*given, **options)

    monkeypatch.setattr(steps, "combine", combine)
    with with_sms(2):
        # One pair in five tiles of 32 tokens: each partial result is of the same pair.
        o = drawn.run(schedule)
    partials, lengths, out, shape, options = kept
    assert len(partials.l_partial) > 2
    again = torch.full_like(out, float("nan"))
    for seed in range(4):
        order = torch.randperm(len(partials.l_partial), generator=torch.Generator().manual_seed(seed))
        shuffled = type(partials)(*(x[order].contiguous() for x in partials))
        original(shuffled, lengths, again, shape, **options)
        torch.testing.assert_close(again, o, rtol=1e-5, atol=1e-6)
    # Each partial result matters: without one of them the result is another.
    partials.m_partial[1] = float("-inf")
    original(partials, lengths, again, shape, **options)
    assert (again - o).abs().max() > 1e-3
