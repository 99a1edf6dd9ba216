"""Gating this working tree against another revision, measured now. docs/gate.md describes the decisions.

The other revision's files lie in a folder of their own; both revisions' kernels/ and baselines/ run under this tree's
suite/. What has the same code is not measured. Static differences come first, then time, memory and numerics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from suite.discovery import ROOT
from suite.gating import history, interpreted, statics
from suite.gating.decisions import Decision, judge_status
from suite.gating.options import Base
from suite.gating.pairing import Paired, Question, pair_cases, uncovered
from suite.gating.report import CaseVerdict, Evidence, Metric, Report, machine_line
from suite.gating.schedule import CasePair, Schedule
from suite.gating.sequential_test import Trial
from suite.gating.sides import OutOfBudget, Process, Side, Starts, answer_of, start_worker
from suite.gating.stored import errors, memory, moved_limit, statuses, told
from suite.static.revisions import in_base
from suite.store.pairs import Source

if TYPE_CHECKING:
    from suite.gating.options import Options, Plan

SAME_CODE = Decision("unchanged", "the same code")
SAME_BINARY = Decision("unchanged", "the same binaries, launched alike")
NOT_CHECKED = Decision("new", "not in the base; not checked: the budget ended")
# Names that a note lists.
TOLD = 8


def gate_revision(base: str, plan: Plan, options: Options, *, root: Path = ROOT) -> Report:
    """Judge the tree at `root` against its revision `base`.

    Raises UsageError when there is no such revision, IncomparableError when its operators do not load under this suite.
    """
    from suite.hardware.environment import head
    from suite.static.revisions import commit_of, files_of

    sources = Source(base, commit_of(base, root)), Source("working tree", *head(root))
    with files_of(base, root) as folder:
        gate = RevisionGate(plan, options, root, folder)
        cases = tuple(gate.run())
    return Report(*sources, (), False, cases, machine=gate.machine, notes=(*gate.notes, *told(cases)))


class RevisionGate:
    """Asks both revisions, then judges part by part.

    root, base: the checkouts of this tree and of the base
    """

    def __init__(self, plan: Plan, options: Options, root: Path, base: Path) -> None:
        self.plan, self.options, self.root = plan, options, root
        self.base = Base(base, tuple(found for path in plan.load if (found := in_base(path, root, base))))
        self.machine = ""
        self.notes: list[str] = []
        self.history: dict[history.Key, history.History] = {}

    def run(self) -> Iterator[CaseVerdict]:
        """All verdicts. Where the budget ends before it is known what is to be judged, this tree's plan is left out."""
        device, mode = self.options.terms.device, self.options.terms.mode
        try:
            with worker_of(self._starts(device)[0]) as worker:
                described = answer_of(worker, self.options.budget, do="describe", device=device)
                self.machine = machine_line(described["fingerprint"])
                self.history = history.load(device, described["fingerprint"])
                timed = self._pair(worker, self.plan.asked(device))
                compiled = self._to_compile(worker, timed)
                checked = [] if device == "cuda" else self._pair(worker, interpreted.asked(self.plan))
                self._note_uncovered(worker, [*timed, *compiled, *checked])
        except OutOfBudget:
            cases = [case for group in self.plan.groups for case in group.cases]
            yield from (CaseVerdict(case.case_id, mode, "time", self.options.left_out()) for case in cases)
            return
        if device == "cuda":
            same_binary = yield from self._static_on_gpu(compiled, described["device"]["arch"])
        else:
            same_binary = set[str]()
            yield from self._static(compiled)
        yield from self._timed(timed, same_binary)
        yield from self._interpreted(checked)

    def _starts(self, device: str) -> Starts:
        return (
            partial(start_worker, self.base.root, device, self.base.load, self.options.budget, base=True),
            partial(start_worker, self.root, device, self.plan.load, self.options.budget, base=False),
        )

    def _pair(self, worker: Process, asked: Question | None) -> list[Paired]:
        if asked is None:
            return []
        found, note = pair_cases(self.plan.registry, self.root, worker, asked, self.options.budget)
        if note and note not in self.notes:
            self.notes.append(note)
        return found

    def _note_uncovered(self, worker: Process, pairs: list[Paired]) -> None:
        names = uncovered(self.plan.registry, self.root, worker, pairs, self.plan.selection, self.options.budget)
        if names:
            told = ", ".join(names[:TOLD]) + (f" and {len(names) - TOLD} more" if len(names) > TOLD else "")
            self.notes.append(f"changed, but in no case that this gate judges: {told}; choose another --preset")

    def _to_compile(self, worker: Process, timed: list[Paired]) -> list[Paired]:
        if not self.options.static:
            return []
        if self.options.terms.device == "cuda":
            return statics.gpu_pairs(timed)
        return [each for each in self._pair(worker, statics.asked(self.plan, self.options.arch)) if each.kernels]

    def _static(self, pairs: list[Paired]) -> Iterator[CaseVerdict]:
        """Verdicts on all kernels of the static plan."""
        settled, changed = self._sorted(pairs, self.options.arch, "static", every=False)
        yield from settled
        for each in statics.compare(changed, self.plan, self.options, self.options.arch, self.base):
            yield CaseVerdict(each.case_id, self.options.arch, "static", each.decision, same_code=each.same)

    def _static_on_gpu(self, pairs: list[Paired], arch: str) -> Iterator[CaseVerdict]:
        """Verdicts on changed kernels; returns the cases that need no timing."""
        found = list(statics.compare(pairs, self.plan, self.options, arch, self.base))
        yield from (CaseVerdict(each.case_id, arch, "static", each.decision) for each in found if not each.whole)
        return {each.case_id for each in found if each.whole}

    def _timed(self, pairs: list[Paired], same_binary: set[str]) -> Iterator[CaseVerdict]:
        o = self.options
        new = [each for each in pairs if each.is_new]
        settled, changed = self._sorted(
            [each for each in pairs if not each.is_new], o.terms.mode, "time", every=o.every
        )
        yield from settled
        yield from self._new(new, o.terms.device, o.terms.mode, "time")
        for each in changed:
            if each.case_id in same_binary and not o.every:
                yield CaseVerdict(each.case_id, o.terms.mode, "time", SAME_BINARY, same_code=True)
        contenders = [self.judged(each) for each in changed if o.every or each.case_id not in same_binary]
        Schedule(contenders, self._starts(o.terms.device), o.terms, o.budget, o.timeout_s, progress=o.progress).run()
        for pair in contenders:
            yield from verdicts(pair, o)

    def _new(self, pairs: list[Paired], device: str, mode: str, metric: Metric) -> Iterator[CaseVerdict]:
        """Verdicts on cases that only this tree serves: they are checked, not timed."""
        o = self.options
        side = Side(self._starts(device)[1], o.timeout_s, o.budget)
        settings = {"device": device, "mode": mode, "warmup_ms": 0.0, "seed": o.terms.seed}
        try:
            for each in pairs:
                decision = NOT_CHECKED
                if not o.over:
                    with suppress(OutOfBudget):
                        answer = side.ask(do="open", case=each.case, settings=settings | {"check": True, "time": False})
                        decision = judge_status([], statuses([answer]))
                assert decision is not None
                yield CaseVerdict(each.case_id, mode, metric, decision)
        finally:
            side.end()

    def judged(self, pair: Paired) -> CasePair:
        """A case as it is judged: by its own margin, and by how its rounds resemble each other, where that is known."""
        past = self.history.get((pair.case_id, self.options.terms.mode))
        limits = self.options.limits.widened(past.floor) if past else self.options.limits
        trial = Trial(limits, self.options.looks, past.least_rho if past else 0.0)
        return CasePair(pair.case_id, pair.case, trial, pair.same_code)

    def _interpreted(self, pairs: list[Paired]) -> Iterator[CaseVerdict]:
        # What the interpreter refuses on both sides is no case of it, and what is gone was named by the other parts.
        changed = [each for each in pairs if each.kernels and not each.same_code and each.settled() is None]
        yield from interpreted.check(changed, self._starts(interpreted.DEVICE), self.options)
        # That it is new was named by the other parts too.
        new = [each for each in pairs if each.kernels and each.is_new]
        found = self._new(new, interpreted.DEVICE, interpreted.DEVICE, "error")
        yield from (each for each in found if each.decision.verdict != "new")

    def _sorted(
        self, pairs: Sequence[Paired], mode: str, metric: Metric, *, every: bool
    ) -> tuple[list[CaseVerdict], list[Paired]]:
        """Verdicts on what needs no measurement, and the pairs that do."""
        settled: list[CaseVerdict] = []
        changed: list[Paired] = []
        for each in pairs:
            if decision := each.settled():
                settled.append(CaseVerdict(each.case_id, mode, metric, decision))
            elif each.same_code and not every:
                settled.append(CaseVerdict(each.case_id, mode, metric, SAME_CODE, same_code=True))
            else:
                changed.append(each)
        return settled, changed


def verdicts(pair: CasePair, options: Options) -> Iterator[CaseVerdict]:
    """Every verdict on a case that was to be measured."""
    mode = options.terms.mode
    if not pair.before:
        left_out = SAME_CODE if pair.same_code else options.left_out()
        yield CaseVerdict(pair.case_id, mode, "time", left_out, same_code=pair.same_code)
        return
    if by_status := judge_status(statuses(pair.before), statuses(pair.after)):
        yield CaseVerdict(pair.case_id, mode, "time", by_status)
        return
    yield CaseVerdict(pair.case_id, mode, "time", pair.trial.decision(), evidence=evidence(pair.trial))
    if decision := memory(pair.before, pair.after, options.limits):
        yield CaseVerdict(pair.case_id, mode, "memory", decision)
    if decision := errors(pair.before, pair.after):
        yield CaseVerdict(pair.case_id, mode, "error", decision, note=moved_limit(pair.before, pair.after))


def evidence(trial: Trial) -> Evidence:
    """The rounds of a trial, for the page."""
    rounds = [*trial.rounds, *trial.confirmation]
    before, after = (tuple(getattr(each, name) for each in rounds) for name in ("before_ms", "after_ms"))
    return Evidence(before, after, paired=True, fresh=len(trial.rounds) if trial.confirmation else 0)


@contextmanager
def worker_of(start: Callable[[], Process]) -> Iterator[Process]:
    """A worker that is gone at the end of the block."""
    worker = start()
    try:
        yield worker
    finally:
        worker.kill()
