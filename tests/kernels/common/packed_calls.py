"""Every implementation of ours that takes packed sequences, and small calls of each."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from suite import Problem
from suite.checks.inputs import draw_inputs, flat
from suite.discovery import discover
from suite.registry import Implementation, Operator

CHUNKED = (
    "delta_rule",
    "gated_delta_product",
    "gated_delta_rule",
    "gated_linear_attention",
    "gated_scan",
    "hgrn2",
    "kimi_delta_attention",
    "lightning_attention",
    "linear_attention",
    "mlstm",
    "retention",
    "rwkv6",
    "rwkv7",
    "s4d",
    "selective_scan",
    "ssd",
)
STATEFUL = tuple(f"{name}/triton_chunk" for name in CHUNKED)
STATELESS = (
    "sliding_window_attention/triton_flash",
    "softmax_attention/triton_flash",
    "taylor_attention/triton_direct",
    "taylor_attention/triton_efficient",
)
# What an implementation serves only in part, and other forms of a state than the default one's.
OWN: dict[str, dict[str, Any]] = {
    "taylor_attention/triton_efficient": {"causal": False},
    "linear_attention/triton_chunk:normalised": {"feature_map": "elu1", "normalised": True},
    "mlstm/triton_chunk:sigmoid": {"gate": "sigmoid"},
    "ssd/triton_chunk:gated": {"gated": True},
}
MORE = tuple(name for name in OWN if ":" in name)
Outputs = dict[str, torch.Tensor]


@cache
def registered() -> dict[str, tuple[Operator, Implementation]]:
    """Ours that take cu_seqlens, by "operator/implementation"."""
    return {
        f"{operator.name}/{made.name}": (operator, made)
        for operator in discover().operators.values()
        for made in operator.implementations.values()
        if made.origin == "ours" and "cu_seqlens" in made.parameters
    }


def entry(name: str) -> tuple[Operator, Implementation]:
    """Operator and implementation of a name, whatever form it asks for after a colon."""
    return registered()[name.partition(":")[0]]


def small(name: str, **sizes: Any) -> tuple[Problem, dict[str, Any]]:
    """A problem of 40 packed tokens, and its inputs with the operator's own words."""
    operator, _ = entry(name)
    given = {"T": 40, "H": 2, "K": 16, "V": 16, "dtype": "fp32", "layout": "packed:halves", **sizes}
    problem = operator.complete(Problem(**given), OWN.get(name, {}))
    return problem, {**draw_inputs(operator, problem, seed=0), **operator.kwargs_of(problem)}


def call(name: str, inputs: dict[str, Any], **more: Any) -> Outputs:
    """o and the final state of ours."""
    operator, made = entry(name)
    words = {"output_final_state": True} if operator.stateful else {}
    o, final = made.fn(**{**inputs, **words, **more})
    return flat({"o": o, "final_state": final})


def leaves(inputs: dict[str, Any]) -> Outputs:
    """Inputs that are differentiated, by name."""
    tensors = {name: x for name, x in inputs.items() if isinstance(x, (torch.Tensor, tuple))}
    return {name: x for name, x in flat(tensors).items() if x.requires_grad}


def differentiate(outputs: Outputs, inputs: dict[str, Any], given: Outputs) -> dict[str, torch.Tensor | None]:
    """Gradients of the inputs, by name; given: those of the outputs."""
    wanted = leaves(inputs)
    of_outputs = [given[name].to(outputs[name].dtype) for name in given]
    found = torch.autograd.grad([outputs[n] for n in given], list(wanted.values()), of_outputs, allow_unused=True)
    return dict(zip(wanted, found, strict=True))
