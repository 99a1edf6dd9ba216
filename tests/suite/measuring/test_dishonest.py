"""Answers that were not computed in the timed call, and other ways to be fast for the wrong reason."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from suite import Cost, Operator, Problem
from suite.draw import qkv
from suite.measuring.case import ProblemRun, Settings
from suite.problem import Case
from tests.suite.identity import Identity

PROBLEM = Problem(B=2, T=32, H=2, K=8, V=8, dtype="fp32", pass_="fwd")
Fn = Callable[..., Any]


def attention(q, k, v):
    """Unnormalised and causal: heads [B,T,H,K]."""
    return torch.einsum("bthd,bihd,ti,bihv->bthv", q, k, q.new_ones(q.shape[1], q.shape[1]).tril(), v)


def honest(q, k, v):
    return attention(q, k, v), None


def timed(
    problem: Problem = PROBLEM, oracle: Fn = honest, stateful: bool = False, **functions: Fn
) -> dict[str, dict[str, Any]]:
    """The records of implementations that are measured together, by name."""
    made = Operator(
        "sums",
        "o_t = sum_{i<=t} (q_t . k_i) v_i",
        "none",
        inputs=qkv,
        oracle=oracle,
        cost=lambda p, tunables: Cost(1.0, 1.0, 1.0),
        passes=("fwd", "bwd", "fwdbwd"),
        stateful=stateful,
    )
    for name, fn in functions.items():
        made.implementation(name, origin="ours", passes={"fwd", "bwd", "fwdbwd"})(fn)
    records: list[dict[str, Any]] = []
    settings = Settings("cpu", "cpu", ("warm-cpu",), warmup_ms=1.0, rep_ms=10.0, recheck_pick=5)
    problem = made.complete(problem)
    cases = [Case("sums", name, problem, (), ()) for name in functions]
    ProblemRun(made, problem, cases, settings, "timed", records.append, lambda *_: None).measure()
    return {record["implementation"]: record for record in records}


def kept_by(key: Callable[..., Any]) -> Fn:
    """It computes once for each key, and returns what it has from then on."""
    kept: dict[Any, torch.Tensor] = {}

    def fn(q, k, v):
        found = key(q, k, v)
        if found not in kept:
            kept[found] = attention(q, k, v)
        return kept[found], None

    return fn


def ends(*tensors: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(x.flatten()[i]) for x in tensors for i in (0, -1))


KEYS: dict[str, Callable[..., Any]] = {
    "nothing": lambda q, k, v: 0,
    "address": lambda q, k, v: (q.data_ptr(), k.data_ptr(), v.data_ptr()),
    "address and version": lambda q, k, v: tuple((x.data_ptr(), x._version) for x in (q, k, v)),
    "tensor": lambda q, k, v: (id(q), id(k), id(v)),
    "shape": lambda q, k, v: (q.shape, q.dtype),
    "first and last element": ends,
    "a row of each": lambda q, k, v: tuple(x[0, 0].sum().item() for x in (q, k, v)),
    "v alone": lambda q, k, v: v.sum().item(),
    "the sum of q and k": lambda q, k, v: (q + k).double().sum().round(decimals=3).item() // 1000,
}


@pytest.mark.parametrize("key", KEYS)
def test_an_answer_that_is_kept_is_incorrect(key: str) -> None:
    found = timed(tried=kept_by(KEYS[key]))["tried"]
    assert found["status"] == "incorrect", found["reason"]
    assert "o: error" in found["reason"]
    assert "time_ms" not in found


def test_an_answer_that_is_kept_by_all_that_it_depends_on_is_computed_in_each_call() -> None:
    calls = {"made": 0, "computed": 0}

    def by_everything(q, k, v):
        calls["made"] += 1
        key = hash(tuple(x.flatten().double().cumsum(0).sum().item() for x in (q, k, v)))
        if key not in kept:
            calls["computed"] += 1
            kept[key] = attention(q, k, v)
        return kept[key], None

    kept: dict[int, torch.Tensor] = {}
    found = timed(tried=by_everything)["tried"]
    assert found["status"] == "ok", found["reason"]
    # The check's second call and the warm-up are made on the same inputs, the samples are not.
    assert calls["computed"] >= 0.98 * len(found["samples"])


def right_for(calls: int) -> Fn:
    """It works in its first calls only, and returns the last answer from then on."""
    made: list[torch.Tensor] = []

    def fn(q, k, v):
        if len(made) < calls:
            made.append(attention(q, k, v))
        return made[-1], None

    return fn


def filled_later(q, k, v):
    o = torch.zeros_like(v)

    def work() -> None:
        time.sleep(0.05)
        o.copy_(attention(q, k, v))

    threading.Thread(target=work).start()
    return o, None


def while_collecting(q, k, v):
    return (attention(q, k, v) if gc.isenabled() else torch.zeros_like(v)), None


class Lazy(torch.Tensor):
    """It is computed when it is read."""


def read_later(q, k, v):
    return torch.zeros_like(v).as_subclass(Lazy), None


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (right_for(2), "o: error"),
        (right_for(12), "o: error"),
        (filled_later, "o: error"),
        (while_collecting, "o: error"),
        (read_later, "o is a Lazy; return a plain torch.Tensor"),
    ],
    ids=["two calls", "twelve calls", "a thread", "the garbage collector", "a subclass"],
)
def test_an_answer_that_another_call_or_nobody_computed_is_incorrect(fn: Fn, words: str) -> None:
    found = timed(tried=fn)["tried"]
    assert found["status"] == "incorrect", found["reason"]
    assert words in found["reason"]


def after(calls: int, harm: Callable[..., Any]) -> Fn:
    """It does harm from that call on, when its check is over."""
    made = [0]

    def fn(q, k, v):
        made[0] += 1
        o = attention(q, k, v)
        if made[0] > calls:
            harm(q.detach(), k.detach(), v.detach())
        return o, None

    return fn


@pytest.mark.parametrize(
    "harm",
    [lambda q, k, v: v.zero_(), lambda q, k, v: q.data.mul_(1.5), lambda q, k, v: k.numpy().__setitem__(0, 0)],
    ids=["zeros", "without a version", "numpy"],
)
def test_who_writes_into_shared_inputs_while_timed_is_named_and_nobody_else(harm: Callable[..., Any]) -> None:
    sums: list[float] = []

    def looks(q, k, v):
        sums.append(float(v[:, -1].abs().sum()))
        return attention(q, k, v), None

    found = timed(first=honest, writes=after(20, harm), looks=looks)
    assert {name: record["status"] for name, record in found.items()} == {
        "first": "ok",
        "writes": "incorrect",
        "looks": "ok",
    }
    assert found["writes"]["reason"].startswith("while it is timed, it changes its input ")
    assert sums[-len(found["looks"]["samples"]) :].count(0.0) == 0


def test_what_ignores_some_inputs_may_not_keep_its_answer_either() -> None:
    """Its inputs change in each call, whichever they are: a call that saw the right ones might have kept its answer."""

    def mean(q, k, v):
        return v.cumsum(1) / torch.arange(1, v.shape[1] + 1)[:, None, None], None

    kept: dict[Any, torch.Tensor] = {}

    def by_ends(q, k, v):
        return kept.setdefault(ends(v), mean(q, k, v)[0]), None

    def by_q(q, k, v):
        return kept.setdefault(("q", q.sum().item()), mean(q, k, v)[0]), None

    found = timed(oracle=mean, right=mean, by_ends=by_ends, by_q=by_q)
    assert found["right"]["status"] == "ok"
    for name in ("by_ends", "by_q"):
        assert found[name]["status"] == "incorrect", name


def test_tokens_change_in_all_sequences_and_heads() -> None:
    seen: list[torch.Tensor] = []

    def watches(q, k, v):
        seen.append(v.clone())
        return attention(q, k, v), None

    found = timed(watches=watches)["watches"]
    assert found["status"] == "ok", found["reason"]
    samples = seen[-3 - len(found["samples"]) : -3]
    changed = {(b, h) for x in samples for b, h in (x != seen[-2]).any(3).any(1).nonzero().tolist()}
    assert len(changed) == PROBLEM.B * PROBLEM.H
    # None of the timed calls saw the inputs on which the last one is judged.
    assert not any(torch.equal(x, seen[-2]) for x in samples)


class Kept(Identity):
    """Its backward pass works once for each graph."""

    @staticmethod
    def backward(ctx, grad):
        if not hasattr(ctx, "kept"):
            ctx.kept = grad.clone()
        return ctx.kept


class Writes(Identity):
    """Its backward pass works in place of what flows in."""

    @staticmethod
    def backward(ctx, grad):
        return grad.mul_(1.0001).div(1.0001)


KEPT: dict[float, torch.Tensor] = {}


class KeptBy(Identity):
    """Its backward pass works once for each first element of what flows in."""

    @staticmethod
    def backward(ctx, grad):
        return KEPT.setdefault(grad[0, 0, 0, 0].item(), grad.clone())


def gradients_kept_by_an_element(q, k, v):
    return KeptBy.apply(attention(q, k, v)), None


@pytest.mark.parametrize("pass_", ["bwd", "fwdbwd"])
def test_gradients_that_flow_in_change_too(pass_: str) -> None:
    KEPT.clear()
    found = timed(PROBLEM.replace(pass_=pass_), tried=gradients_kept_by_an_element)["tried"]
    assert found["status"] == "incorrect"


def gradients_kept(q, k, v):
    return Kept.apply(attention(q, k, v)), None


def cotangent_changed(q, k, v):
    return Writes.apply(attention(q, k, v)), None


@pytest.mark.parametrize("pass_", ["bwd", "fwdbwd"])
def test_gradients_are_those_of_the_call(pass_: str) -> None:
    found = timed(PROBLEM.replace(pass_=pass_), honest=honest, kept=gradients_kept, writes=cotangent_changed)
    assert found["honest"]["status"] == "ok", found["honest"]["reason"]
    assert found["writes"]["reason"] == "its backward pass changes the gradient of o that flows in"
    # A graph of its own for each call leaves nothing to keep.
    assert found["kept"]["status"] == ("incorrect" if pass_ == "bwd" else "ok")
    if pass_ == "bwd":
        assert found["kept"]["reason"].startswith("in its last timed call: dq: error")


class ZerosWhenLong(Identity):
    @staticmethod
    def backward(ctx, grad):
        return torch.zeros_like(grad) if grad.shape[1] > 2048 else grad


def no_long_gradients(q, k, v):
    return sums_of_scan(q, k, ZerosWhenLong.apply(v))


def sums_of_scan(q, k, v):
    return torch.einsum("bthd,bthdv->bthv", q, torch.einsum("bthd,bthv->bthdv", k, v).cumsum(1)), None


@pytest.mark.parametrize("pass_", ["bwd", "fwdbwd"])
def test_long_gradients_are_looked_at_where_they_are_timed(pass_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The oracle of a long sequence takes long: a sum over a scan is as exact.
    monkeypatch.setattr("tests.suite.measuring.test_dishonest.attention", lambda q, k, v: sums_of_scan(q, k, v)[0])
    long = Problem(B=2, T=2100, H=2, K=4, V=4, dtype="fp32", pass_=pass_)
    found = timed(long, right=sums_of_scan, wrong=no_long_gradients)
    assert found["right"]["status"] == "ok", found["right"]["reason"]
    assert found["wrong"]["status"] == "incorrect"
    assert found["wrong"]["reason"].startswith("in its last timed call: gradient: along a direction, at T = 2100: ")
    assert found["wrong"]["check_T"] == 2048


def with_state(q, k, v, initial_state=None, output_final_state=False):
    """The sum goes on from a state [N,H,K,V]."""
    start = 0 if initial_state is None else initial_state[:, None].to(q)
    states = torch.einsum("bthd,bthv->bthdv", k, v).cumsum(1) + start
    o = torch.einsum("bthd,bthdv->bthv", q, states)
    return o, (states[:, -1].float() if output_final_state else None)


def test_a_state_to_start_from_changes_too() -> None:
    kept: dict[int, torch.Tensor] = {}

    def keeps(q, k, v, initial_state=None, output_final_state=False):
        if initial_state is None:
            return with_state(q, k, v)
        start = kept.setdefault(initial_state.data_ptr(), initial_state.clone())
        return with_state(q, k, v, start, output_final_state)

    problem = PROBLEM.replace(initial_state=True)
    found = timed(problem, oracle=with_state, stateful=True, right=with_state, keeps=keeps)
    assert found["right"]["status"] == "ok", found["right"]["reason"]
    assert found["keeps"]["status"] == "incorrect"


@pytest.mark.parametrize("pass_", ["fwd", "fwdbwd", "bwd"])
def test_a_state_that_was_not_asked_for_is_no_output(pass_: str) -> None:
    def always(q, k, v, initial_state=None, output_final_state=False):
        return with_state(q, k, v, initial_state, True)

    found = timed(PROBLEM.replace(pass_=pass_), oracle=with_state, stateful=True, first=always, right=with_state)
    assert {name: record["status"] for name, record in found.items()} == {"first": "ok", "right": "ok"}


def test_a_record_says_what_was_compared() -> None:
    assert timed(tried=honest)["tried"]["recheck_pick"] == 5
