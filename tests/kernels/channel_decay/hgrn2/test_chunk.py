"""triton_chunk of HGRN-2 against the oracle, in Triton's interpreter: what it has beside GLA."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.channel_decay.hgrn2.chunk import chunk_hgrn2
from kernels.channel_decay.hgrn2.spec import hgrn2, recurrence
from suite.numerics import difference
from tests.kernels.channel_decay.cases import SMS, STATE, aimed, check

pytestmark = pytest.mark.interpret

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tail": ("on-chip", {"T": 40, "H": 2, "HV": 4, "K": 24, **STATE}),
    "grouped": ("on-chip", {"T": 20, "H": 2, "HK": 1, "HV": 1, "dtype": "fp16"}),
    "segments_packed": ("segments", {"T": 132, "layout": "packed:halves", **STATE}),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_gradients(name: str) -> None:
    found = check(hgrn2, *CASES[name])
    assert found.ok, found.reason
    assert {"o", "dq", "dv", "dlog_decay"} <= set(found.errors)


@pytest.mark.parametrize("regime", SMS)
def test_gates_that_let_nothing_or_everything_in(regime: str) -> None:
    """Gates of 1e-4, whose key 1 - e^g would cancel, of -inf, whose key is 1, and of 0, whose key is 0."""
    generator = torch.Generator().manual_seed(0)
    q, v = (torch.randn(1, 70, 1, d, generator=generator) for d in (16, 20))
    g = -1e-4 * torch.rand(1, 70, 1, 16, generator=generator)
    g[:, 7::19], g[:, 11::23] = 0, -torch.inf

    def run(fn, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [x.to(dtype).requires_grad_() for x in (q, v, g)]
        o, end = fn(*leaves, output_final_state=True)
        return [o, end, *torch.autograd.grad(o.square().sum() + end.sum(), leaves)]

    with aimed(regime):
        found = run(lambda *a, **w: chunk_hgrn2(*a, chunk=16, **w), torch.float32)
    for mine, right in zip(found, run(recurrence, torch.float64), strict=True):
        assert difference(mine, right).error < 1e-4
