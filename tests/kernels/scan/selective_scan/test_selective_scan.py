"""triton_chunk and triton_step of selective_scan against the oracle, in Triton's interpreter, and their host code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.scan.selective_scan.chunk import chunk_selective_scan, configuration, search
from kernels.scan.selective_scan.decode import step_selective_scan
from kernels.scan.selective_scan.spec import recurrence, selective_scan
from suite import Problem
from suite.checks.inputs import draw_inputs
from suite.errors import UsageError
from suite.numerics import difference
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.scan.cases import SMS, STATE, checked, short_segments, stepped
from tests.parameters import with_long

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one_token": ("on-chip", {"T": 1, **STATE}),
    "tail": ("on-chip", {"T": 11, "B": 2, **STATE}),
    "groups": ("on-chip", {"T": 12, "H": 2, "HV": 4, "V": 12, "dtype": "fp16"}),
    "odd_modes": ("on-chip", {"T": 10, "K": 20, "V": 24, **STATE}),
    "packed": ("on-chip", {"T": 22, "V": 16, "layout": "packed:halves", **STATE}),
    "segments": ("segments", {"T": 70, "V": 8, **STATE}),
    "segments_packed": ("segments", {"T": 90, "V": 4, "layout": "packed:ragged"}),
}


segments_of_32_tokens = short_segments("kernels.scan.plan.LEAST")


def problem(**sizes: Any) -> Problem:
    return selective_scan.complete(Problem(**{"H": 1, "K": 16, "V": 32, "dtype": "fp32", "pass_": "fwdbwd", **sizes}))


@pytest.mark.interpret
@pytest.mark.parametrize("name", with_long(CASES, "segments", "tail", "packed"))
def test_outputs_states_and_gradients(name: str) -> None:
    regime, sizes = CASES[name]
    names = {"o", "du", "ddelta", "dA", "dB", "dC", "dD", "dz", "ddelta_bias"}
    checked(selective_scan, problem(**sizes), regime, names)


@pytest.mark.interpret
@pytest.mark.parametrize("sizes", [{"B": 2, "V": 24}, {"H": 2, "HV": 4, "K": 60, "V": 10}], ids=["one", "groups"])
def test_step(sizes: dict[str, Any]) -> None:
    case = problem(**sizes, pass_="decode")
    stepped(selective_scan, case)


def run(inputs: dict[str, torch.Tensor], first: int = 0, end: int | None = None, **words: Any) -> Any:
    part = {n: x[:, first:end] if n in ("u", "delta", "B", "C", "z") else x for n, x in inputs.items()}
    return chunk_selective_scan(**part, output_final_state=True, **words)


@pytest.mark.interpret
def test_two_halves_with_the_carried_state_are_the_whole() -> None:
    inputs = draw_inputs(selective_scan, problem(T=30, V=16, pass_="fwd"), 0)
    with aim("sm_90"):
        whole, end = run(inputs)
        first, state = run(inputs, 0, 13)
        second, last = run(inputs, 13, initial_state=state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, end, rtol=1e-4, atol=1e-5)


@pytest.mark.interpret
def test_extreme_steps() -> None:
    """Steps that forget everything, and steps below fp32's resolution of 1 + x, give right results and gradients."""
    inputs = draw_inputs(selective_scan, problem(T=24, V=8), 0)
    delta = inputs["delta"].detach().clone()
    delta[:, 3::7], delta[:, 4::7], delta[:, 5::7] = 1e4, -30.0, -1e4
    inputs["delta"] = delta.requires_grad_()

    def gradients(function, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = {n: x.detach().to(dtype).requires_grad_() for n, x in inputs.items()}
        o, _ = function(**leaves)
        return [o, *torch.autograd.grad(o.square().sum(), list(leaves.values()))]

    with aim("sm_90"):
        found = gradients(chunk_selective_scan, torch.float32)
    for name, ours, oracle in zip(["o", *inputs], found, gradients(recurrence, torch.float64), strict=True):
        assert difference(ours, oracle).error < 1e-4, name


@pytest.mark.long
@pytest.mark.interpret
@pytest.mark.parametrize("regime", SMS)
def test_long_memory(regime: str) -> None:
    """Steps of 1e-3 and a slow mode: what 2000 tokens ago came in is still there."""
    case = problem(T=2000, V=8, pass_="fwd")
    inputs = draw_inputs(selective_scan, case, 0)
    inputs["delta"] *= 0
    inputs["delta_bias"] = torch.full_like(inputs["delta_bias"], -6.9)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        o, _ = chunk_selective_scan(**inputs)
    expected, _ = recurrence(**{n: x.double() for n, x in inputs.items()})
    assert difference(o, expected, 1).error < 1e-4


def meta_inputs(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    shapes = {
        "u": (1, 9, 2, 16),
        "delta": (1, 9, 2, 16),
        "A": (2, 16, 16),
        "B": (1, 9, 1, 16),
        "C": (1, 9, 1, 16),
        "D": (2, 16),
        "z": (1, 9, 2, 16),
        "delta_bias": (2, 16),
    }
    return {name: meta(*shape) for name, shape in shapes.items()} | changes


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


BAD: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "delta": ({"delta": meta(1, 8, 2, 16)}, "delta is"),
    "modes": ({"B": meta(1, 9, 1, 8)}, "C is"),
    "groups": ({"B": meta(1, 9, 3, 16), "C": meta(1, 9, 3, 16)}, "3 groups"),
    "D": ({"D": meta(16)}, "D is"),
    "state": ({"initial_state": meta(1, 2, 16, 8)}, "initial_state is"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(UsageError, match=words):
        chunk_selective_scan(**meta_inputs(**changes))


def test_a_step_takes_one_token() -> None:
    with pytest.raises(UsageError, match="9 tokens"):
        step_selective_scan(**meta_inputs(), state=meta(1, 2, 16, 16))


def test_modes_are_spread_over_threads_before_sequences_are_cut() -> None:
    """Eight sequences of the largest layer fill the GPU in the widest tile, four in a narrower one, one in segments."""

    def output(**sizes: Any) -> dict[str, Any]:
        with aim("sm_90"):
            return configuration(problem(T=8192, K=16, V=64, pass_="fwd", HV=80, **sizes), {})["output"]

    assert output(B=8)["width"] == 32
    some = output(B=4)
    assert (some["regime"], some["width"]) == ("on-chip", 16)
    assert output()["regime"] == "segments"


def test_search_starts_with_the_tables_own_launch() -> None:
    case = problem(T=8192, HV=16, V=64)
    with aim("sm_90"):
        chosen, found = configuration(case, {}), search(case, {})
    assert len(found) == len(chosen) == 4
    for (name, own), launches in zip(chosen.items(), found.values(), strict=True):
        assert launches[0] == {field: own[field] for field in ("width", "rows", "warps")}, name
    # The distance of the checkpoints is what the forward pass wrote: the gradients' rows are not free.
    (rows,) = {each["rows"] for each in list(found.values())[-1]}
    assert rows == chosen["gradients"]["rows"]
