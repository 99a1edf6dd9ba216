"""LSTM and GRU in PyTorch against their oracles, the oracles against torch.nn; their cost."""

from __future__ import annotations

import pytest
import torch

import baselines.cells.gru.torch_gru
import baselines.cells.lstm.torch_lstm  # noqa: F401  (registers)
from kernels.cells.gru.spec import gru
from kernels.cells.lstm.spec import lstm
from suite import Operator, Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs, flat

GRADIENTS = {"o", "dx", "dw_ih", "dw_hh", "db_ih", "db_hh"}


@pytest.fixture(params=[lstm, gru], ids=lambda each: each.name)
def operator(request: pytest.FixtureRequest) -> Operator:
    return request.param


def problem(**changes) -> Problem:
    return Problem(**{"T": 20, "H": 2, "K": 8, "V": 6, "dtype": "fp32", "pass_": "fwdbwd"} | changes)


@pytest.mark.parametrize("implementation", ["torch", "naive"])
@pytest.mark.parametrize("sizes", [{"T": 1}, {"T": 50, "B": 2, "HV": 4}], ids=["one_token", "heads"])
def test_sequences_match_the_oracle(operator: Operator, implementation: str, sizes) -> None:
    found = check_case(operator, implementation, problem(**sizes))
    assert found.ok, found.reason
    assert set(found.errors) == GRADIENTS


@pytest.mark.parametrize("implementation", ["torch", "naive"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_states_are_carried(operator: Operator, implementation: str, dtype: str) -> None:
    found = check_case(operator, implementation, problem(initial_state=True, dtype=dtype, B=3))
    assert found.ok, found.reason
    assert {name.partition("[")[0] for name in set(found.errors) - GRADIENTS} == {"final_state", "dinitial_state"}


def test_step_updates_its_state(operator: Operator) -> None:
    found = check_case(operator, "torch_step", problem(B=3, pass_="decode"))
    assert found.ok, found.reason
    assert {name.partition("[")[0] for name in found.errors} == {"o", "state"}


def test_the_oracle_is_torch_nns_layer(operator: Operator) -> None:
    at = problem(B=2, pass_="fwd")
    inputs = {name: x.double() for name, x in draw_inputs(operator, at, 0).items()}
    D = at.HS * at.V
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[operator.name](D, D, batch_first=True).double()
    names = {"weight_ih_l0": "w_ih", "weight_hh_l0": "w_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}
    layer.load_state_dict({theirs: inputs[ours] for theirs, ours in names.items()})
    o, _ = operator.oracle(**inputs)
    torch.testing.assert_close(o.flatten(2), layer(inputs["x"].flatten(2))[0])


@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
def test_cost_counts_every_tensor_once_and_every_product(operator: Operator, pass_: str) -> None:
    at = problem(pass_=pass_, initial_state=True, dtype="fp16")
    inputs = flat(draw_inputs(operator, at, 0))
    read = [x for name, x in inputs.items() if not name.startswith("initial_state")]
    states = [x for name, x in inputs.items() if name.startswith("initial_state")]
    times = 1 if pass_ == "fwd" else 2
    touched = [*read * times, inputs["x"], *states * (times + 1)]
    cost = operator.cost_of(at)
    assert cost.bytes_compulsory == sum(x.numel() * x.element_size() for x in touched)
    products = 2 * at.B * at.T * (inputs["w_ih"].numel() + inputs["w_hh"].numel())
    assert times * products < cost.flops_alg < times * products * 1.2


def test_packed_layouts_are_refused(operator: Operator) -> None:
    assert "dense" in check_case(operator, "torch", problem(layout="packed:halves")).reason
