"""How well linear attention with a feature map approximates softmax attention on the same inputs.

    python -m kernels.feature_maps.quality --seq-len 128,512,2048 --head-dim 64 --features 64,256 --seeds 3

prints a Markdown table: the relative RMS error of the output, RMS(o - o_softmax) / RMS(o_softmax), all in float64, by
map, number of features and T. q, k and v are standard normal, as `subquad bench` draws them; --spread scales q and k,
since softmax over wider scores is further from a mean. `subquad bench` and `check` record the same figure as
`approximation_error`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import torch

from kernels.feature_maps.projections import orthogonal
from kernels.feature_maps.registry import NAMES, FeatureMap, map_named
from suite.errors import SubquadError, UsageError
from suite.numerics import rms


def approximation_error(phi: FeatureMap, q, k, v, projection=None, *, causal: bool = True) -> float:
    """Relative RMS error of normalised linear attention with phi against softmax attention with scale 1/sqrt(K).

    q, k [T, K], v [T, V], float64; projection [M, K] where phi takes one.
    """
    exact = torch.exp(q @ k.T * q.shape[-1] ** -0.5)
    found = phi(q, projection, query=True) @ phi(k, projection).T
    target, o = (_mean(weights.tril() if causal else weights, v) for weights in (exact, found))
    return rms(o - target) / rms(target)


def _mean(weights: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return weights @ v / weights.sum(-1, keepdim=True)


def measured(
    names: Sequence[str],
    K: int,
    lengths: Sequence[int],
    features: Sequence[int],
    *,
    causal: bool,
    seeds: int,
    spread: float,
) -> Iterator[tuple[str, int, list[float]]]:
    """(map, features, mean error over the seeds for each length), maps in the given order."""
    for name in names:
        phi = map_named(name)
        for M in features if phi.projected else (0,):
            errors = [sum(_one(phi, K, T, M, causal, seed, spread) for seed in range(seeds)) / seeds for T in lengths]
            yield name, phi.features(K, M), errors


def _one(phi: FeatureMap, K: int, T: int, M: int, causal: bool, seed: int, spread: float) -> float:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(T, K, generator=generator, dtype=torch.float64) for _ in range(3))
    projection = orthogonal(generator, M, K, "float64") if phi.projected else None
    return approximation_error(phi, q * spread, k * spread, v, projection, causal=causal)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m kernels.feature_maps.quality", description=__doc__)
    parser.add_argument("--maps", default="relu,elu1,softmax,hedgehog,favor,taylor", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seq-len", default="128,512,2048")
    parser.add_argument("--features", default="64,256,1024", help="rows of favor's projection")
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--spread", type=float, default=1.0, help="factor on q and k")
    parser.add_argument("--full", action="store_true", help="without causality")
    given = parser.parse_args(argv)
    try:
        lengths, features = (_sizes(each) for each in (given.seq_len, given.features))
        names = given.maps.split(",")
        for name in names:
            map_named(name)
        rows = measured(
            names, given.head_dim, lengths, features, causal=not given.full, seeds=given.seeds, spread=given.spread
        )
        print("| map | features |" + "".join(f" T = {T} |" for T in lengths))
        print("|---|---|" + "---|" * len(lengths))
        for name, count, errors in rows:
            print(f"| {name} | {count} |" + "".join(f" {error:.3f} |" for error in errors), flush=True)
    except SubquadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _sizes(text: str) -> list[int]:
    if not all(part.isdigit() and int(part) for part in text.split(",")):
        raise UsageError(f"'{text}' is not a list of sizes; give integers above 0 such as 128,512")
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    import kernels.feature_maps.maps  # noqa: F401  (registers)

    raise SystemExit(main())
