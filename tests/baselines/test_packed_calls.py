"""Packed calls of PyTorch forms and oracles: what boundaries may say, sequences without tokens, no tokens at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from suite import Problem
from suite.checks.inputs import STATES, Inputs, draw_inputs, each, flat, leaves
from suite.discovery import discover
from suite.errors import UsageError
from suite.problem import PACKED
from suite.registry import Operator

ORACLE = "oracle"
# Boundaries of 40 tokens that cannot be served, and words of the message.
BAD = {
    (0, 17, 33): "cu_seqlens ends at 33, T is 40",
    (0, 20, 48): "cu_seqlens ends at 48, T is 40",
    (3, 20, 40): "cu_seqlens begins at 3",
    (0, 30, 20, 40): "cu_seqlens[2] = 20 is below cu_seqlens[1] = 30",
    (0,): "cu_seqlens has the shape (1,)",
    (0.0, 40.0): "cu_seqlens is torch.float32",
}


@cache
def forms() -> dict[str, tuple[Operator, Callable[..., Any]]]:
    """Oracles, and PyTorch forms that take packed sequences and run on a CPU, by "operator/form"."""
    found: dict[str, tuple[Operator, Callable[..., Any]]] = {}
    for operator in discover().operators.values():
        if operator.supports and operator.supports(operator.complete(Problem(layout="packed:halves"))):
            continue
        for name, made in operator.implementations.items():
            if made.origin == "baseline" and "cu_seqlens" in made.parameters and "cpu" in made.devices:
                found[f"{operator.name}/{name}"] = operator, made.fn
        if "fwd" in operator.passes:
            found[f"{operator.name}/{ORACLE}"] = operator, operator.oracle
    return found


NAMES = sorted(forms())
STATEFUL = [name for name in NAMES if forms()[name][0].stateful]


def drawn(
    name: str, layout: str = "packed:halves", *, B: int = 1, stateful: bool = False
) -> tuple[Inputs, dict[str, Any]]:
    """Inputs of 40 tokens that require gradients, and the operator's words."""
    operator, _ = forms()[name]
    sizes = {"T": 40, "H": 2, "K": 8, "V": 8, "dtype": "fp32", "pass_": "fwdbwd", "B": B, "initial_state": stateful}
    problem = operator.complete(Problem(layout=layout, **sizes))
    inputs = draw_inputs(operator, problem, seed=0)
    if name.endswith(ORACLE):
        inputs.pop("cu_seqlens_cpu", None)
    return inputs, dict(operator.kwargs_of(problem))


def shortened(name: str, inputs: Inputs, dimension: int) -> Inputs:
    """The inputs without any token (dimension 1) or any sequence (dimension 0); states stay where tokens go."""
    operator, _ = forms()[name]
    letter, kept = ("T", STATES) if dimension else ("B", ())
    made = dict(inputs)
    for key, x in inputs.items():
        dims = str(operator.dims_of(key)).split()
        if key not in kept and not key.startswith("cu_seqlens") and (letter in dims or key in STATES):
            made |= each(lambda y: y.detach().narrow(dimension, 0, 0).requires_grad_(y.requires_grad), {key: x})
    return made


@pytest.mark.parametrize("name", NAMES)
def test_boundaries_that_can_not_be_served_are_refused(name: str) -> None:
    inputs, words = drawn(name)
    for values, message in BAD.items():
        bounds = torch.tensor(values, dtype=torch.float32 if isinstance(values[0], float) else torch.int32)
        copies = {} if name.endswith(ORACLE) else {"cu_seqlens_cpu": bounds}
        with pytest.raises(UsageError) as caught:
            forms()[name][1](**{**inputs, **words, "cu_seqlens": bounds, **copies})
        assert message in str(caught.value)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(ORACLE)])
def test_a_copy_that_differs_is_refused(name: str) -> None:
    inputs, words = drawn(name)
    for copy, message in (
        (torch.tensor([0, 21, 40], dtype=torch.int32), "cu_seqlens_cpu[1] = 21, cu_seqlens[1] = 20"),
        (torch.tensor([0, 40], dtype=torch.int32), "cu_seqlens_cpu has 2 entries, cu_seqlens has 3"),
    ):
        with pytest.raises(UsageError) as caught:
            forms()[name][1](**{**inputs, **words, "cu_seqlens_cpu": copy})
        assert message in str(caught.value)


def run(name: str, inputs: Inputs, words: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """o, and the final state's tensors by the initial one's names."""
    o, final = forms()[name][1](**inputs, **words, output_final_state=True)
    return o, flat({"initial_state": final})


@pytest.mark.parametrize("name", STATEFUL)
def test_states_pass_through_sequences_without_tokens(name: str) -> None:
    inputs, words = drawn(name, "packed:gaps", stateful=True)
    empty = [n for n, length in enumerate(inputs["cu_seqlens"].diff().tolist()) if not length]
    assert len(empty) == 3
    o, final = run(name, inputs, words)
    assert o.shape[:2] == (1, 40)
    starts = flat({"initial_state": inputs["initial_state"]})
    flowing = {key: x for key, x in final.items() if x.requires_grad}
    incoming = {key: torch.randn_like(x) for key, x in flowing.items()}
    asked = [starts[key] for key in flowing]
    outputs, weights = [o, *flowing.values()], [torch.randn_like(o), *incoming.values()]
    for key, gradient in zip(flowing, torch.autograd.grad(outputs, asked, weights), strict=True):
        assert torch.equal(gradient[empty], incoming[key][empty].to(gradient.dtype))
    for key, start in starts.items():
        assert torch.equal(final[key][empty], start[empty])


@pytest.mark.parametrize("name", STATEFUL)
def test_without_an_initial_state_a_sequence_without_tokens_has_an_empty_one(name: str) -> None:
    inputs, words = drawn(name, "packed:gaps")
    for x in run(name, inputs, words)[1].values():
        assert bool(((x[[0, 3, 6]] == 0) | x[[0, 3, 6]].isneginf()).all())


@pytest.mark.parametrize("form", ["naive", "torch_chunk", ORACLE])
def test_a_normaliser_without_tokens_is_empty(form: str) -> None:
    inputs, words = drawn(f"linear_attention/{form}", "packed:gaps")
    words |= {"normalised": True, "feature_map": "elu1"}
    for x in run(f"linear_attention/{form}", inputs, words)[1].values():
        assert bool((x[[0, 3, 6]] == 0).all())
        assert bool((x[[1, 2, 4, 5]] != 0).any())


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "dense"])
@pytest.mark.parametrize("name", NAMES)
def test_a_call_without_tokens(name: str, packed: bool) -> None:
    stateful = name in STATEFUL
    given, words = drawn(name, "packed:halves" if packed else "dense", stateful=stateful)
    inputs = shortened(name, given, 1)
    for key in ("cu_seqlens", "cu_seqlens_cpu"):
        if key in inputs:
            inputs[key] = torch.zeros_like(inputs[key])
    if stateful:
        o, final = run(name, inputs, words)
        for key, start in flat({"initial_state": inputs["initial_state"]}).items():
            assert torch.equal(final[key], start)
    else:
        o, _ = forms()[name][1](**inputs, **words)
    assert o.shape == (1, 0, 2, 8)
    found = torch.autograd.grad(o.sum(), list(leaves(inputs).values()), allow_unused=True)
    assert all(x is None or bool((x == 0).all()) for x in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_sequences(name: str) -> None:
    stateful = name in STATEFUL
    given, words = drawn(name, "dense", B=2, stateful=stateful)
    o = (
        run(name, shortened(name, given, 0), words)[0]
        if stateful
        else forms()[name][1](**shortened(name, given, 0), **words)[0]
    )
    assert o.shape == (0, 40, 2, 8)


@pytest.mark.parametrize("layout", PACKED)
@pytest.mark.parametrize("T", [1, 2, 40])
def test_costs_and_flops_of_every_layout_are_finite(layout: str, T: int) -> None:
    for operator in discover().operators.values():
        problem = operator.complete(Problem(T=T, H=2, K=8, dtype="fp32", layout=f"packed:{layout}", pass_="fwdbwd"))
        if operator.supports and operator.supports(problem):
            continue
        for made in operator.implementations.values():
            if made.origin == "baseline":
                assert 0 <= operator.cost_of(problem, made, made.default_tunables).flops_exec < float("inf")
