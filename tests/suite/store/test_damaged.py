"""Every command that reads a run says in one line which file, line and field of it is damaged."""

from __future__ import annotations

from typing import Any

import pytest

from suite.cli import main
from suite.errors import Exit
from suite.store import read_environment
from tests.suite.store.runs import change_environment, change_line, record, write_run

COMMANDS = [
    ["report", "RUN", "--format", "md"],
    ["gate", "--baseline", "RUN", "--candidate", "RUN"],
    ["compare", "RUN", "RUN"],
    ["analyse", "RUN"],
    ["crossover", "RUN"],
    ["static", "--run", "RUN"],
]
EXPORTS = [["export", "RUN", "--to", to] for to in ("csv", "json", "pytest-benchmark")]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", [record(launch=launch) for launch in range(3)])


def told(run, words, capsys) -> str:
    assert main([str(run) if word == "RUN" else word for word in words]) == Exit.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("words", [*COMMANDS[:5], *EXPORTS], ids=lambda words: " ".join(words))
@pytest.mark.parametrize(
    ("field", "value"), [("time_ms", 5e-324), ("samples", []), ("case_id", "no slash"), ("p20_ms", 1e308)]
)
def test_of_a_record(run, capsys, words, field, value):
    change_line(run, 2, **{field: value})
    line = told(run, words, capsys)
    assert f"{run}/records.jsonl:2: the line " in line
    assert field in line


@pytest.mark.parametrize("words", [*COMMANDS, EXPORTS[2]], ids=lambda words: " ".join(words))
@pytest.mark.parametrize(
    ("field", "value"), [("device", "cuda"), ("fingerprint__device", ["a"]), ("ceilings__copy", 3)]
)
def test_of_the_environment(run, capsys, words, field: str, value: Any):
    change_environment(run, **{field: value})
    line = told(run, words, capsys)
    assert f"{run}/environment.json has {field.replace('__', '.')} = " in line


def timed(operator: str, tag: str, T: int) -> dict[str, Any]:
    """A record of one operator at one length."""
    problem = f"B1_T{T}_H2_K8_V8_fp32_fwd"
    ids = {"case_id": f"{operator}/triton_chunk/{problem}_C64", "problem_id": f"{operator}/{problem}"}
    return record(operator=operator, tags=[tag], T=T, flops_alg=1e6, flops_exec=1e6, intensity=1.0, **ids)


@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[4]], ids=lambda words: " ".join(words))
@pytest.mark.parametrize(
    "ceilings", [{"matmul": None}, {"matmul": {"float32": None}}, {"copy": None}, {"launch": {"torch": None}}], ids=str
)
def test_what_is_null_in_the_environment_is_absent(tmp_path, monkeypatch, words, ceilings):
    monkeypatch.chdir(tmp_path)
    operators = (("softmax_attention", "quadratic"), ("linear_attention", "linear"))
    run = write_run(tmp_path / "run", [timed(*operator, T) for operator in operators for T in (128, 256)])
    known = {"copy": [{"bytes": 1024, "gbs": 9.0}], "matmul": {"float32": {"tflops": 1.0}}}
    change_environment(run, ceilings={**known, **ceilings})
    assert main([str(run) if word == "RUN" else word for word in words]) == Exit.PASS
    assert read_environment(run)["fingerprint"]["sms"] is None, "a value that is not known is kept"


@pytest.mark.parametrize("words", [*COMMANDS[:5], *EXPORTS], ids=lambda words: " ".join(words))
def test_of_an_edited_line(run, capsys, words):
    path = run / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"memory_mib":10.0', b'"memory_mib":11.0', 1))
    assert f"{path}:1: the line was changed after it was written" in told(run, words, capsys)
