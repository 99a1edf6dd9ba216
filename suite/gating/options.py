"""What a gate of revisions covers and how it measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from suite.gating.decisions import Decision, Limits
from suite.gating.pairing import Question
from suite.gating.sequential_test import LOOKS
from suite.running.budget import Budget
from suite.static.progress import Progress, silent

if TYPE_CHECKING:
    from suite.gating.rounds import RoundSettings
    from suite.plan import Group, Selection
    from suite.registry import Registry


@dataclass(frozen=True)
class Plan:
    """What is gated: the groups, and the preset and flags that they were made from, for the base to make its own."""

    registry: Registry
    groups: Sequence[Group]
    preset: str
    selection: Selection
    load: tuple[str, ...] = ()

    def asked(self, device: str) -> Question:
        """The question to both revisions, for a device."""
        return Question(self.groups, self.preset, self.selection, device)


@dataclass(frozen=True)
class Base:
    """The base's files: its checkout, and its own plug-ins."""

    root: Path
    load: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """How it is gated.

    terms:     device, timer, seed and how long a case is timed
    limits:    what counts as worse
    looks:     numbers of rounds after which a case is judged
    budget:    how long all may take
    timeout_s: silence after which a case is ended
    every:     whether cases of the same code are measured too
    static:    whether Triton kernels are compiled and compared
    arch:      for which architecture, where there is no GPU
    jobs:      processes that compile at a time
    fail_on:   what of the machine code is slower whatever the predicted time, of decisions.FAIL_ON
    """

    terms: RoundSettings
    limits: Limits = field(default_factory=Limits)
    looks: tuple[int, ...] = LOOKS
    budget: Budget = field(default_factory=Budget)
    timeout_s: float = 300.0
    every: bool = False
    static: bool = True
    arch: str = "sm_90"
    jobs: int = 2
    fail_on: tuple[str, ...] = ()
    progress: Progress = silent

    @property
    def over(self) -> bool:
        """Whether the budget has ended."""
        return self.budget.over

    def left_out(self) -> Decision:
        """The decision on what the budget left no time for."""
        return Decision("inconclusive", f"left out: the budget of {self.budget.seconds:g} s ended", rounds=0)
