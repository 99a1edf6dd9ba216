"""Every implementation of ours that takes packed sequences, and small calls of each."""

from __future__ import annotations

from functools import cache
from typing import Any

from suite import Problem
from suite.discovery import discover
from suite.inputs import draw_inputs
from suite.registry import Implementation, Operator

CHUNKED = (
    "delta_rule", "gated_delta_product", "gated_delta_rule", "gated_linear_attention", "gated_scan", "hgrn2",
    "kimi_delta_attention", "lightning_attention", "linear_attention", "mlstm", "retention", "rwkv6", "rwkv7", "s4d",
    "selective_scan", "ssd",
)  # fmt: skip
STATEFUL = tuple(f"{name}/triton_chunk" for name in CHUNKED)
STATELESS = (
    "sliding_window_attention/triton_flash", "softmax_attention/triton_flash", "taylor_attention/triton_direct",
    "taylor_attention/triton_efficient",
)  # fmt: skip
# What an implementation serves only in part.
OWN: dict[str, dict[str, Any]] = {"taylor_attention/triton_efficient": {"causal": False}}


@cache
def registered() -> dict[str, tuple[Operator, Implementation]]:
    """Ours that take cu_seqlens, by "operator/implementation"."""
    return {
        f"{operator.name}/{made.name}": (operator, made)
        for operator in discover().operators.values()
        for made in operator.implementations.values()
        if made.origin == "ours" and "cu_seqlens" in made.parameters
    }


def small(name: str, **sizes: Any) -> tuple[Problem, dict[str, Any]]:
    """A problem of 40 packed tokens, and its inputs with the operator's own words."""
    operator, _ = registered()[name]
    given = {"T": 40, "H": 2, "K": 16, "V": 16, "dtype": "fp32", "layout": "packed:halves", **sizes}
    problem = operator.complete(Problem(**given), OWN.get(name, {}))
    return problem, {**draw_inputs(operator, problem, seed=0), **operator.words_of(problem)}
