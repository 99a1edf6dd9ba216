"""Features and their gradients by the Triton kernels, in Triton's interpreter, against the maps in float64."""

from __future__ import annotations

import pytest
import torch

from kernels.feature_maps.function import mapped
from kernels.feature_maps.projections import orthogonal
from kernels.feature_maps.registry import map_named
from suite.numerics import difference

pytestmark = pytest.mark.interpret


def draw(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float16, 3e-3)], ids=["fp32", "fp16"])
@pytest.mark.parametrize(
    ("name", "K", "M"), [("softmax", 60, 60), ("softmax", 16, 16), ("favor", 60, 100), ("favor", 64, 16)]
)
def test_features_and_gradients(name: str, K: int, M: int, dtype: torch.dtype, limit: float) -> None:
    phi = map_named(name)
    W = orthogonal(torch.Generator().manual_seed(0), M, K, "float32").to(dtype) if phi.projected else None
    q, k = draw(2, 35, 3, K).to(dtype).requires_grad_(), draw(2, 35, 1, K).to(dtype).requires_grad_()
    wide = [x.detach().double().requires_grad_() for x in (q, k)]
    found = mapped(phi, q, k, W)
    expected = [phi(x, None if W is None else W.double(), query=i == 0) for i, x in enumerate(wide)]
    weights = [draw(*x.shape) for x in expected]
    got = torch.autograd.grad([x.double() for x in found], (q, k), weights)
    right = torch.autograd.grad(expected, wide, weights)
    for out, oracle in zip((*found, *got), (*expected, *right), strict=True):
        assert out.dtype == dtype
        assert difference(out, oracle, token_dim=1).error < limit


def test_views_are_served_as_they_are() -> None:
    pair = draw(1, 40, 2, 32).float()
    q, k = pair.split(16, dim=-1)
    for out, expected in zip(mapped(map_named("softmax"), q, k), (q.softmax(-1), k.softmax(-1)), strict=True):
        torch.testing.assert_close(out, expected)


def test_nan_stays_in_its_row() -> None:
    q, k = draw(1, 40, 1, 16).float(), draw(1, 40, 1, 16).float()
    q[0, 3, 0, 5] = torch.nan
    phi_q, phi_k = mapped(map_named("softmax"), q, k)
    assert bool(phi_q[0, 3].isnan().all())
    assert bool(phi_q[0, 4:].isfinite().all())
    assert bool(phi_k.isfinite().all())
