"""The feature maps themselves: what their products are, what they are registered with, how they are added."""

from __future__ import annotations

import math

import pytest
import torch

import baselines.scalar_decay.linear_attention.chunk  # noqa: F401  (registers)
from kernels.feature_maps.maps import favor_features, taylor_features
from kernels.feature_maps.projections import orthogonal
from kernels.feature_maps.registry import FEATURE_MAPS, NAMES, FeatureMap, map_named, register
from kernels.scalar_decay.linear_attention.spec import linear_attention
from suite import Problem
from suite.checks.checker import check_case
from suite.errors import DiscoveryError, UsageError


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def projection_of(name: str, K: int, M: int = 24) -> torch.Tensor | None:
    generator = torch.Generator().manual_seed(1)
    return orthogonal(generator, M, K, "float32").double() if map_named(name).projected else None


@pytest.mark.parametrize("name", NAMES)
def test_a_map_makes_the_features_that_it_says(name: str) -> None:
    phi, x, projection = map_named(name), draw(2, 5, 12), projection_of(name, 12)
    features = phi(x, projection)
    assert features.shape == (2, 5, phi.count(12, projection))
    assert features.dtype == torch.float64
    assert not phi.positive or bool((features >= 0).all())
    assert phi(x.bfloat16(), None if projection is None else projection.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", [name for name in NAMES if FEATURE_MAPS[name].elementwise])
def test_an_elementwise_map_is_one(name: str) -> None:
    x = draw(7, 12)
    torch.testing.assert_close(map_named(name)(x)[:, 3:5], map_named(name)(x[:, 3:5]))


def test_softmax_features_sum_to_one() -> None:
    x = draw(50, 20)
    torch.testing.assert_close(map_named("softmax")(x).sum(-1), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(map_named("hedgehog")(x).sum(-1), torch.full((50,), 2.0, dtype=torch.float64))


def test_taylor_features_are_the_series() -> None:
    q, k = draw(40, 9), draw(40, 9, seed=1)
    s = (q * k).sum(-1) / 3
    product = (taylor_features(q) * taylor_features(k)).sum(-1)
    torch.testing.assert_close(product, 1 + s + s.square() / 2, rtol=1e-13, atol=1e-13)


@pytest.mark.long
def test_taylor_features_have_the_library_s_products() -> None:
    modules = pytest.importorskip("fla.modules.feature_map")
    q, k = draw(1, 1, 30, 8), draw(1, 1, 30, 8, seed=1)
    theirs = modules.TaylorFeatureMap(8)
    torch.testing.assert_close((taylor_features(q) * taylor_features(k)).sum(-1), (theirs(q) * theirs(k)).sum(-1))
    assert theirs(q).shape == taylor_features(q).shape


def test_favor_is_an_unbiased_estimate_of_the_exponential() -> None:
    q, k = draw(8) * 0.5, draw(8, seed=1) * 0.5
    generator = torch.Generator().manual_seed(7)
    drawn = []
    for _ in range(4000):
        W = orthogonal(generator, 8, 8, "float32").double()
        drawn.append((favor_features(q, W, query=False) * favor_features(k, W, query=False)).sum(-1))
    estimates = torch.stack(drawn)
    expected = math.exp((q * k).sum() / math.sqrt(8))
    standard_error = float(estimates.std()) / math.sqrt(4000)
    assert abs(float(estimates.mean()) - expected) < 4 * standard_error
    assert standard_error < 0.02 * expected


def test_the_stabiliser_of_a_query_cancels_in_the_quotient() -> None:
    x, W = draw(5, 16) * 3, projection_of("favor", 16)
    assert W is not None
    stable, plain = favor_features(x, W, query=True), favor_features(x, W, query=False)
    torch.testing.assert_close(stable / stable.sum(-1, keepdim=True), plain / plain.sum(-1, keepdim=True))
    assert float(stable.amax()) <= 24**-0.5
    assert bool(favor_features(x * 1e4, W, query=True).isfinite().all())


def test_rows_are_orthogonal_in_blocks_and_as_long_as_normal_ones() -> None:
    W = orthogonal(torch.Generator().manual_seed(0), 40, 16, "float32")
    for block in (W[:16], W[16:32], W[32:]):
        gram = block @ block.T
        assert float((gram - gram.diagonal().diag()).abs().max()) < 1e-4
    many = orthogonal(torch.Generator().manual_seed(0), 4096, 16, "float32").square().sum(-1)
    # The square of a normal row's length has mean K and variance 2K.
    assert abs(float(many.mean()) - 16) < 4 * math.sqrt(32 / 4096)
    assert float(many.var()) == pytest.approx(32, rel=0.15)


def test_a_map_of_one_s_own_is_served_by_what_is_there() -> None:
    register(FeatureMap("squared_relu", "none", lambda x: x.relu().square(), positive=True))
    try:
        problem = Problem(T=40, H=2, K=8, dtype="fp32", pass_="fwdbwd", initial_state=True)
        own = {"feature_map": "squared_relu", "causal": True}
        found = check_case(linear_attention, "torch_chunk", linear_attention.complete(problem, own), {"chunk": 32})
        assert found.ok, found.reason
        with pytest.raises(DiscoveryError, match="registered twice"):
            register(FeatureMap("squared_relu", "none", torch.relu))
    finally:
        del FEATURE_MAPS["squared_relu"]
        NAMES.remove("squared_relu")


def test_what_a_map_does_not_take_is_named() -> None:
    x = draw(3, 8)
    with pytest.raises(UsageError, match="unknown feature map 'elu'; did you mean 'relu'"):
        map_named("elu")
    with pytest.raises(UsageError, match="relu takes no projection"):
        map_named("relu")(x, draw(4, 8))
    with pytest.raises(UsageError, match=r"projection is missing; feature map favor takes one of \[M, 8\]"):
        map_named("favor")(x)
    with pytest.raises(UsageError, match=r"projection is \(4, 9\)"):
        map_named("favor")(x, draw(4, 9))
    with pytest.raises(DiscoveryError, match="not an identifier"):
        register(FeatureMap("elu+1", "none", torch.relu))
