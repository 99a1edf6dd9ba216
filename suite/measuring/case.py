"""Measuring one problem: check, warm up, memory, time, energy, for all its cases in one process window.

A case that fails its check has no time. Each case ends in exactly one record per mode, whatever happens.
"""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from suite.ceilings import confirm, renew
from suite.checks.calling import Call
from suite.checks.checker import Check, Checker, device_context, refusal
from suite.checks.evidence import evidence_name
from suite.checks.inputs import Inputs, draw_inputs, fill, flat
from suite.cost import Cost
from suite.errors import spoils
from suite.faults import classify
from suite.measuring import clock as time
from suite.measuring.compiling import Watch
from suite.measuring.context import Spoiled, chain, forget, free_memory, spoiled
from suite.measuring.energy import EnergyOf
from suite.measuring.leftovers import Leftovers
from suite.measuring.memory import Kept, peak_rise
from suite.measuring.preparing import ready as make_ready
from suite.measuring.records import base_record, with_check, with_status
from suite.measuring.sampling import Sampled, interleave
from suite.measuring.stopping import Stopping
from suite.measuring.timed_inputs import Together, change_inputs, judge_of, recheck
from suite.measuring.timers import empty_span_us, make_timer
from suite.problem import Case, Problem
from suite.registry import Implementation, Operator
from suite.roof import figures, place
from suite.telemetry import watching
from suite.telemetry.energy import check_window


@dataclass(frozen=True)
class Settings:
    """How cases are measured.

    device:    `cuda`, `cpu` or, in checks, `interpret`
    modes:     timers, as in suite.measuring.timers.modes
    warmup_ms: calls before the first sample, in ms
    rep_ms:    the longest that one case is timed, in ms
    seed:      of the inputs
    recheck_pick: which sequence and head group of the timed inputs are compared with the oracle, as in
               suite.checks.oracle.reference; each run draws it anew
    replicate: which fresh process this is
    commit:    revision of the code
    deadline:  time.monotonic() at which a budget ends, or None
    evidence:  folder in which the compared part of what each timed call returned is left for another process; "": none
    sanitize:  `memory` or `addresses`, as in `check --sanitize`; "": neither
    energy_s:  length of the window over which energy is measured, in s, at least 2; None: it is not
    """

    device: str
    device_name: str
    modes: tuple[str, ...]
    warmup_ms: float = 25.0
    rep_ms: float = 500.0
    seed: int = 0
    recheck_pick: int = 0
    replicate: int = 0
    commit: str = ""
    deadline: float | None = None
    ceilings: Mapping[str, Any] = field(default_factory=dict)
    llc_bytes: int = 0
    energy_s: float | None = None
    evidence: str = ""
    sanitize: str = ""

    def __post_init__(self) -> None:
        if self.energy_s is not None:
            check_window(self.energy_s)


Emit = Callable[[dict[str, Any]], None]
Begin = Callable[[int, str], None]
Raised = Callable[[Mapping[str, Any]], None]


@dataclass
class _Live:
    """A case on its way; `modes` are those of which it has no record yet."""

    index: int
    case: Case
    implementation: Implementation
    record: dict[str, Any]
    modes: tuple[str, ...]
    left: Leftovers
    call: Call | None = None
    check: Check | None = None
    recheck: Check | None = None
    changes: Together | None = None
    watch: Watch = field(default_factory=Watch)
    energy: dict[str, Any] = field(default_factory=dict)
    compile_s: float = 0.0
    warmup_s: float = 0.0
    memory: tuple[float, str] = (0.0, "")
    made: list[weakref.ref[torch.Tensor]] = field(default_factory=list)
    kept_mib: float = 0.0


class ProblemRun:
    """All cases of one problem, measured together.

    kind is `timed` or `check`. emit(record) is called once for each case and mode, begin(index, phase) before anything
    that may kill the process, raised(ceilings) when a case showed that a ceiling had been measured too low.

    modes: of each case, the modes of which a record is wanted; all of the settings' where it is not given
    `measure` and `check` raise Spoiled when a case left the process unable to go on, after that case's record.
    """

    def __init__(
        self,
        operator: Operator,
        problem: Problem,
        cases: Sequence[Case],
        settings: Settings,
        kind: str,
        emit: Emit,
        begin: Begin,
        raised: Raised = lambda _: None,
        modes: Sequence[tuple[str, ...]] | None = None,
    ) -> None:
        self.operator, self.problem, self.settings = operator, problem, settings
        self.modes = settings.modes if kind == "timed" else (settings.device,)
        self.kind = kind
        self.emit, self.begin, self.raised = emit, begin, raised
        self.ceilings = settings.ceilings
        self._judge_of_timed: Checker | None = None
        self.kept = Kept(settings.device)
        wanted = modes or [self.modes] * len(cases)
        self.live = [self._start(i, case, wanted[i]) for i, case in enumerate(cases)]

    def _start(self, index: int, case: Case, modes: tuple[str, ...]) -> _Live:
        implementation = self.operator.implementations[case.implementation]
        s = self.settings
        record = base_record(
            self.operator,
            implementation,
            case,
            kind=self.kind,
            mode=modes[0],
            device=s.device_name,
            replicate=s.replicate,
            seed=s.seed,
            recheck_pick=s.recheck_pick if self.kind == "timed" else None,
            commit=s.commit,
        )
        return _Live(index, case, implementation, record, modes, Leftovers(s.device))

    def measure(self) -> None:
        """Check, then time, what can run; everything else becomes a record with its status."""
        with device_context(self.settings.device) as torch_device:
            if (checker := self._guarded_checker(torch_device)) is None:
                return
            ready = [one for one in self.live if self._supported(one) and self._checked(one, checker)]
            self._naive_ratios()
            del checker
            ready = self._on_timed_inputs(self._all_prepared(ready, torch_device))
            free_memory(self.settings.device)
            timed = [(mode, self._time([one for one in ready if mode in one.modes], mode)) for mode in self.modes]
            self._judge_of_timed = None
            self._energy(ready)
            for mode, results in timed:
                for one, result in results:
                    self.begin(one.index, "judging")
                    self._emit(one, self._finish(one, result, mode), mode)
            ready.clear()
            free_memory(self.settings.device)

    def check(self) -> None:
        """The check alone, as records of kind `check`."""
        with device_context(self.settings.device) as torch_device:
            # Inputs of sizes that do not exist cannot be drawn.
            exist = self.settings.sanitize != "addresses"
            checker = self._guarded_checker(torch_device) if exist else None
            if exist and checker is None:
                return
            for one in self.live:
                if self._supported(one) and self._checked(one, checker):
                    self._emit(one, one.record, one.modes[0])
            del checker
            free_memory(self.settings.device)

    def _guarded_checker(self, torch_device: str) -> Checker | None:
        """What checks all cases; None where no inputs can be drawn, and all cases have a record that says so."""
        # Drawing the inputs may already be too much for the device: that is a result of every case.
        self.begin(0, "inputs")
        try:
            return Checker(self.operator, self.problem, device=torch_device, seed=self.settings.seed)
        except Exception as error:
            for one in self.live:
                self.begin(one.index, "inputs")
                self._refuse(one, *classify(error))
            self._go_on(error)
            return None

    def _supported(self, one: _Live) -> bool:
        made, tunables = one.implementation, dict(one.case.tunables)
        self.begin(one.index, "asking")
        try:
            with one.left.put_back():
                reason = refusal(self.operator, made, self.problem, tunables, self.settings.device)
            if reason:
                self._refuse(one, "unsupported", reason)
                return False
            if one.record["reason"]:
                self._refuse(one, one.record["status"], one.record["reason"])
                return False
            with one.left.put_back():
                one.record["configuration"] = made.configured(self.problem, tunables)
        except Exception as error:
            self._refuse(one, *classify(error))
            return False
        return True

    def _check_of(self, one: _Live, checker: Checker | None) -> Check:
        tunables = dict(one.case.tunables)
        if not self.settings.sanitize:
            assert checker is not None
            return checker.check(one.implementation, tunables)
        from suite.sanitizing.checking import at_invented_sizes, sanitized

        if checker is None:
            return at_invented_sizes(self.operator, one.implementation, self.problem, tunables)
        return sanitized(checker, one.implementation, tunables)

    def _checked(self, one: _Live, checker: Checker | None) -> bool:
        """Check one case. checker: None at sizes that do not exist."""
        self.begin(one.index, "check")
        made = self.kept.made()
        with one.left.put_back(), one.watch:
            one.check = self._check_of(one, checker)
        one.made += made()
        one.compile_s = one.check.first_s
        one.record = with_check(one.record, one.check)
        try:
            with one.left.put_back():
                answered = one.implementation.answering()
        except Exception as error:
            self._refuse(one, *classify(error))
            return False
        one.record |= {"backend": answered} if answered else {}
        if not one.check.ok:
            self._refuse(one, one.check.status, one.check.reason)
            if one.check.raised is not None:
                self._go_on(one.check.raised)
                one.check.raised = None
        return one.check.ok

    def _refuse(self, one: _Live, status: str, reason: str, modes: tuple[str, ...] = ()) -> None:
        for mode in modes or one.modes:
            self._emit(one, with_status(one.record, status, reason), mode)

    def _emit(self, one: _Live, record: Mapping[str, Any], mode: str) -> None:
        left = one.left.told()
        self.emit({**record, "mode": mode, **({"left_behind": left} if left else {})})

    def _go_on(self, error: Exception) -> None:
        """Raises Spoiled where the process cannot go on after an exception; else what it held is freed."""
        if reason := spoiled(error, self.settings.device):
            raise Spoiled(reason) from error
        forget(error)
        free_memory(self.settings.device)

    def _naive_ratios(self) -> None:
        naive = next((one.check for one in self.live if one.case.implementation == "naive" and one.check), None)
        base = naive.errors.get("o") if naive else None
        for one in self.live:
            if base and one.check and "o" in one.check.errors:
                one.record["naive_ratio"] = one.check.errors["o"] / base

    def _inputs(self, torch_device: str) -> Inputs:
        return draw_inputs(self.operator, self.problem, self.settings.seed, torch_device)

    def _all_prepared(self, ready: list[_Live], torch_device: str) -> list[_Live]:
        """What is ready to be timed, on inputs that all share; a step changes its state and gets its own."""
        shared: Inputs | None = None
        kept = []
        for one in ready:
            self.begin(one.index, "warmup")
            try:
                shared = shared if shared and self.problem.pass_ != "decode" else self._inputs(torch_device)
            except Exception as error:
                self._refuse(one, *classify(error))
                self._go_on(error)
                continue
            if self._prepared(one, shared):
                kept.append(one)
        self._note_kept(kept)
        return kept

    def _on_timed_inputs(self, ready: list[_Live]) -> list[_Live]:
        """What is ready to be timed, its inputs given the values on which it is."""
        if not ready:
            return []
        self.begin(ready[0].index, "inputs")
        calls = [one.call for one in ready if one.call]
        try:
            changes = change_inputs(calls, self.settings.seed, self.settings.recheck_pick)
            for one, each in zip(ready, changes, strict=True):
                one.changes = each
        except Exception as error:
            for one in ready:
                self.begin(one.index, "inputs")
                self._refuse(one, *classify(error))
            self._go_on(error)
            return []
        return ready

    def _note_kept(self, ready: list[_Live]) -> None:
        """What each keeps between its calls: what was made in them and lives on, when the harness has let go of it."""
        for one in ready:
            assert one.call is not None
            one.call.release()
        # A graph and what it saved are cycles.
        gc.collect()
        for one in ready:
            assert one.call is not None
            held = [*flat(one.call.inputs).values(), *(one.call.cotangents or {}).values()]
            one.kept_mib = self.kept.mib(one.made, held)
            one.made.clear()

    def _prepared(self, one: _Live, inputs: Inputs) -> bool:
        try:
            start = time.perf_counter()
            tunables, made = dict(one.case.tunables), self.kept.made()
            one.call = Call(self.operator, one.implementation, self.problem, tunables, inputs, self.settings.seed)
            with one.left.put_back():
                with one.watch:
                    one.call.prepare()
                    one.call.run()
                self._synchronize()
                one.compile_s += time.perf_counter() - start
                one.warmup_s = self._warm_up(one.call)
                one.memory = peak_rise(one.call.run, self.settings.device)
            one.made += made()
        except Exception as error:
            one.call = None
            self._refuse(one, *classify(error, one.implementation))
            self._go_on(error)
            return False
        return True

    def _warm_up(self, call: Call) -> float:
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) * 1e3 < self.settings.warmup_ms:
            call.run()
            self._synchronize()
        return spent

    def _synchronize(self) -> None:
        if self.settings.device == "cuda":
            torch.cuda.synchronize()

    def _time(self, ready: list[_Live], mode: str) -> list[tuple[_Live, Sampled]]:
        """Time all that are ready, in turns, and judge what the last timed call of each returned."""
        results = self._in_turns(ready, mode)
        if not ready or (judge := self._judge(ready)) is None:
            return results
        if len(ready) == 1 or not any(judge.changed(one.call) for one in ready if one.call):
            for one, sampled in results:
                self._recheck(one, sampled, judge, mode)
            return results
        # One of them wrote into inputs that all share, so none has a time yet: each is timed alone.
        results = []
        for one in ready:
            assert one.call is not None
            fill(one.call.inputs, judge.inputs)
            results += self._in_turns([one], mode)
            self._recheck(one, results[-1][1], judge, mode)
        return results

    def _in_turns(self, ready: list[_Live], mode: str) -> list[tuple[_Live, Sampled]]:
        for one in ready:
            # A graph that another timer had built would hold the shared inputs to that timer's stream.
            assert one.call is not None
            one.call.release()
        sampled = [self._sampled(one, mode) for one in ready]
        with watching(self.settings.device) as watch:
            interleave(
                sampled,
                self.settings.deadline,
                lambda i: self.begin(ready[i].index, "time"),
                watch,
                failed=lambda i, error: self._spoiled_in(ready[i], error, mode),
                cooling=lambda i: self.begin(ready[i].index, "cooling"),
            )
        for one in ready:
            assert one.changes is not None
            one.changes.put_back()
        return list(zip(ready, sampled, strict=True))

    def _evidence(self, one: _Live, mode: str) -> Path | None:
        folder = self.settings.evidence
        return Path(folder) / evidence_name(one.case.case_id, mode, self.settings.replicate) if folder else None

    def _judge(self, ready: list[_Live]) -> Checker | None:
        """What checks timed calls: made once, its oracle run once, whatever the modes."""
        self.begin(ready[0].index, "recheck")
        assert ready[0].call is not None
        try:
            self._judge_of_timed = self._judge_of_timed or judge_of(
                ready[0].call, self.settings.seed, self.settings.recheck_pick
            )
        except Exception as error:
            for one in ready:
                one.recheck = Check(*classify(error))
            self._go_on(error)
        return self._judge_of_timed

    def _recheck(self, one: _Live, sampled: Sampled, judge: Checker, mode: str) -> None:
        """Judge what the last timed call of a case returned; leave it for another process where that is asked for."""
        if sampled.error is not None or (one.recheck and not one.recheck.ok):
            return
        self.begin(one.index, "recheck")
        assert one.call is not None
        assert one.changes is not None
        first, left = one.recheck is None, self._evidence(one, mode)
        with one.left.put_back():
            one.recheck = recheck(sampled.timer, one.call, one.changes, judge, moved=first, evidence=left)
        if one.recheck.raised is not None:
            self._spoiled_in(one, one.recheck.raised)

    def _spoiled_in(self, one: _Live, error: Exception, mode: str = "") -> None:
        """After the warm-up: where an error spoiled the process, its case's records now, and Spoiled.

        mode: of the timer that raised. A failed capture says nothing of the others: the next process measures them.
        """
        if reason := spoiled(error, self.settings.device):
            captured = mode and any(spoils(each) for each in chain(error))
            modes = (mode,) if captured else one.modes
            self._refuse(one, *classify(error, one.implementation), modes)
            raise Spoiled(reason) from error

    def _sampled(self, one: _Live, mode: str) -> Sampled:
        assert one.call is not None
        assert one.changes is not None
        self.begin(one.index, "warmup")
        timer = make_timer(mode, self.settings.device)
        sampled = Sampled(
            one.call.run,
            timer,
            Stopping(limit_ms=self.settings.rep_ms),
            before=one.changes.one,
            around=one.left.put_back,
        )
        try:
            with one.left.put_back():
                make_ready(timer, one.call)
        except Exception as error:
            sampled.error = error
            self._spoiled_in(one, error, mode)
        return sampled

    def _energy(self, ready: list[_Live]) -> None:
        """Energy of each case over a window of its own, where the settings ask for it."""
        if self.settings.energy_s is None or not ready:
            return
        self.begin(ready[0].index, "energy")
        meter = EnergyOf(self.settings.device, self.settings.energy_s, self.settings.deadline, self._synchronize)
        for one in ready:
            assert one.call is not None
            self.begin(one.index, "energy")
            try:
                with one.left.put_back():
                    one.call.prepare()
                    one.energy = meter.columns(one.call.run, self.problem.tokens)
            except Exception as error:
                self._spoiled_in(one, error)
                # The case has its time, and was checked when it was timed.
                one.energy = meter.none(classify(error, one.implementation)[1])

    def _finish(self, one: _Live, result: Sampled, mode: str) -> dict[str, Any]:
        if result.error is not None:
            return with_status(one.record, *classify(result.error, one.implementation))
        if one.recheck is not None and not one.recheck.ok:
            return with_status(one.record, one.recheck.status, one.recheck.reason) | result.raw()
        record = one.record | result.summary() | self._empty_span(mode)
        cost = self.operator.cost_of(self.problem, one.implementation, dict(one.case.tunables))
        time_ms = record["time_ms"]
        placed = self._place(cost, time_ms)
        if above := placed.pop("above", ""):
            why = f"{above}: wrong FLOPs, wrong shape or wrong timing; look at the cost, the outputs and the timer"
            return with_status(one.record, "implausible", why) | result.raw()
        rise, method = one.memory
        return (
            record
            | figures(cost, time_ms, self.problem.tokens)
            | placed
            | one.watch.columns()
            | one.energy
            | {
                "compile_s": one.compile_s,
                "warmup_s": one.warmup_s,
                "memory_mib": rise + one.kept_mib,
                "kept_mib": one.kept_mib,
                "memory_method": method,
            }
        )

    def _empty_span(self, mode: str) -> dict[str, float]:
        span = empty_span_us(mode, self.settings.device)
        return {} if math.isnan(span) else {"empty_span_us": span}

    def _place(self, cost: Cost, time_ms: float) -> dict[str, Any]:
        """Where the time stands under the roof; a time above it has the roof measured again before it is believed."""
        s, dtype = self.settings, self.problem.dtype
        placed = place(cost, time_ms, dtype, self.ceilings, s.llc_bytes)
        if placed.get("above"):
            again = confirm(s.device, dtype, int(cost.bytes_compulsory), self.ceilings)
            if again != self.ceilings:
                # A roof that was measured too low is too low for all that follows, here and in later runs.
                self.ceilings = again
                renew(again)
                self.raised(again)
            placed = place(cost, time_ms, dtype, again, s.llc_bytes)
        return placed
