"""triton_split and triton_stream against the oracle, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.attention.attention_decode.spec import attention_decode
from suite import Problem
from suite.checks.checker import check_case
from tests.kernels.attention.attention_decode.caches import STEPS, Cache, paged, with_sms

IMPLEMENTATIONS = ["triton_split", "triton_stream"]
GROUPED = {"H": 4, "HK": 2, "HV": 2}
# sizes, own axes, SMs: few or many give a program several pairs or a piece of one.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "one_token": ({"T": 1, "B": 2}, {}, 132),
    "whole": ({"T": 63, "B": 2}, {}, 1),
    "splits": ({"T": 130, "B": 2, "H": 1}, {}, 3),
    "ragged": ({"T": 130, "B": 4, **GROUPED}, {"ragged": True}, 2),
    "odd_dims": ({"T": 130, "K": 60, "V": 100, **GROUPED}, {}, 4),
    "wide_keys": ({"T": 100, "K": 256, "V": 32, "H": 1}, {}, 2),
    "wide_values": ({"T": 70, "K": 64, "V": 128, "H": 8, "HK": 2, "HV": 2}, {}, 2),
    "page_16": ({"T": 100, "B": 3, "K": 64, **GROUPED}, {"page": 16, "ragged": True}, 4),
    "page_64": ({"T": 150, "B": 3}, {"page": 64, "ragged": True}, 2),
    "page_256": ({"T": 300, "B": 2, "H": 1}, {"page": 256}, 3),
    "queries": ({"T": 70, "B": 3, **GROUPED}, {"queries": 4, "ragged": True}, 3),
    "rows": ({"T": 70, "B": 2, "H": 10, "HK": 1, "HV": 1}, {"queries": 4}, 4),
    "half": ({"T": 150, "B": 3, "dtype": "fp16", **GROUPED}, {"ragged": True, "page": 16}, 2),
}


@pytest.mark.interpret
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_outputs(implementation: str, name: str) -> None:
    sizes, own, sms = CASES[name]
    at = attention_decode.complete(Problem(**{"H": 2, "K": 32, "dtype": "fp32", "pass_": "decode", **sizes}), own)
    with with_sms(sms):
        # A check looks at one sequence and group of heads: the first ones, and the last ones.
        for seed in {0, at.N * at.groups - 1}:
            found = check_case(attention_decode, implementation, at, device="interpret", seed=seed)
            assert found.ok, found.reason
            assert found.repeatable


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_scores(schedule: str, size: float) -> None:
    drawn = paged(0, [130, 40], 16, H=4, HK=2)
    keys, values = drawn.state
    sharp = Cache(drawn.q * size, (keys, values), drawn.table, drawn.lengths, 16)
    with with_sms(4):
        # Scores of thousands: nearly all weight lies on one token, wherever in the cache it is.
        assert sharp.error(schedule) < 1e-4
        equal = Cache(drawn.q * 0 + size, (keys * 0 + 1, values), drawn.table, drawn.lengths, 16)
        assert equal.error(schedule) < 1e-4


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
def test_scores_that_fall_by_thousands_over_the_cache(schedule: str) -> None:
    drawn = paged(1, [130], 16)
    keys = torch.full_like(drawn.state[0], float("nan"))
    rows = torch.arange(130)
    # Along the cache all scores fall, or all rise: the largest is in the first split, or in the last.
    for sign in (-1.0, 1.0):
        keys[drawn.table[0, rows // 16].long(), rows % 16] = (sign * rows * 50.0)[:, None, None].expand(-1, 1, 16)
        q = torch.ones_like(drawn.q)
        with with_sms(3):
            assert Cache(q, (keys, drawn.state[1]), drawn.table, drawn.lengths, 16).error(schedule) < 1e-5


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
def test_an_empty_cache_gives_nothing_and_a_short_one_what_its_queries_see(schedule: str) -> None:
    drawn = paged(2, [0, 2, 40], 16, Q=4)
    with with_sms(2):
        o = drawn.run(schedule)
        assert drawn.error(schedule) < 1e-5
    assert torch.equal(o[0], torch.zeros_like(o[0]))
    # Two tokens are the last two of four queries: the others see nothing.
    assert torch.equal(o[1, :2], torch.zeros_like(o[1, :2]))
    assert o[1, 2:].abs().min() > 0


@pytest.mark.interpret
@pytest.mark.parametrize("schedule", STEPS)
def test_scale_is_the_callers(schedule: str) -> None:
    with with_sms(2):
        assert paged(3, [50, 20], 16).error(schedule, scale=0.7) < 1e-5


@pytest.mark.interpret
@pytest.mark.long
@pytest.mark.parametrize("schedule", STEPS)
@pytest.mark.parametrize("page", [16, 256])
def test_a_long_cache(schedule: str, page: int) -> None:
    with with_sms(20):
        assert paged(4, [4096, 1, 2500], page, H=8, HK=2, K=64, V=64).error(schedule) < 1e-5
