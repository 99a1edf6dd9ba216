"""What an implementation must return: plain tensors of the right dtype, shape and place, right in each token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from suite import Cost, Operator, Problem
from suite.checks.calling import draw_cotangents
from suite.checks.checker import Check, Checker, check_case
from suite.checks.inputs import draw_inputs
from suite.checks.oracle import reference
from suite.discovery import discover
from suite.draw import qkv
from suite.numerics import difference

PROBLEM = Problem(B=2, T=24, H=2, K=8, V=8, dtype="fp32", pass_="fwd")


def sums(q, k, v):
    """Unnormalised: heads [B,T,H,K]."""
    return torch.einsum("bthd,bthdv->bthv", q, torch.einsum("bthd,bthv->bthdv", k, v).cumsum(1))


def checked(fn: Callable[..., Any], problem: Problem = PROBLEM) -> Check:
    made = Operator(
        "sums",
        "o_t = sum_{i<=t} (q_t . k_i) v_i",
        "none",
        inputs=qkv,
        oracle=lambda q, k, v: (sums(q, k, v), None),
        cost=lambda p, tunables: Cost(1.0, 1.0, 1.0),
        stateful=False,
    )
    made.implementation("tried", origin="ours", passes={"fwd", "bwd", "fwdbwd"})(fn)
    return check_case(made, "tried", problem)


class Later(torch.Tensor):
    """It might be computed when it is read."""


FORMS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "float64": (lambda o: o.double(), "o has dtype float64, not float32"),
    "half": (lambda o: o.half(), "o has dtype float16, not float32"),
    "complex": (lambda o: o.to(torch.complex64), "o has dtype complex64, not float32"),
    "integers": (lambda o: o.int(), "o has dtype int32, not float32"),
    "twice the batch": (lambda o: torch.cat((o, o)), "o: shape [4, 24, 2, 8], not [2, 24, 2, 8]"),
    "one token more": (lambda o: torch.cat((o, o[:, :1]), 1), "o: shape [2, 25, 2, 8], not [2, 24, 2, 8]"),
    "one head less": (lambda o: o[:, :, 1:], "o: shape [2, 24, 1, 8], not [2, 24, 2, 8]"),
    "flat": (lambda o: o.flatten(), "o: shape [768], not [2, 24, 2, 8]"),
    "a number": (lambda o: o.sum(), "o: shape [], not [2, 24, 2, 8]"),
    "nothing": (lambda o: o[:0], "o: shape [0, 24, 2, 8], not [2, 24, 2, 8]"),
    "sparse": (lambda o: o.to_sparse(), "o has the layout sparse_coo; return a strided tensor"),
    "meta": (lambda o: o.to("meta"), "o is on meta; return it on cpu, where the inputs are"),
    "a subclass": (lambda o: o.as_subclass(Later), "o is a Later; return a plain torch.Tensor"),
    "a parameter": (lambda o: torch.nn.Parameter(o), "o is a Parameter; return a plain torch.Tensor"),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_of_another_form_is_incorrect(form: str) -> None:
    change, words = FORMS[form]
    found = checked(lambda q, k, v: (change(sums(q, k, v)), None))
    assert found.status == "incorrect"
    assert words in found.reason


@pytest.mark.parametrize(
    "view",
    [
        lambda o: o.transpose(1, 2).contiguous().transpose(1, 2),
        lambda o: torch.stack((o, o))[1],
        lambda o: o.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    ],
    ids=["transposed", "part of another", "backwards"],
)
def test_strides_are_free(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert checked(lambda q, k, v: (view(sums(q, k, v)), None)).ok


def test_a_step_updates_its_state_in_place() -> None:
    operator = discover().operator("linear_attention")
    problem = operator.complete(Problem(B=2, T=8, H=2, K=8, V=8, dtype="fp32", pass_="decode"))
    checker = Checker(operator, problem, device="cpu", seed=0)

    def elsewhere(*args: Any, state: Any, **words: Any) -> Any:
        new = state.clone()
        o = right.fn(*args, state=new, **words)
        state.set_(new)
        return o

    name = next(n for n, each in operator.implementations.items() if "decode" in each.passes and "cpu" in each.devices)
    right = operator.implementations[name]
    assert checker.check(right, right.default_tunables).ok
    found = checker.check(replace(right, fn=elsewhere), right.default_tunables)
    assert found.reason == "its step gives the state other memory; it must update the state in place"


class Ignored(torch.autograd.Function):
    """Its q changes nothing, and has a gradient all the same."""

    @staticmethod
    def forward(ctx, q, v):
        return v.cumsum(1)

    @staticmethod
    def backward(ctx, grad):
        return torch.full_like(grad, ctx_gradient[0]), grad.flip(1).cumsum(1).flip(1)


ctx_gradient = [0.0]


@pytest.mark.parametrize("gradient", [0.0, 1e-2, float("nan")])
def test_an_input_that_is_not_used_has_no_gradient(gradient: float) -> None:
    ctx_gradient[0] = gradient
    made = Operator(
        "totals",
        "o_t = sum_{i<=t} v_i",
        "none",
        inputs=qkv,
        oracle=lambda q, k, v: (v.cumsum(1), None),
        cost=lambda p, tunables: Cost(1.0, 1.0, 1.0),
        stateful=False,
    )
    made.implementation("tried", origin="ours", passes={"fwdbwd"})(lambda q, k, v: (Ignored.apply(q, v), None))
    found = check_case(made, "tried", PROBLEM.replace(pass_="fwdbwd"))
    assert found.ok is (gradient == 0.0)
    assert found.ok or "dq: is not 0, and the oracle does not use this input" in found.reason


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda o: o[:, :8].zero_(),
        lambda o: o[:, :1].zero_(),
        lambda o: o[:, 3].neg_(),
        lambda o: o[:, 40].mul_(0.5),
        lambda o: o[:, -1].mul_(1.5),
    ],
    ids=["eight zeros", "one zero", "a sign", "half", "the last"],
)
def test_a_small_token_counts_as_much_as_a_large_one(dtype: str, harm: Callable[[torch.Tensor], Any]) -> None:
    long = Problem(B=1, T=4096, H=1, K=16, V=16, dtype=dtype, pass_="fwd")

    def tried(q, k, v):
        o = sums(q.float(), k.float(), v.float())
        harm(o)
        return o.to(q.dtype), None

    assert checked(lambda q, k, v: (sums(q.float(), k.float(), v.float()).to(q.dtype), None), long).ok
    assert checked(tried, long).status == "incorrect"


def test_a_token_that_happens_to_be_0_is_measured_by_its_neighbours() -> None:
    right = torch.ones(1, 64, 4)
    right[:, 20] = 0.0
    out = right.clone()
    out[:, 20] = 1e-4
    found = difference(out, right, 1)
    assert found.own == pytest.approx(1e-4 / (0.3 * (16 / 17) ** 0.5), rel=1e-6)
    assert found.at == 20
    assert not found.exceeds(1e-4)
    out[:, 20] = 1e-2
    assert difference(out, right, 1).exceeds(1e-4)


def test_errors_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    right = torch.randn(3, 50, 2, 4, generator=generator)
    out = right + 1e-3 * torch.randn(right.shape, generator=generator)
    whole = [difference(out, right, dim) for dim in (None, 0, 1, 3)]
    monkeypatch.setattr("suite.numerics.BLOCK_ELEMENTS", 37)
    for dim, before in zip((None, 0, 1, 3), whole, strict=True):
        found = difference(out, right, dim)
        assert (found.error, found.token, found.own) == pytest.approx((before.error, before.token, before.own))
        assert found.error == pytest.approx(float((out - right).norm() / right.norm()), rel=1e-5)


SLOPES = ("linear_attention", "gated_delta_rule", "gated_scan", "softmax_attention", "ssd", "mlstm")


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("layout", ["dense", "packed:halves"])
def test_a_slope_is_that_of_the_gradients(name: str, layout: str) -> None:
    operator = discover().operator(name)
    problem = Problem(
        B=2 if layout == "dense" else 1, T=150, H=2, K=8, V=8, dtype="fp32", pass_="fwdbwd", layout=layout
    )
    problem = operator.complete(problem)
    inputs = draw_inputs(operator, problem, 3)
    with torch.no_grad():
        naive = operator.implementations["naive"]
        taken = {n: x for n, x in inputs.items() if n in naive.parameters or not n.startswith("cu_")}
        o, _ = naive.fn(**taken, **{n: a for n, a in operator.kwargs_of(problem).items() if n in naive.parameters})
    cotangents = draw_cotangents({"o": o}, 3)
    full = reference(operator, problem, inputs, cotangents, 1)
    slope = reference(operator, problem, inputs, cotangents, 1, along=7).slope
    assert slope is not None
    parts = {n: float((full.values[f"d{n}"] * along).sum()) for n, along in slope.direction.items()}
    assert sum(parts.values()) == pytest.approx(slope.value, rel=1e-6, abs=1e-7 * max(map(abs, parts.values())))
    # No input's part is lost beside another's.
    norms = {
        n: float(full.values[f"d{n}"].square().mean().sqrt() * along.norm()) for n, along in slope.direction.items()
    }
    assert max(norms.values()) < 100 * min(norms.values()), norms


@pytest.mark.parametrize(
    ("name", "own", "shared"),
    [
        ("ssd", {}, "dA"),
        ("taylor_attention", {}, "dtemperature"),
        ("rwkv6", {}, "du"),
    ],
)
def test_the_typical_gradient_of_a_shared_input_is_that_over_many_cotangents(
    name: str, own: dict[str, Any], shared: str
) -> None:
    operator = discover().operator(name)
    problem = operator.complete(Problem(T=20, H=1, K=4, V=4, dtype="fp32", pass_="fwdbwd"), own)
    inputs = draw_inputs(operator, problem, 3)
    o = torch.empty(1, 20, 1, 4)
    found = [reference(operator, problem, inputs, draw_cotangents({"o": o}, seed), 0) for seed in range(200)]
    over_draws = torch.stack([each.values[shared] for each in found]).square().mean().sqrt()
    assert list(found[0].typical) == [shared]
    assert found[0].typical[shared] == pytest.approx(float(over_draws), rel=0.15)


@pytest.mark.parametrize(("factor", "passes"), [(1.0, True), (1.1, False), (0.0, False)])
def test_a_shared_gradient_is_judged_by_its_typical_size(factor: float, passes: bool) -> None:
    """Also where it cancels: of some draws the error would else be all there is."""
    operator = discover().operator("ssd")
    problem = operator.complete(Problem(T=40, H=1, K=8, V=8, dtype="bf16", pass_="fwdbwd"))
    wrong = []
    for seed in range(12):
        checker = Checker(operator, problem, device="cpu", seed=seed)
        naive = operator.implementations["naive"]
        produced = checker.produce(naive, {})
        produced["dA"] = produced["dA"] * factor
        check = checker.judge_produced(naive, produced)
        wrong.append("dA" in check.reason)
    assert any(wrong) != passes
