"""The on-chip inverse of I + A, in Triton's interpreter, against torch.linalg in float64."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from kernels.common.triangular import invert_unit_lower

pytestmark = pytest.mark.interpret


@triton.jit
def invert_kernel(A, X, C: tl.constexpr, PRECISION: tl.constexpr):
    i = tl.arange(0, C)
    at = tl.program_id(0) * C * C + i[:, None] * C + i[None, :]
    tl.store(X + at, invert_unit_lower(tl.load(A + at), C, PRECISION))


def invert(A: torch.Tensor, precision: str) -> torch.Tensor:
    A = A.float()
    X = torch.full_like(A, torch.nan)
    invert_kernel[(A.shape[0],)](A, X, A.shape[-1], precision)  # pyright: ignore[reportArgumentType]
    return X


def delta_rule_matrix(keys: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """tril(diag(beta) K K^T, -1) of normalised keys [n, C, D] and beta [n, C]."""
    keys = torch.nn.functional.normalize(keys, dim=-1)
    return (beta[..., None] * (keys @ keys.mT)).tril(-1)


def draw(C: int, alike: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(C)
    keys = torch.randn(3, C, 24, generator=generator, dtype=torch.float64)
    common = torch.randn(3, 1, 24, generator=generator, dtype=torch.float64)
    beta = 2 * torch.rand(3, C, generator=generator, dtype=torch.float64)
    return delta_rule_matrix((1 - alike) * keys + alike * common, beta)


# Errors are absolute, against elements of size 1 (and at most 2): float16 operands have 11 bits.
@pytest.mark.parametrize(("precision", "limit"), [("half", 8e-3), ("tf32x3", 1e-5)])
@pytest.mark.parametrize("alike", [0.0, 0.9], ids=["random", "nearly_parallel"])
@pytest.mark.parametrize("C", [16, 32, 64, 128])
def test_inverse(C: int, alike: float, precision: str, limit: float) -> None:
    A = draw(C, alike)
    X = invert(A, precision).double()
    expected = torch.linalg.inv(torch.eye(C, dtype=torch.float64) + A)
    assert (X - expected).abs().max() < limit
    assert (X.triu(1) == 0).all()
    assert (X.diagonal(dim1=1, dim2=2) == 1).all()


@pytest.mark.parametrize("C", [16, 64])
def test_repeated_keys_do_not_blow_up(C: int) -> None:
    """All keys alike and beta = 2: powers of A reach 1e18 at 64 rows, the inverse stays within 2."""
    A = delta_rule_matrix(torch.ones(1, C, 24, dtype=torch.float64), torch.full((1, C), 2.0, dtype=torch.float64))
    expected = torch.linalg.inv(torch.eye(C, dtype=torch.float64) + A)
    assert expected.abs().max() == pytest.approx(2.0)
    assert (invert(A, "half").double() - expected).abs().max() < 2e-2
    assert (invert(A, "ieee").double() - expected).abs().max() < 1e-5
