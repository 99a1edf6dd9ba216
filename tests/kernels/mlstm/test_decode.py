"""triton_step of mLSTM against the oracle, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.mlstm.chunk import chunk_mlstm
from kernels.mlstm.decode import step_mlstm
from kernels.mlstm.spec import mlstm
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs, flat
from suite.errors import UsageError
from suite.targets import aim
from tests.kernels.mlstm.cases import GATES, problem

CASES: dict[str, dict[str, Any]] = {
    "core": {"B": 3},
    "value_heads": {"K": 60, "V": 100, "H": 1, "HV": 4},
    "several_tiles": {"K": 128, "V": 200, "H": 1, "HV": 3},
    "half_state": {"dtype": "fp16", "state_dtype": "fp16"},
}


@pytest.mark.interpret
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", CASES)
def test_output_and_state(name: str, gate: str) -> None:
    at = problem(gate, T=100, pass_="decode", **CASES[name])
    found = check_case(mlstm, "triton_step", at, device="interpret")
    assert found.ok, found.reason
    assert set(found.errors) == {"o", *(("state[0]", "state[1]", "state[2]") if gate == "exp" else ("state",))}


@pytest.mark.interpret
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("shift", [0.0, 13.0], ids=["floor", "normaliser"])
def test_steps_continue_a_chunked_pass(shift: float, gate: str) -> None:
    inputs = draw_inputs(mlstm, problem(gate, B=2, T=40, H=1, HV=2), 0)
    inputs["input_gate"] += shift

    def part(first: int, end: int) -> dict[str, torch.Tensor]:
        return {name: x[:, first:end] for name, x in inputs.items()}

    with aim("sm_90"):
        whole, end = chunk_mlstm(**inputs, gate=gate, output_final_state=True, chunk=16)
        _, state = chunk_mlstm(**part(0, 37), gate=gate, output_final_state=True, chunk=16)
        for t in range(37, 40):
            o = step_mlstm(**part(t, t + 1), gate=gate, state=state)
            torch.testing.assert_close(o, whole[:, t : t + 1], rtol=1e-4, atol=1e-6)
    for name, x in flat({"state": state}).items():
        torch.testing.assert_close(x, flat({"state": end})[name], rtol=1e-4, atol=1e-5)


@pytest.mark.interpret
@pytest.mark.parametrize("gate", GATES)
def test_extreme_gates_leave_no_nan(gate: str) -> None:
    inputs = draw_inputs(mlstm, problem(gate, T=40, pass_="decode"), 0)
    for value in (-1e4, 1e4, -torch.inf):
        inputs["input_gate"].fill_(value)
        inputs["forget_gate"].fill_(-1e4)
        assert step_mlstm(**inputs, gate=gate).isfinite().all()
        assert all(x.isfinite().all() for x in flat({"state": inputs["state"]}).values())


def test_bad_calls_are_refused_in_one_line() -> None:
    inputs = draw_inputs(mlstm, problem("exp", T=20, pass_="decode"), 0)
    C, n, m = inputs["state"]
    with pytest.raises(UsageError, match="not contiguous"):
        step_mlstm(**{**inputs, "state": (C.transpose(2, 3).contiguous().transpose(2, 3), n, m)})
    with pytest.raises(UsageError, match=r"k is .* must be"):
        step_mlstm(**{**inputs, "q": inputs["q"].repeat(1, 2, 1, 1)})
    two = {name: x.repeat(1, 2, *[1] * (x.ndim - 2)) for name, x in inputs.items() if name != "state"}
    with pytest.raises(UsageError, match="takes 1"):
        step_mlstm(**two, state=inputs["state"])
