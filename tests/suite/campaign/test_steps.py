"""Campaigns as they are written: those of the suite select cases, and what is wrong in one of a user's is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.campaign import names, read
from suite.cli import parser
from suite.cli.selection import selected
from suite.discovery import ROOT, discover
from suite.errors import UsageError

STEP = """
[[step]]
name = "times"
proves = "how long it takes"
run = "bench --preset smoke"
seconds = 10
"""


@pytest.mark.parametrize("name", names())
def test_every_step_is_a_command_that_selects_something(name: str) -> None:
    for step in read(name).steps:
        if step.program == "pytest":
            for word in step.words[1:]:
                assert not word.endswith(".py") or (ROOT / word).is_file(), word
            continue
        words = [word.replace("{jobs}", "2") for word in step.words]
        args = parser(step.program).parse_args(words)
        if step.program != "profile":
            _, groups = selected(args, discover(), "gpu")
            assert any(group.cases for group in groups), step.name


def test_the_first_quarter_of_an_hour_leaves_time_to_start_and_to_fetch() -> None:
    assert read("gpu-first").seconds - 60 <= 12.5 * 60


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seconds = 10", ""), "step 1 has no seconds"),
        (("seconds = 10", "seconds = 0"), "seconds must be above 0 and at most 32000000, got 0"),
        (("seconds = 10", "seconds = 'ten'"), "seconds must be a number, got 'ten'"),
        (("seconds = 10", "seconds = 10\nsecond = 1"), "unknown key 'second'; did you mean 'seconds'?"),
        (("seconds = 10", "seconds = 10\nneeds = 'ptaxs'"), "unknown need 'ptaxs'; did you mean 'ptxas'?"),
        (("seconds = 10", "seconds = 10\nof_failures = 'check'"), "of_failures = 'check' is no earlier bench or check"),
        (("bench --preset", "banch --preset"), "unknown program 'banch'; did you mean 'bench'?"),
        (("bench --preset smoke", "bench 'smoke"), "its words cannot be split"),
        (("bench --preset smoke", "bench --out x"), "the campaign gives --out itself; remove it from run"),
        (("bench --preset", "bench --out=x --preset"), "the campaign gives --out itself; remove it from run"),
        (("seconds = 10", "seconds = 10\nrehearsal = '--resume x'"), "gives --resume itself; remove it from rehearsal"),
        (("seconds = 10", "seconds = 1e300"), "seconds must be above 0 and at most 32000000, got 1e+300"),
        (('"times"', f'"{"t" * 50}"'), "name must be of at most 40 letters, digits and '-', got 'ttt"),
        (("[[step]]", "description = 5\n[[step]]"), "description must be a text, got 5"),
        (('"times"', '"my times"'), "letters, digits and '-', got 'my times'"),
        (("[[step]]", "[step]"), "has no [[step]]"),
        (("[[step]]", "[[stop]]"), "unknown key 'stop'; did you mean 'step'?"),
        (("name =", "name"), "cannot be read as TOML"),
        ((STEP, STEP * 2), "has two steps times"),
    ],
)
def test_what_is_wrong_is_named(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(STEP.replace(*change))
    with pytest.raises(UsageError) as raised:
        read(str(file))
    assert said in str(raised.value)
    assert str(file) in str(raised.value)


def test_an_unknown_campaign_is_named() -> None:
    with pytest.raises(UsageError, match="unknown campaign 'gpu-frist'; did you mean 'gpu-first'"):
        read("gpu-frist")
    with pytest.raises(UsageError, match=r"there is no file no\.toml"):
        read("no.toml")
