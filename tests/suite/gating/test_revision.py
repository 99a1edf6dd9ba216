"""`gate --base` on real checkouts: what has the same code, what is gone, what is broken, what is slower."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from suite.cli import main
from suite.errors import Exit
from tests.suite.gating.checkout import commit, edit, make_checkout, subquad, write

SELECTION = ("--preset", "registry", "--seq-len", "512", "--no-static")
PROBLEM = "B1_T512_H2_K32_V32_fp32_fwd"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))
    return make_checkout(tmp_path / "checkout")


def gate(checkout: Path, *words: str) -> tuple[int, dict[tuple[str, str], str], str]:
    """(exit code, (implementation, metric) -> verdict, standard error) of a gate against HEAD."""
    out = checkout / "gate.json"
    done = subquad(checkout, "gate", "--base", "HEAD", *SELECTION, "--json", str(out), *words)
    assert "Traceback" not in done.stderr
    cases = json.loads(out.read_text())["cases"] if out.exists() else []
    out.unlink(missing_ok=True)
    return done.returncode, {(c["case_id"].split("/")[1], c["metric"]): c["verdict"] for c in cases}, done.stderr


def test_what_has_the_same_code_is_not_timed_what_is_gone_fails_and_what_is_new_does_not(checkout):
    edit(checkout, "baselines/one.py", "REPEAT = 20", "# A comment, and a blank line, compute nothing.\n\nREPEAT = 20")
    edit(checkout, "kernels/running_mean/spec.py", "The running mean.", "The mean of all tokens so far.")
    edit(checkout, "baselines/two.py", 'implementation("two"', 'implementation("four"')
    edit(checkout, "baselines/three.py", 'passes={"fwd"})', 'passes={"fwd"}, devices={"cuda"})')
    wrong = (checkout / "baselines/one.py").read_text().replace('"one"', '"wrong"')
    write(checkout, "baselines/wrong.py", wrong.replace("return found", "return (found[0] + 0.02, None)"))
    code, verdicts, err = gate(checkout)
    assert code == 1
    expected = {"one": "unchanged", "two": "missing", "three": "broken", "four": "new", "wrong": "broken"}
    assert verdicts == {(name, "time"): verdict for name, verdict in expected.items()}
    assert "round 2" not in err


def test_a_budget_that_ends_before_anything_is_known_is_inconclusive(checkout):
    out = checkout / "gate.json"
    done = subquad(checkout, "gate", "--base", "HEAD", *SELECTION, "--json", str(out), "--budget", "0.1s")
    assert (done.returncode, done.stderr) == (3, "")
    cases = json.loads(out.read_text())["cases"]
    assert {each["case_id"].split("/")[1] for each in cases} == {"one", "two", "three"}
    assert {each["reason"] for each in cases} == {"left out: the budget of 0.1 s ended"}


@pytest.mark.long
def test_an_unchanged_tree_passes_at_once(checkout):
    code, verdicts, err = gate(checkout)
    assert (code, verdicts) == (0, {(name, "time"): "unchanged" for name in ("one", "two", "three")})
    assert "round" not in err


@pytest.mark.long
def test_what_changed_and_no_case_judges_is_named(checkout):
    edit(checkout, "baselines/two.py", "REPEAT = 20", "REPEAT = 21")
    preset = checkout / "other.toml"
    preset.write_text('tags = ["linear"]\nskip = ["two"]\n[[sweep]]\nT = [64]\ndtype = ["float32"]\n')
    code, verdicts, err = gate(checkout, "--preset", str(preset))
    assert (code, set(verdicts)) == (0, {("one", "time"), ("three", "time")})
    assert "note: changed, but in no case that this gate judges: running_mean/two; choose another --preset" in err


@pytest.mark.long
def test_what_worked_and_no_longer_does_is_broken(checkout, tmp_path):
    edit(checkout, "baselines/one.py", "return found", "return (found[0] + 0.02, None)")
    edit(
        checkout,
        "baselines/two.py",
        "    return found",
        "    KEPT.setdefault(v.data_ptr(), found)\n    return KEPT[v.data_ptr()]\n\n\nKEPT = {}",
    )
    edit(checkout, "baselines/three.py", "    return found", "    __import__('os')._exit(7)")
    write(checkout, "baselines/five.py", (checkout / "baselines/three.py").read_text().replace("three", "five"))
    junit, markdown = tmp_path / "gate.xml", tmp_path / "gate.md"
    code, verdicts, _ = gate(checkout, "--rounds", "1", "--junit", str(junit), "--markdown", str(markdown))
    assert code == 1
    assert verdicts == {(name, "time"): "broken" for name in ("one", "two", "three")} | {("five", "time"): "new"}
    told = {each.get("name", "").split("/")[0]: each.find("failure") for each in ET.parse(junit).iter("testcase")}
    reasons = {name: each.get("message", "") for name, each in told.items() if each is not None}
    assert "incorrect: o: error" in reasons["one"]
    assert "in its last timed call" in reasons["two"]
    assert "exit code 7 during open" in reasons["three"]
    text = markdown.read_text()
    assert "| broken | running\\_mean/two/" in text
    assert "Measured on " in text
    assert "    subquad gate --base HEAD --preset registry --seq-len 512 --no-static --rounds 1\n" in text


@pytest.mark.long
def test_a_budget_says_what_was_left_out(checkout):
    for name in ("one", "two", "three"):
        edit(checkout, f"baselines/{name}.py", "REPEAT = 20", "REPEAT = 2000")
    code, verdicts, _ = gate(checkout, "--budget", "15s")
    assert code == 3
    assert set(verdicts.values()) <= {"inconclusive", "same"}
    assert verdicts[("three", "time")] == "inconclusive"


def test_a_base_that_can_not_be_imported_is_incomparable(tmp_path):
    checkout = make_checkout(tmp_path / "checkout")
    works = (checkout / "kernels/running_mean/spec.py").read_text()
    write(checkout, "kernels/running_mean/spec.py", "from suite.nowhere import nothing")
    commit(checkout)
    write(checkout, "kernels/running_mean/spec.py", works)
    code, _, err = gate(checkout)
    assert code == 4
    assert "the base does not load under this suite" in err
    assert "suite.nowhere" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--base", "no-such-branch"), "no revision 'no-such-branch'"),
        ((), "gate one thing"),
        (("--base", "HEAD", "--calibrate"), "gate one thing"),
        (("--base", "HEAD", "--baseline", "a", "--candidate", "b"), "gate one thing"),
        (("--baseline", "a"), "give both --baseline RUN and --candidate RUN"),
        (("--base", "HEAD", "--rounds", "0"), "'0' is not a count"),
        (("--base", "HEAD", "--min-difference", "-1"), "--min-difference -1 is not an allowance"),
        (("--base", "HEAD", "--budget", "soon"), "--budget soon: not a duration"),
        (("--calibrate", "--mode", "cold-event"), "unknown mode"),
        (("--calibrate", "--impl", "triton_chnk"), "did you mean 'triton_chunk'"),
    ],
)
def test_usage_errors_are_one_line(capsys, words, told):
    assert main(["gate", *words]) == Exit.USAGE
    done = capsys.readouterr()
    assert told in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not done.out


@pytest.mark.long
def test_one_implementation_slowed_by_a_tenth_turns_red_and_no_other(checkout):
    edit(checkout, "baselines/two.py", "REPEAT = 20", "REPEAT = 22")
    code, verdicts, err = gate(checkout, "--all", "--rep", "600")
    assert verdicts[("two", "time")] == "slower", err
    assert "slower" not in {verdict for (name, _), verdict in verdicts.items() if name != "two"}
    assert code == 1


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_a_revision_against_itself_never_fails(checkout, seed):
    """This machine as it is, busy or quiet: inconclusive it may be, a regression never."""
    code, verdicts, err = gate(checkout, "--all", "--impl", "one,two", "--rounds", "8", "--seed", str(seed))
    assert code in (0, 3), err
    assert {verdicts["one", "time"], verdicts["two", "time"]} <= {"same", "faster", "inconclusive"}


@pytest.mark.long
def test_calibration_widens_the_margin_of_a_noisy_case(checkout):
    done = subquad(checkout, "gate", "--calibrate", *SELECTION, "--impl", "one", "--rounds", "4", "--rep", "10")
    assert done.returncode == 0, done.stderr
    assert "stored in the A/A history of this machine: 1 of 1 cases" in done.stdout
    assert "calibrate again on another day" in done.stderr
    out = checkout / "gate.json"
    words = ("--all", "--impl", "one", "--rounds", "1", "--margin", "0", "--json", str(out))
    subquad(checkout, "gate", "--base", "HEAD", *SELECTION, *words)
    time = next(each for each in json.loads(out.read_text())["cases"] if each["metric"] == "time")
    assert time["margin"] > 0
    assert "its own A/A floor" in time["reason"]
