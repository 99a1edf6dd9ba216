"""Answers: what a worker says while it measures a problem, believed only where it may be said.

The runner knows which cases it asked for and when each began. So a message must be of the case in flight, and a record
of a mode that was asked for and has not come. Everything else raises Refused. Records are judged in judging.py.

The runner's clock is looked at before a worker may take samples, and again when the next message comes. So the time in
between is never less than the samples took, however loaded the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from suite.problem import Case
from suite.running.messages import Refused

# The phase in which samples are taken, and the one in which a case is only asked whether it serves a problem.
TIMED, ASKING = "time", "asking"
PHASES = ("inputs", ASKING, "check", "warmup", TIMED, "cooling", "energy", "recheck", "judging")
# What each kind's record with status `ok` has been through.
NEEDED = {"timed": {"check", "warmup", TIMED, "recheck", "judging"}, "check": {"check"}}


class Answers:
    """What a worker has said of the cases of one request.

    wanted: of each case the modes of which a record is wanted
    began:  of each case in which somebody's code ran, when it began to, time.monotonic()
    turns:  of each case, the seconds of each of its turns of samples by the runner's clock
    """

    def __init__(
        self,
        cases: Sequence[Case],
        wanted: Sequence[Sequence[str]],
        kind: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.cases, self.kind, self.clock = cases, kind, clock
        self.wanted = [list(modes) for modes in wanted]
        self.began: dict[int, float] = {}
        self.turns: list[list[float]] = [[] for _ in cases]
        self.at, self.phase = 0, "start"
        self._been: list[set[str]] = [set() for _ in cases]
        self._turn_since: float | None = None

    @property
    def case(self) -> Case:
        """The case in flight."""
        return self.cases[self.at]

    def heard(self) -> None:
        """A message has come: the turn that was under way is over."""
        if self._turn_since is not None:
            self.turns[self.at].append(self.clock() - self._turn_since)
            self._turn_since = None

    def begin(self, message: Mapping[str, Any]) -> None:
        """Note what begins. Before samples are taken, `start_turn` is called."""
        index, phase = message.get("case"), message.get("phase")
        if type(index) is not int or not 0 <= index < len(self.cases):
            raise Refused(f"it begins case {index!r} of {len(self.cases)}")
        if phase not in PHASES:
            raise Refused(f"it begins the phase {str(phase)[:20]!r}")
        self.at, self.phase = index, phase
        self._been[index].add(phase)
        if phase != ASKING:
            self.began.setdefault(index, time.monotonic())

    def start_turn(self) -> None:
        """The worker may take samples from now on."""
        self._turn_since = self.clock()

    def record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The record that a message holds: an object of a wanted mode of the case in flight."""
        record = message.get("record")
        if type(record) is not dict:
            raise Refused("its record is no object")
        mode, name = record.get("mode"), self.case.case_id
        if not self._been[self.at]:
            raise Refused("a record came before its case began")
        if record.get("case_id", name) != name:
            raise Refused(f"a record of {str(record['case_id'])[:80]} came during {name}")
        if mode not in self.wanted[self.at]:
            raise Refused(f"a record of mode {str(mode)[:40]!r} came, which is not wanted of {name}")
        if record.get("status") == "ok" and (missing := NEEDED[self.kind] - self._been[self.at]):
            raise Refused(f"a record of {name} came before its {sorted(missing)[0]}")
        self.wanted[self.at].remove(mode)
        return record

    def done(self) -> None:
        """Nothing more will come. A case that lacks a record is the one at hand then."""
        lacking = [i for i, modes in enumerate(self.wanted) if modes]
        if lacking:
            self.at = next((i for i in lacking if i in self.began), lacking[0])
            raise Refused(f"it says that it is done, without a record of {self.case.case_id}")
