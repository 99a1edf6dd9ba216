"""Conditions: what the launches of stored runs must share before their figures are compared, and what must be told.

One state of the code per case and run, one dtype, and no mark of telemetry that says that a time is not the code's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from suite.dtypes import SHORT
from suite.gating.decisions import Decision, Limits

if TYPE_CHECKING:
    from suite.store.pairs import Pair, Pairing
    from suite.store.reading import Record

# The part of all cores' time from which others disturb a time.
DISTURBING = 0.1
DTYPES = ("dtype", "state_dtype")
SIDES = ("before", "now")
# Names that a note lists.
TOLD = 8


def mark_of(record: Record) -> str:
    """What telemetry says against the time of a launch; empty where it says nothing."""
    if record.get("telemetry.throttled_kept"):
        return "throttled"
    if record.get("telemetry.other_processes"):
        return "other processes on the GPU"
    if (record.get("telemetry.other_share") or 0.0) > DISTURBING:
        return "other processes on the CPU"
    if (record.get("telemetry.steal_share") or 0.0) > DISTURBING:
        return "the hypervisor took CPU time"
    return ""


def marks_told(before: Sequence[Record], after: Sequence[Record]) -> str:
    """`throttled in 3 of 8 launches before`; empty where no launch is marked."""
    told = []
    for side, when in ((before, SIDES[0]), (after, SIDES[1])):
        counts = Counter(mark for each in side if (mark := mark_of(each)))
        told += [f"{mark} in {count} of {len(side)} launches {when}" for mark, count in counts.items()]
    return ", ".join(told)


def marked_too_often(before: Sequence[Record], after: Sequence[Record], limits: Limits) -> str:
    """The marks, where too few launches of a side that has enough are without one."""
    for side in (before, after):
        if sum(not mark_of(each) for each in side) < limits.rounds <= len(side):
            return marks_told(before, after)
    return ""


def incomparable(pair: Pair) -> Decision | None:
    """Why no figure of a case can be compared, as a decision: its launches mix commits, or its dtypes differ."""
    for side, when in ((pair.before, SIDES[0]), (pair.after, SIDES[1])):
        if len(found := _commits([side])) > 1:
            return Decision("inconclusive", f"launches {when} have different commits: {_listed(found)}")
    if not pair.before or not pair.after:
        return None
    for name in DTYPES:
        dtypes = [sorted({_long(_field(name, each)) for each in side}) for side in (pair.before, pair.after)]
        if dtypes[0] != dtypes[1]:
            told = [", ".join(side) for side in dtypes]
            return Decision("inconclusive", f"{name} {told[0]} before, {told[1]} now: not the same problem")
    return None


def notes(pairing: Pairing) -> Iterator[str]:
    """What a reader must know of two runs beside the verdicts."""
    sides = (
        (pairing.base, [each.before for each in pairing.pairs]),
        (pairing.candidate, [each.after for each in pairing.pairs]),
    )
    for source, cases in sides:
        found, mixed = _commits(cases), sum(len(_commits([each])) > 1 for each in cases)
        if mixed:
            told = f"launches of {_cases(mixed)} have different commits"
            yield f"{source.run}: {told} ({_listed(found)}), so nothing is judged there; measure at one commit"
        elif len(found) > 1:
            yield f"{source.run}: its cases were measured at different commits ({_listed(found)})"
    for names in sorted({name for pair in pairing.pairs for name in _spelled(pair)}):
        yield f"the runs write a dtype as {names}: these are the same"


def _spelled(pair: Pair) -> Iterator[str]:
    """`float32 and fp32`, for each dtype that the two sides write in two ways, in a field or in the case id."""
    for of in (*(partial(_field, name) for name in DTYPES), _of_case_id):
        for one in {of(each) for each in pair.before}:
            for other in {of(each) for each in pair.after}:
                if one != other and _long(one) == _long(other):
                    yield " and ".join(sorted((one, other)))


def _field(name: str, record: Record) -> str:
    return record[name]


def _of_case_id(record: Record) -> str:
    """The first dtype in a case id, as it is written there."""
    return next((token for token in record["case_id"].split("_") if token in SHORT or token in SHORT.values()), "")


def named(texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """`CASE: text` of (case, text), and how many more have the same text."""
    cases: dict[str, list[str]] = {}
    for case_id, text in texts:
        if text:
            cases.setdefault(text, []).append(case_id)
    for text, ids in cases.items():
        more = f" and {_cases(len(ids) - 1)} more" if len(ids) > 1 else ""
        yield f"{ids[0]}{more}: {text}"


def _commits(cases: Iterable[Sequence[Record]]) -> list[str]:
    return list(dict.fromkeys(each["commit"] for launches in cases for each in launches))


def _listed(commits: Sequence[str]) -> str:
    told = ", ".join(each or "none" for each in commits[:TOLD])
    return f"{told} and {len(commits) - TOLD} more" if len(commits) > TOLD else told


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def _long(name: str) -> str:
    """The long name of a dtype; one that is not known is its own."""
    return {short: long for long, short in SHORT.items()}.get(name, name)
