"""The feature maps of the literature.

| name | phi(x) | features | its product phi(q) . phi(k) |
|---|---|---|---|
| identity | x | K | q . k |
| relu, elu1 | max(x, 0); elu(x) + 1 | K | |
| softmax | softmax of the row | K | |
| hedgehog | softmax of x and softmax of -x, side by side | 2K | |
| favor | exp(w_m . x' - x'^2 / 2) / sqrt(M), x' = x K^(-1/4) | M | on average exp(q . k / sqrt(K)) |
| taylor | 1, x'_i, x'_i x'_j (i < j), x'_i^2 / sqrt(2) | 1 + K + K (K + 1) / 2 | 1 + s + s^2 / 2, s = q . k / sqrt(K) |

The softmax of Shen et al. (2018) runs over the tokens for k, which needs all of them before the first output: it is no
map of one row, and not causal. What is offered is the softmax over the row, for both q and k, as in Hedgehog.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kernels.feature_maps.registry import FeatureMap, register


def hedgehog_features(x: torch.Tensor) -> torch.Tensor:
    """[..., K] -> [..., 2K]: softmax over x and over -x, Hedgehog's activation without its learned projection."""
    return torch.cat([x.softmax(-1), (-x).softmax(-1)], dim=-1)


def favor_features(x: torch.Tensor, projection: torch.Tensor, query: bool) -> torch.Tensor:
    """[..., K] and rows w_m of a projection [M, K] -> [..., M]: exp(w_m . x' - x'^2/2) / sqrt(M), x' = x K^(-1/4).

    With normal w_m, phi(q) . phi(k) is an unbiased estimate of exp(q . k / sqrt(K)). A query's largest exponent is
    subtracted: the normaliser cancels it, so no gradient flows into it. A key has no such stabiliser: the largest of
    all keys would look into the future, and no state could be kept. Its exponent is at most |w_m|^2 / 2.

    Features have no size of their own: with elements of standard deviation s and K = 64, a key's are about
    exp(-4 s^2), and any common factor of all keys cancels in the quotient. So nothing of a fixed size is added, neither
    to them nor to the normaliser, which is above 0. The paper's code takes the largest exponent off all keys and then
    adds 1e-6 to features of queries and keys: at s = 2 that moves the output by 14 %, and by 33 % with 256 features.
    """
    scaled = x * x.shape[-1] ** -0.25
    exponent = scaled @ projection.T - scaled.square().sum(-1, keepdim=True) / 2
    if query:
        exponent = exponent - exponent.amax(-1, keepdim=True).detach()
    return exponent.exp() * projection.shape[0] ** -0.5


def taylor_features(x: torch.Tensor) -> torch.Tensor:
    """[..., K] -> [..., 1 + K + K(K+1)/2]: their product is 1 + s + s^2/2 with s = q . k / sqrt(K)."""
    K = x.shape[-1]
    scaled = x * K**-0.25
    i, j = torch.triu_indices(K, K, device=x.device)
    # A product of two different elements stands for both orders of them: 2 x_i x_j y_i y_j / 2.
    weight = torch.where(i == j, 0.5, 1.0).to(x.dtype).sqrt()
    pairs = scaled[..., i] * scaled[..., j] * weight
    return torch.cat([torch.ones_like(x[..., :1]), scaled, pairs], dim=-1)


def taylor_count(K: int) -> int:
    """Features of taylor_features: 1 + K + K(K+1)/2."""
    return 1 + K + K * (K + 1) // 2


# Keeps 0 / 0 from being NaN where all features of a key underflow, and counts for nothing elsewhere.
TINY = 1e-30
LINEAR = "Katharopoulos et al. 2020, arXiv:2006.16236"
register(FeatureMap("identity", LINEAR, lambda x: x, elementwise=True, widened=False))
register(FeatureMap("relu", LINEAR, F.relu, elementwise=True, positive=True, widened=False))
register(
    FeatureMap(
        "elu1",
        LINEAR,
        lambda x: F.elu(x) + 1,
        elementwise=True,
        positive=True,
        widened=False,
        flops=lambda K, F: K,
        special=lambda K, F: K,
    )
)
register(
    FeatureMap(
        "softmax",
        "Shen et al. 2018, arXiv:1812.01243",
        lambda x: x.softmax(-1),
        positive=True,
        widened=False,
        flops=lambda K, F: 3 * K,
        special=lambda K, F: K,
    )
)
register(
    FeatureMap(
        "hedgehog",
        "Zhang et al. 2024, arXiv:2402.04347",
        hedgehog_features,
        lambda K, M: 2 * K,
        positive=True,
        flops=lambda K, F: 3 * F,
        special=lambda K, F: F,
    )
)
register(
    FeatureMap(
        "favor",
        "Choromanski et al. 2020, arXiv:2009.14794",
        favor_features,
        lambda K, M: M,
        positive=True,
        projected=True,
        eps=TINY,
        flops=lambda K, F: 2 * K * F + 2 * K + 3 * F,
        special=lambda K, F: F,
    )
)
register(
    FeatureMap(
        "taylor",
        "Nauen et al. 2024, arXiv:2403.02920; Arora et al. 2024, arXiv:2402.18668",
        taylor_features,
        lambda K, M: taylor_count(K),
        flops=lambda K, F: K * (K + 1) + K,
    )
)
