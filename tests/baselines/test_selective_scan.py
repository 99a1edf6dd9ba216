"""The selective scan in PyTorch against the oracle, its cost, and mamba_ssm's CUDA kernel on a stand-in."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import baselines.scan.selective_scan.recurrent  # noqa: F401  (registers)
from baselines.scan.selective_scan import mamba
from kernels.scan.selective_scan.spec import recurrence, selective_scan
from suite import Problem
from suite.checks.calling import Call
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.numerics import difference

GRADIENTS = {"o", "du", "ddelta", "dA", "dB", "dC", "dD", "dz", "ddelta_bias"}
STATE = {"final_state", "dinitial_state"}


def problem(**changes) -> Problem:
    sizes = {"T": 40, "H": 1, "HV": 2, "K": 8, "V": 12, "dtype": "fp32", "pass_": "fwdbwd"}
    return selective_scan.complete(Problem(**sizes | changes))


@pytest.mark.parametrize("implementation", ["naive", "torch_scan"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"T": 1},
        {"T": 70, "B": 2, "H": 2, "HV": 4, "initial_state": True},
        {"layout": "packed:ragged", "initial_state": True},
        {"dtype": "bf16"},
    ],
    ids=["one_token", "groups", "packed", "bf16"],
)
def test_sequences_match_the_oracle(implementation: str, sizes) -> None:
    at = problem(**sizes)
    # The seed chooses the group that is compared.
    for seed in range(at.N * at.groups):
        found = check_case(selective_scan, implementation, at, seed=seed)
        assert found.ok, found.reason
        assert set(found.errors) == GRADIENTS | (STATE if at.initial_state else set())


@pytest.mark.parametrize("chunk", selective_scan.implementations["torch_scan"].tunables["chunk"])
def test_every_chunk_gives_the_same(chunk: int) -> None:
    found = check_case(selective_scan, "torch_scan", problem(T=150, pass_="fwd"), {"chunk": chunk})
    assert found.ok, found.reason


def test_step_updates_its_state() -> None:
    found = check_case(selective_scan, "torch_step", problem(B=3, H=2, HV=4, pass_="decode"))
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
@pytest.mark.parametrize("stateful", [False, True])
def test_cost_counts_every_tensor_once(pass_: str, stateful: bool) -> None:
    at = problem(pass_=pass_, initial_state=stateful, dtype="fp16", H=2, HV=4)
    inputs = draw_inputs(selective_scan, at, 0)
    touched = [*inputs.values(), inputs["u"]] if pass_ == "fwd" else [*inputs.values(), *inputs.values(), inputs["u"]]
    if stateful:
        touched.append(inputs["initial_state"])
    cost = selective_scan.cost_of(at)
    assert cost.bytes_compulsory == sum(x.numel() * x.element_size() for x in touched)


def test_flops_and_special_functions_are_the_recurrences() -> None:
    """Counted on numbers that count what is done to them, one token at a time; softplus and silu as CHANNEL_SPECIAL."""
    at = problem(T=3, B=2, pass_="fwd")
    flops = special = 0
    for _ in range(at.B * at.T * at.HS * at.V):
        flops += 1 + 1 + 2  # delta + bias, dt u, z sigmoid(z) y
        special += 2 + 1  # exp and log of softplus, exp of silu
        for _ in range(at.K):
            flops += 1 + 1 + 2 + 2  # dt A, (dt u) B, a h + b, y + C h
            special += 1
        flops += 2  # y + D u
    cost = selective_scan.cost_of(at)
    assert (cost.flops_alg, cost.special) == (flops, special)


def scan_stand_in(u, delta, A, B, C, D, z, delta_bias, delta_softplus=False):
    """mamba_ssm's contract: channels before tokens, B and C [B, G, N, T], parameters of all channels."""
    assert delta_softplus
    assert u.shape[1] == A.shape[0] == D.shape[0] == delta_bias.shape[0]
    assert all(x.is_contiguous() for x in (u, delta, z))
    groups, D_ = B.shape[1], u.shape[1]
    split = [x.transpose(1, 2).unflatten(2, (groups, D_ // groups)) for x in (u, delta, z)]
    parameters = [x.unflatten(0, (groups, D_ // groups)) for x in (A, D, delta_bias)]
    o, _ = recurrence(
        split[0],
        split[1],
        parameters[0],
        B.permute(0, 3, 1, 2),
        C.permute(0, 3, 1, 2),
        parameters[1],
        split[2],
        parameters[2],
    )
    return o.flatten(2).transpose(1, 2)


def test_the_cuda_kernel_s_adapter_gives_the_oracle_s_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mamba_ssm.ops.selective_scan_interface"
    library = ModuleType(name)
    vars(library)["selective_scan_fn"] = scan_stand_in
    for each, module in (("mamba_ssm", ModuleType("mamba_ssm")), ("mamba_ssm.ops", ModuleType("ops")), (name, library)):
        monkeypatch.setitem(sys.modules, each, module)
    at = problem(T=10, B=2, H=2, HV=4, pass_="fwd")
    inputs = draw_inputs(selective_scan, at, 0)
    o, _ = recurrence(**{n: x.double() for n, x in inputs.items()})
    produced = Call(selective_scan, selective_scan.implementations["mamba_ssm"], at, {}, inputs).forward()
    assert difference(produced["o"], o).error < 1e-5


def test_what_mamba_does_not_take_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    made = selective_scan.implementations["mamba_ssm"]
    with monkeypatch.context() as absent:
        absent.setattr("importlib.util.find_spec", lambda name: None)
        assert "builds with nvcc" in str(made.unsupported(problem(), {}, ()))
    monkeypatch.setattr("suite.requirement.Requirement.missing", lambda self: None)
    assert made.unsupported(problem(), {}, ()) is None
    assert made.unsupported(problem(initial_state=True), {}, ()) == "mamba_ssm takes no initial_state"
    assert "32-bit" in str(made.unsupported(problem(T=2**20, HV=64, V=64), {}, ()))


def test_a_mamba_that_was_built_without_cuda_serves_its_triton_kernels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mamba, "has_extension", lambda: False)
    assert mamba.MAMBA.conflict is not None
    assert "installed without its CUDA code" in (mamba.MAMBA.conflict() or "")
    assert mamba.TRITON.conflict is None


@pytest.mark.parametrize("sizes", [{"H": 2, "HK": 1}, {"H": 4, "HV": 2}])
def test_heads_that_are_no_groups_are_refused(sizes) -> None:
    assert "H = HK <= HV" in check_case(selective_scan, "naive", problem(**{"HV": 4} | sizes)).reason
