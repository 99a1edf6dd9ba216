"""Peers' own Triton code in Triton's interpreter, against the oracle: each implementation and pass by name.

A library that is not installed, or that this Triton's interpreter cannot run, is skipped with its reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kernels.scalar_decay.lightning_attention.spec import lightning_attention
from suite import Problem
from suite.checks.checker import Check, check_case, device_context, refusal
from suite.checks.inputs import draw_inputs
from suite.discovery import discover
from suite.errors import UsageError
from suite.problem import Value
from suite.registry import Implementation, Operator

# NaN and overflow in the interpreter are what some of these tests are about.
pytestmark = [pytest.mark.interpret, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

OPERATORS = discover().operators
PEERS = {
    "attention_decode": ("fla_step",),
    "delta_rule": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "gated_delta_product": ("fla_chunk",),
    "gated_delta_rule": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "gated_linear_attention": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "gated_scan": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "hgrn2": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "kimi_delta_attention": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "lightning_attention": ("fla_chunk", "fla_fused_recurrent", "fla_step", "lightning_attn"),
    "linear_attention": (
        "fla_chunk",
        "fla_fused_recurrent",
        "fla_step",
        "fla_parallel_based",
        "fla_fused_chunk_based",
    ),
    "mlstm": ("tfla_chunk", "tfla_step"),
    "retention": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "rwkv6": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "rwkv7": ("fla_chunk", "fla_fused_recurrent", "fla_step"),
    "selective_scan": ("mamba_ssm_step",),
    "sliding_window_attention": ("fla_parallel",),
    "softmax_attention": ("fla_parallel",),
    "ssd": ("fla_chunk", "fla_fused_recurrent", "fla_step", "mamba_chunk_scan", "mamba_step"),
    "taylor_attention": ("fla_parallel_based",),
}
# Their kernels are in CUDA C++, CuTe or TileLang, which Triton's interpreter does not know.
ELSEWHERE = {"flash_attn_2", "flash_attn_4", "flashinfer", "flash_qla", "mamba_ssm"}
OWN: Mapping[str, dict[str, Value]] = {
    "linear_attention/fla_parallel_based": {"feature_map": "taylor"},
    "linear_attention/fla_fused_chunk_based": {"feature_map": "taylor"},
    "ssd/mamba_chunk_scan": {"skip": True, "gated": True},
    "ssd/mamba_step": {"skip": True, "gated": True},
}
TUNABLES: Mapping[str, dict[str, Value]] = {"tfla_chunk": {"chunk": 64}, "mamba_chunk_scan": {"chunk": 64}}
# From the most that a library may serve to the least: packed sequences, states, more heads of v, one head of k and v.
SHAPES: tuple[dict[str, Any], ...] = (
    {"layout": "packed:ragged", "initial_state": True, "HV": 2},
    {"initial_state": True, "HV": 2},
    {"initial_state": True},
    {"layout": "packed:ragged", "HV": 2},
    {"layout": "packed:ragged", "H": 2, "HK": 1, "HV": 1},
    {"HV": 2},
    {"H": 2, "HK": 1, "HV": 1},
    {},
)
# From the most awkward head dims to those that every library takes.
DIMS: tuple[dict[str, int], ...] = ({"K": 16, "V": 32}, {"K": 32, "V": 32}, {"K": 64, "V": 64})

Row = tuple[Operator, Implementation, str]


def rows(*passes: str) -> list[Any]:
    """Each implementation with each of the passes that it has, under its name."""
    return [
        pytest.param((OPERATORS[operator], made, pass_), id=f"{operator}-{made.name}-{pass_}")
        for operator, names in PEERS.items()
        for made in (OPERATORS[operator].implementations[name] for name in names)
        for pass_ in passes
        if pass_ in made.passes
    ]


def differentiated_rows() -> list[Any]:
    """Each implementation once: forward and backward pass where it has both."""
    whole = {row.values[0][1] for row in rows("fwdbwd", "decode")}
    return rows("fwdbwd", "decode") + [row for row in rows("fwd") if row.values[0][1] not in whole]


def problems(row: Row, lengths: Sequence[int], **sizes: Any) -> list[Problem]:
    """Of each shape the first problem that the implementation serves; skips, with its reason, where it serves none."""
    operator, made, pass_ = row
    tunables = {**made.default_tunables, **TUNABLES.get(made.name, {})}
    served, reasons = dict[int, Problem](), list[str]()
    with device_context("interpret"):
        for (at, shape), dims, T in itertools.product(enumerate(SHAPES), DIMS, lengths):
            given = {"B": 1, "T": T, "H": 1, **dims, **shape, "pass_": pass_, **sizes}
            try:
                problem = operator.complete(Problem(**given), OWN.get(made.title, {}))
            except UsageError:
                continue
            if reason := refusal(operator, made, problem, tunables, "interpret"):
                reasons.append(reason)
            else:
                served.setdefault(at, problem)
    if not served:
        pytest.skip(reasons[0])
    return list(served.values())


def check(row: Row, at: Problem) -> Check:
    operator, made, _ = row
    return check_case(operator, made.name, at, TUNABLES.get(made.name), device="interpret")


def test_all_peers_whose_code_is_triton_are_here() -> None:
    peers = [(each.name, made) for each in OPERATORS.values() for made in each.implementations.values()]
    found = {(operator, made.name) for operator, made in peers if made.origin == "peer" and "interpret" in made.devices}
    assert found == {(operator, name) for operator, names in PEERS.items() for name in names}
    assert len(found) == 49
    others = {made.name for _, made in peers if made.origin == "peer" and "interpret" not in made.devices}
    assert others == ELSEWHERE


@pytest.mark.parametrize("row", differentiated_rows())
def test_peers_in_bf16(row: Row) -> None:
    """The first problem that the library serves, which asks the most of its adapter."""
    found = check(row, problems(row, (21, 64), dtype="bf16")[0])
    assert found.ok, found.reason


@pytest.mark.long
@pytest.mark.parametrize("row", rows("fwd", "fwdbwd", "decode"))
def test_peers_in_fp16_at_every_shape_that_they_serve(row: Row) -> None:
    """Dense and packed, with states and without, in more than one chunk."""
    for at in problems(row, (70, 128), dtype="fp16"):
        found = check(row, at)
        assert found.ok, f"{at}: {found.reason}"


# Of 2 heads the second decays by exp(-4): from 88.7 / 4 = 22.2 lacking tokens on, the factor is infinite.
SIZES = {"H": 2, "K": 16, "V": 16, "dtype": "fp16"}


def test_fla_s_final_state_is_right_where_the_adapter_serves_it() -> None:
    pytest.importorskip("fla.ops.simple_gla")
    at = lightning_attention.complete(Problem(T=42, initial_state=True, **SIZES))
    found = check_case(lightning_attention, "fla_chunk", at, device="interpret")
    assert found.ok, found.reason
    assert {"o", "final_state"} <= set(found.errors)


def test_fla_s_final_state_is_nan_and_its_output_right_where_the_adapter_refuses() -> None:
    pytest.importorskip("fla.ops.simple_gla")
    made = lightning_attention.implementations["fla_chunk"]
    at = lightning_attention.complete(Problem(T=41, initial_state=True, **SIZES))
    with device_context("interpret"):
        assert "lacks 23 of 64 tokens" in str(made.unsupported(at, {}, lightning_attention.axes))
        o, final = made.fn(**draw_inputs(lightning_attention, at, 0), output_final_state=True)
    assert o.isfinite().all()
    assert final is not None
    assert final[:, 0].isfinite().all()
    assert final[:, 1].isnan().all()
    found = check_case(lightning_attention, "fla_chunk", at.replace(initial_state=False), device="interpret")
    assert found.ok, found.reason
