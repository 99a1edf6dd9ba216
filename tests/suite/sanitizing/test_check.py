"""`check --sanitize`: flags, statuses and records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("triton")

from suite.__main__ import main
from suite.cli.check import _print_table
from suite.sanitizing.checking import MANY_ELEMENTS, MOST_TOLD, enlarged, told
from suite.sanitizing.findings import Finding

PLUGIN = """
import torch
import triton
import triton.language as tl

from suite import Cost, Operator

def inputs(p, generator):
    return {"x": torch.randn(p.B, p.T, p.H, p.K, generator=generator)}

planted = Operator(
    "planted",
    equation="o = 2 x",
    paper="none",
    inputs=inputs,
    oracle=lambda x: x * 2,
    cost=lambda p, tunables: Cost(p.tokens, p.tokens, p.tokens),
    passes=("fwd",),
    dims={"x": "B T H K"},
)

@triton.jit
def double_kernel(x, o, N, B: tl.constexpr, MASKED: tl.constexpr):
    offsets = tl.program_id(0) * B + tl.arange(0, B)
    b_x = tl.load(x + offsets, mask=(offsets < N) | (not MASKED), other=0.0)
    tl.store(o + offsets, b_x * 2.0, mask=offsets < N)

def double(x, masked):
    o = torch.empty_like(x)
    double_kernel[(triton.cdiv(x.numel(), 64),)](x, o, x.numel(), B=64, MASKED=masked)
    return o

@planted.implementation("right", origin="ours", devices={"cuda", "interpret"}, passes={"fwd"})
def right(x):
    return double(x, True)

@planted.implementation("outside", origin="ours", devices={"cuda", "interpret"}, passes={"fwd"})
def outside(x):
    return double(x, False)

@planted.implementation("writes", origin="ours", devices={"cuda", "interpret"}, passes={"fwd"})
def writes(x):
    o = double(x, True)
    x.zero_()
    return o

@planted.implementation("none", origin="ours", devices={"cuda", "interpret"}, passes={"fwd"})
def none(x):
    return x * 2
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted") / "planted.py"
    path.write_text(PLUGIN)
    return path


def test_findings_are_the_reason_of_a_record(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--pass", "fwd", "--shape", "B=1,T=10,H=1,K=10", "--dtype", "fp32", "--json"]
    assert main(["check", "--sanitize", "--load", str(plugin), "--op", "planted", *shape]) == 1
    records = {x["implementation"]: x for x in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {name: x["status"] for name, x in records.items()} == {
        "right": "ok",
        "outside": "incorrect",
        "writes": "incorrect",
        "none": "unsupported",
    }
    assert records["writes"]["reason"] == "it changes its input x"
    assert "o" in records["right"]["check"], "numerics are judged too"
    reason = records["outside"]["reason"]
    assert reason.startswith("out of bounds: program (1, 0, 0) of (2, 1, 1) of double_kernel reads offsets 100 to 127")
    assert f"{plugin}:{PLUGIN[: PLUGIN.index('b_x = tl.load')].count(chr(10)) + 1}" in reason
    assert "launches no Triton kernel" in records["none"]["reason"]


def test_sizes_that_do_not_exist_need_no_memory(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--pass", "fwd", "--shape", "B=1,T=10,H=1,K=10", "--dtype", "fp32", "--json"]
    assert main(["check", "--sanitize=addresses", "--load", str(plugin), "--op", "planted", *shape]) == 1
    records = {x["implementation"]: x for x in map(json.loads, capsys.readouterr().out.splitlines())}
    assert records["right"]["status"] == "incorrect"
    assert "overflow: " in records["right"]["reason"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--device", "cpu"], "--sanitize runs in Triton's interpreter; use --device interpret, not cpu"),
        (["--out", "somewhere"], "--sanitize stores nothing; remove --out or --resume"),
    ],
)
def test_flags_that_do_not_go_together(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--sanitize", *flags]) == 2
    assert words in capsys.readouterr().err


def test_batch_grows_until_int32_does_not_count_an_input() -> None:
    from suite.discovery import discover
    from suite.problem import Problem

    operator = discover().operator("retention")
    large = enlarged(operator, operator.complete(Problem(B=3, T=48, H=2, K=32, V=64, dtype="fp16", pass_="fwd")))
    assert MANY_ELEMENTS <= large.B * 48 * 2 * 64 < 2 * MANY_ELEMENTS


def test_reasons_tell_some_findings_and_count_the_rest() -> None:
    findings = [Finding("race", "kernel", "x", "", f"number {i}") for i in range(MOST_TOLD + 3)]
    lines = told([*findings, findings[0]]).splitlines()
    assert lines[0] == "race: number 0"
    assert lines[-1] == "and 3 more"
    assert len(lines) == MOST_TOLD + 1


def test_the_table_says_how_many_lines_of_a_reason_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"status": "incorrect", "case_id": "a case", "check": {}}
    _print_table([{**row, "reason": "first\nsecond\nthird"}, {**row, "reason": "only"}], "usual")
    told = capsys.readouterr().out
    assert "first (and 2 more: --json)" in told
    assert "second" not in told
    assert told.rstrip().endswith("only")
