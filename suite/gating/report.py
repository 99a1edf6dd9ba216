"""What a gate found: every decision with its evidence, the exit code, and the report as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from suite.errors import Exit, worst
from suite.gating.decisions import JUDGED, Decision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from suite.store.pairs import Mismatch, Source

SCHEMA = "1.0"
Metric = Literal["time", "memory", "error", "static"]
# What a reader has to see first.
ORDER = ("broken", "missing", "slower", "inconclusive", "faster", "new", "unchanged", "same")
QUIET = frozenset({"same", "unchanged"})


@dataclass(frozen=True)
class Evidence:
    """The times that a decision about time rests on, ms: the median of each replicate.

    paired: whether the i-th replicates of both sides were one round, alive together
    fresh:  the index from which rounds confirm a flagged case; 0 where nothing was flagged
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    paired: bool = False
    fresh: int = 0


@dataclass(frozen=True)
class CaseVerdict:
    """One decision on one metric of one case.

    same_code: whether the case was not measured because its code or binary is the same
    evidence:  the times behind it, for the page
    note:      what a reader must know although the verdict may be quiet
    """

    case_id: str
    mode: str
    metric: Metric
    decision: Decision
    same_code: bool = False
    evidence: Evidence | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        own = {"case_id": self.case_id, "mode": self.mode, "metric": self.metric}
        return own | vars(self.decision)


@dataclass(frozen=True)
class Report:
    """All decisions of a gate, in the order of the baseline's cases.

    machine:   one line that says on what was measured
    reproduce: the command that does it again
    notes:     what a reader has to know beside the verdicts
    """

    base: Source
    candidate: Source
    mismatches: tuple[Mismatch, ...]
    allowed: bool
    cases: tuple[CaseVerdict, ...]
    machine: str = ""
    reproduce: str = ""
    notes: tuple[str, ...] = ()

    @property
    def exit(self) -> Exit:
        """The exit code: INCOMPARABLE for a mismatch that is not allowed, INCONCLUSIVE when nothing was judged."""
        if self.mismatches and not self.allowed:
            return Exit.INCOMPARABLE
        judged = any(each.decision.verdict in JUDGED or each.same_code for each in self.cases)
        nothing = [] if judged else [Exit.INCONCLUSIVE]
        return worst([*(each.decision.exit for each in self.cases), *nothing])

    @property
    def sorted_cases(self) -> list[CaseVerdict]:
        """The cases, what fails first."""
        return sorted(self.cases, key=lambda each: ORDER.index(each.decision.verdict))

    @property
    def changes(self) -> list[CaseVerdict]:
        """What a reader has to look at: all that is neither the same nor unchanged, what fails first."""
        return [each for each in self.sorted_cases if each.decision.verdict not in QUIET]

    @property
    def headline(self) -> str:
        """The outcome in one line: `regression: 1 broken, 2 slower, 197 same`."""
        if self.exit == Exit.INCOMPARABLE:
            return (
                "environments differ: nothing was compared; measure both on one machine, or pass --allow-env-mismatch"
            )
        counts = Counter(each.decision.verdict for each in self.cases)
        told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])
        return f"{self.exit.name.lower()}: {told or 'no case in either run'}"

    def to_json(self) -> dict[str, Any]:
        """The report as docs/gate.md describes it."""
        return {
            "schema": SCHEMA,
            "exit": int(self.exit),
            "base": vars(self.base),
            "candidate": vars(self.candidate),
            "environment": {
                "match": not self.mismatches,
                "allowed": self.allowed,
                "differences": [vars(each) for each in self.mismatches],
            },
            "cases": [each.to_json() for each in self.cases],
        }


def row_of(case: CaseVerdict) -> tuple[str, str, str, str, str]:
    """Verdict, case, mode, metric, reason: the columns of every table."""
    return case.decision.verdict, case.case_id, case.mode, case.metric, case.decision.reason


def told_source(source: Source) -> str:
    """`results/before (0123abc)`."""
    told = source.commit or (source.no_commit and f"no commit: {source.no_commit}")
    return f"{source.run} ({told})" if told else source.run


def machine_line(fingerprint: Mapping[str, Any]) -> str:
    """`NVIDIA H200, driver 575.57.08, torch 2.13.0, python 3.11.7`; empty when nothing is known."""
    names = ("driver", "cuda", "torch", "triton", "python", "threads")
    told = [f"{name} {fingerprint[name]}" for name in names if fingerprint.get(name)]
    return ", ".join([*([str(fingerprint["device"])] if fingerprint.get("device") else []), *told])
