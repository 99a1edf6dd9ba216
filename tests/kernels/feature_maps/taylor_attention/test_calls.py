"""What the host code decides without a kernel: refusals, tiles, what tuning may try."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.feature_maps.taylor_attention.register import direct_taylor_attention, efficient_taylor_attention
from kernels.feature_maps.taylor_attention.spec import taylor_attention
from suite import Problem
from suite.errors import UsageError
from suite.registry import Implementation
from suite.targets import aim
from suite.tuning import forcing

DIRECT, EFFICIENT = (taylor_attention.implementations[f"triton_{order}"] for order in ("direct", "efficient"))


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "length": ({"k": meta(1, 39, 2, 32)}, "k is"),
    "dtype": ({"v": meta(1, 40, 2, 32, dtype=torch.float16)}, "v is"),
    "heads": ({name: meta(1, 40, 3, 32) for name in ("k", "v")}, "HK = 3"),
    "pairs": ({"v": meta(1, 40, 1, 32)}, "give k and v the same"),
    "temperature": ({"temperature": meta(3)}, "temperature is"),
    "too_wide": ({"v": meta(1, 40, 2, 300)}, "at most 256"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, words = BAD[name]
    arguments: dict[str, Any] = {each: meta(1, 40, 2, 32) for each in ("q", "k", "v")} | {"temperature": meta(2)}
    with aim("sm_90"), pytest.raises(UsageError, match=words):
        direct_taylor_attention(**{**arguments, **changes})


def test_the_efficient_order_refuses_causality() -> None:
    problem = taylor_attention.complete(Problem(T=64, K=16))
    assert "only no-causal" in (EFFICIENT.unsupported(problem, {}, taylor_attention.axes) or "")
    inputs: dict[str, Any] = {each: meta(1, 40, 2, 32) for each in ("q", "k", "v")} | {"temperature": meta(2)}
    with aim("sm_90"), pytest.raises(UsageError, match="so it is full"):
        efficient_taylor_attention(**inputs, causal=True)


@pytest.mark.parametrize(
    ("made", "kernels"),
    [(DIRECT, ("direct", "dq", "dk_dv")), (EFFICIENT, ("efficient", "efficient_dq", "efficient_dk_dv"))],
    ids=["direct", "efficient"],
)
def test_a_tuned_launch_replaces_the_table_s(made: Implementation, kernels: tuple[str, ...]) -> None:
    assert made.search
    assert made.configuration
    problem = taylor_attention.complete(Problem(T=4096, H=16, K=128, pass_="fwdbwd"), {"causal": False})
    with aim("sm_90"):
        searched, before = made.search(problem, {}), made.configuration(problem, {})
        assert [launches[0] for launches in searched.values()] == [before[each] for each in kernels]
        assert all(len(launches) == len({tuple(x.items()) for x in launches}) for launches in searched.values())
        (key,) = (each for each in searched if f"/{kernels[1]}/" in each)
        launch = searched[key][-1]
        with forcing({key: launch}):
            after = made.configuration(problem, {})
    assert after == {**before, kernels[1]: launch} != before
