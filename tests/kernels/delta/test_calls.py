"""What the host code of the delta rules decides without a kernel: refusals, regimes, tuned launches, costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import kernels.delta.delta_rule.decode
import kernels.delta.gated_delta_product.decode
import kernels.delta.gated_delta_rule.decode  # noqa: F401  (registers)
from kernels.delta.delta_rule.chunk import chunk_delta_rule
from kernels.delta.delta_rule.decode import step_delta_rule
from kernels.delta.delta_rule.spec import delta_rule
from kernels.delta.gated_delta_product.chunk import chunk_gated_delta_product
from kernels.delta.gated_delta_product.spec import gated_delta_product
from kernels.delta.gated_delta_rule.chunk import chunk_gated_delta_rule
from kernels.delta.gated_delta_rule.spec import gated_delta_rule
from kernels.delta.plan import of_problem, plan
from kernels.delta.register import shape_of
from suite import Operator, Problem
from suite.checks.inputs import draw_inputs, flat
from suite.errors import UsageError
from suite.targets import REPRESENTATIVES, aim
from suite.tuning import forcing

OPERATORS = [delta_rule, gated_delta_rule, gated_delta_product]


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "odd_chunk": ({"chunk": 48}, "chunk must be a power of two >= 16, got 48"),
    "length": ({"k": meta(1, 39, 2, 32)}, "k is"),
    "dtype": ({"v": meta(1, 40, 2, 32, dtype=torch.float16)}, "v is"),
    "heads": ({"v": meta(1, 40, 3, 32), "beta": meta(1, 40, 3)}, "2 heads of q and k do not divide 3"),
    "beta": ({"beta": meta(1, 40, 1)}, "beta is"),
    "too_wide": ({"v": meta(1, 40, 2, 300)}, "at most 256"),
    "state": ({"initial_state": meta(1, 2, 32, 16)}, "initial state S"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, words = BAD[name]
    arguments: dict[str, Any] = {each: meta(1, 40, 2, 32) for each in ("q", "k", "v")} | {"beta": meta(1, 40, 2)}
    with pytest.raises(UsageError, match=words):
        chunk_delta_rule(**{**arguments, **changes})


def test_steps_have_to_agree_with_the_shapes() -> None:
    q, k, beta = meta(1, 8, 1, 16), meta(1, 8, 3, 1, 16), meta(1, 8, 3, 1)
    with pytest.raises(UsageError, match=r"steps = 2 where k is .*; give steps = 3"):
        chunk_gated_delta_product(q, k, k, beta, meta(1, 8, 1), steps=2)


def test_the_gate_has_a_value_for_each_value_head() -> None:
    q, v = meta(1, 8, 1, 16), meta(1, 8, 2, 16)
    with pytest.raises(UsageError, match="log_decay is"):
        chunk_gated_delta_rule(q, q, v, meta(1, 8, 2), meta(1, 8, 1))


def test_a_state_that_can_not_be_updated_in_place_is_refused() -> None:
    token, beta = meta(1, 1, 1, 16), meta(1, 1, 1)
    with pytest.raises(UsageError, match="not contiguous"):
        step_delta_rule(token, token, token, beta, state=meta(1, 1, 16, 16).transpose(2, 3))
    with pytest.raises(UsageError, match="must be"):
        step_delta_rule(token, token, token, beta, state=meta(1, 2, 16, 16))
    with pytest.raises(UsageError, match="2 tokens"):
        step_delta_rule(*[meta(1, 2, 1, 16)] * 3, meta(1, 2, 1), state=meta(1, 1, 16, 16))


def test_heads_outside_the_contract_are_unsupported() -> None:
    supports = gated_delta_rule.supports
    assert supports is not None
    for problem in (Problem(H=4, HK=2, HV=2), Problem(H=2, HK=1)):
        assert "HK" in (supports(problem) or "")
    assert supports(Problem(H=2, HV=8)) is None


def configured(operator: Operator, sms: int = 132, **sizes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"H": 16, "K": 128, "pass_": "fwdbwd", **sizes}
    problem = operator.complete(Problem(**given))
    made = operator.implementations["triton_chunk"]
    assert made.configuration is not None
    with aim(replace(REPRESENTATIVES["sm_90"], sms=sms)):
        return dict(made.configuration(problem, {"chunk": 64}))


def test_regime_follows_from_what_fills_the_gpu() -> None:
    assert {each["regime"] for each in configured(gated_delta_rule, B=16, T=8192).values()} == {"on-chip"}
    assert {each["regime"] for each in configured(gated_delta_rule, B=1, T=8192).values()} == {"segments"}
    assert {each["regime"] for each in configured(gated_delta_rule, B=1, T=256).values()} == {"on-chip"}
    # Steps lengthen a sequence as tokens do.
    assert {each["regime"] for each in configured(gated_delta_product, B=1, T=600).values()} == {"segments"}


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda each: each.name)
@pytest.mark.parametrize("B", [1, 16])
def test_a_tuned_launch_is_taken(operator: Operator, B: int) -> None:
    """Every key that `search` names is asked for by the plan, and its first candidate is the plan's own."""
    problem = operator.complete(Problem(B=B, T=8192, H=16, K=64, pass_="fwdbwd"))
    made = operator.implementations["triton_chunk"]
    assert made.search is not None
    assert made.configuration is not None
    with aim("sm_90"):
        candidates = made.search(problem, {"chunk": 64})
        before = made.configuration(problem, {"chunk": 64})
        assert len(candidates) == len(before)
        for (kind, own), (key, launches) in zip(before.items(), candidates.items(), strict=True):
            assert f"/{kind}/" in key
            assert 4 <= len(launches) <= 12
            first = launches[0]
            assert (own["slice"], own["warps"], own["stages"]) == (first["width"], first["warps"], first["stages"])
            with forcing({key: {"width": 16, "warps": 2, "stages": 3}}):
                forced = made.configuration(problem, {"chunk": 64})[kind]
            assert (forced["slice"], forced["warps"], forced["stages"]) == (16, 2, 3)


@pytest.mark.parametrize("layout", ["dense", "packed:ragged"])
@pytest.mark.parametrize("T", [9000, 64])
def test_every_chunk_has_a_slot_and_segments_cut_none(layout: str, T: int) -> None:
    problem = gated_delta_rule.complete(Problem(T=T, H=16, K=64, layout=layout))
    with aim("sm_90"):
        chosen = plan(shape_of(problem, {"chunk": 64}, gated=True))
    assert chosen.output.segment_size % 64 == 0 or not chosen.output.segmented
    assert chosen.prepare.segment_size % 64 == 0
    bounds = problem.cu_seqlens or (0, T)
    needed = sum(-(-(end - first) // 64) for first, end in pairwise(bounds))
    assert needed <= chosen.dq.slots <= needed + (0 if layout == "dense" else problem.N)


@pytest.mark.parametrize(("B", "together"), [(1, 8), (2, 16), (16, 32)])
def test_chunks_are_prepared_by_programs_that_fill_the_gpu(B: int, together: int) -> None:
    """2048 chunks of a call of B = 1 are 256 programs, just below two per SM."""
    problem = gated_delta_rule.complete(Problem(B=B, T=8192, H=16, K=128))
    with aim("sm_90"):
        chosen = plan(shape_of(problem, {"chunk": 64}, gated=True))
        short = plan(shape_of(problem.replace(B=1, T=1024), {"chunk": 64}, gated=True))
    assert chosen.prepare.segment_size == together * 64
    assert short.prepare.segment_size == 64
    # Three of them share an SM's registers where there are so many.
    assert bool(chosen.prepare.tile.registers) == (B == 16)
    assert not short.prepare.tile.registers


def counted(operator: Operator, problem: Problem) -> int:
    """Multiply-adds x 2 of the oracle's einsums."""
    inputs = draw_inputs(operator, problem, 0)
    told = {axis.name: problem.axis(axis.name) for axis in operator.axes if not axis.drawn}
    with FlopCounterMode(display=False) as counter:
        operator.oracle(**{name: x.double() for name, x in inputs.items()}, **told)
    return counter.get_total_flops()


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda each: each.name)
def test_forward_flops_are_the_recurrence_s(operator: Operator) -> None:
    problem = operator.complete(Problem(B=2, T=9, H=3, HV=6, K=8, V=12, dtype="fp32"))
    steps = 2 if operator is gated_delta_product else 1
    # The einsums read the state once a step and once a token; the rank-one update is elementwise, 2 an element.
    updates = 2 * 8 * 12 * problem.tokens * problem.HS * steps
    assert operator.cost_of(problem).flops_alg == counted(operator, problem) + updates


def test_backward_flops_count_each_product_of_the_reverse_recurrence() -> None:
    """State again: k^T S and the update. Read: dq, dS. Each step: dS^T k, dS w, S y, dS - k y^T."""
    products = {"state": 2, "read": 2, "step": 4}
    for steps, operator in ((1, gated_delta_rule), (2, gated_delta_product)):
        problem = operator.complete(Problem(T=5, H=2, K=8, V=12, dtype="fp32", pass_="bwd"))
        each = products["state"] * steps + products["read"] + products["step"] * steps
        assert operator.cost_of(problem).flops_alg == 2 * 8 * 12 * 5 * 2 * each


@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda each: each.name)
def test_compulsory_bytes_are_inputs_once_and_outputs_once(operator: Operator, pass_: str) -> None:
    sizes: dict[str, Any] = {"B": 2, "T": 7, "H": 2, "HV": 4, "K": 8, "V": 16, "dtype": "fp16", "initial_state": True}
    problem = operator.complete(Problem(**{**sizes, "pass_": pass_}))
    inputs = flat(draw_inputs(operator, problem, 0))
    read = sum(x.numel() * x.element_size() for x in inputs.values())
    outputs = 2 * 7 * 4 * 16 * 2 + inputs["initial_state"].numel() * 4
    # Backward: the outputs' gradients are read, each input's is written.
    assert operator.cost_of(problem).bytes_compulsory == (2 * read + outputs if pass_ == "bwd" else read + outputs)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda each: each.name)
def test_decode_reads_and_writes_its_state(operator: Operator) -> None:
    problem = operator.complete(Problem(B=2, T=64, H=2, HV=4, K=8, V=16, dtype="fp32", pass_="decode"))
    inputs = draw_inputs(operator, problem, 0)
    tokens = sum(x.numel() * 4 for name, x in inputs.items() if name != "state") + 2 * 4 * 16 * 4
    cost = operator.cost_of(problem)
    assert cost.bytes_state == 2 * inputs["state"].numel() * 4
    assert cost.bytes_compulsory == tokens + cost.bytes_state


def test_inputs_are_what_a_layer_gives() -> None:
    problem = gated_delta_rule.complete(Problem(T=200, H=4, K=32, dtype="fp32"), {"negative_eigenvalues": True})
    inputs = draw_inputs(gated_delta_rule, problem, 0)
    for name in ("q", "k"):
        torch.testing.assert_close(inputs[name].norm(dim=-1), torch.ones(1, 200, 4))
    assert 1.5 < inputs["beta"].max() <= 2.0
    assert inputs["beta"].min() >= 0.0
    assert inputs["log_decay"].max() <= 0.0
    raw = gated_delta_rule.complete(problem.replace(axes=()), {"l2norm": True})
    assert draw_inputs(gated_delta_rule, raw, 0)["k"].norm(dim=-1).mean() > 4.0


def test_executed_flops_count_the_inverse_once() -> None:
    """Whatever the slices of V; in segments the maps come on top."""
    problem = gated_delta_rule.complete(Problem(B=16, T=4096, H=16, K=128))
    made = gated_delta_rule.implementations["triton_chunk"]
    assert made.flops_exec is not None
    C, K, V = 64, 128, 128
    # Keys by keys; then a merge is two products: three in blocks of 16, two of the whole tile.
    inverse = 2 * C * C * K + 3 * 2 * (C // 16) * 2 * 16**3 + 2 * 2 * 2 * C**3
    # k S, q S and the update; the inverse's and the scores' products with V; queries by keys.
    rest = 3 * 2 * C * K * V + 2 * 2 * C * C * V + 2 * C * C * K
    with aim("sm_90"):
        assert made.flops_exec(problem, {"chunk": C}) == problem.tokens * problem.HS // C * (rest + inverse)
        short = made.flops_exec(problem.replace(B=1), {"chunk": C}) * 16
        assert short > 1.5 * made.flops_exec(problem, {"chunk": C})


def test_executed_flops_of_a_backward_pass() -> None:
    problem = gated_delta_rule.complete(Problem(B=16, T=4096, H=16, K=128, pass_="bwd"))
    made = gated_delta_rule.implementations["triton_chunk"]
    assert made.flops_exec is not None
    C, K, V = 64, 128, 128
    # The sweep: k dS, q^T dO, k^T y; P dO and N^T.
    sweep = 3 * 2 * C * K * V + 2 * 2 * C * C * V
    # dq, dk and r dS^T; dO and y by r; q and k by k, and what pairs give to dq and to dk twice.
    gradients = 3 * 2 * C * K * V + 2 * 2 * C * C * V + 5 * 2 * C * C * K
    with aim("sm_90"):
        executed = made.flops_exec(problem, {"chunk": C})
        width = plan(of_problem(problem, C, gated=True, steps=1)).dk.tile.width
    # S by dS, of which the diagonal of each tile of columns of V is taken.
    passing = 2 * width * K * V
    assert executed == problem.tokens * problem.HS // C * (sweep + gradients + passing)


@pytest.mark.parametrize(
    ("arch", "value_heads", "columns", "normalised"),
    [("sm_90", 32, 128, True), ("sm_100", 16, 128, True), ("sm_100", 32, 64, False)],
)
def test_blackwell_cuts_shared_keys(arch: str, value_heads: int, columns: int, normalised: bool) -> None:
    problem = gated_delta_rule.complete(Problem(T=1024, H=16, HV=value_heads, K=128), {"l2norm": True})
    with aim(arch):
        shape = of_problem(problem, 64, gated=True, steps=1)
        chosen = plan(shape)
    assert chosen.columns == columns
    assert chosen.dq.slices == chosen.dk.slices == 128 // columns
    assert ("norm" in shape.variant) == normalised
