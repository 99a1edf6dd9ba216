"""A log decay a token and head (simple GLA), below any operator: gradients, extremes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.common.arguments import Options
from kernels.scalar_decay.autograd import Gates, chunk_scalar_decay
from kernels.scalar_decay.decode import step_scalar_decay
from kernels.scalar_decay.reference import decayed_recurrence
from suite.errors import UsageError
from suite.numerics import difference
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def gates(name: str) -> torch.Tensor:
    """[1, 90, 2]: log decays as a model's logsigmoid gives them, with extremes among them."""
    g = torch.nn.functional.logsigmoid(draw(1, 90, 2) + 2)
    value = {"plain": 0.0, "zero": 0.0, "strong": -20.0, "far_below": -1e4, "infinite": -torch.inf}[name]
    return g if name == "plain" else torch.where(draw(1, 90, 2) > 0.5, value, g)


def results(function: Any, dtype: torch.dtype, g: torch.Tensor, **options: Any) -> dict[str, torch.Tensor]:
    tensors = {"q": draw(1, 90, 1, 16), "k": draw(1, 91, 1, 16)[:, 1:], "v": draw(1, 90, 2, 20), "g": g}
    tensors["S"] = draw(1, 2, 16, 20)
    leaves = {name: x.to(dtype).requires_grad_() for name, x in tensors.items()}
    o, end = function(*list(leaves.values())[:4], initial_state=leaves["S"], output_final_state=True, **options)
    grads = torch.autograd.grad((o * draw(*o.shape).to(dtype)).sum() + end.square().sum(), list(leaves.values()))
    return {"o": o, "end": end} | dict(zip(leaves, grads, strict=True))


def ours(q, k, v, g, **options: Any):
    return chunk_scalar_decay(q, k, v, Gates(log_decay=g), options=Options(**options))


@pytest.mark.interpret
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("name", ["plain", "zero", "strong", "far_below", "infinite"])
def test_gradients_of_a_decay_a_token(name: str, regime: str) -> None:
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        found = results(ours, torch.float32, gates(name), chunk=16)
    # The recurrence would differentiate exp(-inf): 0 either way.
    expected = results(decayed_recurrence, torch.float64, gates(name).clamp(min=-1e5))
    for part, right in expected.items():
        assert difference(found[part], right).error < 1e-4, part


@pytest.mark.interpret
def test_a_nan_in_a_gate_is_not_hidden() -> None:
    g = gates("plain").float()
    g[0, 50, 1] = torch.nan
    with aim("sm_90"):
        o, _ = ours(*(draw(1, 90, 2, 16).float() for _ in range(3)), g, chunk=16)
    assert torch.isfinite(o[:, :48]).all()
    assert torch.isfinite(o[:, :, 0]).all()
    assert torch.isnan(o[:, 50:, 1]).all()


@pytest.mark.interpret
def test_step_with_a_decay_a_token() -> None:
    q, k, v, S = draw(2, 1, 2, 16), draw(2, 1, 2, 16), draw(2, 1, 2, 20), draw(2, 2, 16, 20)
    g = torch.tensor([[[-0.5, -torch.inf]], [[0.0, -1e4]]])
    expected, end = decayed_recurrence(q, k, v, g.double(), initial_state=S, output_final_state=True)
    state = S.float()
    o = step_scalar_decay(*(x.float() for x in (q, k, v)), Gates(log_decay=g), state=state)
    assert difference(o, expected).error < 1e-6
    assert difference(state, end).error < 1e-6


def meta(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.empty(shape, device="meta", requires_grad=grad)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"log_decay": meta(2), "dt": meta(1, 40, 2), "A": meta(2)}, "mixed"),
    "rate_alone": ({"A": meta(2)}, "mixed"),
    "learned_constant": ({"log_decay": meta(2, grad=True)}, "no gradient"),
    "length": ({"log_decay": meta(1, 39, 2)}, r"log_decay is \(1, 39, 2\)"),
    "heads": ({"log_decay": meta(3)}, r"log_decay is \(3,\)"),
    "rates": ({"dt": meta(1, 40, 2), "A": meta(1)}, r"A is \(1,\)"),
    "skip": ({"skip": meta(1)}, r"skip is"),
    "out_gate": ({"out_gate": meta(1, 40, 2, 16)}, "out_gate is"),
    "out_gate_dtype": ({"out_gate": meta(1, 40, 2, 32).half()}, "out_gate is torch.float16"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_gates_are_named(name: str) -> None:
    given, words = BAD[name]
    with pytest.raises(UsageError, match=words), aim("sm_90"):
        chunk_scalar_decay(*(meta(1, 40, 2, 32) for _ in range(3)), Gates(**given))


def test_a_normaliser_beside_a_decay_is_refused() -> None:
    with pytest.raises(UsageError, match="normalised"):
        chunk_scalar_decay(*(meta(1, 40, 2, 32) for _ in range(3)), Gates(log_decay=meta(2)), normalised=True)
