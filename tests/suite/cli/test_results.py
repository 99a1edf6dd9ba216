"""What `bench` and `check` print at their end, how much of it, and what a shell completes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite.cli import COMMANDS, main, parser, results
from suite.cli.check import _print_table
from suite.cli.results import print_results
from suite.reporting.data.frame import read
from suite.reporting.data.results import ratio_text
from suite.running import progress
from suite.running.budget import Budget
from suite.running.progress import BASE_WORK, PlainProgress, Told
from suite.store.text import time_text
from tests.suite.store.runs import failed, record, write_run


def timed(name: str, T: int, ms: float, **changes: Any) -> dict[str, Any]:
    own = {"implementation": name, "T": T, "time_ms": ms, "tunable.chunk": None, "roof_pct": 25.4}
    ids = {
        "case_id": f"retention/{name}/B1_T{T}_H2_K8_V8_fp32_fwd",
        "problem_id": f"retention/B1_T{T}_H2_K8_V8_fp32_fwd",
    }
    return record("", **{**own, **ids, **changes})


def refused(name: str, reason: str, status: str = "unsupported", **changes: Any) -> dict[str, Any]:
    id_ = f"retention/{name}/B1_T64_H2_K8_V8_fp32_fwd"
    return failed(status=status, implementation=name, reason=reason, **{"case_id": id_, **changes})


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def of(records: list[dict[str, Any]], **how: Any) -> list[str]:
        folder = write_run(tmp_path / f"run{len(list(tmp_path.iterdir()))}", records)
        print_results(read([folder])[0], **how)
        return capsys.readouterr().out.splitlines()

    return of


def test_each_length_has_its_fastest_and_how_far_off_the_others_are(shown: Any) -> None:
    records = [timed("slow", 64, 3.0), timed("fast", 64, 1.5), timed("close", 64, 1.53)]
    records += [timed("slow", 4096, 90.0), timed("fast", 4096, 1500.0)]
    title, head, short, long, end = shown(records)
    assert title.startswith("retention · ")
    assert " fp32 " in title
    assert head.split()[:2] == ["T", "fastest"]
    assert short.split(None, 6) == ["64", "fast", "1.50", "ms", "25", "%", "close 1.02x, slow 2.0x"]
    assert long.split(None, 6) == ["4,096", "slow", "90.0", "ms", "25", "%", "fast 17x"]
    assert end == ""
    # Aligned without a terminal too: the columns of both lines end at one place, and no line ends in spaces.
    assert short.index("ms") == long.index("ms")
    assert short.index("%") == long.index("%")
    assert [line for line in (title, head, short, long) if line != line.rstrip()] == []


def test_tunables_and_operators_are_told_apart(shown: Any) -> None:
    records = [record("C64", T=64, time_ms=2.0), timed("other", 64, 4.0)]
    other = {"operator": "linear_attention", "case_id": "linear_attention/a/B1_T64_H2_K8_V8_fp32_fwd"}
    records += [timed("a", 64, 1.0, problem_id="linear_attention/B1_T64_H2_K8_V8_fp32_fwd", **other)]
    lines = shown(records)
    assert [line.partition(" ")[0] for line in lines if " · " in line] == ["retention", "linear_attention"]
    assert any("triton_chunk (chunk 64)" in line and "other 2.0x" in line for line in lines)


def test_reasons_are_told_once_and_for_all_implementations(shown: Any) -> None:
    records = [refused(f"peer_{i}", f"peer_{i} does not run on cpu, only on cuda") for i in range(8)]
    records += [
        refused("own", "takes no such T"),
        refused("wrong", "o: error 1", "incorrect"),
    ]
    lines = shown(records)
    assert lines[0].startswith("1 incorrect: o: error 1 (retention/wrong)")
    assert lines[1].startswith("8 unsupported: does not run on cpu, only on cuda (retention/peer_0, ")
    assert lines[1].endswith("and 2 more)")
    assert lines[2] == "1 unsupported: takes no such T (retention/own)"
    # A line that says "one more" would take the room of that one.
    assert shown([refused(f"own_{i}", f"reason {i}") for i in range(7)])[-1].endswith("(retention/own_6)")
    many = [refused(f"own_{i}", f"reason {i}") for i in range(9)]
    assert shown(many)[-1] == "and 3 other reasons; --verbose prints them"
    assert len(shown(many, everything=True)) == 9


def test_disturbed_times_are_told(shown: Any) -> None:
    quiet, loud = timed("a", 64, 1.0), timed("b", 64, 2.0) | {"telemetry.other_share": 0.51}
    said = "disturbed: other processes on the CPU in 1 of 2 cases; measure again on a quiet machine"
    assert said in shown([quiet, loud])
    assert not any("disturbed" in line for line in shown([quiet]))


@pytest.mark.parametrize("columns", [60, 80])
def test_a_narrow_terminal_folds_names_and_keeps_figures(columns: int, shown: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(results, "WIDTH", columns)
    long = "fused_two_pass_streaming_mean_v2_of_many_words"
    lines = shown([timed(long, 16384, 1.0), timed("other", 16384, 3.0)])
    text = " ".join(" ".join(lines).split())
    assert all(figure in text for figure in ("16,384", "1.00 ms", "25 %", "3.0x"))
    assert "…" not in text


def test_of_many_problems_the_first_are_printed(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PROBLEMS", 3)
    records = [timed("a", T, 1.0) for T in (64, 128)] + [timed("a", T, 1.0, dtype="bfloat16") for T in (64, 128)]
    records = [each | {"case_id": f"{each['case_id']}{i}"} for i, each in enumerate(records)]
    lines = shown(records)
    assert sum("25 %" in line for line in lines) == 3
    assert "1 more problem: the report has them, and --verbose prints them" in lines
    assert sum(" · " in line for line in shown(records, everything=True)) == 2


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1234.0, "1.23 s"),
        (999.9, "1000 ms"),
        (12.34, "12.3 ms"),
        (1.0, "1.00 ms"),
        (0.999, "999 us"),
        (0.0123, "12.3 us"),
        (2.5e-4, "250 ns"),
        (4e-7, "0.40 ns"),
        (7.2e6, "7200 s"),
    ],
)
def test_times_have_three_digits_and_a_unit_that_suits(ms: float, text: str) -> None:
    assert time_text(ms) == text


def test_ratios() -> None:
    assert [ratio_text(x) for x in (1.0, 1.094, 1.1, 9.94, 9.96, 1234.5)] == [
        "1.00x", "1.09x", "1.1x", "9.9x", "10x", "1,234x",
    ]  # fmt: skip


RECORDS = [
    {"status": status, "case_id": f"a/{status}/c", "reason": reason, "flops_exec": 0.0, "time_ms": ms}
    for status, reason, ms in (("ok", "", 1.5), ("unsupported", "no", None), ("incorrect", "o: error 1", None))
]


@pytest.mark.parametrize(
    ("told", "lines"),
    [
        ("quiet", ["incorrect     a/incorrect/c: o: error 1"]),
        ("usual", ["incorrect     a/incorrect/c: o: error 1", "3/3 records in 0 s"]),
        (
            "verbose",
            [
                "ok            a/ok/c: 1.50 ms",
                "unsupported   a/unsupported/c: no",
                "incorrect     a/incorrect/c: o: error 1",
                "3/3 records in 0 s",
            ],
        ),
    ],
)
def test_how_much_is_told_while_cases_run(told: Told, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    stream = io.StringIO()
    shown = PlainProgress(3, 3 * BASE_WORK, Budget(), stream, told)
    for each in RECORDS:
        shown.record(each)
    shown.finish()
    assert stream.getvalue().splitlines() == lines


@pytest.mark.parametrize(
    ("told", "kept", "folded"),
    [
        ("quiet", ["incorrect"], False),
        ("usual", ["ok", "incorrect"], True),
        ("verbose", ["ok", "unsupported", "incorrect"], False),
    ],
)
def test_a_check_folds_what_is_unsupported(
    told: Told, kept: list[str], folded: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{**each, "operator": "a", "implementation": each["status"], "T": 8, "check": {}} for each in RECORDS]
    _print_table(records, told)
    out = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in out if "\t" in line][1:] == kept
    assert ("1 unsupported: no (a/unsupported)" in out) == folded


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quiet", "--verbose"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_nothing_is_coloured_where_no_terminal_is(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert not any("\x1b" in line for line in shown([timed("a", 64, 1.0)]))


BASH = """
source "$1"
complete_words() {
    COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _shtab_subquad; echo "${COMPREPLY[@]}"
}
complete_words subquad ga
complete_words subquad bench --verb
complete_words subquad bench --op ret
complete_words subquad static --pass fwd
complete_words subquad tune --preset llama
"""


def test_bash_completes_commands_flags_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    done = subprocess.run(["bash", "-c", BASH, "-", str(script)], capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [["gate"], ["--verbose"], ["retention"], ["fwd", "fwdbwd"], ["llama3-8b"]], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "subquad" in out
    assert "softmax_attention" in out


def test_every_command_s_flags_are_in_the_whole_parser() -> None:
    whole = parser(everything=True)
    (commands,) = [each for each in whole._actions if each.dest == "command"]
    assert set(commands.choices or ()) == set(COMMANDS)
    for name, each in dict(commands.choices or {}).items():  # type: ignore[call-overload]
        assert len(each._actions) > 1, f"{name} has no flag but --help"


def test_the_table_is_printed_by_the_command(tmp_path: Path) -> None:
    """As a user has it: standard output has the table, standard error what went on."""
    words = ["bench", "--preset", "smoke", "--op", "linear_attention", "--pass", "fwd", "--no-static", "--no-report"]
    found = {}
    for flag in ("--verbose", "--quiet"):
        done = subprocess.run(
            [sys.executable, "-m", "suite", *words, flag, "--out", str(tmp_path / flag[2:])],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "NO_COLOR": "1"},
        )
        found[flag] = done.stdout.splitlines(), done.stderr.splitlines()
    out, err = found["--verbose"]
    assert any(line.startswith("linear_attention · fwd") for line in out)
    assert any("of roof" in line for line in out)
    assert any("unsupported: does not run on cpu" in line for line in out)
    assert any(line.startswith("ok ") and line.endswith(("us", "ms")) for line in err)
    out, err = found["--quiet"]
    assert out == [f"run: {tmp_path / 'quiet'}"]
    assert not any("records" in line or line.startswith("ok ") for line in err)
