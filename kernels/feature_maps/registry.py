"""The registry of feature maps: what a map is, and the one place where maps are looked up by name.

To add a map, register it in any module that is imported, or in a `--load FILE.py`. It is then a value of the axis
`feature_map` of linear_attention, and every implementation serves it by computing its features in memory:

    from kernels.feature_maps.registry import FeatureMap, register

    register(FeatureMap("squared_relu", "So et al. 2021, arXiv:2109.08668", lambda x: x.relu().square()))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from suite.errors import DiscoveryError, UsageError, unknown

Count = Callable[[int, int], float]


@dataclass(frozen=True)
class FeatureMap:
    """phi: a row of K elements becomes a row of features.

    phi:        x [..., K] -> [..., features] in the dtype of x; differentiable. A projected map is called as
                phi(x, projection, query)
    features:   (K, M) -> how many, for a projection of M rows
    elementwise: whether feature i depends on element i alone; rowwise maps need the whole row
    positive:   whether no feature is below 0, so that a normaliser cannot vanish
    projected:  whether it takes a projection [M, K], an input that is not differentiated
    widened:    whether x is cast to float32 first, if it is narrower. A map of one PyTorch operation does not need
                this, because the operation computes in float32 inside
    eps:        what is added to the normaliser s phi(q) . z; far below its usual size
    flops, special: (K, features) -> FLOPs and special functions of a row
    """

    name: str
    paper: str
    phi: Callable[..., torch.Tensor]
    features: Callable[[int, int], int] = lambda K, M: K
    elementwise: bool = False
    positive: bool = False
    projected: bool = False
    widened: bool = True
    eps: float = 1e-6
    flops: Count = lambda K, F: 0.0
    special: Count = lambda K, F: 0.0

    def __call__(self, x: torch.Tensor, projection: torch.Tensor | None = None, query: bool = False) -> torch.Tensor:
        """phi(x) [..., features] in x's dtype.

        query: whether x are queries: a map may divide a query's features by a factor that the normaliser cancels.
        Raises UsageError as `check` does.
        """
        self.check(x.shape[-1], projection)
        given = _wide(x) if self.widened else x
        made = self.phi(given) if projection is None else self.phi(given, projection.to(given.dtype), query)
        return made.to(x.dtype)

    def check(self, K: int, projection: torch.Tensor | None) -> None:
        """UsageError if a projection is missing, is given but not needed, or does not have K columns."""
        if projection is not None and not self.projected:
            raise UsageError(f"feature map {self.name} takes no projection; leave it out")
        if self.projected and (projection is None or projection.ndim != 2 or projection.shape[1] != K):
            given = "missing" if projection is None else str(tuple(projection.shape))
            raise UsageError(f"projection is {given}; feature map {self.name} takes one of [M, {K}]")

    def count(self, K: int, projection: torch.Tensor | None = None) -> int:
        """How many features a row of K elements has."""
        return self.features(K, K if projection is None else projection.shape[0])


class Names(list[str]):
    """Names of all maps. An operator's axis holds this list itself, so that it knows maps registered after it."""

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType] - an axis is hashed, and one list is one axis


FEATURE_MAPS: dict[str, FeatureMap] = {}
NAMES = Names()


def register(feature_map: FeatureMap) -> FeatureMap:
    """Add a map. DiscoveryError if its name is taken."""
    name = feature_map.name
    if not name.isidentifier():
        raise DiscoveryError(f"feature map name {name!r} is not an identifier; use snake_case")
    if name in FEATURE_MAPS:
        raise DiscoveryError(f"feature map '{name}' is registered twice; rename one")
    FEATURE_MAPS[name] = feature_map
    NAMES.append(name)
    return feature_map


def map_named(name: str) -> FeatureMap:
    """The map of that name. UsageError, which lists the known maps, if there is none."""
    if name not in FEATURE_MAPS:
        raise unknown("feature map", name, FEATURE_MAPS)
    return FEATURE_MAPS[name]


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
