"""Random projections of FAVOR+: rows that are normal one by one, and orthogonal to each other in blocks."""

from __future__ import annotations

import torch

from suite.dtypes import torch_dtype


def orthogonal(generator: torch.Generator, M: int, K: int, dtype: str) -> torch.Tensor:
    """[M, K]: rows orthogonal in blocks of K, each with the length of a standard normal row.

    A row by itself is standard normal, so estimates stay unbiased; orthogonal rows make their variance smaller.
    Source: Choromanski et al. 2020, arXiv:2009.14794, section 2.4.
    """
    device = generator.device
    blocks = []
    for _ in range(-(-M // K)):
        normal = torch.randn(K, K, generator=generator, device=device)
        q, r = torch.linalg.qr(normal)
        # Without the signs of r's diagonal, q would not be uniform over the orthogonal matrices.
        blocks.append((q * r.diagonal().sign()).T)
    lengths = torch.randn(M, K, generator=generator, device=device).norm(dim=-1, keepdim=True)
    return (torch.cat(blocks)[:M] * lengths).to(torch_dtype(dtype))
