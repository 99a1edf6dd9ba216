"""Faults by position: right where the oracle looks, and wrong elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from suite import Cost, Operator, Problem
from suite.checks.checker import Check, check_case
from suite.checks.inputs import draw_inputs
from suite.checks.permuting import permutation
from suite.discovery import discover
from suite.draw import qkv
from tests.suite.identity import Identity

DENSE = Problem(B=4, T=24, H=4, K=8, V=8, dtype="fp32", pass_="fwd")
PACKED = Problem(B=1, T=64, H=2, K=8, V=8, dtype="fp32", pass_="fwd", layout="packed:ragged")


def attention(q, k, v, cu_seqlens_cpu=None):
    """Unnormalised and causal: heads [B,T,H,K]."""
    if cu_seqlens_cpu is None:
        return torch.einsum("bthd,bihd,ti,bihv->bthv", q, k, q.new_ones(q.shape[1], q.shape[1]).tril(), v)
    return torch.cat([attention(*(x[:, a:b] for x in (q, k, v))) for a, b in _spans(cu_seqlens_cpu)], dim=1)


def _spans(bounds):
    return [(int(a), int(b)) for a, b in pairwise(bounds) if b > a]


def checked(fn: Callable[..., Any], problem: Problem, couples: frozenset[str] = frozenset(), **words: Any) -> Check:
    """The check of one implementation of that operator."""
    made = Operator(
        "sums",
        "o_t = sum_{i<=t} (q_t . k_i) v_i",
        "none",
        inputs=qkv,
        oracle=lambda q, k, v, cu_seqlens_cpu=None: (attention(q, k, v, cu_seqlens_cpu), None),
        cost=lambda p, tunables: Cost(1.0, 1.0, 1.0),
        stateful=False,
        couples=couples,
    )
    made.implementation("tried", origin="ours", passes={"fwd", "bwd", "fwdbwd"}, **words)(fn)
    return check_case(made, "tried", problem)


def honest(q, k, v, cu_seqlens=None, cu_seqlens_cpu=None):
    return attention(q, k, v, cu_seqlens_cpu), None


def last_head(q, k, v):
    o = torch.zeros_like(v)
    o[:, :, -1:] = attention(q[:, :, -1:], k[:, :, -1:], v[:, :, -1:])
    return o, None


def last_sequence(q, k, v):
    o = torch.zeros_like(v)
    o[-1:] = attention(q[-1:], k[-1:], v[-1:])
    return o, None


def last_slice(q, k, v):
    """What the oracle is run on, and nothing else."""
    o = torch.zeros_like(v)
    o[-1:, :, -1:] = attention(q[-1:, :, -1:], k[-1:, :, -1:], v[-1:, :, -1:])
    return o, None


def numpy_memory(q, k, v):
    """What is not written is not NaN: numpy allocated it."""
    o = torch.from_numpy(np.empty(v.shape, np.float32))
    o[:, :, -1:] = attention(q[:, :, -1:], k[:, :, -1:], v[:, :, -1:])
    return o, None


def one_head_wrong(q, k, v):
    o = attention(q, k, v)
    o[:, :, 1] *= 1.01
    return o, None


def wrong_stride(q, k, v):
    """The second sequence is read where the first lies."""
    return attention(q, k, torch.cat((v[:1], v[:1], v[2:]))), None


def heads_exchanged(q, k, v):
    return attention(q, k, v[:, :, [1, 0, 2, 3]]), None


def second_span_dropped(q, k, v, cu_seqlens=None, cu_seqlens_cpu=None):
    """Neither the last sequence nor the shortest: those are what the oracle is run on."""
    o = attention(q, k, v, cu_seqlens_cpu)
    first, end = _spans(cu_seqlens_cpu)[1]
    o[:, first:end] = 0
    return o, None


class OneHeadsGradient(Identity):
    @staticmethod
    def backward(ctx, grad):
        left = torch.zeros_like(grad)
        left[:, :, -1:] = grad[:, :, -1:]
        return left


def gradient_of_the_last_head(q, k, v):
    return attention(q, OneHeadsGradient.apply(k), v), None


@pytest.mark.parametrize(
    "fn",
    [last_head, last_sequence, last_slice, numpy_memory, one_head_wrong, wrong_stride, heads_exchanged],
    ids=lambda f: f.__name__,
)
def test_what_is_wrong_by_its_place_is_incorrect(fn: Callable[..., Any]) -> None:
    found = checked(fn, DENSE)
    assert found.status == "incorrect"
    assert found.reason.startswith("with its sequences and heads in other places: o: ")
    assert found.equivariant is False


def test_a_sequence_of_a_packed_batch_that_is_left_out_is_incorrect() -> None:
    assert checked(second_span_dropped, PACKED).reason.startswith("with its sequences and heads in other places: o: ")


def test_a_gradient_that_is_right_in_one_head_is_incorrect() -> None:
    found = checked(gradient_of_the_last_head, DENSE.replace(pass_="fwdbwd"))
    assert found.reason.startswith("with its sequences and heads in other places: dk: ")


@pytest.mark.parametrize("pass_", ["fwd", "fwdbwd"])
@pytest.mark.parametrize("problem", [DENSE, PACKED], ids=["dense", "packed"])
def test_what_is_right_everywhere_is_ok(problem: Problem, pass_: str) -> None:
    found = checked(honest, problem.replace(pass_=pass_))
    assert (found.status, found.equivariant) == ("ok", True)
    assert checked(honest, DENSE.replace(B=1, H=1, pass_=pass_)).equivariant is None


def test_what_an_operator_mixes_stays_in_its_place() -> None:
    # The oracle is run on all that an operator mixes.
    assert checked(one_head_wrong, DENSE, couples=frozenset({"H"})).reason.startswith("o: error")
    assert checked(wrong_stride, DENSE, couples=frozenset({"B"})).reason.startswith("o: error")
    both = frozenset({"B", "H"})
    assert (checked(honest, DENSE, couples=both).status, checked(honest, DENSE, couples=both).equivariant) == (
        "ok",
        None,
    )
    assert not checked(wrong_stride, DENSE, couples=frozenset({"H"})).ok
    assert checked(one_head_wrong, DENSE, own_head_constants=True).ok
    assert not checked(last_sequence, DENSE, own_head_constants=True).ok


@pytest.mark.parametrize("layout", ["dense", "packed:ragged", "packed:gaps"])
def test_what_was_moved_is_restored(layout: str) -> None:
    operator = discover().operator("retention")
    problem = Problem(B=3 if layout == "dense" else 1, T=200, H=4, HV=8, K=8, V=8, dtype="fp32", layout=layout)
    problem = operator.complete(problem.replace(pass_="fwdbwd", initial_state=True))
    inputs = draw_inputs(operator, problem, 0)
    places = permutation(operator, next(iter(operator.implementations.values())), problem, 0)
    assert places is not None
    assert not any(i == n for i, n in enumerate(places.sequences))
    moved = places.inputs(inputs)
    tensors = {name: inputs[name] for name in ("q", "k", "v", "log_decay")}
    back = places.restored({f"d{name}": moved[name] for name in tensors})
    for name, x in tensors.items():
        assert torch.equal(back[f"d{name}"], x)
        assert not torch.equal(moved[name], x)
    assert torch.equal(places.restored(places.outputs({"o": inputs["v"]}))["o"], inputs["v"])
    if layout != "dense":
        lengths, others = (x["cu_seqlens_cpu"].diff().tolist() for x in (inputs, moved))
        assert others == [lengths[n] for n in places.sequences]
        first = int(inputs["cu_seqlens_cpu"][places.sequences[0]])
        assert torch.equal(
            moved["q"][:, : others[0], 0, 0], inputs["q"][:, first : first + others[0], places.groups[0], 0]
        )
