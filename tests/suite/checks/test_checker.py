"""The check: what is right passes, and each way to be wrong is told apart."""

from dataclasses import replace

import pytest
import torch

from suite import Problem
from suite.checks.checker import BACKWARD_T, Checker, check_case
from suite.checks.inputs import draw_inputs, flat, slicer
from suite.checks.oracle import reference
from suite.discovery import discover
from suite.numerics import difference, limit_of
from suite.registry import Operator
from tests.suite.plugins import FAULTS, write


@pytest.fixture(scope="module")
def mean(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    path = write(tmp_path_factory.mktemp("plugins"), FAULTS, "checking_faults.py")
    return discover(load=[path]).operator("running_mean")


PROBLEM = Problem(B=2, T=40, H=2, K=8, V=8, dtype="fp32")


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("torch", "ok", ""),
        ("raises", "error", "ValueError: no luck"),
        ("nan", "incorrect", "not finite"),
        ("lazy", "incorrect", "not finite, first at (0, 39"),
        ("identity", "incorrect", "o: error"),
        ("wrong_shape", "incorrect", "o: shape"),
        ("not_a_pair", "error", "the pair (o, final_state or None)"),
        ("one_bad_token", "incorrect", "o: error"),
        ("overruns", "incorrect", "it writes past a tensor of shape [2, 40, 2, 8] that it allocated"),
        ("scribbles", "incorrect", "it changes its input q"),
        ("late", "incorrect", "not finite"),
        ("hungry", "oom", "memory"),
        ("refuses", "unsupported", "not on a Sunday"),
    ],
)
def test_statuses(mean: Operator, name: str, status: str, words: str) -> None:
    found = check_case(mean, name, PROBLEM)
    assert (found.status, words in found.reason) == (status, True), found


@pytest.mark.parametrize("left_out", [(0, 1), (1, 0), (0, 0)], ids=["sequence", "head", "both"])
def test_what_is_left_unwritten_beside_the_part_that_is_compared_is_seen(left_out: tuple[int, int]) -> None:
    """A seed compares one sequence and head: the last of both here."""
    linear = replace(discover().operator("linear_attention"))
    oracle = linear.oracle

    @linear.implementation("partly", origin="ours", devices={"cpu"})
    def partly(q, k, v, **words):
        o = torch.empty_like(v)
        wanted, (sequence, head) = oracle(q, k, v, **words)[0], left_out
        for n, h in {(n, h) for n in range(2) for h in range(2)} - {(sequence, head)}:
            o[n, :, h] = wanted[n, :, h]
        return o, None

    problem = linear.complete(Problem(B=2, T=20, H=2, K=8, dtype="fp32"))
    found = check_case(linear, "partly", problem)
    assert found.status == "incorrect"
    assert "160 of 640 values not finite" in found.reason
    assert "beside the sequence and heads that are compared" in found.reason


@pytest.mark.parametrize("cache", [False, True], ids=["state", "cache"])
def test_a_state_left_unwritten_beside_the_part_that_is_compared_is_seen(cache: bool) -> None:
    """Unless it was given so: rows of a cache that no token has may hold anything."""
    linear = replace(discover().operator("linear_attention"))
    made = linear.inputs

    def with_nan(problem, generator):
        inputs = made(problem, generator)
        if cache:
            inputs["state"][0, 0] = torch.nan
        return inputs

    linear = replace(linear, inputs=with_nan)

    @linear.implementation("forgets", origin="ours", devices={"cpu"}, passes={"decode"})
    def forgets(q, k, v, *, state, **words):
        o, new = linear.oracle(q, k, v, initial_state=state, output_final_state=True, **words)
        state.copy_(new)
        if not cache:
            state[0, 0] = torch.nan
        return o.nan_to_num()

    problem = linear.complete(Problem(B=2, T=20, H=2, K=8, dtype="fp32", pass_="decode"))
    found = check_case(linear, "forgets", problem)
    assert found.status == ("ok" if cache else "incorrect")
    assert cache or "64 of 256 values not finite" in found.reason


@pytest.mark.parametrize(("pick", "compared"), [(0, (1, 1)), (1, (0, 1)), (2, (1, 0)), (3, (0, 0))])
def test_the_part_that_is_compared_is_the_last_at_first(pick: int, compared: tuple[int, int]) -> None:
    linear = discover().operator("linear_attention")
    problem = linear.complete(Problem(B=2, T=20, H=2, K=8, dtype="fp32"))
    inputs = draw_inputs(linear, problem, seed=0)
    found = reference(linear, problem, inputs, None, pick)
    n, h = compared
    assert torch.equal(found.cut("q", inputs["q"]), inputs["q"][n : n + 1, :, h : h + 1])


@pytest.mark.parametrize("pick", range(10))
def test_a_sequence_that_is_compared_has_tokens(pick: int) -> None:
    linear = discover().operator("linear_attention")
    problem = linear.complete(Problem(T=20, H=2, K=8, dtype="fp32", layout="packed:gaps"))
    found = reference(linear, problem, draw_inputs(linear, problem, seed=0), None, pick)
    assert found.values["o"].shape[1] > 0


# What is done to the state of a sequence without tokens, and the output or gradient that shows it.
LOST = {
    "final_state": lambda S: S * torch.tensor([1.0, 1, 1, 0, 1, 1, 1])[:, None, None, None],
    "dinitial_state": lambda S: torch.cat([S[:6], S[6:].detach()]),
}


@pytest.mark.parametrize("name", [*LOST, ""])
@pytest.mark.parametrize("pass_", ["fwd", "fwdbwd"])
def test_states_of_sequences_without_tokens_are_looked_at(name: str, pass_: str) -> None:
    """Sequences 0, 3 and 6 have none, and none of them is compared with the oracle."""
    linear = replace(discover().operator("linear_attention"))

    @linear.implementation("loses", origin="ours", devices={"cpu"})
    def loses(q, k, v, *, initial_state, cu_seqlens, output_final_state):
        start = LOST[name](initial_state) if name == "dinitial_state" else initial_state
        o, final = linear.oracle(q, k, v, initial_state=start, cu_seqlens=cu_seqlens, output_final_state=True)
        return o, LOST[name](final) if name == "final_state" else final

    sizes = {"T": 20, "H": 2, "K": 8, "dtype": "fp32", "pass_": pass_, "initial_state": True}
    found = check_case(linear, "loses", linear.complete(Problem(layout="packed:gaps", **sizes)))
    seen = name == "final_state" or (name and pass_ == "fwdbwd")
    assert found.status == ("incorrect" if seen else "ok"), found.reason
    assert not seen or f"{name}: sequences 0, 3, 6 have no tokens" in found.reason


@pytest.mark.parametrize("T", [3, 20, 300])
@pytest.mark.parametrize("layout", ["packed:ragged", "packed:gaps"])
@pytest.mark.parametrize("spoilt", ["o", "final_state", "dq", "dinitial_state", ""])
def test_the_shortest_sequence_is_compared_too(spoilt: str, layout: str, T: int) -> None:
    """It has one token; the last sequence, which is compared first, has more."""
    linear = replace(discover().operator("linear_attention"))

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factors):
            ctx.factors = factors
            return x.clone()

        @staticmethod
        def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
            return g * ctx.factors, None

    @linear.implementation("spoils", origin="ours", devices={"cpu"})
    def spoils(q, k, v, *, initial_state, cu_seqlens, output_final_state):
        one = (cu_seqlens.diff() == 1).float() + 1
        tokens = torch.repeat_interleave(one, cu_seqlens.diff())[:, None, None]
        q = Doubled.apply(q, tokens) if spoilt == "dq" else q
        start = Doubled.apply(initial_state, one[:, None, None, None]) if spoilt == "dinitial_state" else initial_state
        o, final = linear.oracle(q, k, v, initial_state=start, cu_seqlens=cu_seqlens, output_final_state=True)
        return (o * tokens if spoilt == "o" else o), (final * one[:, None, None, None] if spoilt[0:1] == "f" else final)

    sizes = {"T": T, "H": 1, "K": 4, "dtype": "fp32", "pass_": "fwdbwd", "initial_state": True}
    found = check_case(linear, "spoils", linear.complete(Problem(layout=layout, **sizes)))
    assert found.status == ("incorrect" if spoilt else "ok"), found.reason
    if spoilt and T == 20:
        assert f"{spoilt}: in the shortest sequence: error" in found.reason


def test_gradients_are_compared_by_name(mean: Operator) -> None:
    found = check_case(mean, "torch", PROBLEM.replace(pass_="fwdbwd"))
    # q and k do not enter: they have no gradient, and so nothing to compare with.
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "dv"}


@pytest.mark.parametrize(("left", "status"), [(1e-7, "ok"), (1e-5, "incorrect")])
def test_a_gradient_that_is_exactly_zero_may_be_rounding_of_the_others(left: float, status: str) -> None:
    """A token that sees only itself has a weight of 1 whatever q and k are: dq is 0, or what fp32 sums leave."""
    softmax = replace(discover().operator("softmax_attention"))
    problem = Problem(T=1, H=2, K=8, dtype="fp32", pass_="fwdbwd")

    @softmax.implementation("rounds", origin="ours", devices={"cpu"})
    def rounds(q, k, v, *, causal=True):
        return v + left * (q - q.detach()) + 0 * k, None

    assert check_case(softmax, "rounds", problem).status == status


def test_a_wrong_gradient_is_named(mean: Operator) -> None:
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            return v.clone()

        @staticmethod
        def backward(ctx, g):
            return g / 2

    @mean.implementation("halved", origin="ours")
    def halved(q, k, v):
        return mean.implementations["torch"].fn(q, k, Halved.apply(v))

    found = check_case(mean, "halved", PROBLEM.replace(pass_="fwdbwd"))
    assert found.status == "incorrect"
    assert found.reason.startswith("dv: error 5.0e-01")


def test_one_wrong_row_of_thousands_is_seen() -> None:
    oracle = torch.randn(1, 8192, 1, 64, dtype=torch.float64)
    out = oracle.clone()
    out[0, 4000] += 0.02
    found = difference(out, oracle, token_dim=1)
    assert found.error < 1e-3
    assert found.exceeds(1e-3)
    assert not difference(out, oracle).exceeds(1e-3)


def test_difference_of_what_is_not_there() -> None:
    oracle = torch.zeros(3)
    assert difference(None, oracle).exceeds(1e9)
    assert difference(torch.zeros(4), oracle).exceeds(1e9)
    assert difference(torch.tensor([0.0, torch.inf, 0.0]), oracle).exceeds(1e9)
    assert difference(torch.tensor([0.0, torch.nan, 0.0]), oracle).exceeds(1e9)
    assert not difference(torch.zeros(3), oracle).exceeds(0.0)


def test_limits() -> None:
    assert limit_of("float32", "o") == 1e-4
    assert limit_of("bfloat16", "dq") == 8e-3
    assert limit_of("bfloat16", "dinitial_state[1]") == 8e-3
    assert limit_of("bfloat16", "dbeta") == 1.5e-2
    assert limit_of("bfloat16", "o", {"bfloat16": 2e-2}) == 2e-2


@pytest.mark.parametrize("layout", ["dense", "packed:ragged", "packed:gaps"])
@pytest.mark.parametrize("heads", [{"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4}])
def test_slices_of_the_oracle_agree_with_the_whole(layout: str, heads: dict[str, int]) -> None:
    op = discover().operator("linear_attention")
    B = 2 if layout == "dense" else 1
    problem = op.complete(
        Problem(
            B=B,
            T=37,
            K=8,
            V=12,
            dtype="float64",
            state_dtype="float64",
            layout=layout,
            initial_state=True,
            pass_="fwdbwd",
            **heads,
        )
    )
    inputs = draw_inputs(op, problem, seed=1)
    words = {n: x for n, x in inputs.items() if n != "cu_seqlens_cpu"}
    o, final = op.oracle(**words, output_final_state=True)
    cotangents = {"o": torch.randn_like(o), "final_state": torch.randn_like(final)}
    tensors = {name: x for name, x in flat(inputs).items() if x.requires_grad}
    grads = torch.autograd.grad([o, final], list(tensors.values()), list(cotangents.values()))
    whole = {"o": o, "final_state": final} | {f"d{n}": g for n, g in zip(tensors, grads, strict=True)}
    for pick in range(problem.N * problem.groups):
        found = reference(op, problem, inputs, cotangents, pick)
        assert set(found.values) == set(whole)
        for name, value in found.values.items():
            torch.testing.assert_close(found.cut(name, whole[name]), value, rtol=1e-9, atol=1e-9)


def test_checkpointed_segments_agree_with_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    import suite.checks.oracle

    op = discover().operator("linear_attention")
    problem = op.complete(Problem(T=70, K=8, dtype="float64", initial_state=True, pass_="bwd"), {"normalised": True})
    inputs = draw_inputs(op, problem, seed=2)
    cotangents = {
        name: torch.randn(shape, dtype=torch.float64)
        for name, shape in (("o", (1, 70, 1, 8)), ("final_state[0]", (1, 1, 8, 8)), ("final_state[1]", (1, 1, 8)))
    }
    whole = reference(op, problem, inputs, cotangents, 0).values
    monkeypatch.setattr(suite.checks.oracle, "SEGMENT", 16)
    pieces = reference(op, problem, inputs, cotangents, 0).values
    assert set(whole) == set(pieces)
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-9, atol=1e-9)


def test_an_operator_that_carries_no_state_through_a_sequence_is_not_cut_into_segments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import suite.checks.oracle

    op = discover().operator("linear_attention")
    problem = op.complete(Problem(T=40, K=8, dtype="float64", pass_="bwd"))
    inputs, cotangents = draw_inputs(op, problem, seed=2), {"o": torch.ones(1, 40, 1, 8, dtype=torch.float64)}
    monkeypatch.setattr(suite.checks.oracle, "SEGMENT", 16)
    monkeypatch.setattr(suite.checks.oracle, "_in_segments", None)
    assert "dq" in reference(replace(op, segmented=lambda p: p.T > 40), problem, inputs, cotangents, 0).values
    with pytest.raises(TypeError):
        reference(replace(op, segmented=lambda p: p.T == 40), problem, inputs, cotangents, 0)


def test_what_an_operator_approximates_is_computed_beside_it() -> None:
    registry = discover()
    linear, softmax = registry.operator("linear_attention"), registry.operator("softmax_attention")
    problem = linear.complete(Problem(B=2, T=30, H=2, K=8, dtype="fp32"), {"normalised": True, "feature_map": "elu1"})
    close = replace(linear, approximates=lambda p: softmax if p.axis("normalised") else None)
    close.implementations.update(linear.implementations)
    found = check_case(close, "naive", problem).approximation_error
    q, k, v = (draw_inputs(linear, problem, seed=0)[name][-1:, :, -1:].double() for name in ("q", "k", "v"))
    exact = softmax.oracle(q, k, v)[0]
    mine = linear.oracle(q, k, v, feature_map="elu1", normalised=True)[0]
    assert found == pytest.approx(float((mine - exact).norm() / exact.norm()))
    assert 0.1 < found < 2
    plain = close.complete(problem.replace(axes=()), {"normalised": False})
    assert check_case(close, "naive", plain).approximation_error is None
    assert check_case(close, "naive", problem.replace(pass_="fwdbwd")).approximation_error is None
    unlike = replace(linear, approximates=None)
    unlike.implementations.update(linear.implementations)
    assert check_case(unlike, "naive", problem).approximation_error is None


def test_slicer_takes_the_right_heads() -> None:
    problem = Problem(B=3, T=5, H=8, HK=4, HV=4)
    cut = slicer(problem, sequence=2, group=1)
    q = torch.arange(3 * 5 * 8).view(3, 5, 8)
    assert torch.equal(cut(q, "B T H K"), q[2:3, :, 2:4])
    k = torch.arange(3 * 5 * 4).view(3, 5, 4)
    assert torch.equal(cut(k, "B T HK K"), k[2:3, :, 1:2])


def test_long_gradients_are_checked_at_a_shorter_T() -> None:
    op = discover().operator("linear_attention")
    long = op.complete(Problem(T=2 * BACKWARD_T, K=4, dtype="fp32", pass_="bwd"))
    assert Checker(op, long, device="cpu", seed=0).check_T == BACKWARD_T
    assert Checker(op, long.replace(pass_="fwd"), device="cpu", seed=0).check_T is None


def test_repeatability_is_recorded(mean: Operator) -> None:
    assert check_case(mean, "torch", PROBLEM).repeatable is True
    calls = []

    @mean.implementation("drifts", origin="ours", passes={"fwd"})
    def drifts(q, k, v):
        calls.append(1)
        return mean.implementations["torch"].fn(q, k, v)[0] + 1e-7 * len(calls), None

    assert check_case(mean, "drifts", PROBLEM).repeatable is False


def test_interpreter_is_asked_for_in_time() -> None:
    from suite.errors import UsageError

    op = discover().operator("linear_attention")
    with pytest.raises(UsageError, match="TRITON_INTERPRET=1"):
        check_case(op, "triton_chunk", Problem(T=16, K=16, dtype="fp32"), device="interpret")
    with pytest.raises(UsageError, match="TRITON_INTERPRET=1"):
        check_case(op, "triton_chunk", Problem(T=16, K=16, dtype="bf16"), device="interpret")


@pytest.mark.parametrize(
    ("triton", "numpy", "refused"), [("3.6.0", "2.4.1", True), ("3.6.0", "2.3.5", False), ("3.9.0", "2.4.1", False)]
)
def test_interpreter_that_numpy_breaks(monkeypatch: pytest.MonkeyPatch, triton: str, numpy: str, refused: bool) -> None:
    import suite.checks.checker

    monkeypatch.setattr(suite.checks.checker, "version", {"triton": triton, "numpy": numpy}.__getitem__)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    op = discover().operator("linear_attention")
    problem = op.complete(Problem(T=16, K=16, dtype="fp32"))
    reason = suite.checks.checker.refusal(op, op.implementations["triton_chunk"], problem, {"chunk": 64}, "interpret")
    assert (reason is not None) == refused
    assert not refused or "pip install 'numpy<2.4'" in str(reason)


def test_a_state_is_held_to_its_own_precision(mean: Operator) -> None:
    op = discover().operator("linear_attention")
    problem = Problem(T=48, K=16, dtype="fp32", state_dtype="bf16", pass_="decode")
    found = check_case(op, "torch_step", problem)
    assert found.ok, found.reason
    assert found.errors["state"] > 1e-4
    assert check_case(op, "torch_step", problem.replace(state_dtype="fp32")).errors["state"] < 1e-4


SCALED = """
import torch
from suite import Axis, Cost, Operator
from suite.draw import normal, qkv

def inputs(p, generator):
    gain = normal(generator, p.HS, dtype=p.dtype)
    return {**qkv(p, generator), "gain": 100 * gain if p.axis("wide") else gain}

def scaled(q, k, v, gain):
    return v * gain[:, None], None

scaled_values = Operator("scaled_values", "o = g v", "none", inputs, scaled, tags=("linear",),
    cost=lambda p, tunables: Cost(p.tokens, p.tokens, 8 * p.tokens), passes=("fwd", "fwdbwd"), stateful=False,
    dims={"gain": "HS"}, constants=("gain",), axes=(Axis("wide", (False, True), drawn=True),))
scaled_values.implementation("torch", origin="baseline")(scaled)
"""


def test_a_constant_has_no_gradient_and_a_drawn_axis_is_told_to_nobody(tmp_path) -> None:
    operator = discover(load=[write(tmp_path, SCALED, "scaled_plugin.py")]).operator("scaled_values")
    problem = operator.complete(PROBLEM.replace(pass_="fwdbwd"), {"wide": True})
    inputs = draw_inputs(operator, problem, 0)
    assert inputs["gain"].abs().max() > 10
    assert {name for name, x in inputs.items() if x.requires_grad} == {"q", "k", "v"}
    check = check_case(operator, "torch", problem)
    assert check.status == "ok"
    assert set(check.errors) == {"o", "dv"}
