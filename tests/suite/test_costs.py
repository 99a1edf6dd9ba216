"""Costs, against counts by brute force, and the roof."""

from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from suite import Cost, Problem
from suite.checks.inputs import draw_inputs, flat
from suite.discovery import discover
from suite.roof import figures, memory_gbs, place


def counted_flops(operator, problem) -> int:
    """Multiply-adds x 2 of the oracle's own products, token by token."""
    inputs = {n: x for n, x in draw_inputs(operator, problem, 0).items() if n != "cu_seqlens_cpu"}
    with FlopCounterMode(display=False) as counter:
        operator.oracle(
            **{n: x.double() if x.is_floating_point() else x for n, x in inputs.items()}, **operator.kwargs_of(problem)
        )
    return counter.get_total_flops()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("layout", ["dense", "packed:ragged"])
def test_softmax_flops_count_every_pair(causal: bool, layout: str) -> None:
    op = discover().operator("softmax_attention")
    problem = op.complete(Problem(B=1, T=50, H=2, K=8, V=12, dtype="fp32", layout=layout), {"causal": causal})
    flops = {"fwd": 0, "bwd": 0}
    bounds = problem.cu_seqlens or (0, 50)
    for first, end in pairwise(bounds):
        for t in range(first, end):
            for _ in range(first, t + 1 if causal else end):
                flops["fwd"] += problem.H * (2 * 8 + 2 * 12)  # q k^T and p v
                flops["bwd"] += problem.H * (3 * 2 * 8 + 2 * 2 * 12)  # q k^T, dq, dk; dp, dv
    for pass_, counted in flops.items():
        assert op.cost_of(problem.replace(pass_=pass_)).flops_alg == counted


def test_linear_flops_are_the_recurrence_s() -> None:
    op = discover().operator("linear_attention")
    problem = op.complete(Problem(B=2, T=9, H=3, K=8, V=12, dtype="fp32"))
    # The counter sees the read q S (2KV); the rank-one update of S is elementwise: one multiply and one add an element.
    read = counted_flops(op, problem)
    update = 2 * 8 * 12 * problem.B * problem.T * problem.H
    assert op.cost_of(problem).flops_alg == read + update


def touched_bytes(op, problem) -> int:
    """Bytes of every input, and of every output and gradient."""
    inputs = draw_inputs(op, problem, 0)
    float_inputs = {n: x for n, x in flat(inputs).items() if x.is_floating_point()}
    read = sum(x.numel() * x.element_size() for x in float_inputs.values())
    words = op.kwargs_of(problem) | ({"output_final_state": True} if problem.initial_state else {})
    o, final = op.oracle(**{n: x for n, x in inputs.items() if n != "cu_seqlens_cpu"}, **words)
    outs = {"o": o.to(inputs["v"].dtype), "final": final}
    written = sum(x.numel() * x.element_size() for x in flat(outs).values())
    # Backward: the outputs' gradients are read, each input's is written.
    return 2 * read + written if problem.pass_ == "bwd" else read + written


@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
@pytest.mark.parametrize(
    ("name", "own", "more"),
    [
        ("softmax_attention", {}, {"H": 4, "HK": 2, "HV": 2}),
        ("linear_attention", {}, {"H": 2, "HV": 4}),
        ("linear_attention", {"normalised": True}, {"H": 2, "initial_state": True}),
    ],
)
def test_compulsory_bytes_are_inputs_once_and_outputs_once(name: str, own: dict, more: dict, pass_: str) -> None:
    op = discover().operator(name)
    problem = op.complete(Problem(B=2, T=7, K=8, V=16, dtype="fp32", pass_=pass_, **more), own)
    assert op.cost_of(problem).bytes_compulsory == touched_bytes(op, problem)


def test_decode_reads_and_writes_its_state() -> None:
    op = discover().operator("linear_attention")
    problem = op.complete(Problem(B=2, T=64, H=2, K=8, V=16, dtype="fp32", pass_="decode"))
    inputs = draw_inputs(op, problem, 0)
    tokens = sum(inputs[n].numel() * 4 for n in ("q", "k", "v")) + 2 * 2 * 16 * 4
    state = sum(x.numel() * x.element_size() for n, x in flat(inputs).items() if n.startswith("state"))
    cost = op.cost_of(problem)
    assert cost.bytes_compulsory == tokens + 2 * state
    assert cost.bytes_state == cost.bytes_compulsory - tokens


@pytest.mark.parametrize("operator", sorted(discover().operators))
def test_every_implementation_has_a_cost_in_each_of_its_passes(operator: str) -> None:
    op = discover().operator(operator)
    for made in op.implementations.values():
        for pass_ in sorted(made.passes & set(op.passes)):
            problem = op.complete(Problem(T=64, H=2, K=32, dtype="fp32", pass_=pass_))
            cost = op.cost_of(problem, made, made.default_tunables)
            assert min(cost.flops_alg, cost.flops_exec, cost.bytes_compulsory) > 0, f"{made.name} {pass_}"


def test_what_an_implementation_does_not_serve_costs_what_the_operator_says() -> None:
    """Such a case becomes a record with its reason, so its cost must not raise."""
    op = discover().operator("linear_attention")
    made = op.implementations["triton_chunk"]
    for sizes, axes in (({"K": 512}, {}), ({"K": 32}, {"feature_map": "taylor", "normalised": True})):
        problem = op.complete(Problem(**{"T": 64, "dtype": "fp32", **sizes}), axes)
        assert made.unsupported(problem, made.default_tunables, op.axes)
        assert op.cost_of(problem, made, made.default_tunables) == op.cost_of(problem, None, made.default_tunables)


def test_fwdbwd_is_the_sum() -> None:
    op = discover().operator("linear_attention")
    problem = op.complete(Problem(T=64, K=8))
    parts = [op.cost_of(problem.replace(pass_=pass_), tunables={"chunk": 32}) for pass_ in ("fwd", "bwd")]
    both = op.cost_of(problem.replace(pass_="fwdbwd"), tunables={"chunk": 32})
    assert both.flops_exec == parts[0].flops_exec + parts[1].flops_exec
    assert both.bytes_compulsory == parts[0].bytes_compulsory + parts[1].bytes_compulsory


CEILINGS = {
    "copy": [{"bytes": 2**20, "gbs": 200.0}, {"bytes": 2**24, "gbs": 100.0}, {"bytes": 2**28, "gbs": 50.0}],
    "matmul": {"float32": {"tflops": 1.0}},
}


@pytest.mark.parametrize(
    ("size", "gbs"), [(1, 200.0), (2**20, 200.0), (2**22, 150.0), (2**24, 100.0), (2**26, 50.0), (2**30, 50.0)]
)
def test_copy_ceiling_by_working_set(size: int, gbs: float) -> None:
    assert memory_gbs(CEILINGS, size, llc_bytes=2**24) == pytest.approx(gbs)
    assert memory_gbs({}, size, llc_bytes=2**24) is None


@pytest.mark.parametrize(("size", "gbs"), [(2**22, 150.0), (2**25, 87.5), (2**26, 60.0), (2**30, 60.0)])
def test_reads_alone_raise_the_memory_ceiling_beyond_the_cache(size: int, gbs: float) -> None:
    assert memory_gbs(CEILINGS | {"read": {"bytes": 2**28, "gbs": 60.0}}, size, llc_bytes=2**24) == pytest.approx(gbs)
    # A read that was disturbed lowers nothing.
    slow = CEILINGS | {"read": {"bytes": 2**28, "gbs": 6.0}}
    assert memory_gbs(slow, 2**30, llc_bytes=2**24) == 50.0


def test_a_kernel_that_only_reads_is_plausible_above_the_copy() -> None:
    cost, ms = Cost(1e6, 1e6, 2**29), 2**29 / 56e9 * 1e3
    assert "GB/s" in place(cost, ms, "float32", CEILINGS, 2**24)["above"]
    found = place(cost, ms, "float32", CEILINGS | {"read": {"bytes": 2**28, "gbs": 60.0}}, 2**24)
    assert found["above"] == ""
    assert found["roof_pct"] == pytest.approx(100 * 56 / 60)


@pytest.mark.parametrize(
    ("cost", "ms", "bound", "percent"),
    [
        (Cost(1e9, 1e9, 1e6), 1.25, "compute", 80.0),
        (Cost(1e6, 1e6, 2**29), 2**29 / 50e9 * 1e3 / 0.9, "memory", 90.0),
        (Cost(1e9, 1e9, 1e6), 10.0, "latency", 10.0),
        (Cost(1e9, 1e9, 1e6), 1 / 0.45, "latency", 45.0),
        (Cost(1e9, 1e9, 1e6), 1 / 0.55, "compute", 55.0),
    ],
)
def test_place_under_the_roof(cost: Cost, ms: float, bound: str, percent: float) -> None:
    found = place(cost, ms, "float32", CEILINGS, llc_bytes=2**24)
    assert found["bound"] == bound
    assert found["roof_pct"] == pytest.approx(percent)
    assert not found["above"]


def test_above_the_roof() -> None:
    assert (
        "of the measured float32 matrix throughput"
        in place(Cost(1e9, 1e9, 1e6), 0.9, "float32", CEILINGS, 2**24)["above"]
    )
    assert "of the measured memory bandwidth" in place(Cost(1, 1, 2**29), 5.0, "float32", CEILINGS, 2**24)["above"]
    assert place(Cost(1e9, 1e9, 1e6), 0.9, "bfloat16", CEILINGS, 2**24) == {}


def test_figures() -> None:
    found = figures(Cost(2e9, 2e9, 1e6), 2.0, tokens=1000)
    assert found == {"tflops": 1.0, "gbs": 0.5, "intensity": 2000.0, "tokens_per_s": 500_000.0}


def test_flops_counter_counts_what_we_think() -> None:
    a = torch.ones(3, 4)
    with FlopCounterMode(display=False) as counter:
        a @ a.T
    assert counter.get_total_flops() == 2 * 3 * 4 * 3
