"""Somebody's text reaches a terminal as text: no escape sequence, no bell, no markup, no turned direction."""

from __future__ import annotations

import io
import re
import sys

import pytest

from suite.cli import main
from suite.cli.tables import print_table
from suite.errors import Exit
from suite.running.budget import Budget
from suite.running.progress import BarProgress, PlainProgress
from suite.store.text import harmless, in_markdown, in_plain_cell
from suite.terminal import guarded
from tests.suite.store.runs import failed, record, write_run

NASTY = "[red]a[/red] \x1b]0;owned\x07\x1b[2J\x9b31m \u202eb\u2066 |`c`|\r\td\x00\x7f\x85 <b>"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What rich itself draws with: colours, the cursor hidden, moved and shown, lines erased.
DRAWN = re.compile(r"\x1b\[(\?25[lh]|[0-9;]*[mAK]|\d*G)|\r")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def runs(tmp_path):
    before = write_run(tmp_path / "before", [record(launch=i) for i in range(8)])
    after = write_run(tmp_path / "after", [failed(reason=NASTY, launch=i) for i in range(8)], cpu=NASTY)
    named = write_run(tmp_path / "a\x1b[31m\x07\u202eb", [record()])
    return {"BEFORE": str(before), "AFTER": str(after), "NAMED": str(named)}


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--allow-env-mismatch", "BEFORE", "AFTER"],
        ["compare", "--allow-env-mismatch", "--json", "BEFORE", "AFTER"],
        ["compare", "BEFORE", "AFTER"],
        ["gate", "--allow-env-mismatch", "--baseline", "BEFORE", "--candidate", "AFTER"],
        ["gate", "--baseline", "BEFORE", "--candidate", "AFTER"],
        ["analyse", "AFTER"],
        ["analyse", "NAMED"],
        ["export", "NAMED", "--to", "json"],
        ["report", "no\x1b[31m\x07\u202ewhere"],
        ["report", "--format", "p\x9bdf", "BEFORE"],
        ["ban\x1bch"],
    ],
)
def test_no_command_passes_on_what_a_terminal_obeys(runs, capsys, words):
    main([runs.get(word, word) for word in words])
    told = capsys.readouterr()
    assert told.out + told.err
    assert not OBEYED.search(told.out + told.err)


def test_a_table_on_a_terminal_shows_markup_as_text_and_keeps_its_own_colours(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stdout", Terminal())
    with guarded():
        print_table(("name", NASTY), [(NASTY, "x\\")])
    shown = sys.stdout.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "\x1b[1m" in shown
    assert shown.count("[red]a[/red]") == 2
    assert not OBEYED.search(DRAWN.sub("", shown))


def test_progress_shows_case_and_reason_as_text(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    row = failed(reason=NASTY, case_id=f"retention/triton_chunk/{NASTY}")
    with guarded():
        for progress in (PlainProgress(1, 1.0, Budget()), BarProgress(1, 1.0, Budget())):
            progress.record(row)
            progress.finish()
    shown = sys.stderr.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert shown.count("crashed") == 2
    assert not OBEYED.search(DRAWN.sub("", shown))


def test_streams_are_given_back_and_guarded_once(capsys):
    before = sys.stdout, sys.stderr
    with guarded():
        inner = sys.stdout
        with guarded():
            assert sys.stdout is inner
        print("a\x1bb\tc")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "a\ufffdb\tc\n"


def test_what_is_harmless_stays():
    text = "naïve β → 数 🙂 [x] \t\n"
    assert harmless(text) == text


def test_markdown_cells_hold_bars_backticks_and_line_breaks():
    for cell in (in_markdown("a|b\n`c` \x1b[1m"), in_plain_cell("a|b\n`c` \x1b[1m")):
        assert "\n" not in cell
        assert "\x1b" not in cell
        assert not re.search(r"(?<!\\)[|`]", cell)


def test_reports_as_text_hold_hostile_names(tmp_path, capsys):
    rows = [record("C64", implementation=name, case_id=f"retention/{name}/B1_T64_{name}") for name in (NASTY, "plain")]
    run = write_run(tmp_path / "run", rows)
    for form in ("md", "latex"):
        assert main(["report", str(run), "--format", form]) == Exit.PASS
        text = capsys.readouterr().out
        assert not OBEYED.search(text)
        assert "<b>" not in text.replace("\\<", "") or form == "latex"


def test_a_narrow_terminal_folds_names_and_cuts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "50")
    name = "linear_attention/torch_chunk/B1_T128_H1_K64_V64_fp32_fwd_C64"
    print_table(("change", "case", "commit"), [("slower", name, "17ba0791aa"), ("slower", name, "17ba0791ab")])
    shown = DRAWN.sub("", stream.getvalue())
    assert "…" not in shown
    folded = "".join(line[8:].split("  ")[0].strip() for line in shown.splitlines()[1:])
    assert folded.count(name) == 2
