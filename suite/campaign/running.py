"""Running a campaign: each step in a process of its own and within its seconds.

A step that fails, or that reaches its limit, costs itself alone. The folder holds `campaign.json`, one log per step,
and the run of each step that stores one. The same command again does what is not finished: a stored run is resumed.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
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
POLL_S = 0.05
# What a command needs to start and to end beside its --budget, and by how much a sweep may exceed that.
START_S, OVERRUN = 5.0, 1.05
# With less than this left a step is not begun.
LEAST_S = 5.0
# A step of these is not run again; one of those the same command goes on with.
FINISHED = ("passed", "failed")
UNFINISHED = ("part", "timed_out", "interrupted", "left_out")
STATUSES = (*FINISHED, *UNFINISHED, "refused", "skipped")
# pytest's exit code where no test was selected.
NO_TESTS = 5
# What ends a campaign's exit code: faults were found, or a step did not come to its end by itself.
FAULTS = ("failed", "refused", "timed_out", "interrupted")


@dataclass(frozen=True)
class Terms:
    """How a campaign runs.

    device:   cuda, or cpu
    rehearse: whether each step's rehearsal words are added; nothing that is measured then means anything
    ptxas:    a second ptxas, with which steps that need one compile; "" for none
    only:     names of the steps to run, the finished ones anew; empty for all that are not finished
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
            timed_out, interrupted, skipped, left_out (no time was left for it)
    why:    of all but passed, in words
    faults: records of its run that show a fault
    run:    the step's own words, to tell when they changed
    """

    step: str
    status: str
    seconds: float = 0.0
    exit: int | None = None
    why: str = ""
    began: str = ""
    command: str = ""
    faults: int = 0
    run: str = ""

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
        self._stored = _read_state(self.folder, self.plan, self.terms)

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
        """Run what is wanted. Raises KeyboardInterrupt, with the step's processes gone and the state stored.

        SIGTERM, by which batch systems end a job, is taken as Ctrl-C.
        """
        self._write()
        wanted = self.wanted()
        with _Interrupts() as interrupts:
            for at, step in enumerate(wanted, 1):
                self.tell(f"{at}/{len(wanted)} {step.name}: at most {step.seconds:.0f} s: {step.proves}")
                outcome = self._step(step, interrupts)
                self.tell(outcome.line)
                # A step for which no time is left keeps what is known of it.
                if outcome.status != "left_out" or step.name not in self._stored:
                    self._stored[step.name] = outcome
                self._write()
                if outcome.status == "interrupted":
                    raise KeyboardInterrupt(f"in step {step.name}; the same command goes on")
        return self.exit

    @property
    def exit(self) -> Exit:
        """REGRESSION where a step found faults, or did not end by itself. What a budget left out is no fault."""
        found = self._stored.values()
        return Exit.REGRESSION if any(each.status in FAULTS or each.faults for each in found) else Exit.PASS

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
        if step.of_failures in self._stored:
            return self._no_failures(step)
        return ""

    def _no_failures(self, step: Step) -> str:
        """Why a step of failures has nothing to do: without one of them its command would run everything."""
        if not step.of_failures or self._failures(step):
            return ""
        ran = (self.folder / step.of_failures / "environment.json").is_file()
        return f"nothing failed in {step.of_failures}" if ran else f"{step.of_failures} has not run"

    def _step(self, step: Step, interrupts: _Interrupts) -> Outcome:
        if why := self.why_not(step) or self._no_failures(step):
            return Outcome(step.name, "skipped", why=why)
        seconds = self.budget.within(step.seconds)
        if seconds < min(LEAST_S, step.seconds):
            return Outcome(step.name, "left_out", why="the budget has no room for it")
        self._set_aside(step)
        command = self.command(step, seconds)
        began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        variables = dict.fromkeys(VARIABLES.values(), self.terms.ptxas) if step.needs == "ptxas" else {}
        log = self.folder / f"{step.name}.log"
        try:
            code, took, how = _ran(command, log, seconds, variables, self.tell, interrupts)
        except OSError as error:
            raise StoreError(f"cannot write {log}: {error.strerror}; remove it, or name another --out") from error
        status, why, faults = self._judged(step, code, how)
        return Outcome(step.name, status, round(took, 1), code, why, began, shlex.join(command), faults, words_of(step))

    def _set_aside(self, step: Step) -> None:
        """Keep the run of a step that is run anew, under a name of its own."""
        run, before = self.folder / step.name, self._stored.get(step.name)
        if step.stores and before and before.finished and run.is_dir():
            number = next(n for n in itertools.count(1) if not (self.folder / f"{step.name}-{n}").exists())
            run.rename(self.folder / f"{step.name}-{number}")

    def _judged(self, step: Step, code: int, how: str) -> tuple[str, str, int]:
        """(status, why, records that show a fault) of a step that ran.

        A run is judged by all its records: the command tells only of those that it added.
        """
        log = self.folder / f"{step.name}.log"
        try:
            faults, left = self._faults_and_left(step)
        except StoreError as error:
            return "refused", f"its run cannot be read: {error}", 0
        if how:
            return how, f"it took all its seconds; see {log}" if how == "timed_out" else "", faults
        if step.program == "pytest" and (code == NO_TESTS or (code == Exit.PASS and not _tests_passed(log))):
            return "skipped", f"every test was skipped; see {log}", 0
        if code not in (Exit.PASS, Exit.REGRESSION):
            return "refused", f"exit code {code}: {_last_line(log)}", faults
        if left:
            found = f"; {faults} of the others show a fault" if faults else ""
            return "part", f"{left} cases are left for another time{found}", faults
        if code == Exit.REGRESSION or faults:
            return "failed", f"{faults} cases show a fault; see {log}" if faults else f"see {log}", faults
        return "passed", "", 0

    def _faults_and_left(self, step: Step) -> tuple[int, int]:
        """How many records of a step's run show a fault, and how many cases it lacks. Raises StoreError."""
        from suite.store import read_environment, read_records

        run = self.folder / step.name
        if not step.stores or not (run / "environment.json").is_file():
            return 0, 0
        faults = sum(row["status"] in FAILURES for row in read_records(run))
        return faults, int(read_environment(run).get("plan", {}).get("left_out", 0))

    def _failures(self, step: Step) -> list[str]:
        """Flags that select the implementations that failed in an earlier step; [] where none did."""
        from suite.store import read_records

        run = self.folder / step.of_failures
        if not step.of_failures or not (run / "environment.json").is_file():
            return []
        rows, _ = read_records(run, strict=False)
        failed = [row for row in rows if row["status"] in FAILURES]
        if not failed:
            return []
        chosen = {name: ",".join(sorted({row[name] for row in failed})) for name in ("operator", "implementation")}
        return ["--op", chosen["operator"], "--impl", chosen["implementation"]]

    def _write(self) -> None:
        known = {"campaign": self.plan.name, "device": self.terms.device, "rehearsal": self.terms.rehearse}
        steps = [asdict(self._stored[step.name]) for step in self.plan.steps if step.name in self._stored]
        path = self.folder / STATE
        part = path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(known | {"steps": steps}, indent=1) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}; name another folder with --out") from error


def words_of(step: Step) -> str:
    """What decides what a step does."""
    return f"{step.run} | {step.rehearsal}"


def _read_state(folder: Path, plan: Plan, terms: Terms) -> dict[str, Outcome]:
    path = folder / STATE
    try:
        if not path.exists():
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
        was = (found["campaign"], found["device"], found["rehearsal"])
        outcomes = {each["step"]: _outcome(each) for each in found["steps"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = str(error)[:80] or type(error).__name__
        raise StoreError(f"{path} cannot be read: {why}; remove it to run every step again") from error
    if was != (plan.name, terms.device, terms.rehearse):
        kind = "a rehearsal of " if was[2] is True else ""
        raise UsageError(f"{folder} holds {kind}{was[0]} on {was[1]}; name another folder with --out")
    for step in plan.steps:
        outcome = outcomes.get(step.name)
        if outcome and outcome.run and outcome.run != words_of(step):
            raise UsageError(f"step {step.name} has changed since it ran into {folder}; name another folder with --out")
    return outcomes


def _outcome(found: Mapping[str, Any]) -> Outcome:
    """An outcome as it was stored. Raises ValueError, KeyError or TypeError on anything else."""
    outcome = Outcome(**found)
    if outcome.status not in STATUSES:
        raise ValueError(f"unknown status {outcome.status!r}")
    for each in fields(outcome):
        kind = {"seconds": (int, float), "exit": (int, type(None)), "faults": int}.get(each.name, str)
        if not isinstance(getattr(outcome, each.name), kind):
            raise TypeError(f"{each.name} is {getattr(outcome, each.name)!r}")
    return outcome


class _Interrupts:
    """Ctrl-C and SIGTERM inside the block: the first interrupts, each further one only counts, and no state is lost.

    Only the main thread can hear them; in another one nothing changes.
    """

    count = 0
    _held = _unheard = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the first is only counted, for `raise_held`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def raise_held(self) -> None:
        """KeyboardInterrupt where the first came while it was held."""
        if self._unheard:
            self._unheard = False
            raise KeyboardInterrupt

    def __enter__(self) -> _Interrupts:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._heard) for each in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _heard(self, *_: object) -> None:
        self.count += 1
        if self.count == 1:
            if not self._held:
                raise KeyboardInterrupt
            self._unheard = True


def _ran(
    command: Sequence[str],
    log: Path,
    seconds: float,
    variables: Mapping[str, str],
    tell: Callable[[str], None],
    interrupts: _Interrupts,
) -> tuple[int, float, str]:
    """(exit code, seconds taken, how it ended: by itself "", "timed_out", "interrupted") of a command."""
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as kept:
        kept.write(f"$ {shlex.join(command)}\n")
        kept.flush()
        # An interrupt in here would leave a process that nobody stops.
        with interrupts.held():
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
            reading.start()
        how = ""
        try:
            interrupts.raise_held()
            _await(process, seconds)
        except subprocess.TimeoutExpired:
            how = "timed_out"
        except KeyboardInterrupt:
            how = "interrupted"
        if how:
            _stop(process, interrupts)
            how = "interrupted" if interrupts.count else how
        # A process that it left behind may hold the pipe.
        _signal(process, signal.SIGKILL)
        reading.join(STOP_S)
    return process.returncode, time.monotonic() - began, how


def _tests_passed(log: Path) -> bool:
    """Whether pytest's last line counts a test that passed."""
    return " passed" in _last_line(log)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


def _copy(process: subprocess.Popen[str], log: Any, tell: Callable[[str], None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        log.write(line)
        log.flush()
        tell(f"  {line.rstrip()}")


def _await(process: subprocess.Popen[str], seconds: float) -> None:
    process.wait(seconds)


def _stop(process: subprocess.Popen[str], interrupts: _Interrupts) -> None:
    """End a command as Ctrl-C does, so that it keeps what it has; kill it where it does not, or at another Ctrl-C."""
    process.send_signal(signal.SIGINT)
    heard, end = interrupts.count, time.monotonic() + STOP_S
    try:
        while process.poll() is None and time.monotonic() < end and interrupts.count == heard:
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        # The first, while a step is stopped at its limit: _ran tells of it.
        pass
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
