"""What an operator or implementation says of itself wrongly costs its own records, with the file and line to mend."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from suite import Problem
from suite.cli import main
from suite.discovery import discover
from suite.errors import PluginError
from suite.faults import blamed
from suite.measuring.case import ProblemRun, Settings
from suite.problem import Case
from suite.registry import Operator
from suite.store import read_records
from tests.suite.plugins import RUNNING_MEAN, write

SETTINGS = Settings("cpu", "cpu", ("warm-cpu",), warmup_ms=0.0, rep_ms=1.0)
PROBLEM = Problem(T=8, H=1, K=4, V=4, dtype="float32")

# What each implementation says of itself: (keyword, code of the function's body), and what its record says.
SAYS = {
    "supports_raises": ("supports", "1 / 0", "raises ZeroDivisionError: division by zero"),
    "supports_exits": ("supports", "raise SystemExit(0)", "raises SystemExit: 0"),
    "supports_leaves": ("supports", "__import__('os')._exit(0)", "raises SystemExit: 0"),
    "supports_true": ("supports", "return True", "returned True"),
    "supports_number": ("supports", "return 0", "returned 0"),
    "flops_raises": ("flops_exec", "return {}['no']", "raises KeyError: 'no'"),
    "flops_none": ("flops_exec", "return None", "returned None"),
    "flops_text": ("flops_exec", "return '12'", "returned '12'"),
    "flops_nan": ("flops_exec", "return float('nan')", "returned nan"),
    "flops_infinite": ("flops_exec", "return 1e999", "returned inf"),
    "flops_negative": ("flops_exec", "return -1", "returned -1"),
    "flops_huge": ("flops_exec", "return 10**400", "returned 1000"),
    "flops_true": ("flops_exec", "return True", "returned True"),
    "configuration_raises": ("configuration", "raise OSError('no disk')", "raises OSError: no disk"),
    "configuration_none": ("configuration", "return None", "returned None"),
    "configuration_list": ("configuration", "return [1]", "returned [1]"),
    "configuration_object": ("configuration", "return {'a': object()}", "returned {'a': <object"),
    "configuration_nan": ("configuration", "return {'a': float('nan')}", "returned {'a': nan}"),
    "configuration_keys": ("configuration", "return {1: 2}", "returned {1: 2}"),
}
# The same of an operator, whose every implementation it concerns: (field, parameters, body, words).
OPERATORS = {
    "cost_raises": ("cost", "p, t", "p.nothing", "cost of cost_raises raises AttributeError"),
    "cost_exits": ("cost", "p, t", "raise SystemExit(0)", "raises SystemExit: 0"),
    "cost_leaves": ("cost", "p, t", "__import__('os')._exit(0)", "raises SystemExit: 0"),
    "cost_ends": ("cost", "p, t", "raise GeneratorExit", "cost of cost_ends raises GeneratorExit"),
    "cost_unsaid": (
        "cost",
        "p, t",
        "raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})",
        "raises E: its text raises ZeroDivisionError",
    ),
    "cost_none": ("cost", "p, t", "return None", "returned None"),
    "cost_text": ("cost", "p, t", "return Cost('1', 1, 1)", "returned Cost(flops_alg='1'"),
    "cost_nan": ("cost", "p, t", "return Cost(1, float('nan'), 1)", "a Cost whose flops_exec is a number"),
    "cost_negative": ("cost", "p, t", "return Cost(1, 1, 1, -1)", "a Cost whose bytes_state is a number of at least 0"),
    "cost_no_bytes": ("cost", "p, t", "return Cost(1, 1, 0)", "a Cost whose bytes_compulsory is a number above 0"),
    "supports_refuses_wrongly": ("supports", "p", "return 7", "supports of supports_refuses_wrongly returned 7"),
    "inputs_raise": ("inputs", "p, g", "raise ValueError('no draw')", "raises ValueError: no draw"),
    "inputs_none": ("inputs", "p, g", "return None", "inputs of inputs_none returned None"),
    "inputs_text": ("inputs", "p, g", "return {'q': 'q'}", "returned {'q': 'q'}"),
    "inputs_unnamed": ("inputs", "p, g", "return {1: torch.ones(1)}", "a dict of tensors by name"),
    "oracle_raises": ("oracle", "q, k, v", "return q @ k", "oracle of oracle_raises raises RuntimeError"),
    "oracle_exits": ("oracle", "q, k, v", "raise SystemExit(0)", "oracle of oracle_exits raises SystemExit: 0"),
    "oracle_none": ("oracle", "q, k, v", "return None", "raises TypeError: NoneType is not a tensor o"),
    "oracle_nothing": ("oracle", "q, k, v", "return None, None", "raises TypeError: tuple is not a tensor o"),
    "oracle_nan": ("oracle", "q, k, v", "return v * float('nan'), None", "an o, a tensor without NaN, first"),
    "approximates_raises": ("approximates", "p", "return p.nothing", "raises AttributeError"),
    "segmented_raises": ("segmented", "p", "return p.nothing", "raises AttributeError"),
}


# What an implementation returns that is no result, and how its record tells it.
RETURNS = {
    "nothing": ("None", "returned None"),
    "number": ("7", "returned 7"),
    "array": ("v.numpy()", "returned array("),
    "array_and_state": ("(v.numpy(), None)", "returned (array("),
    "state_of_an_array": ("(v, v.numpy())", "returned (tensor("),
    "nested": ("(v, (v, 1))", "returned (tensor("),
    "no_output": ("(None, None)", "returned (None, None)"),
    "three": ("(v, None, None)", "returned (tensor("),
    "listed": ("[v, None]", "returned [tensor("),
}


def implementations() -> str:
    """The running mean with every faulty implementation."""
    text = RUNNING_MEAN
    for name, (keyword, body, _) in SAYS.items():
        text += f"\ndef {name}(problem, tunables):\n    {body}  # {name}\n"
        text += f"running_mean.implementation('{name}', origin='ours', passes={{'fwd'}}, {keyword}={name})(mean)\n"
    return text


def operators() -> str:
    """The running mean under a faulty operator of each kind."""
    text = RUNNING_MEAN + "import dataclasses\n"
    text += "said = {f.name: getattr(running_mean, f.name) for f in dataclasses.fields(running_mean) if f.init}\n"
    for name, (field, parameters, body, _) in OPERATORS.items():
        text += f"\ndef {name}_({parameters}):\n    {body}  # {name}\n"
        text += f"{name} = Operator(**{{**said, 'name': '{name}', '{field}': {name}_}})\n"
        text += f"{name}.implementation('one', origin='ours')(mean)\n"
    return text


def line_of(path: Path, name: str) -> set[str]:
    """FILE:LINE of the body of the faulty function, and of its definition."""
    lines = path.read_text().splitlines()
    body = next(i for i, line in enumerate(lines, 1) if line.endswith(f"  # {name}"))
    return {f"({path}:{body})", f"({path}:{body - 1})"}


def measured(operator: Operator, kind: str = "timed") -> dict[str, dict[str, Any]]:
    """The record of each implementation of an operator on one problem."""
    problem, found = operator.complete(PROBLEM), []
    cases = [Case(operator.name, name, problem, (), operator.axes) for name in operator.implementations]
    run = ProblemRun(operator, problem, cases, SETTINGS, kind, found.append, lambda *_: None)
    run.measure() if kind == "timed" else run.check()
    return {record["implementation"]: json.loads(json.dumps(record, allow_nan=False)) for record in found}


@pytest.mark.parametrize("kind", ["timed", "check"])
def test_an_implementation_that_says_something_wrong_of_itself_costs_its_own_record(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, implementations(), f"saying_{kind}.py")
    found = measured(discover(load=[path]).operator("running_mean"), kind)
    assert found.pop("torch")["status"] == "ok"
    assert set(found) == set(SAYS)
    for name, (keyword, _, words) in SAYS.items():
        assert found[name]["status"] == "error", name
        reason = found[name]["reason"]
        assert reason.startswith(f"{keyword} of running_mean/{name} "), reason
        assert words in reason
        assert any(place in reason for place in line_of(path, name)), reason


@pytest.mark.parametrize("kind", ["timed", "check"])
def test_an_operator_that_says_something_wrong_costs_its_own_records(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, operators(), f"operators_{kind}.py")
    registry = discover(load=[path])
    for name, (_, _, _, words) in OPERATORS.items():
        record = measured(registry.operator(name), kind)["one"]
        # What the oracle is made of says nothing of an implementation.
        oracles = name.startswith(("oracle", "approximates", "segmented"))
        assert record["status"] == ("unchecked" if oracles else "error"), name
        assert words in record["reason"], record["reason"]
        assert any(place in record["reason"] for place in line_of(path, name)), record["reason"]
    assert measured(registry.operator("running_mean"), kind)["torch"]["status"] == "ok"


def test_what_is_not_served_is_told_before_what_is_wrong(tmp_path: Path) -> None:
    text = RUNNING_MEAN + (
        "running_mean.implementation('refuses', origin='ours', supports=lambda p, t: 'not on a Sunday',"
        " flops_exec=lambda p, t: 1 / 0)(mean)\n"
    )
    record = measured(discover(load=[write(tmp_path, text, "refusing.py")]).operator("running_mean"))["refuses"]
    assert (record["status"], record["reason"]) == ("unsupported", "not on a Sunday")


def test_an_implementation_that_raises_names_its_file_and_line(tmp_path: Path) -> None:
    text = RUNNING_MEAN + (
        "\n@running_mean.implementation('raises', origin='ours')\ndef raises(q, k, v):\n"
        "    return torch.ones(2) @ torch.ones(3), None  # raises\n"
    )
    path = write(tmp_path, text, "raising_inside.py")
    reason = measured(discover(load=[path]).operator("running_mean"))["raises"]["reason"]
    assert any(reason.endswith(place) for place in line_of(path, "raises")), reason


@pytest.mark.parametrize("kind", ["timed", "check"])
def test_an_implementation_that_returns_no_result_names_its_file_and_line(tmp_path: Path, kind: str) -> None:
    text = RUNNING_MEAN
    for name, (value, _) in RETURNS.items():
        text += f"\ndef {name}(q, k, v):\n    return {value}  # {name}\n"
        text += f"running_mean.implementation('{name}', origin='ours', passes={{'fwd'}})({name})\n"
    path = write(tmp_path, text, f"returning_{kind}.py")
    found = measured(discover(load=[path]).operator("running_mean"), kind)
    for name, (_, words) in RETURNS.items():
        reason = found[name]["reason"]
        assert (found[name]["status"], words in reason) == ("error", True), reason
        assert "it must return a tensor o, or the pair (o, final_state or None)" in reason
        assert any(place in reason for place in line_of(path, name)), reason


def test_somebody_elses_streams_last_as_long_as_their_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plug-in that closes what it prints to takes the command's own words from nobody."""
    takes = "import sys\nsys.stdout = sys.stderr = None\n"
    path = write(tmp_path, RUNNING_MEAN + takes, "silent_plugin.py")
    assert main(["list", "--load", str(path), "--op", "running_mean"]) == 0
    assert "running_mean" in capsys.readouterr().out
    with blamed("cost", "any", "here"):
        exec(takes)
    assert None not in (sys.stdout, sys.stderr)


def test_a_bound_and_a_search_that_raise_are_named(tmp_path: Path) -> None:
    text = RUNNING_MEAN + (
        "running_mean.implementation('searches', origin='ours', search=lambda p, t: p.nothing)(mean)\n"
        "bounded = Operator('bounded', 'o', 'none', qkv, mean, cost=running_mean.cost, io_bound=lambda p, m: -1.0)\n"
    )
    registry = discover(load=[write(tmp_path, text, "searching.py")])
    with pytest.raises(PluginError, match=r"search of running_mean/searches raises AttributeError.*searching.py:13"):
        registry.implementation("running_mean", "searches").searched(PROBLEM, {})
    with pytest.raises(PluginError, match=r"io_bound of bounded returned -1.0 \(.*searching.py:14"):
        registry.operator("bounded").bound_of(PROBLEM, 1.0)


def test_a_sweep_goes_on_in_the_same_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = implementations() + "running_mean.implementation('last', origin='ours', passes={'fwd'})(mean)\n"
    plugin, run = write(tmp_path, text, "sweeping_plugin.py"), tmp_path / "run"
    words = [
        "check",
        "--load",
        str(plugin),
        "--op",
        "running_mean",
        "--pass",
        "fwd",
        "--seq-len",
        "8",
        "--preset",
        "smoke",
        "--device",
        "cpu",
    ]
    assert main([*words, "--out", str(run)]) == 1
    found = {record["implementation"]: record["status"] for record in read_records(run)}
    assert found == {"torch": "ok", "last": "ok", **dict.fromkeys(SAYS, "error")}


def test_a_command_that_somebody_ends_has_no_exit_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "def leave():\n    raise SystemExit(0)\n", "leaving.py")
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    monkeypatch.setattr("suite.cli.gate.run", lambda _: space["leave"]())
    assert main(["gate", "--base", "HEAD"]) == 2
    assert capsys.readouterr().err == f"subquad: gate was ended by exit code 0 of {path}:2; remove that exit\n"


def test_an_interrupt_inside_a_function_of_an_operator_is_told() -> None:
    place = r"^in cost of mean \(.*test_plugin_faults.py:\d+\)$"
    with pytest.raises(KeyboardInterrupt, match=place), blamed("cost", "mean", "mine.py:9"):
        raise KeyboardInterrupt
