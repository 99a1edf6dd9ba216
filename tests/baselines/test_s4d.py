"""S4D in PyTorch, as a recurrence and by FFT, against the oracle; its cost."""

from __future__ import annotations

import math

import pytest

import baselines.scan.s4d.recurrent  # noqa: F401  (registers)
from baselines.scan.s4d.recurrent import fft_size
from kernels.scan.s4d.spec import s4d
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.discovery import ROOT
from suite.targets import aim
from tests.kernels.scan.s4d.forms import forms, problem_of, table, times

GRADIENTS = {"o", "du", "dlog_dt", "dA_real", "dA_imag", "dC", "dD"}
STATE = {"final_state", "dinitial_state"}


def problem(**changes) -> Problem:
    sizes = {"T": 40, "H": 2, "K": 8, "V": 12, "dtype": "fp32", "pass_": "fwdbwd"}
    return s4d.complete(Problem(**sizes | changes))


@pytest.mark.parametrize("implementation", ["naive", "torch_fft"])
@pytest.mark.parametrize(
    "sizes", [{"T": 1}, {"T": 130, "B": 2, "HV": 4}, {"dtype": "bf16"}], ids=["one_token", "heads", "bf16"]
)
def test_sequences_match_the_oracle(implementation: str, sizes) -> None:
    found = check_case(s4d, implementation, problem(**sizes))
    assert found.ok, found.reason
    assert set(found.errors) == GRADIENTS


@pytest.mark.parametrize("layout", ["dense", "packed:ragged"])
def test_states_are_carried(layout: str) -> None:
    found = check_case(s4d, "naive", problem(layout=layout, initial_state=True))
    assert found.ok, found.reason
    assert set(found.errors) == GRADIENTS | STATE


def test_a_convolution_has_no_state() -> None:
    assert check_case(s4d, "torch_fft", problem(initial_state=True)).reason == "torch_fft takes no initial_state"


def test_step_updates_its_state() -> None:
    found = check_case(s4d, "torch_step", problem(B=3, pass_="decode"))
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


@pytest.mark.parametrize("T", [1, 2, 3, 4, 5, 1023, 1024])
def test_transforms_are_long_enough_not_to_wrap(T: int) -> None:
    assert fft_size(T) >= 2 * T - 1
    assert math.log2(fft_size(T)).is_integer()


@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
@pytest.mark.parametrize("stateful", [False, True])
def test_cost_counts_every_tensor_once(pass_: str, stateful: bool) -> None:
    at = problem(pass_=pass_, initial_state=stateful, dtype="fp16")
    inputs = draw_inputs(s4d, at, 0)
    touched = [*inputs.values(), inputs["u"]] if pass_ == "fwd" else [*inputs.values(), *inputs.values(), inputs["u"]]
    if stateful:
        touched.append(inputs["initial_state"])
    assert s4d.cost_of(at).bytes_compulsory == sum(x.numel() * x.element_size() for x in touched)


def test_flops_are_the_recurrences() -> None:
    at = problem(T=3, B=2, pass_="fwd")
    flops = 0
    for _ in range(at.B * at.T * at.HS * at.V):
        for _ in range(at.K // 2):
            flops += 4 + 3  # four products of a and h; three sums: two of them and u
            flops += 2 + 2  # Re(c h), and its sum
        flops += 2  # y + D u
    assert s4d.cost_of(at).flops_alg == flops


@pytest.mark.parametrize("B", [1, 16])
@pytest.mark.parametrize("N", [64, 128])
def test_products_with_chunks_have_the_lowest_floor(B: int, N: int) -> None:
    """Which is why they are our kernels' form: by the datasheet they are bound by memory, and no other form is."""
    with aim("sm_90"):
        parts = {form.name: times(form, "NVIDIA H200") for form in forms(problem_of(B, 8192, N))}
    floors = {name: max(each.values()) for name, each in parts.items()}
    own = floors.pop("products with chunks")
    assert own == parts["products with chunks"]["memory"]
    assert own < min(floors.values())


def test_the_readme_has_the_forms_as_the_command_prints_them() -> None:
    with aim("sm_90"):
        assert table("NVIDIA H200", 8192, 64) in (ROOT / "kernels/scan/s4d/README.md").read_text(encoding="utf-8")
