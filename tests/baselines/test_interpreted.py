"""Peers' own Triton code in Triton's interpreter, against the oracle: each implementation and pass by name.

A library that is not installed, or that this Triton's interpreter cannot run, is skipped with its reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import pytest

from baselines.scalar_decay.flash_linear_attention import supports_gated_chunk
from kernels.mlstm.spec import mlstm
from kernels.scalar_decay.lightning_attention.spec import lightning_attention
from suite import Problem
from suite.checks.checker import Check, Checker, check_case, device_context, refusal
from suite.checks.inputs import draw_inputs
from suite.discovery import discover
from suite.errors import UsageError
from suite.problem import Value
from suite.registry import Implementation, Operator
from suite.targets import aim

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
# Values of own axes that ask the most of an adapter; other tests have the defaults.
OWN: Mapping[str, dict[str, Value]] = {
    "delta_rule": {"l2norm": True, "negative_eigenvalues": True},
    "gated_delta_product": {"l2norm": True, "steps": 3},
    "gated_delta_rule": {"l2norm": True},
    "gated_scan": {"input_scaling": "sqrt"},
    "kimi_delta_attention": {"l2norm": True},
    "linear_attention": {"feature_map": "elu1", "normalised": True},
    "sliding_window_attention": {"window": 7},
    "ssd": {"skip": True, "gated": True},
}
TAYLOR = ("fla_parallel_based", "fla_fused_chunk_based")
TUNABLES: Mapping[str, dict[str, Value]] = {"tfla_chunk": {"chunk": 64}, "mamba_chunk_scan": {"chunk": 64}}
# What the kernels of an entry have in their names, by the adapter that must call this entry and no other.
KERNELS = {
    "fla_chunk": "chunk_",
    "fla_fused_recurrent": "fused_recurrent_",
    "fla_step": "fused_recurrent_",
    "fla_parallel": "parallel_attn_",
    "fla_parallel_based": "parallel_based_",
    "fla_fused_chunk_based": "fused_chunk_based_",
    "lightning_attn": "_fwd_kernel",
    "tfla_chunk": "mlstm_chunkwise_",
    "tfla_step": "recurrent_step_",
    "mamba_chunk_scan": "_chunk_scan_",
    "mamba_step": "_selective_scan_update_",
    "mamba_ssm_step": "_selective_scan_update_",
    "attention_decode/fla_step": "attn_decoding_",
    # Its faster form, which it takes where it is told the gates' lower bound.
    "rwkv7/fla_chunk": "intra_tensorcore",
}
# From the most awkward head dims to those that every library takes.
DIMS: tuple[dict[str, int], ...] = ({"K": 16, "V": 32}, {"K": 32, "V": 32}, {"K": 64, "V": 64})
# Batches with two groups of heads: repeated in another order, they give wrong answers.
HEADS: tuple[dict[str, Any], ...] = tuple(
    {"B": 2, **heads, "initial_state": stateful}
    for stateful in (True, False)
    for heads in ({"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HV": 4})
)

Row = tuple[Operator, Implementation, str]


def shapes(layout: str) -> tuple[dict[str, Any], ...]:
    """From the most that a library may serve to the least: packed, states, more heads of v, one head of k and v."""
    return (
        {"layout": layout, "initial_state": True, "HV": 2},
        {"initial_state": True, "HV": 2},
        {"initial_state": True},
        {"layout": layout, "HV": 2},
        {"layout": layout, "H": 2, "HK": 1, "HV": 1},
        {"HV": 2},
        {"H": 2, "HK": 1, "HV": 1},
        {},
    )


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


def tunables_of(made: Implementation) -> dict[str, Value]:
    return {**made.default_tunables, **TUNABLES.get(made.name, {})}


def skip_without(made: Implementation) -> None:
    if gone := made.missing():
        pytest.skip(gone)


def own_axes(operator: Operator, made: Implementation, plain: bool) -> dict[str, Value]:
    if operator.name == "linear_attention" and made.name in TAYLOR:
        return {"feature_map": "taylor", "normalised": not plain}
    return {} if plain else dict(OWN.get(operator.name, {}))


def problems(
    row: Row, lengths: Sequence[int], shapes: Sequence[dict[str, Any]], *, plain: bool = False, **sizes: Any
) -> list[Problem]:
    """Of each shape the first problem that the implementation serves; there must be one.

    plain: with the default values of own axes
    Skips, with its reason, where the library is missing or this Triton's interpreter cannot run it.
    """
    operator, made, pass_ = row
    skip_without(made)
    tunables = tunables_of(made)
    served, reasons = dict[int, Problem](), list[str]()
    with device_context("interpret"):
        for (at, shape), dims, T in itertools.product(enumerate(shapes), DIMS, lengths):
            given = {"B": 1, "T": T, "H": 1, **dims, **shape, "pass_": pass_, **sizes}
            try:
                problem = operator.complete(Problem(**given), own_axes(operator, made, plain))
            except UsageError:
                continue
            if problem.initial_state and not operator.stateful:
                continue
            if reason := operator.refused(problem) or made.unsupported(problem, tunables, operator.axes):
                reasons.append(reason)
            elif reason := refusal(operator, made, problem, tunables, "interpret"):
                pytest.skip(reason)
            else:
                served.setdefault(at, problem)
    assert served, f"{made.title} serves no {pass_}: {reasons[0]}"
    return list(served.values())


@pytest.fixture
def architecture(row: Row, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hopper, as everywhere; Ampere for gradients of gates, where FLA raises on Hopper under Triton 3.4 to 3.7.0."""
    _, made, pass_ = row
    if made.supports is not supports_gated_chunk or pass_ == "fwd" or made.missing():
        yield
        return
    with aim("sm_80"):
        with device_context("interpret"):
            module = import_module("fla.ops.common.chunk_o")
        # It asked when it was imported, which another test may have done.
        monkeypatch.setattr(module, "IS_NVIDIA_HOPPER", False)
        yield


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the kernels that ran."""
    executor = import_module("triton.runtime.interpreter").GridExecutor
    names, run = set[str](), executor.__call__

    def noting(self: Any, *args: Any, **options: Any) -> Any:
        names.add(self.fn.__name__)
        return run(self, *args, **options)

    monkeypatch.setattr(executor, "__call__", noting)
    return names


def check(row: Row, at: Problem) -> Check:
    operator, made, _ = row
    return check_case(operator, made.name, at, TUNABLES.get(made.name), device="interpret")


def check_scaled(row: Row, at: Problem, scale: float) -> Check:
    """As `check`, with another scale than the default where the implementation takes one."""
    operator, made, _ = row
    if "scale" in made.parameters:
        step = None if operator.step is None else partial(operator.step, scale=scale)
        operator = replace(operator, oracle=partial(operator.oracle, scale=scale), step=step)
        made = replace(made, fn=partial(made.fn, scale=scale))
    with device_context("interpret") as device:
        checker = Checker(operator, at, device=device, seed=0)
        return checker.check(made, tunables_of(made))


def test_all_peers_whose_code_is_triton_are_here() -> None:
    peers = [(each.name, made) for each in OPERATORS.values() for made in each.implementations.values()]
    found = {(operator, made.name) for operator, made in peers if made.origin == "peer" and "interpret" in made.devices}
    assert found == {(operator, name) for operator, names in PEERS.items() for name in names}
    assert len(found) == 49
    others = {made.name for _, made in peers if made.origin == "peer" and "interpret" not in made.devices}
    assert others == ELSEWHERE


@pytest.mark.usefixtures("architecture")
@pytest.mark.parametrize("row", differentiated_rows())
def test_outputs_states_and_gradients_in_fp16(row: Row) -> None:
    """The first problem that the library serves, which asks the most of its adapter."""
    found = check(row, problems(row, (13, 64), shapes("packed:halves"), dtype="fp16")[0])
    assert found.ok, found.reason


@pytest.mark.parametrize("row", rows("fwd", "decode"))
def test_batches_of_unequal_heads_at_another_scale_in_bf16(row: Row, launched: set[str]) -> None:
    found = check_scaled(row, problems(row, (9, 64), HEADS, plain=True, dtype="bf16")[0], scale=0.4)
    assert found.ok, found.reason
    _, made, _ = row
    named = KERNELS.get(made.title) or KERNELS[made.name]
    assert [name for name in launched if named in name], launched


@pytest.mark.parametrize("sizes", [{"pass_": "fwdbwd"}, {"pass_": "fwd", "initial_state": True, "HV": 2}], ids=str)
def test_tfla_with_the_sigmoid_gate(sizes: dict[str, Any]) -> None:
    made = mlstm.implementations["tfla_chunk"]
    skip_without(made)
    at = mlstm.complete(Problem(**{"T": 64, "K": 16, "V": 32, "dtype": "bf16", **sizes}), {"gate": "sigmoid"})
    # Input gates of a model are small: at their default scale, a normaliser that must not be there would divide by 1.
    found = check_scaled((mlstm, made, at.pass_), at, scale=1e5)
    assert found.ok, found.reason


# Problem, own axes, words of the adapter's refusal, what a check says of the library without it.
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Value], str, str]] = {
    "gated_scan/fla_chunk": (
        {"T": 20, "pass_": "fwdbwd", "initial_state": True},
        {},
        "no gradient to the initial state, and takes none of the final one",
        "dinitial_state",
    ),
    "gated_scan/fla_fused_recurrent": (
        {"T": 20, "initial_state": True},
        {},
        "returns the final state in float16, not in float32",
        "final_state has dtype float16",
    ),
    "linear_attention/fla_fused_chunk_based": (
        {"T": 20, "V": 24},
        {"feature_map": "taylor"},
        "takes V up to 16 and from 32 on, not 24",
        "must be a power of 2",
    ),
    "mlstm/tfla_chunk": (
        {"T": 64, "V": 32, "pass_": "fwdbwd", "initial_state": True},
        {"gate": "sigmoid"},
        "leaves the final state's in those of the forget gate out",
        "dforget_gate: error",
    ),
    "rwkv6/fla_fused_recurrent": (
        {"T": 20, "pass_": "fwdbwd", "initial_state": True},
        {},
        "takes no gradient of the final state",
        "dlog_decay: error",
    ),
}


@pytest.mark.parametrize("title", FAULTS)
def test_what_an_adapter_refuses_is_a_fault_of_the_library(title: str) -> None:
    sizes, own, words, fault = FAULTS[title]
    operator = OPERATORS[title.partition("/")[0]]
    made = operator.implementations[title.partition("/")[2]]
    skip_without(made)
    at = operator.complete(Problem(**{"K": 16, "dtype": "fp16", **sizes}), own)
    with device_context("interpret") as device:
        assert words in str(made.unsupported(at, tunables_of(made), operator.axes))
        found = Checker(operator, at, device=device, seed=0).check(made, tunables_of(made))
    assert not found.ok
    assert fault in found.reason


@pytest.mark.long
@pytest.mark.usefixtures("architecture")
@pytest.mark.parametrize("row", rows("fwd", "fwdbwd", "decode"))
def test_every_shape_that_they_serve_in_fp16(row: Row) -> None:
    """Dense and packed, with states and without, in more than one chunk."""
    for at in problems(row, (70, 128), shapes("packed:ragged"), plain=True, dtype="fp16"):
        found = check(row, at)
        assert found.ok, f"{at}: {found.reason}"


# Of 2 heads the second decays by exp(-4): from 88.7 / 4 = 22.2 lacking tokens on, the factor is infinite.
SIZES = {"H": 2, "K": 16, "V": 16, "dtype": "fp16"}


def test_fla_s_final_state_is_right_where_the_adapter_serves_it() -> None:
    skip_without(lightning_attention.implementations["fla_chunk"])
    at = lightning_attention.complete(Problem(T=42, initial_state=True, **SIZES))
    found = check_case(lightning_attention, "fla_chunk", at, device="interpret")
    assert found.ok, found.reason
    assert {"o", "final_state"} <= set(found.errors)


def test_fla_s_final_state_is_nan_and_its_output_right_where_the_adapter_refuses() -> None:
    made = lightning_attention.implementations["fla_chunk"]
    skip_without(made)
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
