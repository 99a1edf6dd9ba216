"""Linear attention with a feature map, causal or over the whole sequence, normalised or not.

    S_t = S_{t-1} + phi(k_t) v_t^T        z_t = z_{t-1} + phi(k_t)
    o_t = s phi(q_t)^T S_t                              (normalised = False)
    o_t = s phi(q_t)^T S_t / (s phi(q_t) . z_t + eps)   (normalised = True)

Where not causal, every token reads the sums over its whole sequence instead of S_t and z_t. s is `scale`, 1/sqrt(K) by
default. phi is one of kernels/feature_maps, `feature_map`, and makes F features of K elements; favor takes a
`projection` [M, K], which has no gradient. eps is the map's own: 1e-6, but 1e-30 for favor, whose features may be far
smaller. The state is S [N, HS, F, V]; normalised, the pair (S, z) with z [N, HS, F].
Source: Katharopoulos et al. 2020, arXiv:2006.16236; the maps' own are in kernels/feature_maps/maps.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import kernels.feature_maps.maps  # noqa: F401  (registers)
from kernels.attention.softmax_attention.spec import defined_on as softmax_defined_on
from kernels.attention.softmax_attention.spec import softmax_attention
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, per_sequence
from kernels.feature_maps.projections import orthogonal
from kernels.feature_maps.registry import NAMES, FeatureMap, map_named
from suite import Axis, Cost, Operator, Problem
from suite.cost import grad_io_bytes, io_bytes, state_bytes
from suite.draw import normal, qkv, uniform
from suite.dtypes import torch_dtype
from suite.problem import Value

# Tokens whose features a state is drawn from, where the map's features are of no known size.
SAMPLE = 32


def map_of(problem: Problem) -> FeatureMap:
    """The feature map of a problem, which its axes name."""
    return map_named(str(dict(problem.axes).get("feature_map", "identity")))


def features_of(problem: Problem) -> int:
    """The number of features that phi makes of K elements."""
    return map_of(problem).features(problem.K, int(dict(problem.axes).get("features", 0)) or problem.K)


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as a layer's projections give them; states as large as after T tokens.

    With the identity map and a normaliser, q and k are positive: a model makes them so before. favor has a
    projection [M, K] in the problem's dtype, with M the axis `features`, or K.
    """
    p, phi = problem, map_of(problem)
    positive = bool(p.axis("normalised")) and phi.name == "identity"
    inputs: dict[str, Any] = {**qkv(p, generator)}
    if positive:
        inputs["q"], inputs["k"] = (map_named("elu1")(inputs[name]) for name in ("q", "k"))
    if phi.projected:
        inputs["projection"] = orthogonal(generator, features_of(p), p.K, p.dtype)
    if p.initial_state or p.pass_ == "decode":
        state = _drawn_state(p, phi, generator, inputs.get("projection"))
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state
    return inputs


def _drawn_state(p: Problem, phi: FeatureMap, generator: torch.Generator, projection) -> Any:
    if phi.elementwise:
        S = normal(generator, p.N, p.HS, p.K, p.V, dtype=p.state_dtype) * p.T**0.5
        z = uniform(generator, p.N, p.HS, p.K, dtype=p.state_dtype, low=0.5, high=1.5) * p.T
    else:
        k, v = (normal(generator, p.N, p.HS, SAMPLE, d, dtype="float32") for d in (p.K, p.V))
        keys = phi(k, None if projection is None else projection.float())
        S = (keys.transpose(-1, -2) @ v * (p.T / SAMPLE) ** 0.5).to(torch_dtype(p.state_dtype))
        z = (keys.sum(-2) * (p.T / SAMPLE)).to(torch_dtype(p.state_dtype))
    return (S, z) if p.axis("normalised") else S


def recurrence(
    q,
    k,
    v,
    *,
    projection=None,
    feature_map="identity",
    normalised=False,
    causal=True,
    scale=None,
    initial_state=None,
    output_final_state=False,
    cu_seqlens=None,
):
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> o [B,T,HS,V], and the state."""
    options = {"projection": projection, "feature_map": feature_map, "normalised": normalised, "causal": causal}
    if apart(q, cu_seqlens):
        return per_sequence(
            recurrence,
            q,
            k,
            v,
            cu_seqlens=cu_seqlens,
            initial_state=initial_state,
            output_final_state=output_final_state,
            scale=scale,
            **options,
        )
    phi = map_named(feature_map)
    heads = max(q.shape[2], v.shape[2])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k = phi(q, projection, query=True) * scale, phi(k, projection)
    q, k, v = (expand_heads(x, heads) for x in (q, k, v))
    S = q.new_zeros(q.shape[0], heads, q.shape[-1], v.shape[-1])
    z = q.new_zeros(q.shape[0], heads, q.shape[-1])
    if initial_state is not None:
        S, z = initial_state if normalised else (initial_state, z)
    outputs = []
    for t in range(q.shape[1]):
        S = S + k[:, t, :, :, None] * v[:, t, :, None, :]
        z = z + k[:, t]
        if causal:
            outputs.append(_read(q[:, t], S, z if normalised else None, phi.eps))
    if not causal:
        outputs = [_read(q[:, t], S, z if normalised else None, phi.eps) for t in range(q.shape[1])]
    final = (S, z) if normalised else S
    return torch.stack(outputs, dim=1), (final if output_final_state else None)


def _read(q, S, z, eps):
    """What a token's scaled features [B,HS,F] read of a state."""
    o = torch.einsum("bhk,bhkv->bhv", q, S)
    return o if z is None else o / ((q * z).sum(-1, keepdim=True) + eps)


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs per token and head: 4FV forward and 10FV backward by the recurrence, 5FV for a decode step; and the map's.

    F = K where the map makes as many features. The map is counted once a row of q and of k, and once more backward. A
    chunk of C tokens executes 2C(F+V) more forward and 2C(3F+2V) more backward; without causality there are no chunks.
    """
    p, F, V, phi = problem, features_of(problem), problem.V, map_of(problem)
    C = int(tunables.get("chunk", 0)) if p.axis("causal") else 0
    n, rows = p.tokens * p.HS, p.tokens * (p.H + p.HK)
    normalised = bool(p.axis("normalised"))
    states = state_bytes(p.replace(K=F), extra=int(normalised))
    special = rows * phi.special(p.K, F)
    mapped, projection = rows * phi.flops(p.K, F), float(p.itemsize * F * p.K * phi.projected)
    if p.pass_ == "decode":
        alg = n * (5 * F * V + 5 * F * normalised) + mapped
        return Cost(alg, alg, io_bytes(p) + projection + 2 * states, 2 * states, special)
    if p.pass_ == "fwd":
        alg = n * (4 * F * V + (4 * F + V) * normalised) + mapped
        moved = 2 * states if p.initial_state else 0.0
        return Cost(alg, alg + n * 2 * C * (F + V), io_bytes(p) + projection + moved, moved, special)
    alg = n * (10 * F * V + (8 * F + 4 * V) * normalised) + mapped
    moved = 3 * states if p.initial_state else 0.0
    return Cost(alg, alg + n * 2 * C * (3 * F + 2 * V), grad_io_bytes(p) + projection + moved, moved, special)


def defined_on(problem: Problem) -> str | None:
    """A problem that is not causal has no state; a random map must be normalised; only it may set `features`."""
    p, phi = problem, map_of(problem)
    if not p.axis("causal") and (p.initial_state or p.pass_ == "decode"):
        return "without causality every token reads the whole sequence: there is no state to start from or to carry"
    if phi.projected and not p.axis("normalised"):
        return f"{phi.name} divides a query's features by a factor that the normaliser cancels: it needs normalised"
    if p.axis("features") and not phi.projected:
        return f"features is the number of random features; {phi.name} has {features_of(p)} by its definition"
    return None


def approximated(problem: Problem) -> Operator | None:
    """Softmax attention, if the features are normalised and phi is not identity (its q and k are features)."""
    p = problem
    if not p.axis("normalised") or map_of(p).name == "identity" or softmax_defined_on(p):
        return None
    return softmax_attention


linear_attention = Operator(
    name="linear_attention",
    tags=("linear", "feature-map"),
    paper="Katharopoulos et al. 2020, arXiv:2006.16236",
    equation="S_t = S_{t-1} + phi(k_t) v_t^T ; o_t = phi(q_t)^T S_t [ / (phi(q_t) . z_t + eps) ]",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    axes=(
        Axis("feature_map", NAMES, "phi, applied to q and k"),
        Axis("normalised", (False, True), "divide by phi(q) . z"),
        Axis("causal", (True, False), "whether token t reads only tokens up to t"),
        Axis("features", (0, 16, 32, 64, 128, 256), "random features of favor; 0: as many as K", drawn=True),
    ),
    dims={"projection": "M K"},
    constants=("projection",),
    supports=defined_on,
    segmented=lambda problem: bool(problem.axis("causal")),
    approximates=approximated,
)
