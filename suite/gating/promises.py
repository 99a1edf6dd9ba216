"""Promises: how often the gate is wrong, simulated with the code that decides. `subquad gate --promises` prints it.

Each comparison is a Trial, fed with log-ratios of rounds until it wants no more, as a gate feeds it; fresh rounds go on
where the first ones ended, so that they share what lasts. Stored runs are judged as suite.gating.stored judges them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.gating.decisions import FAILING, Limits, Verdict
from suite.gating.history import Calibration, History
from suite.gating.sequential_test import LOOKS, Round, Trial
from suite.gating.stored import time as judge_launches
from suite.static.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np

LIMITS = Limits()
# Time of a call before, ms: long enough that no difference is below the smallest that counts.
MS = 10.0
SUITE = 200
COMPARISONS, SUITES = 2000, 500
CHANGES = (0.0, 0.05, 0.10)
LAUNCHES, DAYS = 8, 8
# Comparisons that a process simulates at a time: whole suites.
AT_A_TIME = 2000


@dataclass(frozen=True)
class Cell:
    """One kind of noise, and a true slowdown.

    noise:  a name of NOISES, `AR(1)`, or `stored` for two stored runs
    level:  standard deviation of a round's log-ratio, or of a launch's log-time
    change: the slowdown, a fraction
    rho:    correlation of two successive rounds
    shift:  standard deviation of the level of a stored run
    """

    noise: str
    level: float
    change: float
    rho: float = 0.0
    shift: float = 0.0

    @property
    def independent(self) -> bool:
        return self.noise in NOISES

    @property
    def row(self) -> str:
        """The row of the table."""
        if self.noise == "stored":
            return f"stored runs that shift by {self.shift:.0%}, noise {self.level:.0%}"
        return f"{self.noise}{f', rho {self.rho:g}' if self.rho else ''}, {self.level:.0%}"

    @property
    def told(self) -> str:
        return f"{self.row}, {f'slower by {self.change:.0%}' if self.change else 'both sides equal'}"


@dataclass(frozen=True)
class Found:
    """How many comparisons of a cell exited with 1, 0 and 3, and how many suites of equal code failed."""

    cell: Cell
    failed: int = 0
    passed: int = 0
    undecided: int = 0
    suites: int = 0
    failed_suites: int = 0

    @property
    def comparisons(self) -> int:
        return self.failed + self.passed + self.undecided

    def plus(self, other: Found) -> Found:
        names = ("failed", "passed", "undecided", "suites", "failed_suites")
        return Found(self.cell, *(getattr(self, name) + getattr(other, name) for name in names))


def kept(found: Found) -> bool:
    """Whether a cell keeps what docs/gate.md promises of it."""
    cell, n = found.cell, found.comparisons
    if not cell.change:
        return found.failed_suites <= 0.01 * found.suites if cell.independent else found.failed <= 0.01 * n
    if found.passed > (0.005 if cell.change >= 0.1 else 0.05) * n and cell.noise != "stored":
        return False
    if not cell.independent:
        return True
    if cell.change >= 0.1:
        return found.failed >= 0.98 * n
    promised = {0.01: 0.95, 0.03: 0.9}
    return found.failed >= promised.get(cell.level, 0.0) * n


def cells() -> list[Cell]:
    """The cells of the table, row by row."""
    rows = [(noise, level, 0.0, 0.0) for noise in NOISES for level in (0.01, 0.02, 0.03)]
    # Two modes that are 10 % apart.
    rows.append(("two modes", 0.05, 0.0, 0.0))
    rows += [("AR(1)", 0.03, rho, 0.0) for rho in (0.5, 0.8, 0.9)]
    rows += [("stored", 0.01, 0.0, shift) for shift in (0.02, 0.05)]
    return [Cell(noise, level, change, rho, shift) for noise, level, rho, shift in rows for change in CHANGES]


def simulated(
    some: Iterable[Cell] | None = None,
    *,
    comparisons: int = COMPARISONS,
    suites: int = SUITES,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Found]:
    """Simulate cells on all processors.

    comparisons: of each cell; where both sides are equal and the noise is independent, `suites` of SUITE instead
    """
    wanted = list(cells() if some is None else some)
    tasks: list[tuple[int, Cell, int, int]] = []
    for i, cell in enumerate(wanted):
        left = suites * SUITE if cell.independent and not cell.change else comparisons
        while left > 0:
            tasks.append((i, cell, min(left, AT_A_TIME), seed + len(tasks)))
            left -= AT_A_TIME
    found = [Found(cell) for cell in wanted]
    with (
        ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        progress("simulating comparisons", len(tasks)) as step,
    ):
        waiting = {pool.submit(simulate, *task[1:]): task[0] for task in tasks}
        for done in as_completed(waiting):
            i = waiting[done]
            found[i] = found[i].plus(done.result())
            step(wanted[i].told)
    return found


def simulate(cell: Cell, comparisons: int, seed: int) -> Found:
    """Simulate comparisons of a cell, whole suites where they are enough for one."""
    import numpy as np

    draw = np.random.default_rng([seed, 19])
    if cell.noise == "stored":
        verdicts = [_stored(cell, draw) for _ in range(comparisons)]
    else:
        made = series(cell, draw, comparisons, 2 * LOOKS[-1]) + math.log1p(cell.change)
        verdicts = [played(each) for each in made.tolist()]
    failed = [verdict in FAILING for verdict in verdicts]
    undecided = verdicts.count("inconclusive")
    suites = [failed[i : i + SUITE] for i in range(0, comparisons - SUITE + 1, SUITE)]
    passed = comparisons - sum(failed) - undecided
    return Found(cell, sum(failed), passed, undecided, len(suites), sum(map(any, suites)))


def played(log_ratios: Sequence[float], looks: tuple[int, ...] = LOOKS) -> Verdict:
    """The verdict of a trial that takes rounds with these log-ratios, in order, until it wants no more."""
    trial, following = Trial(LIMITS, looks), iter(log_ratios)
    while wanted := trial.wanted:
        for _ in range(wanted):
            trial.add(Round(MS, MS * math.exp(next(following))))
    return trial.decision().verdict


def series(cell: Cell, draw: np.random.Generator, comparisons: int, rounds: int) -> np.ndarray:
    """[comparisons, rounds] log-ratios of equal code."""
    if cell.independent:
        return cell.level * NOISES[cell.noise](draw, (comparisons, rounds))
    made = draw.standard_normal((comparisons, rounds))
    fresh = math.sqrt(1 - cell.rho**2)
    for i in range(1, rounds):
        made[:, i] = cell.rho * made[:, i - 1] + fresh * made[:, i]
    return cell.level * made


def _stored(cell: Cell, draw: np.random.Generator) -> Verdict:
    """The verdict on two stored runs of a machine that was calibrated on some days; each has a level of its own."""
    levels = [Calibration(f"day {i}", "", 0.0, 0.0, 0.0, cell.shift * draw.normal(), 2) for i in range(DAYS)]
    before, after = (
        [
            {"time_ms": MS * math.exp(level + change)}
            for level in (cell.shift * draw.normal() + cell.level * draw.standard_normal(LAUNCHES)).tolist()
        ]
        for change in (0.0, math.log1p(cell.change))
    )
    return judge_launches(before, after, LIMITS, History(tuple(levels)).shift).verdict


def _lognormal(draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Skewed: now and then a round is much slower."""
    sigma = 0.6
    mean, grown = math.exp(sigma**2 / 2), math.exp(sigma**2)
    return (draw.lognormal(0.0, sigma, shape) - mean) / (mean * math.sqrt(grown - 1))


def _two_modes(draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    spread = 0.95
    sides = spread * draw.choice([-1.0, 1.0], shape)
    return sides + math.sqrt(1 - spread**2) * draw.standard_normal(shape)


# Name -> independent noise of standard deviation 1.
NOISES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda draw, shape: draw.standard_normal(shape),
    "lognormal": _lognormal,
    "Student t3": lambda draw, shape: draw.standard_t(3, shape) / math.sqrt(3),
    "two modes": _two_modes,
}


def table(found: Sequence[Found]) -> str:
    """The cells as a table in Markdown: per cent of comparisons that exit with 1, 0 and 3."""
    head = ["noise", "suites that fail, A/A", *("A/A" if not change else f"+{change:.0%}" for change in CHANGES)]
    rows: dict[str, list[str]] = {}
    for each in found:
        cells = rows.setdefault(each.cell.row, [each.cell.row])
        if not each.cell.change:
            whole = each.cell.independent and each.suites
            cells.append(f"{each.failed_suites} of {each.suites}" if whole else "")
        counts = (each.failed, each.passed, each.undecided)
        cells.append(" / ".join(_percent(count, each.comparisons) for count in counts))
    lines = [head, ["---"] * len(head), *rows.values()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(count: int, of: int) -> str:
    """Per cent, with two digits after the point near 0 and 100."""
    percent = 100 * count / of
    if count in (0, of):
        return f"{percent:.0f}"
    if percent < 0.01:
        return "<0.01"
    if percent > 99.99:
        return ">99.99"
    return f"{percent:.2f}" if percent < 2 or percent > 98 else f"{percent:.1f}"
