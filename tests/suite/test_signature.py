"""What `list --op` says of an operator's inputs is what is drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from suite import dtypes
from suite.checks.inputs import draw_inputs, flat
from suite.cli import main
from suite.discovery import discover
from suite.problem import SIZES, Problem
from suite.registry import SEQUENCE_PASSES, Operator
from suite.signature import STATE_DTYPE, Input, signature
from tests.parameters import with_long

# Other sizes, and other relations between them, than those at which a signature is found.
PROBLEMS = (
    {"B": 2, "T": 33, "H": 2, "K": 8},
    {"B": 1, "T": 17, "H": 4, "K": 32, "V": 16},
    {"B": 2, "T": 65, "H": 6, "HK": 3, "HV": 3, "K": 12},
    {"B": 4, "T": 21, "H": 1, "HV": 5, "K": 16, "V": 48},
)
OPERATORS = discover().operators


def size_of(word: str, problem: Problem, free: dict[str, int], actual: int) -> int:
    """The size that a dimension's word stands for; a name that only the operator knows has one size in all inputs."""
    factor, name = re.fullmatch(r"(\d*)(.*)", word).groups()  # type: ignore[union-attr]
    if name == "" or " at K=" in word:
        return int(factor) if " at K=" not in word else actual
    if name == "N+1":
        return problem.N + 1
    if name in (*SIZES, "HS", "N"):
        return int(factor or 1) * getattr(problem, name)
    if name in dict(problem.axes):
        return int(problem.axis(name))
    return free.setdefault(name, actual)


def fits(form: Input, x: torch.Tensor, problem: Problem, free: dict[str, int]) -> bool:
    named = [problem.state_dtype] if form.dtype == STATE_DTYPE else form.dtype.split("|")
    long = {dtypes.SHORT.get(name, name) for name in named}
    found = str(x.dtype).removeprefix("torch.")
    sizes = [size_of(word, problem, free, actual) for word, actual in zip(form.dims, x.shape, strict=False)]
    return len(form.dims) == x.ndim and sizes == list(x.shape) and dtypes.SHORT.get(found, found) in long


def drawn(operator: Operator, pass_: str) -> list[tuple[Problem, dict[str, torch.Tensor]]]:
    found = []
    for sizes in PROBLEMS:
        for dtype, state_dtype in (("bfloat16", "bfloat16"), ("float32", "float32")):
            columns = {**sizes, "pass": pass_, "dtype": dtype, "state_dtype": state_dtype}
            problem = operator.complete(Problem.from_columns(columns))
            if not (operator.supports and operator.supports(problem)):
                found.append((problem, flat(draw_inputs(operator, problem, seed=1))))
    return found


# Linear attention has as many choices as all others together.
@pytest.mark.parametrize("name", with_long(OPERATORS, "linear_attention"))
def test_names_shapes_and_dtypes_are_those_of_the_drawn_inputs(name: str) -> None:
    operator = OPERATORS[name]
    passes = [*(["fwd"] if SEQUENCE_PASSES & set(operator.passes) else []), *({"decode"} & set(operator.passes))]
    for pass_ in passes:
        forms = {each.name: each for each in signature(operator, pass_) if not each.when}
        cases = drawn(operator, pass_)
        assert cases
        for problem, inputs in cases:
            assert list(forms) == list(inputs)
            free: dict[str, int] = {}
            for name, x in inputs.items():
                assert fits(forms[name], x, problem, free), f"{forms[name]} is {list(x.shape)} {x.dtype} at {problem}"


def with_choices(operator: Operator, **choice: object) -> list[str]:
    problem = operator.complete(
        Problem(B=1, T=64, H=2, K=8, initial_state=True, layout="packed:halves"),
        choice,  # type: ignore[arg-type]
    )
    return list(flat(draw_inputs(operator, problem, seed=1)))


def test_inputs_beside_the_defaults_say_with_what_they_come() -> None:
    registry = discover()
    lines = [str(each) for each in signature(registry.operator("ssd"), "fwd")]
    assert "q [B,T,H,K] bf16|fp16|fp32" in lines
    assert "dt [B,T,HS] fp32" in lines
    assert "z [B,T,HS,V] bf16|fp16|fp32  with gated=yes" in lines
    assert "cu_seqlens [N+1] int32  with layout=packed" in lines
    assert f"initial_state [N,HS,K,V] {STATE_DTYPE}  with initial_state=yes" in lines
    named = {each.name for each in signature(registry.operator("ssd"), "fwd")}
    assert named == set(with_choices(registry.operator("ssd"), gated=True, skip=True))
    (features,) = {
        each.when
        for each in signature(registry.operator("linear_attention"), "decode")
        if each.name == "state[0]" and "features" in each.dims
    }
    assert features == "feature_map=favor, normalised=yes, features=16|32|64|128|256"


def test_the_signature_is_printed_and_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--op", "retention"]) == 0
    out = capsys.readouterr().out
    assert "sequence passes take\n  q [B,T,H,K] bf16|fp16|fp32\n" in out
    assert "  log_decay [HS] fp32\n" in out
    assert "returns o [B,T,HS,V]" in out
    assert "decode take\n  q [B,1,H,K]" in out
    assert main(["list", "--op", "retention", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["operators"]
    assert {"name": "log_decay", "dims": ["HS"], "dtype": "fp32", "when": ""} in found["inputs"]["fwd"]
    assert found["output"] == ["B", "T", "HS", "V"]
    peer = next(each for each in found["implementations"] if each["origin"] == "peer")
    assert peer["requires"].startswith("fla-core")


def test_inputs_that_can_not_be_drawn_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "undrawn.py"
    plugin.write_text(
        "from suite import Cost, Operator\n"
        "def inputs(problem, generator):\n"
        "    raise KeyError('gate')\n"
        "undrawn = Operator('undrawn', 'o = v', 'none', inputs, lambda q, k, v: (v, None),\n"
        "                   lambda p, tunables: Cost(1, 1, 1), stateful=False)\n"
    )
    assert main(["list", "--load", str(plugin), "--op", "undrawn"]) == 2
    said = capsys.readouterr().err
    assert "the inputs of undrawn" in said
    assert "undrawn.py:4" in said
    assert "KeyError: 'gate'" in said
