"""triton_chunk of RWKV-6 against the oracle, in Triton's interpreter: what it has beside GLA."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.channel_decay.rwkv6.chunk import chunk_rwkv6
from kernels.channel_decay.rwkv6.spec import recurrence, rwkv6
from suite.numerics import difference
from tests.kernels.channel_decay.cases import SMS, STATE, aimed, check

pytestmark = pytest.mark.interpret

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one_token": ("on-chip", {"T": 1, **STATE}),
    "tail": ("on-chip", {"T": 40, "B": 2, "H": 2, "K": 24, **STATE}),
    "value_heads": ("on-chip", {"T": 20, "H": 1, "HV": 2, "dtype": "fp16"}),
    "segments": ("segments", {"T": 130, **STATE}),
    "packed": ("segments", {"T": 132, "layout": "packed:halves", **STATE, "pass_": "fwd"}),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_gradients(name: str) -> None:
    found = check(rwkv6, *CASES[name])
    assert found.ok, found.reason
    wanted = {"o"} if name == "packed" else {"o", "dq", "dk", "dv", "dlog_decay", "du"}
    assert wanted <= set(found.errors)


def drawn(T: int) -> list[torch.Tensor]:
    """q, k, v, log_decay and u of one head; some gates forget everything."""
    generator = torch.Generator().manual_seed(T)
    q, k, v, x = (torch.randn(1, T, 1, d, generator=generator) for d in (16, 16, 20, 16))
    g = -torch.exp(x - 2)
    g[:, 5::17, :, ::2], g[:, 9::23] = -torch.inf, -30
    return [q, k, v, g, torch.rand(1, 16, generator=generator)]


def results(fn, inputs: list[torch.Tensor], dtype: torch.dtype, **options) -> list[torch.Tensor]:
    leaves = [x.to(dtype).requires_grad_() for x in inputs]
    o, end = fn(*leaves, output_final_state=True, **options)
    return [o, end, *torch.autograd.grad(o.square().sum() + end.sum(), leaves)]


@pytest.mark.parametrize("regime", SMS)
def test_gates_that_forget_everything(regime: str) -> None:
    inputs = drawn(75)
    with aimed(regime):
        found = results(chunk_rwkv6, inputs, torch.float32, chunk=16)
    for mine, right in zip(found, results(recurrence, inputs, torch.float64), strict=True):
        assert difference(mine, right).error < 1e-4


@pytest.mark.parametrize("regime", SMS)
def test_gradients_of_packed_sequences(regime: str) -> None:
    """The bonus is shared by all sequences: its gradient sums over them."""
    inputs, bounds = drawn(100), torch.tensor([0, 1, 30, 100])
    with aimed(regime):
        found = results(chunk_rwkv6, inputs, torch.float32, chunk=16, cu_seqlens=bounds)
    expected = results(recurrence, inputs, torch.float64, cu_seqlens=bounds)
    for mine, right in zip(found, expected, strict=True):
        assert difference(mine, right).error < 1e-4
