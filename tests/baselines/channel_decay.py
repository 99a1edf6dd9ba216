"""What the baseline tests of operators with a decay per channel share: cases, and a stand-in for the library FLA."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from kernels.channel_decay.reference import recurrence
from suite import Operator, Problem
from suite.checks.calling import Call
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs, flat
from suite.numerics import difference

SEQUENCES = ("naive", "torch_chunk")
STATE = {"initial_state": True}
# Between them: ragged lengths, blocks and chunks left incomplete, states, unequal heads, packed sequences, bf16.
CASES: dict[str, dict[str, Any]] = {
    "one_token": {"T": 1},
    "state": {"T": 70, "B": 2, **STATE},
    "grouped": {"T": 40, "H": 4, "HK": 2, "HV": 2},
    "value_heads": {"T": 63, "H": 2, "HV": 4, **STATE},
    "packed": {"T": 130, "layout": "packed:ragged", **STATE},
    "half": {"T": 130, "K": 64, "V": 64, "dtype": "bf16"},
}


def checked(operator: Operator, implementation: str, sizes: dict[str, Any], **tunables: Any) -> None:
    """An implementation agrees with the oracle, gradients included."""
    at = operator.complete(Problem(**{"H": 2, "K": 16, "V": 24, "dtype": "fp32", "pass_": "fwdbwd", **sizes}))
    found = check_case(operator, implementation, at, tunables)
    assert found.status == "ok", found.reason
    assert {"o"} < set(found.errors) or at.pass_ == "fwd"


def extreme(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Weak gates, among which some are 0, some -20 and some forget everything."""
    generator = torch.Generator().manual_seed(0)
    g = -0.05 * torch.rand(shape, generator=generator, dtype=torch.float64)
    g[:, 3::7], g[:, 5::17, :, ::2], g[:, 9::23], g[:, 4::11] = -20, -torch.inf, -1e4, 0
    return g.to(dtype)


class Library:
    """A flash-linear-attention that computes with the oracle and notes which entries were called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: str, entries: dict[str, str]) -> None:
        """entries: name -> the parameter that takes the log decays."""
        self.called: list[str] = []
        ops = ModuleType(module)
        for name, gate in entries.items():
            setattr(ops, name, self._entry(name, gate))
        for each in (ModuleType("fla"), ModuleType("fla.ops"), ops):
            monkeypatch.setitem(sys.modules, each.__name__, each)

    def _entry(self, name: str, gate: str) -> Any:
        def entry(
            q,
            k,
            v,
            *gates,
            scale=None,
            initial_state=None,
            output_final_state=False,
            cu_seqlens=None,
            cu_seqlens_cpu=None,
            **named,
        ):
            self.called.append(name)
            g, *u = (*gates, *named.values())
            assert list(named) in ([], [gate])
            assert q.shape == k.shape == g.shape
            assert v.shape[:3] == q.shape[:3]
            assert initial_state is None or initial_state.dtype == torch.float32
            return recurrence(
                q,
                k,
                v,
                g,
                u=u[0] if u else None,
                scale=q.shape[-1] ** -0.5 if scale is None else scale,
                initial_state=initial_state,
                output_final_state=output_final_state,
                cu_seqlens=cu_seqlens,
            )

        return entry


def agrees(operator: Operator, name: str, at: Problem) -> None:
    """An adapter on the stand-in gives what the oracle gives."""
    made, inputs = operator.implementations[name], draw_inputs(operator, at, seed=0)
    wide = {n: x.double() if x.is_floating_point() else x for n, x in inputs.items() if n != "cu_seqlens_cpu"}
    if "state" in wide:
        wide["initial_state"] = wide.pop("state")
    o, final = operator.oracle(**wide, output_final_state="initial_state" in wide)
    produced = Call(operator, made, at, made.default_tunables, inputs).forward()
    if at.pass_ == "decode":
        produced |= {"state": inputs["state"]}
    expected = flat({"o": o, "state" if at.pass_ == "decode" else "final_state": final})
    assert produced.keys() == expected.keys()
    for each, right in expected.items():
        assert difference(produced[each], right).error < 1e-5, each


def parameters(file: str, entry: str) -> list[str]:
    """Parameters of an entry of the installed library, read from its source."""
    try:
        package = importlib.metadata.distribution("fla-core")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fla-core is not installed")
    source = Path(str(package.locate_file(file))).read_text()
    (found,) = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == entry]
    return [arg.arg for arg in found.args.args]
