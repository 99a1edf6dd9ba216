"""Problems that both channel-gated delta rules are checked on, each as (regime, chunk, sizes)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from kernels.common.channel_delta import plan
from suite import Problem
from suite.checking import Check, check_case
from suite.registry import Operator
from suite.targets import REPRESENTATIVES, aim

# One SM is filled by any problem, thousands by none of these: the regime follows.
SMS = {"on-chip": 1, "segments": 4096}
STATE = {"initial_state": True}
PACKED = {"layout": "packed:ragged", **STATE}

CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "one_token": ("on-chip", 16, {"T": 1, "H": 1, **STATE}),
    "tail": ("on-chip", 32, {"T": 63, "B": 2, "H": 1, "K": 16, "V": 48}),
    "odd": ("on-chip", 16, {"T": 40, "H": 1, "K": 60, "V": 100, **STATE}),
    "values": ("on-chip", 32, {"T": 50, "H": 1, "HV": 4, "K": 20, "V": 16, **STATE}),
    # fp32 takes at most 32 tokens at a time, so longer chunks are fp16's.
    "chunk": ("on-chip", 64, {"T": 130, "H": 1, "K": 32, "dtype": "fp16", **STATE}),
    "long_chunk": ("on-chip", 128, {"T": 70, "H": 1, "HV": 2, "K": 16, "dtype": "fp16"}),
    "packed": ("on-chip", 16, {"T": 100, "H": 1, "K": 16, **PACKED}),
    "segments": ("segments", 16, {"T": 80, "H": 1, "K": 20, "V": 36, **STATE}),
    "segments_plain": ("segments", 16, {"T": 65, "H": 1, "HV": 2, "K": 16, "V": 16}),
    "segments_packed": ("segments", 16, {"T": 120, "H": 1, "K": 16, "V": 16, **PACKED}),
    "segments_half": ("segments", 32, {"T": 140, "H": 1, "K": 32, "dtype": "fp16", **STATE}),
}

# The others say more of the same, in minutes.
QUICK = ("one_token", "odd", "values", "chunk", "segments", "segments_packed")
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in CASES]
# Without a backward pass other kernels run.
FORWARD = [pytest.param(name, marks=() if name in ("chunk", "segments") else pytest.mark.long) for name in CASES]


@contextmanager
def aimed(regime: str) -> Iterator[None]:
    """A GPU on which the cases run in a regime, segments as short as two chunks."""
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])), patch.object(plan, "MIN_CHUNKS", 2):
        yield


def checked(operator: Operator, name: str, own: dict[str, Any] | None = None, **more: Any) -> Check:
    """triton_chunk on a case: outputs, states and every gradient against the oracle."""
    regime, chunk, sizes = CASES[name]
    given = {"H": 2, "K": 32, "dtype": "fp32", "pass_": "fwdbwd", **sizes, **more}
    problem = operator.complete(Problem(**given), own)
    made = operator.implementations["triton_chunk"]
    assert made.configuration is not None
    with aimed(regime):
        found = made.configuration(problem, {"chunk": chunk})
        assert {each["regime"] for each in found.values()} == {regime}
        return check_case(operator, "triton_chunk", problem, {"chunk": chunk}, device="interpret")


def halves_agree(run: Callable[..., Any], inputs: dict[str, torch.Tensor], cut: int, regime: str) -> None:
    """Two calls with the state carried between them give what one call gives."""
    with aimed(regime):
        whole, end = run(**inputs, output_final_state=True, chunk=16)
        first, state = run(**{n: x[:, :cut] for n, x in inputs.items()}, output_final_state=True, chunk=16)
        second, last = run(
            **{n: x[:, cut:] for n, x in inputs.items()}, initial_state=state, output_final_state=True, chunk=16
        )
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, end, rtol=1e-4, atol=1e-5)


def gradients(run: Callable[..., Any], inputs: dict[str, torch.Tensor], **options: Any) -> dict[str, torch.Tensor]:
    """The output and the gradient of a weighted sum of it for every input."""
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    o, _ = run(**leaves, **options)
    weight = torch.linspace(-1, 1, o.numel(), dtype=o.dtype).reshape(o.shape)
    found = torch.autograd.grad((o * weight).sum(), list(leaves.values()))
    return {"o": o.detach()} | dict(zip(leaves, found, strict=True))
