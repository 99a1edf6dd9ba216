"""A campaign's steps end within their seconds, cost themselves alone, and go on where they stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from suite.campaign import Campaign, Plan, Step, Terms, read
from suite.campaign import running as campaign_running
from suite.cli import main
from suite.discovery import ROOT
from suite.errors import Exit, StoreError, UsageError
from suite.running.budget import Budget

# What a step runs here in place of its command, by its name.
SCRIPTS = {
    "good": "print('well')",
    "bad": "print('wrong'); raise SystemExit(1)",
    "odd": "raise SystemExit(3)",
    # Ends in peace when it is told to, as a sweep does.
    "long": """
import time
print('begun', flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    print('kept', flush=True)
""",
    # Hears nothing, and has a child that would hold the pipe.
    "deaf": """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print('begun', flush=True)
time.sleep(600)
""",
    "variables": "import os; print('ptxas is', os.environ['TRITON_PTXAS_PATH'])",
}


def step(name: str, seconds: float = 60.0, **values: Any) -> Step:
    return Step(name, "something", "bench --preset smoke", seconds, **values)


# What a rehearsal skips: it has no GPU for tests, and no second ptxas.
SKIPPED = {"truth", "memcheck", "sanitizer", "ptxas"}


class Scripted(Campaign):
    """Runs scripts in place of commands."""

    def command(self, step: Step, seconds: float) -> list[str]:
        return [sys.executable, "-c", SCRIPTS[step.name]]


def campaign(folder: Path, *steps: Step, said: list[str] | None = None, **terms: Any) -> Scripted:
    budget = terms.pop("budget", Budget())
    said = [] if said is None else said
    return Scripted(Plan("mine", "", steps), folder, Terms(**terms), budget, said.append)


def statuses(made: Campaign) -> dict[str, str]:
    return {outcome.step: outcome.status for outcome in made.outcomes()}


def test_a_step_that_fails_costs_itself_alone_and_finished_ones_are_not_run_again(tmp_path: Path) -> None:
    steps, said = (step("good"), step("bad"), step("odd")), []
    made = campaign(tmp_path, *steps, said=said)
    assert made.run() == Exit.REGRESSION
    assert statuses(made) == {"good": "passed", "bad": "failed", "odd": "refused"}
    assert "  well" in said
    assert (tmp_path / "bad.log").read_text().endswith("wrong\n")
    again = campaign(tmp_path, *steps)
    assert [each.name for each in again.wanted()] == ["odd"]
    assert [each.name for each in campaign(tmp_path, *steps, only=("good",)).wanted()] == ["good"]
    with pytest.raises(UsageError, match="mine has no step best; it has good, bad, odd"):
        campaign(tmp_path, *steps, only=("best",))


@pytest.fixture
def seconds_are_over_once_it_has_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a busy machine a process takes seconds to start."""

    def wait(process: subprocess.Popen[str], seconds: float) -> None:
        while process.poll() is None:
            if any("begun" in log.read_text().splitlines() for log in tmp_path.glob("*.log")) and seconds < 10:
                raise subprocess.TimeoutExpired("", seconds)
            time.sleep(0.02)

    monkeypatch.setattr(campaign_running, "_await", wait)


@pytest.mark.usefixtures("seconds_are_over_once_it_has_begun")
def test_a_step_is_stopped_at_its_seconds_and_keeps_what_it_has(tmp_path: Path) -> None:
    made = campaign(tmp_path, step("long", 2.0), step("good"))
    assert made.run() == Exit.REGRESSION
    assert statuses(made) == {"long": "ended", "good": "passed"}
    assert "kept" in (tmp_path / "long.log").read_text()


@pytest.mark.usefixtures("seconds_are_over_once_it_has_begun")
def test_a_step_that_hears_nothing_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_running, "STOP_S", 0.5)
    made = campaign(tmp_path, step("deaf", 2.0))
    assert made.run() == Exit.REGRESSION
    assert statuses(made) == {"deaf": "ended"}
    assert "begun" in (tmp_path / "deaf.log").read_text()


def test_the_budget_cuts_a_step_and_leaves_out_the_rest(tmp_path: Path) -> None:
    clock = iter([0.0, *[100.0] * 9])
    made = campaign(tmp_path, step("good"), step("bad"), budget=Budget(101.0, clock=lambda: next(clock)))
    assert made.run() == Exit.PASS
    assert statuses(made) == {"good": "left_out", "bad": "left_out"}


def test_a_run_that_lacks_cases_is_gone_on_with(tmp_path: Path) -> None:
    run = tmp_path / "good"
    run.mkdir()
    (run / "environment.json").write_text(json.dumps({"plan": {"left_out": 3}}))
    made = campaign(tmp_path, step("good"))
    assert made.run() == Exit.PASS
    assert made.outcomes()[0].line.endswith("3 cases are left for another time")
    words = Campaign(made.plan, tmp_path, Terms()).command(step("good"), 100.0)
    assert words[words.index("--resume") + 1] == str(run)
    assert "--out" not in words
    assert words[words.index("--budget") + 1] == "90s"
    (run / "environment.json").write_text(json.dumps({"plan": {"left_out": 0}}))
    again = campaign(tmp_path, step("good"))
    assert again.run() == Exit.PASS
    assert statuses(again) == {"good": "passed"}


def test_failures_of_a_step_are_what_another_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"operator": "ssd", "implementation": "triton_chunk", "status": "incorrect"},
        {"operator": "gru", "implementation": "torch", "status": "ok"},
        {"operator": "ssd", "implementation": "naive", "status": "unsupported"},
    ]
    monkeypatch.setattr("suite.store.read_records", lambda _: rows)
    steps = step("good"), step("variables", needs="ptxas", of_failures="good")
    bare = campaign(tmp_path, *steps)
    assert bare.seconds == 60.0
    assert bare.run() == Exit.PASS
    assert bare.outcomes()[1].why == "no second ptxas is given; name one with --ptxas"
    nothing = campaign(tmp_path, *steps, ptxas="/newer/ptxas")
    assert nothing.run() == Exit.PASS
    assert nothing.outcomes()[1].why == "nothing failed in good"
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "environment.json").write_text(json.dumps({"plan": {}}))
    found = campaign(tmp_path, *steps, ptxas="/newer/ptxas")
    words = Campaign(found.plan, tmp_path, found.terms).command(steps[1], 60.0)
    assert words[-4:] == ["--op", "ssd", "--impl", "triton_chunk"]
    assert found.run() == Exit.PASS
    assert "ptxas is /newer/ptxas" in (tmp_path / "variables.log").read_text()


def test_words_of_the_commands(tmp_path: Path) -> None:
    sweep = Step("check", "", "check --jobs {jobs}", 60.0, rehearsal="--device interpret")
    tests = Step("truth", "", "pytest tests/gpu -k 'a and b'", 60.0, rehearsal="--not-for-pytest")
    made = Campaign(Plan("mine", "", (sweep, tests)), tmp_path, Terms("cpu", rehearse=True, jobs=3))
    words = made.command(sweep, 60.0)
    assert words[1:9] == ["-m", "suite", "check", "--jobs", "3", "--device", "cpu", "--device"]
    assert words[words.index("--out") + 1] == str(tmp_path / "check")
    assert made.command(tests, 60.0)[-3:] == ["tests/gpu", "-k", "a and b"]
    assert "--device" not in made.command(tests, 60.0)


def test_tests_that_are_all_skipped_prove_nothing(tmp_path: Path) -> None:
    tests = Step("truth", "", "pytest tests/gpu", 60.0)
    for text, status in (("1 passed, 2 skipped in 1s", "passed"), ("3 skipped in 1s", "skipped")):
        SCRIPTS["truth"] = f"print('passed'); print('{text}')"
        made = campaign(tmp_path / status, tests)
        assert made.run() == Exit.PASS
        assert statuses(made) == {"truth": status}


def test_a_folder_of_another_campaign_is_refused(tmp_path: Path) -> None:
    assert campaign(tmp_path, step("good"), device="cpu", rehearse=True).run() == Exit.PASS
    with pytest.raises(UsageError, match="holds a rehearsal of mine on cpu; name another folder with --out"):
        campaign(tmp_path, step("good"), device="cuda")
    (tmp_path / "campaign.json").write_text("{")
    with pytest.raises(StoreError, match=r"campaign.json cannot be read: .*; remove it to run every step again"):
        campaign(tmp_path, step("good"))


def test_an_interrupt_stops_the_step_and_the_same_command_goes_on(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from suite.campaign import Plan, Terms
from tests.suite.campaign.test_running import Scripted, step
Scripted(Plan("mine", "", (step("long"), step("good"))), Path({str(tmp_path)!r}), Terms()).run()
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "long.log"
    while not log.is_file() or "begun" not in log.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt: in step long; the same command goes on" in err
    assert "kept" in log.read_text()
    assert statuses(campaign(tmp_path, step("long"), step("good"))) == {"long": "interrupted", "good": "left_out"}


def test_without_a_gpu_the_command_says_how_to_rehearse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "gpu-first", "--out", str(tmp_path / "first")]) == 2
    assert "there is no GPU here; `--device cpu --rehearse` shows that the commands work" in capsys.readouterr().err
    assert not (tmp_path / "first").exists()
    assert main(["campaign", "gpu-first", "--dry-run", "--budget", "3m"]) == 0
    told = capsys.readouterr()
    assert "7 steps take at most 12 min, of which --budget allows 3 min" in told.err
    assert "-k 'memcheck and (" in told.out
    assert main(["campaign", "gpu-first", "--ptxas", str(tmp_path / "none")]) == 2


def rehearsed(name: str, folder: Path, *words: str) -> dict[str, str]:
    """What became of the steps of a campaign of the suite, on the CPU and on small shapes."""
    assert main(["campaign", name, "--device", "cpu", "--rehearse", "--out", str(folder), *words]) == 0
    found = json.loads((folder / "campaign.json").read_text())
    return {each["step"]: each["status"] for each in found["steps"]}


def test_steps_of_a_campaign_run_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rehearsed("gpu-first", tmp_path / "run", "--only", "check,bench")
    assert found == {"check": "passed", "bench": "passed"}
    capsys.readouterr()
    assert (
        main(["campaign", "gpu-first", "--device", "cpu", "--rehearse", "--out", str(tmp_path / "run"), "--dry-run"])
        == 0
    )
    told = capsys.readouterr()
    assert "5 steps take at most" in told.err
    assert "suite bench --preset first-times" not in told.out


@pytest.mark.long
@pytest.mark.parametrize("name", ["gpu-first", "gpu-day"])
def test_a_rehearsal_on_the_cpu_runs_every_step(name: str, tmp_path: Path) -> None:
    found = rehearsed(name, tmp_path / "run")
    assert set(found) == {step.name for step in read(name).steps}
    assert {status for step, status in found.items() if step not in SKIPPED} == {"passed"}
    assert {status for step, status in found.items() if step in SKIPPED} == {"skipped"}
