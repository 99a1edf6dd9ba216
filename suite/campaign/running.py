"""Running a campaign: each step in a process of its own and within its seconds.

A step that fails, or that reaches its limit, costs itself alone. The folder holds `campaign.json`, one log per step,
and the run of each step that stores one. The same command again does what is not finished: a stored run is resumed.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from suite.campaign.steps import ON_DEVICE, Plan, Step
from suite.discovery import ROOT
from suite.errors import Exit, StoreError, UsageError
from suite.faults import FAILURES
from suite.hardware.assemblers import VARIABLES
from suite.running.budget import Budget

STATE = "campaign.json"
# A command that is told to stop has so long to write what it has; then it is killed.
STOP_S = 15.0
# What a command needs to start and to end beside its --budget, and by how much a sweep may exceed that.
START_S, OVERRUN = 5.0, 1.05
# With less than this left a step is not begun.
LEAST_S = 5.0
# A step that ended so is not run again.
FINISHED = ("passed", "failed")
UNFINISHED = ("refused", "part", "ended", "interrupted", "left_out")
# pytest's exit code where no test was selected.
NO_TESTS = 5
# What ends a campaign's exit code: faults were found, or a step did not come to its end by itself.
FAULTS = ("failed", "refused", "ended", "interrupted")


@dataclass(frozen=True)
class Terms:
    """How a campaign runs.

    device:   cuda, or cpu
    rehearse: whether each step's rehearsal words are added; nothing that is measured then means anything
    ptxas:    a second ptxas, with which steps that need one compile; "" for none
    only:     names of the steps to run, whether finished or not; empty for all that are not finished
    jobs:     processes that {jobs} in a step stands for
    """

    device: str = "cuda"
    rehearse: bool = False
    ptxas: str = ""
    only: tuple[str, ...] = ()
    jobs: int = 1


@dataclass
class Outcome:
    """What became of a step.

    status: passed, failed (it ran to its end and found faults), refused (it did not run), part (its run lacks cases),
            ended (its time was over), interrupted, skipped, left_out (no time was left for it)
    why:    of all but passed, in words
    """

    step: str
    status: str
    seconds: float = 0.0
    exit: int | None = None
    why: str = ""
    began: str = ""
    command: str = ""

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def line(self) -> str:
        """One line for the terminal."""
        took = f" in {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.step}: {self.status.replace('_', ' ')}{took}{': ' + self.why if self.why else ''}"


@dataclass
class Campaign:
    """One campaign in one folder.

    tell(): takes each line that a command writes, and those on the steps
    """

    plan: Plan
    folder: Path
    terms: Terms
    budget: Budget = field(default_factory=Budget)
    tell: Callable[[str], None] = print

    def __post_init__(self) -> None:
        if wrong := set(self.terms.only) - {step.name for step in self.plan.steps}:
            known = ", ".join(step.name for step in self.plan.steps)
            raise UsageError(f"{self.plan.name} has no step {min(wrong)}; it has {known}")
        self._stored = _read_state(self.folder / STATE, self.plan.name, self.terms)

    def wanted(self) -> list[Step]:
        """The steps that a run does now."""
        if self.terms.only:
            return [step for step in self.plan.steps if step.name in self.terms.only]
        return [step for step in self.plan.steps if not self._is_finished(step)]

    @property
    def seconds(self) -> float:
        """The most that the wanted steps take; those that will be skipped take nothing."""
        return sum(step.seconds for step in self.wanted() if not self.why_not(step))

    def command(self, step: Step, seconds: float) -> list[str]:
        """The words that run a step within so many seconds."""
        words = [word.replace("{jobs}", str(self.terms.jobs)) for word in step.words[1:]]
        more: list[str] = []
        if step.program in ON_DEVICE:
            more += ["--device", self.terms.device]
        if step.program in (*ON_DEVICE, "static"):
            more += shlex.split(step.rehearsal) if self.terms.rehearse else []
        if step.stores:
            run = self.folder / step.name
            more += ["--budget", f"{max(1.0, (seconds - START_S) / OVERRUN):.0f}s"]
            more += ["--resume" if (run / "environment.json").is_file() else "--out", str(run)]
        elif step.program in ("profile", "analyse"):
            target = self.folder / (step.name if step.program == "profile" else f"{step.name}.md")
            more += ["--out", str(target)]
        more += self._failures(step)
        if step.program == "pytest":
            return [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *words, *more]
        return [sys.executable, "-m", "suite", step.program, *words, *more]

    def run(self) -> Exit:
        """Run what is wanted. Raises KeyboardInterrupt, with the step's processes gone and the state stored."""
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = self.wanted()
        for at, step in enumerate(wanted, 1):
            self.tell(f"{at}/{len(wanted)} {step.name}: at most {step.seconds:.0f} s: {step.proves}")
            outcome = self._step(step)
            self._stored[step.name] = outcome
            self._write()
            self.tell(outcome.line)
            if outcome.status == "interrupted":
                raise KeyboardInterrupt(f"in step {step.name}; the same command goes on")
        return self.exit

    @property
    def exit(self) -> Exit:
        """REGRESSION where a step found faults, or did not end by itself. What a budget left out is no fault."""
        return Exit.REGRESSION if any(each.status in FAULTS for each in self._stored.values()) else Exit.PASS

    def outcomes(self) -> list[Outcome]:
        """What became of the steps so far, in their order."""
        return [self._stored.get(step.name) or Outcome(step.name, "left_out") for step in self.plan.steps]

    def _is_finished(self, step: Step) -> bool:
        outcome = self._stored.get(step.name)
        return outcome is not None and outcome.finished

    def why_not(self, step: Step) -> str:
        """Why a step will be skipped, as far as is known now; empty where it will not."""
        if step.needs == "ptxas" and not self.terms.ptxas:
            return "no second ptxas is given; name one with --ptxas"
        if step.of_failures in self._stored and not self._failures(step):
            return f"nothing failed in {step.of_failures}"
        return ""

    def _step(self, step: Step) -> Outcome:
        if why := self.why_not(step):
            return Outcome(step.name, "skipped", why=why)
        seconds = self.budget.within(step.seconds)
        if seconds < min(LEAST_S, step.seconds):
            return Outcome(step.name, "left_out", why="the budget has no room for it")
        command = self.command(step, seconds)
        began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        variables = dict.fromkeys(VARIABLES.values(), self.terms.ptxas) if step.needs == "ptxas" else {}
        try:
            code, took, how = _ran(command, self.folder / f"{step.name}.log", seconds, variables, self.tell)
        except OSError as error:
            raise StoreError(f"cannot write {self.folder}: {error.strerror}; name another folder with --out") from error
        status, why = self._judged(step, code, how)
        return Outcome(step.name, status, round(took, 1), code, why, began, shlex.join(command))

    def _judged(self, step: Step, code: int, how: str) -> tuple[str, str]:
        log = self.folder / f"{step.name}.log"
        if how == "interrupted":
            return "interrupted", ""
        if how == "ended":
            return "ended", f"it took all its seconds; see {log}"
        if step.program == "pytest" and (code == NO_TESTS or (code == Exit.PASS and not _tests_passed(log))):
            return "skipped", f"every test was skipped; see {log}"
        if code == Exit.PASS:
            left = self._left_out(step)
            return ("part", f"{left} cases are left for another time") if left else ("passed", "")
        if code == Exit.REGRESSION:
            return "failed", f"see {log}"
        return "refused", f"exit code {code}; see {log}"

    def _left_out(self, step: Step) -> int:
        path = self.folder / step.name / "environment.json"
        if not step.stores or not path.is_file():
            return 0
        return int(json.loads(path.read_text()).get("plan", {}).get("left_out", 0))

    def _failures(self, step: Step) -> list[str]:
        """Flags that select the implementations that failed in an earlier step; [] where none did."""
        from suite.store import read_records

        run = self.folder / step.of_failures
        if not step.of_failures or not (run / "environment.json").is_file():
            return []
        failed = [row for row in read_records(run) if row["status"] in FAILURES]
        if not failed:
            return []
        chosen = {name: ",".join(sorted({row[name] for row in failed})) for name in ("operator", "implementation")}
        return ["--op", chosen["operator"], "--impl", chosen["implementation"]]

    def _write(self) -> None:
        known = {"campaign": self.plan.name, "device": self.terms.device, "rehearsal": self.terms.rehearse}
        steps = [asdict(self._stored[step.name]) for step in self.plan.steps if step.name in self._stored]
        path = self.folder / STATE
        part = path.with_suffix(".part")
        part.write_text(json.dumps(known | {"steps": steps}, indent=1) + "\n", encoding="utf-8")
        part.replace(path)


def _read_state(path: Path, name: str, terms: Terms) -> dict[str, Outcome]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        outcomes = {each["step"]: Outcome(**each) for each in found["steps"]}
        was = (found["campaign"], found["device"], found["rehearsal"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read: {error}; remove it to run every step again") from error
    if was != (name, terms.device, terms.rehearse):
        kind = "a rehearsal of " if was[2] else ""
        raise UsageError(f"{path.parent} holds {kind}{was[0]} on {was[1]}; name another folder with --out")
    return outcomes


def _ran(
    command: Sequence[str], log: Path, seconds: float, variables: Mapping[str, str], tell: Callable[[str], None]
) -> tuple[int, float, str]:
    """(exit code, seconds taken, how it ended: by itself "", "ended" at its limit, "interrupted") of a command."""
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as kept:
        kept.write(f"$ {shlex.join(command)}\n")
        kept.flush()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        reading = threading.Thread(target=_copy, args=(process, kept, tell), daemon=True)
        how = ""
        try:
            reading.start()
            _await(process, seconds)
        except subprocess.TimeoutExpired:
            how = "ended"
        except KeyboardInterrupt:
            how = "interrupted"
        if how:
            _stop(process)
        # A process that it left behind may hold the pipe.
        _signal(process, signal.SIGKILL)
        reading.join(STOP_S)
    return process.returncode, time.monotonic() - began, how


def _tests_passed(log: Path) -> bool:
    """Whether pytest's last line counts a test that passed."""
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    return " passed" in lines[-1]


def _copy(process: subprocess.Popen[str], log: Any, tell: Callable[[str], None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        log.write(line)
        log.flush()
        tell(f"  {line.rstrip()}")


def _await(process: subprocess.Popen[str], seconds: float) -> None:
    process.wait(seconds)


def _stop(process: subprocess.Popen[str]) -> None:
    """End a command as Ctrl-C does, so that it keeps what it has; kill it where it does not end."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
