"""mLSTM in PyTorch against the oracle on the CPU; its cost against counts; what its adapters do not serve."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import baselines.mlstm.nxai  # noqa: F401  (registers)
from baselines.mlstm.pytorch import naive, torch_chunk
from kernels.mlstm.spec import mlstm, recurrence
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs, each, leaves, tensor_bytes
from suite.numerics import difference

GATES = ("exp", "sigmoid")
SEQUENCES = ("naive", "torch_chunk")
GRADIENTS = {"o", "dq", "dk", "dv", "dinput_gate", "dforget_gate"}
STATES = {
    "exp": {"final_state[0]", "final_state[1]", "final_state[2]", "dinitial_state[0]", "dinitial_state[1]"},
    "sigmoid": {"final_state", "dinitial_state"},
}


def problem(gate: str, **sizes: Any) -> Problem:
    return mlstm.complete(Problem(**{"T": 40, "H": 2, "K": 16, "V": 24, "dtype": "fp32"} | sizes), {"gate": gate})


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize(
    "sizes",
    [{"T": 1}, {"T": 63, "H": 1, "HV": 2, "B": 2}, {"T": 90, "H": 1, "layout": "packed:ragged"}],
    ids=["one_token", "value_heads", "packed"],
)
def test_outputs_states_and_gradients(implementation: str, gate: str, sizes) -> None:
    check = check_case(
        mlstm,
        implementation,
        problem(gate, pass_="fwdbwd", initial_state=True, **sizes),
        {"chunk": 32} if implementation == "torch_chunk" else {},
    )
    assert check.ok, check.reason
    assert set(check.errors) == GRADIENTS | STATES[gate]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("implementation", SEQUENCES)
def test_half_precision_stays_within_its_limit(implementation: str, gate: str) -> None:
    check = check_case(mlstm, implementation, problem(gate, T=70, K=64, V=64, H=1, dtype="bf16", pass_="fwdbwd"))
    assert check.ok, check.reason


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("sizes", [{"B": 3, "H": 1, "HV": 2}, {"dtype": "bf16"}], ids=["heads", "bf16"])
def test_step(gate: str, sizes) -> None:
    check = check_case(mlstm, "torch_step", problem(gate, pass_="decode", **sizes))
    assert check.ok, check.reason


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("function", [naive, torch_chunk])
def test_an_active_normaliser_and_gates_that_shut(function, gate: str) -> None:
    inputs = draw_inputs(mlstm, problem(gate, T=70, H=1), 0)
    inputs["input_gate"] += 10
    inputs["forget_gate"][:, 30], inputs["input_gate"][:, 50] = -1e4, 30.0
    o, _ = function(**inputs, gate=gate)
    exact, _ = recurrence(**{name: x.double() for name, x in inputs.items()}, gate=gate)
    assert difference(o, exact).error < 1e-5


@pytest.mark.parametrize("start", [False, True], ids=["fresh", "state"])
@pytest.mark.parametrize("function", [naive, torch_chunk])
@pytest.mark.parametrize("shut", ["forget_gate", "input_gate", "both"])
@pytest.mark.parametrize("at", [0, 3, 30])
def test_gates_of_minus_infinity_give_what_the_oracle_gives(at: int, shut: str, function, start: bool) -> None:
    inputs = draw_inputs(mlstm, problem("exp", T=40, H=1, initial_state=start, pass_="fwdbwd"), 0)
    for name in ("forget_gate", "input_gate") if shut == "both" else (shut,):
        with torch.no_grad():
            inputs[name][:, at] = -torch.inf

    def run(fn, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        given = each(lambda x: x.detach().to(dtype).requires_grad_(x.requires_grad), inputs)
        o, final = fn(**given, output_final_state=True)
        found = leaves(given)
        grads = torch.autograd.grad(o.square().sum() + final[0].sum(), list(found.values()), allow_unused=True)
        named = {name: x for name, x in zip(found, grads, strict=True) if x is not None}
        return {"o": o, "C": final[0], "n": final[1], **named}

    found, exact = run(function, torch.float32), run(recurrence, torch.float64)
    for name, right in exact.items():
        assert difference(found[name], right).error < 2e-5, name


def test_the_stabiliser_changes_no_output() -> None:
    """A state and the same one with another m beside it, scaled to match."""
    inputs = draw_inputs(mlstm, problem("exp", initial_state=True), 0)
    exact = {name: x.double() for name, x in inputs.items() if name != "initial_state"}
    C, n, m = (x.double() for x in inputs["initial_state"])
    o, _ = recurrence(**exact, initial_state=(C, n, m))
    factor = torch.tensor(3.0).double().exp()
    moved, _ = recurrence(**exact, initial_state=(C / factor, n / factor, m + 3))
    torch.testing.assert_close(o, moved)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("stateful", [False, True], ids=["fresh", "state"])
def test_compulsory_bytes_are_those_of_all_inputs_and_outputs(gate: str, stateful: bool) -> None:
    at = problem(gate, B=2, T=30, H=1, HV=2, dtype="bf16", initial_state=stateful)
    inputs = draw_inputs(mlstm, at, 0)
    o = torch.empty(2, 30, at.HS, at.V, dtype=torch.bfloat16)
    moved = tensor_bytes(inputs) + tensor_bytes({"o": o})
    ends = tensor_bytes({"initial_state": inputs["initial_state"]}) if stateful else 0
    cost = mlstm.cost(at, {})
    assert cost.bytes_compulsory == moved + ends
    assert cost.bytes_state == 2 * ends
    backward = mlstm.cost(at.replace(pass_="bwd"), {})
    stabilisers = 2 * tensor_bytes({"m": inputs["initial_state"][2]}) if stateful and gate == "exp" else 0
    # Inputs read, their gradients written, do read; of states the start, the end's gradient and the start's, m once.
    gradients = tensor_bytes({n: x for n, x in inputs.items() if n != "initial_state"})
    assert backward.bytes_compulsory == 2 * gradients + tensor_bytes({"o": o}) + 3 * ends - stabilisers


def test_flops_are_those_of_the_recurrence() -> None:
    """4KV a token and head forward; the exponential gate's normaliser is one more column of v, and V divisions."""
    at = {gate: problem(gate, T=10, H=3, K=8, V=6) for gate in GATES}
    tokens = 10 * 3
    update = {"sigmoid": 2 * 8 * 6, "exp": 2 * 8 * (6 + 1)}
    read = {"sigmoid": 2 * 8 * 6, "exp": 2 * 8 * (6 + 1) + 6}
    for gate in GATES:
        assert mlstm.cost(at[gate], {}).flops_alg == tokens * (update[gate] + read[gate])
        assert mlstm.cost(at[gate], {"chunk": 4}).flops_exec == tokens * (update[gate] + read[gate] + 2 * 4 * (8 + 6))
    assert [mlstm.cost(at[gate], {}).special / tokens for gate in GATES] == [5, 2]


@pytest.mark.parametrize(
    ("gate", "sizes", "reason"),
    [
        ("exp", {"T": 200}, "lengths that are multiples of the chunk"),
        ("exp", {"T": 256, "K": 60}, "multiples of 64, not K60"),
        ("exp", {"T": 256, "pass_": "bwd", "initial_state": True}, "gradients of n"),
        ("sigmoid", {"T": 256, "pass_": "bwd", "initial_state": True}, "the final state's in those of the forget gate"),
        ("exp", {"T": 256, "dtype": "fp32"}, "does not take float32"),
    ],
    ids=["length", "dims", "state", "sigmoid-state", "dtype"],
)
def test_what_the_package_can_not_serve_is_unsupported(
    gate: str, sizes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.requirement.Requirement.missing", lambda self: None)
    at = problem(gate, **{"K": 64, "V": 64, "dtype": "bf16", **sizes})
    assert reason in (mlstm.implementations["tfla_chunk"].unsupported(at, {"chunk": 128}, mlstm.axes) or "")


def test_an_absent_package_gives_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("tfla_chunk", "tfla_step"):
        at = problem("exp", T=128, dtype="bf16", pass_="decode" if name == "tfla_step" else "fwd")
        reason = mlstm.implementations[name].unsupported(at, {"chunk": 128}, mlstm.axes)
        command = "pip install 'mlstm_kernels>=2,<3' einops (set peers-wheels of docs/peers.md)"
        assert reason == f"mlstm_kernels is not installed: {command}"
