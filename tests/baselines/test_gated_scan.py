"""The gated scan in PyTorch against the oracle, its cost, and the adapters to flash-linear-attention."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import baselines.scan.gated_scan.recurrent  # noqa: F401  (registers)
from baselines.scan.gated_scan.doubling import doubled, rounds
from baselines.scan.gated_scan.flash_linear_attention import FLA
from kernels.scan.gated_scan.spec import gated_scan, recurrence
from suite import Problem
from suite.checks.calling import Call
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs, flat
from suite.numerics import difference

SEQUENCES = ("naive", "torch_scan")
SCALINGS = [(("input_scaling", "none"),), (("input_scaling", "sqrt"),)]
STATE = {"final_state", "dinitial_state"}


def problem(**changes) -> Problem:
    return gated_scan.complete(
        Problem(**{"T": 63, "H": 2, "K": 8, "V": 12, "dtype": "fp32", "pass_": "fwdbwd"} | changes)
    )


@pytest.mark.parametrize("implementation", SEQUENCES)
@pytest.mark.parametrize("axes", SCALINGS, ids=["plain", "scaled"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"T": 1},
        {"T": 130, "B": 2, "HV": 4, "initial_state": True},
        {"layout": "packed:ragged", "initial_state": True},
        {"dtype": "bf16"},
    ],
    ids=["one_token", "state", "packed", "bf16"],
)
def test_sequences_match_the_oracle(implementation: str, axes, sizes) -> None:
    at = problem(axes=axes, **sizes)
    found = check_case(gated_scan, implementation, at)
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "dx", "dlog_decay"} | (STATE if at.initial_state else set())


@pytest.mark.parametrize("axes", SCALINGS, ids=["plain", "scaled"])
def test_step_updates_its_state(axes) -> None:
    found = check_case(gated_scan, "torch_step", problem(B=3, axes=axes, pass_="decode"))
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


@pytest.mark.parametrize("T", [1, 2, 3, 8, 9])
def test_doubling_reaches_every_token(T: int) -> None:
    decay, added = torch.rand(1, T, 3).double(), torch.randn(1, T, 3).double()
    expected, h = [], torch.zeros(1, 3).double()
    for t in range(T):
        h = decay[:, t] * h + added[:, t]
        expected.append(h)
    torch.testing.assert_close(doubled(decay, added), torch.stack(expected, 1))
    assert 2 ** rounds(T) >= T > 2 ** (rounds(T) - 1) or T == 1


def test_a_token_that_keeps_everything_takes_nothing_in() -> None:
    """RG-LRU at a log decay of exactly 0: no input, and finite gradients."""
    x = torch.ones(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    g = torch.tensor([-1.0, 0.0]).double().reshape(1, 2, 1, 1).requires_grad_()
    o, _ = recurrence(x, g, input_scaling="sqrt")
    assert o[0, 1].item() == o[0, 0].item() == pytest.approx((1 - torch.tensor(-2.0).exp().item()) ** 0.5)
    dx, dg = torch.autograd.grad(o.sum(), (x, g))
    assert dx[0, 1].item() == 0
    assert torch.isfinite(dg).all()


@pytest.mark.parametrize("scaling", ["none", "sqrt"])
@pytest.mark.parametrize("pass_", ["fwd", "bwd"])
@pytest.mark.parametrize("stateful", [False, True])
def test_cost_counts_every_tensor_once(scaling: str, pass_: str, stateful: bool) -> None:
    at = problem(pass_=pass_, axes=(("input_scaling", scaling),), initial_state=stateful, dtype="fp16")
    inputs = draw_inputs(gated_scan, at, 0)
    o = inputs["x"]
    touched = [*inputs.values(), o] if pass_ == "fwd" else [*inputs.values(), *inputs.values(), o]
    if stateful:
        touched.append(inputs["initial_state"])
    cost = gated_scan.cost_of(at)
    assert cost.bytes_compulsory == sum(x.numel() * x.element_size() for x in touched)
    channels = at.B * at.T * at.HS * at.V
    # By hand: h = a h + x is 2; with the scale, 1 - a a and its product with x are 3 more.
    forward = {"none": 2, "sqrt": 5}[scaling]
    # dh = do + e, e = a dh, dg = e h; scaled: s dh; dh x (2 products with a a / s: a a, / s, -): 8 more.
    assert cost.flops_alg == channels * (forward if pass_ == "fwd" else {"none": 3, "sqrt": 11}[scaling])


ENTRIES = {"fla_chunk": "chunk_hgrn", "fla_fused_recurrent": "fused_recurrent_hgrn"}


def stand_in(x, g, initial_state=None, output_final_state=False, cu_seqlens=None):
    """fla's contract: [B, T, D] and a state [N, D]."""
    assert x.ndim == g.ndim == 3
    state = None if initial_state is None else initial_state[:, None]
    o, final = recurrence(
        x[:, :, None], g[:, :, None], initial_state=state, output_final_state=output_final_state, cu_seqlens=cu_seqlens
    )
    return o.squeeze(2), None if final is None else final.squeeze(1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    called: list[str] = []
    ops = ModuleType("fla.ops.hgrn")
    for entry in ENTRIES.values():
        setattr(ops, entry, lambda *args, entry=entry, **words: (called.append(entry), stand_in(*args, **words))[1])
    for name, module in (("fla", ModuleType("fla")), ("fla.ops", ModuleType("fla.ops")), ("fla.ops.hgrn", ops)):
        monkeypatch.setitem(sys.modules, name, module)
    return called


@pytest.mark.parametrize("axes", SCALINGS, ids=["plain", "scaled"])
@pytest.mark.parametrize("name", [*ENTRIES, "fla_step"])
def test_adapters_give_the_oracles_answer(name: str, axes, calls: list[str]) -> None:
    step = name == "fla_step"
    at = problem(T=20, B=2, axes=axes, pass_="decode" if step else "fwd", initial_state=not step)
    made = gated_scan.implementations[name]
    inputs = draw_inputs(gated_scan, at, 0)
    wide = {n: x.double() for n, x in inputs.items()}
    state = wide.pop("state", None)
    wide |= {} if state is None else {"initial_state": state}
    o, final = recurrence(**wide, **dict(axes), output_final_state=True)
    produced = Call(gated_scan, made, at, {}, inputs).forward() | (flat({"state": inputs["state"]}) if step else {})
    assert difference(produced["o"], o).error < 1e-5
    assert difference(produced["state" if step else "final_state"], final).error < 1e-5
    assert calls == [ENTRIES.get(name, "fused_recurrent_hgrn")]


@pytest.mark.parametrize("entry", sorted(ENTRIES.values()))
def test_the_installed_library_has_the_parameters_of_the_stand_in(entry: str) -> None:
    try:
        package = importlib.metadata.distribution(FLA.distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fla-core is not installed")
    file = {"chunk_hgrn": "chunk.py", "fused_recurrent_hgrn": "fused_recurrent.py"}[entry]
    source = Path(str(package.locate_file(f"fla/ops/hgrn/{file}"))).read_text()
    (found,) = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == entry]
    names = [arg.arg for arg in found.args.args]
    taken = ["x", "g", "initial_state", "output_final_state"] + ["cu_seqlens"] * (entry != "chunk_hgrn")
    assert set(taken) <= set(names)


def test_what_fla_chunk_does_not_take_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    made = gated_scan.implementations["fla_chunk"]
    reason = made.unsupported(problem(layout="packed:halves"), {}, gated_scan.axes)
    assert reason == "fla_chunk takes no cu_seqlens"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason = made.unsupported(problem(), {}, gated_scan.axes)
    assert reason == "fla-core is not installed: pip install 'fla-core>=0.6,<0.7' einops (set peers of docs/peers.md)"
