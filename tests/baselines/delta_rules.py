"""What the tests of the delta rules' baselines share: how one is checked, and stand-ins for libraries."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from suite import Operator, Problem
from suite.checks.calling import Call
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.numerics import difference

GRADIENTS = {"o", "dq", "dk", "dv", "dbeta"}


def check_sequence(operator: Operator, implementation: str, own: dict[str, Any], **sizes: Any) -> None:
    """Outputs, states and gradients of a problem against the oracle."""
    at = Problem(**{"H": 2, "K": 16, "V": 24, "dtype": "fp32", "pass_": "fwdbwd", **sizes})
    at = operator.complete(at, own)
    found = check_case(operator, implementation, at)
    assert found.ok, found.reason
    gates = {"dlog_decay"} if "gated" in operator.name else set()
    states = {"final_state", "dinitial_state"} if at.initial_state else set()
    assert set(found.errors) == GRADIENTS | gates | states


def check_step(operator: Operator, own: dict[str, Any] | None = None, **sizes: Any) -> None:
    """torch_step's output and state against the oracle."""
    at = Problem(**{"B": 2, "T": 50, "H": 2, "HV": 4, "K": 16, "V": 24, "dtype": "fp32", "pass_": "decode", **sizes})
    found = check_case(operator, "torch_step", operator.complete(at, own or {}))
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, entries: dict[str, Any]) -> None:
    """Put functions into sys.modules under the name of a library's module."""
    for name in ("flashinfer", module):
        made = ModuleType(name)
        if name == module:
            for entry, function in entries.items():
                setattr(made, entry, function)
        monkeypatch.setitem(sys.modules, name, made)


def check_adapter(operator: Operator, implementation: str, own: dict[str, Any] | None = None, **sizes: Any) -> None:
    """An adapter on the stand-in library against the oracle."""
    at = Problem(**{"T": 20, "H": 2, "HV": 4, "K": 8, "V": 12, "dtype": "fp32", **sizes})
    at = operator.complete(at, own or {})
    made = operator.implementations[implementation]
    inputs = draw_inputs(operator, at, seed=0)
    wide = {n: x.double() if x.is_floating_point() else x for n, x in inputs.items() if n != "cu_seqlens_cpu"}
    told = {axis.name: at.axis(axis.name) for axis in operator.axes if not axis.drawn}
    o, final = operator.oracle(**wide, **told, output_final_state=at.initial_state)
    produced = Call(operator, made, at, made.default_tunables, inputs).forward()
    assert difference(produced["o"], o).error < 1e-5
    if final is not None:
        assert difference(produced["final_state"], final).error < 1e-5


def parameters(distribution: str, file: str, entry: str) -> list[str]:
    """Parameters of a function of an installed library, read from its source; skips where it is not installed."""
    try:
        package = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")
    tree = ast.parse(Path(str(package.locate_file(file))).read_text())
    (found,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == entry]
    return [arg.arg for arg in found.args.args]
