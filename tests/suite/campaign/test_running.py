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
    assert statuses(made) == {"long": "timed_out", "good": "passed"}
    assert "kept" in (tmp_path / "long.log").read_text()


@pytest.mark.usefixtures("seconds_are_over_once_it_has_begun")
def test_a_step_that_hears_nothing_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_running, "STOP_S", 0.5)
    made = campaign(tmp_path, step("deaf", 2.0))
    assert made.run() == Exit.REGRESSION
    assert statuses(made) == {"deaf": "timed_out"}
    assert "begun" in (tmp_path / "deaf.log").read_text()


def test_the_budget_cuts_a_step_and_leaves_out_the_rest(tmp_path: Path) -> None:
    clock = iter([0.0, *[100.0] * 9])
    made = campaign(tmp_path, step("good"), step("bad"), budget=Budget(101.0, clock=lambda: next(clock)))
    assert made.run() == Exit.PASS
    assert statuses(made) == {"good": "left_out", "bad": "left_out"}


def stored_run(folder: Path, monkeypatch: pytest.MonkeyPatch, statuses: list[str], left: int = 0) -> None:
    """A run of a step, as far as a campaign reads it."""
    folder.mkdir(exist_ok=True)
    (folder / "environment.json").touch()
    rows = [{"operator": "ssd", "implementation": "triton_chunk", "status": status} for status in statuses]
    read = lambda run, strict=True: rows if strict else (rows, [])  # noqa: E731
    monkeypatch.setattr("suite.store.read_records", read)
    monkeypatch.setattr("suite.store.read_environment", lambda run: {"plan": {"left_out": left}})


def test_a_run_that_lacks_cases_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "good"
    stored_run(run, monkeypatch, ["ok"], left=3)
    made = campaign(tmp_path, step("good"))
    assert made.run() == Exit.PASS
    assert (made.outcomes()[0].status, made.outcomes()[0].why) == ("part", "3 cases are left for another time")
    words = Campaign(made.plan, tmp_path, Terms()).command(step("good"), 100.0)
    assert words[words.index("--resume") + 1] == str(run)
    assert "--out" not in words
    assert words[words.index("--budget") + 1] == "90s"
    stored_run(run, monkeypatch, ["ok"])
    again = campaign(tmp_path, step("good"))
    assert again.run() == Exit.PASS
    assert statuses(again) == {"good": "passed"}


def test_a_resumed_run_is_judged_by_all_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that goes on tells only of what it added."""
    stored_run(tmp_path / "good", monkeypatch, ["ok", "incorrect"], left=2)
    made = campaign(tmp_path, step("good"))
    assert made.run() == Exit.REGRESSION
    assert "2 cases are left for another time; 1 of the others show a fault" in made.outcomes()[0].line
    assert [each.name for each in campaign(tmp_path, step("good")).wanted()] == ["good"]
    stored_run(tmp_path / "good", monkeypatch, ["ok", "incorrect"])
    again = campaign(tmp_path, step("good"))
    assert again.run() == Exit.REGRESSION
    assert statuses(again) == {"good": "failed"}


def test_a_step_that_is_named_runs_anew_and_its_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_run(tmp_path / "good", monkeypatch, ["incorrect"])
    assert campaign(tmp_path, step("good")).run() == Exit.REGRESSION
    again = campaign(tmp_path, step("good"), only=("good",))
    assert again.run() == Exit.PASS
    assert (tmp_path / "good-1" / "environment.json").is_file()
    assert not (tmp_path / "good").exists()


def test_what_is_known_of_a_step_stays_when_no_time_is_left_for_it(tmp_path: Path) -> None:
    assert campaign(tmp_path, step("bad")).run() == Exit.REGRESSION
    clock = iter([0.0, *[100.0] * 9])
    made = campaign(tmp_path, step("bad"), only=("bad",), budget=Budget(101.0, clock=lambda: next(clock)))
    assert made.run() == Exit.REGRESSION
    assert statuses(made) == {"bad": "failed"}


def test_a_step_that_changed_is_refused(tmp_path: Path) -> None:
    assert campaign(tmp_path, step("good")).run() == Exit.PASS
    changed = Step("good", "something", "bench --preset cpu", 60.0)
    with pytest.raises(UsageError, match=r"step good has changed since it ran into .*; name another folder with --out"):
        campaign(tmp_path, changed)


def test_failures_of_a_step_are_what_another_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = step("good"), step("variables", needs="ptxas", of_failures="good")
    bare = campaign(tmp_path, *steps)
    assert bare.seconds == 60.0
    assert bare.run() == Exit.PASS
    assert bare.outcomes()[1].why == "no second ptxas is given; name one with --ptxas"
    stored_run(tmp_path / "good", monkeypatch, ["ok"])
    nothing = campaign(tmp_path, *steps, ptxas="/newer/ptxas")
    assert nothing.run() == Exit.PASS
    assert nothing.outcomes()[1].why == "nothing failed in good"
    stored_run(tmp_path / "good", monkeypatch, ["ok", "incorrect"])
    found = campaign(tmp_path, *steps, ptxas="/newer/ptxas")
    words = Campaign(found.plan, tmp_path, found.terms).command(steps[1], 60.0)
    assert words[-4:] == ["--op", "ssd", "--impl", "triton_chunk"]
    found.run()
    assert "ptxas is /newer/ptxas" in (tmp_path / "variables.log").read_text()


def test_without_a_run_of_the_earlier_step_nothing_is_checked_again(tmp_path: Path) -> None:
    """Its command would check everything, for want of a failure that selects."""
    steps = step("good"), step("variables", needs="ptxas", of_failures="good")
    made = campaign(tmp_path, *steps, ptxas="/newer/ptxas", only=("variables",))
    assert made.run() == Exit.PASS
    assert made.outcomes()[1].line == "variables: skipped: good has not run"
    assert not (tmp_path / "variables.log").exists()


def test_a_run_that_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "environment.json").write_text("{")
    made = campaign(tmp_path, step("good"))
    assert made.run() == Exit.REGRESSION
    assert made.outcomes()[0].line.startswith("good: refused")
    assert "its run cannot be read: " in made.outcomes()[0].why


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


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        "{}",
        '{"campaign": "mine", "device": "cuda", "rehearsal": false, "steps": [{"step": "good", "status": []}]}',
        '{"campaign": "mine", "device": "cuda", "rehearsal": false, "steps": [{"step": "good", "status": "hm"}]}',
        '{"campaign": "mine", "device": "cuda", "rehearsal": false, "steps": [{"step": "good", "status": "passed", '
        '"seconds": "x"}]}',
    ],
)
def test_a_damaged_state_is_one_line_before_anything_runs(text: str, tmp_path: Path) -> None:
    (tmp_path / "campaign.json").write_text(text)
    with pytest.raises(StoreError, match=r"campaign.json cannot be read: .*; remove it to run every step again"):
        campaign(tmp_path, step("good"))


def test_a_place_that_takes_no_files_is_one_line_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "state" / "campaign.json").mkdir(parents=True)
    (tmp_path / "log" / "good.log").mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "file" / "x", Path("/proc/x"), tmp_path / ("x" * 300)):
        with pytest.raises(StoreError, match=r"; (name another folder with --out|remove it to run every step again)"):
            campaign(folder, step("good")).run()
    with pytest.raises(StoreError, match=r"campaign\.json cannot be read"):
        campaign(tmp_path / "state", step("good"))
    with pytest.raises(StoreError, match=r"cannot write .*good\.log: Is a directory; remove it"):
        campaign(tmp_path / "log", step("good")).run()


@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_an_interrupt_stops_the_step_and_the_same_command_goes_on(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    """Also the signal of batch systems, and a second Ctrl-C where the first is not heard: nothing lives on."""
    name = "deaf" if len(numbers) == 2 else "long"
    code = f"""
import sys
from pathlib import Path
from suite.campaign import Plan, Terms
from tests.suite.campaign.test_running import Scripted, step
Scripted(Plan("mine", "", (step({name!r}), step("good"))), Path({str(tmp_path)!r}), Terms()).run()
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log = tmp_path / f"{name}.log"
    # The command itself, the log's first line, has the word too.
    while not log.is_file() or "begun" not in log.read_text().splitlines():
        assert process.poll() is None
        time.sleep(0.05)
    while process.poll() is None:
        process.send_signal(numbers[0])
        if len(numbers) == 1:
            break
        time.sleep(0.2)
    _, err = process.communicate(timeout=60)
    assert f"KeyboardInterrupt: in step {name}; the same command goes on" in err
    assert name == "deaf" or "kept" in log.read_text()
    assert statuses(campaign(tmp_path, step(name), step("good"))) == {name: "interrupted", "good": "left_out"}
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False)
    assert left.stdout == b""


def test_only_the_first_interrupt_interrupts() -> None:
    """A second one may come while the state is written."""
    before = signal.getsignal(signal.SIGINT)
    with campaign_running._Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        try:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            pytest.fail("a second one interrupts too")
        assert interrupts.count == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_while_a_command_starts_waits_until_it_can_be_stopped() -> None:
    with campaign_running._Interrupts() as interrupts:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.raise_held()
        interrupts.raise_held()
        assert interrupts.count == 1


def test_without_a_gpu_the_command_says_how_to_rehearse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "gpu-first", "--out", str(tmp_path / "first")]) == 2
    assert "there is no GPU here; `--device cpu --rehearse` shows that the commands work" in capsys.readouterr().err
    assert not (tmp_path / "first").exists()
    assert main(["campaign", "gpu-first", "--dry-run", "--budget", "3m"]) == 0
    told = capsys.readouterr()
    assert "7 steps take at most 12 min, of which --budget allows 3 min" in told.err
    assert "-k 'memcheck and (" in told.out
    for path in (tmp_path / "none", tmp_path, Path("/bin/true")):
        assert main(["campaign", "gpu-first", "--dry-run", "--ptxas", str(path)]) == 2
        assert f"--ptxas {path} is no ptxas" in capsys.readouterr().err
    (tmp_path / "mine.toml").write_text(
        "[[step]]\nname = 'a'\nproves = 'b'\nrun = 'check --op retention --nonsense'\nseconds = 9\n"
    )
    assert main(["campaign", str(tmp_path / "mine.toml"), "--dry-run"]) == 2
    assert "step a of mine: unrecognized arguments: --nonsense" in capsys.readouterr().err


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
