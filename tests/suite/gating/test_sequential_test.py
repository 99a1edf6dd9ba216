"""A trial: when it wants more rounds, what flags it, what confirms it; and the gate's promises, by its own rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from suite.gating import Limits
from suite.gating.sequential_test import LOOKS, Round, Trial, looks_up_to, slower_level
from tests.suite.gating.noise import KINDS, noise

LIMITS = Limits()
CASES = 200
BLOCKS = 8


def rounds(percent: float, spread: float = 0.2, count: int = 8, **clocks: float) -> list[Round]:
    """Rounds of a change of so many per cent, which lie evenly about it, to the one side and the other in turns."""
    even = np.linspace(-spread, spread, count) / 100
    offsets = [each for pair in zip(even, even[::-1], strict=True) for each in pair][:count]
    return [Round(10.0, 10.0 * math.exp(math.log1p(percent / 100) + offset), **clocks) for offset in offsets]


def played(*sets: list[Round]) -> Trial:
    trial = Trial(LIMITS)
    for one in (each for rounds_ in sets for each in rounds_):
        assert trial.wanted > 0
        trial.add(one)
    return trial


def test_a_clear_case_needs_eight_rounds():
    trial = Trial(LIMITS)
    assert trial.wanted == 8
    for change, verdict in ((0.0, "same"), (-5.0, "faster")):
        trial = played(rounds(change))
        assert (trial.wanted, trial.decision().verdict) == (0, verdict)


def test_an_inconclusive_case_goes_on_to_sixteen_thirty_two_and_sixty_four():
    noisy = rounds(1.9, spread=1.0)
    for taken, more in ((8, 8), (12, 4), (16, 16), (31, 1), (32, 32), (64, 0)):
        trial = Trial(LIMITS)
        for one in (noisy * 8)[:taken]:
            trial.add(one)
        assert trial.wanted == more, taken
        assert trial.decision().verdict == "inconclusive"


def test_a_flagged_case_counts_once_as_many_fresh_rounds_say_so():
    trial = played(rounds(5.0))
    assert (trial.flagged, trial.wanted) == (True, 8)
    waiting = trial.decision()
    assert (waiting.verdict, waiting.rounds) == ("inconclusive", 8)
    assert "not confirmed: 0 of 8 fresh rounds" in waiting.reason
    trial = played(rounds(5.0), rounds(5.2))
    assert trial.wanted == 0
    decision = trial.decision()
    assert decision.verdict == "slower"
    assert decision.ratio == pytest.approx(1.052)
    assert decision.reason.endswith("8 fresh rounds confirm the first 8")


def test_what_fresh_rounds_do_not_confirm_is_not_slower():
    moved = played(rounds(5.0), rounds(0.0))
    assert (moved.decision().verdict, moved.wanted) == ("inconclusive", 8)
    decision = played(rounds(5.0), rounds(0.0), rounds(0.0)).decision()
    assert (decision.verdict, decision.ratio) == ("same", pytest.approx(1.0))
    assert "the first 8 rounds said +5.0%, fresh ones do not" in decision.reason


def test_a_flagged_case_that_fresh_rounds_leave_inconclusive_goes_on_with_fresh_rounds():
    unclear = rounds(2.1, spread=1.0)
    trial = played(rounds(5.0), unclear)
    assert trial.wanted == 8
    assert trial.decision().reason.endswith("not confirmed: 8 of 16 fresh rounds")
    trial = played(rounds(5.0), unclear, unclear)
    assert (trial.wanted, len(trial.rounds), len(trial.confirmation)) == (16, 8, 16)
    trial = played(rounds(5.0), *[unclear] * 8)
    decision = trial.decision()
    assert (trial.wanted, decision.verdict, decision.rounds) == (0, "inconclusive", 64)
    assert decision.reason.endswith("the first 8 rounds said +5.0%, fresh ones do not")
    noisy = Trial(LIMITS)
    for one in rounds(5.0):
        noisy.add(one)
    while noisy.wanted:
        noisy.add(rounds(5.0, spread=3.0)[len(noisy.confirmation) % 8])
    assert (len(noisy.rounds), noisy.decision().verdict) == (8, "slower")
    assert 8 < len(noisy.confirmation) <= 64


def test_what_a_budget_cuts_off_between_two_looks_is_not_slower():
    trial = Trial(LIMITS)
    for one in [*rounds(4.0, spread=3.0), *rounds(6.0, count=4)]:
        trial.add(one)
    assert (trial.flagged, len(trial.rounds)) == (False, 12)
    decision = trial.decision()
    assert decision.verdict == "inconclusive"
    assert decision.reason.endswith("not confirmed: 0 of 12 fresh rounds")


@pytest.mark.parametrize("looks", [(8, 16, 32, 64), (8, 12), (8,), (3,)])
def test_the_looks_of_fresh_rounds_share_one_level(looks):
    spent = [1 - slower_level(look, looks) for look in looks]
    assert sum(spent) == pytest.approx(0.005, rel=1e-9)
    assert spent == sorted(spent)


def test_rounds_that_drift_are_not_slower_at_once():
    """A level that moves for eight rounds may go on moving: fresh rounds have to find it where it was."""
    drifting = [Round(10.0, 10.0 * math.exp(0.01 * i)) for i in range(16)]
    trial = Trial(LIMITS)
    for one in drifting:
        trial.add(one)
    assert trial.decision().verdict == "inconclusive"
    assert trial.wanted > 0


def test_rounds_that_all_agree_decide_at_once():
    for ratio, verdict in ((1.0, "same"), (1.05, "slower"), (0.9, "faster")):
        trial = Trial(LIMITS)
        while trial.wanted:
            trial.add(Round(10.0, 10.0 * ratio))
        assert (trial.decision().verdict, len(trial.rounds)) == (verdict, 8)


def test_a_case_with_two_modes_that_both_sides_share_is_the_same():
    modes = [1.0, 1.0, 1.1, 1.0, 1.1, 1.1, 1.0, 1.1]
    trial = Trial(LIMITS)
    for mode in modes:
        trial.add(Round(10.0 * mode, 10.0 * mode))
    assert (trial.wanted, trial.decision().verdict) == (0, "same")


def test_a_mode_that_one_side_is_locked_in_is_flagged_and_fresh_rounds_take_it_back():
    """A side that starts in a slow mode for eight rounds, and never again."""
    trial = Trial(LIMITS)
    while trial.wanted and len(trial.confirmation) < 64:
        trial.add(Round(10.0, 11.0 if len(trial.rounds) < 8 else 10.0))
    assert (trial.flagged, trial.decision().verdict) == (True, "same")


def test_what_is_known_of_the_machine_widens_the_interval():
    unknown, known = (Trial(LIMITS, least_rho=rho) for rho in (0.0, 0.9))
    for one in rounds(1.0, spread=0.5):
        unknown.add(one)
        known.add(one)
    assert (unknown.decision().verdict, known.decision().verdict) == ("same", "inconclusive")


def test_a_case_flagged_at_sixteen_rounds_is_confirmed_by_sixteen():
    trial = played(rounds(3.0, spread=2.0), rounds(3.0, spread=0.5))
    assert (len(trial.rounds), trial.flagged, trial.wanted) == (16, True, 16)


def test_slower_in_time_but_not_in_cycles_is_inconclusive():
    fallen = {"before_mhz": 1980.0, "after_mhz": 1800.0}
    decision = played(rounds(10.0, **fallen)).decision()
    assert decision.verdict == "inconclusive"
    assert "clock" in decision.reason
    assert played(rounds(10.0, before_mhz=1980.0, after_mhz=1980.0)).flagged
    one_unknown = [*rounds(10.0, count=7, **fallen), Round(10.0, 11.0)]
    assert played(one_unknown).flagged


def test_no_round_is_no_verdict():
    assert Trial(LIMITS).decision().verdict == "inconclusive"


@pytest.mark.parametrize(
    ("most", "looks"), [(64, LOOKS), (32, (8, 16, 32)), (12, (8, 12)), (8, (8,)), (3, (3,)), (100, (*LOOKS, 100))]
)
def test_the_most_rounds_are_a_look(most, looks):
    assert looks_up_to(most) == looks


class Simulated:
    """Trials of many cases, each fed with rounds as they are measured: launches, blocks A B B A, a drifting machine.

    level: standard deviation of a round's log-ratio, half of its variance from the launches, half from the blocks
    drift: how far the machine drifts over a round
    """

    def __init__(self, kind: str, level: float, seed: int, *, change: float = 0.0, drift: float = 0.0) -> None:
        self.kind, self.level, self.change, self.drift = kind, level, math.log1p(change), drift
        self.draw = np.random.default_rng(seed)

    def log_ratios(self, cases: int, count: int) -> np.ndarray:
        """[cases, count] log-ratios of the medians of two revisions' blocks."""
        at = np.arange(2 * BLOCKS)
        after = np.isin(at % 4, (1, 2))
        launch = self.level / 2 * noise(self.kind, self.draw, (cases, count, 2))
        # A median of eight blocks has 1.2 of their mean's standard error.
        block = self.level / 2 * math.sqrt(BLOCKS) / 1.2 * noise(self.kind, self.draw, (cases, count, 2 * BLOCKS))
        drifting = self.drift * at / (2 * BLOCKS) * self.draw.choice([-1, 1], (cases, count, 1))
        logs = block + drifting
        sides = np.median(logs[..., after], -1) - np.median(logs[..., ~after], -1)
        return sides + launch[..., 1] - launch[..., 0] + self.change

    def verdicts(self, cases: int, most: int = LOOKS[-1]) -> list[str]:
        """The verdicts of trials that go on until they are decided."""
        found: list[str] = []
        # Some at a time: the blocks of all would fill the memory.
        for start in range(0, cases, 2000):
            first, fresh = (self.log_ratios(min(2000, cases - start), most).tolist() for _ in range(2))
            pairs = zip(first, fresh, strict=True)
            found += [_verdict(Trial(LIMITS, looks_up_to(most)), *each) for each in pairs]
        return found


def _verdict(trial: Trial, first: list[float], fresh: list[float]) -> str:
    while wanted := trial.wanted:
        source = fresh if trial.flagged else first
        for _ in range(wanted):
            trial.add(Round(10.0, 10.0 * math.exp(source.pop())))
    return trial.decision().verdict


def alarms(kind: str, level: float, suites: int, seed: int) -> int:
    """How many of the suites, each gated against itself on a drifting machine, would exit with 1."""
    found = Simulated(kind, level, seed, drift=0.03).verdicts(suites * CASES)
    return sum("slower" in found[start : start + CASES] for start in range(0, len(found), CASES))


@pytest.mark.parametrize("level", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("kind", KINDS)
def test_suites_gated_against_themselves_pass(kind, level):
    assert alarms(kind, level, suites=8, seed=1) == 0


@pytest.mark.long
@pytest.mark.parametrize("level", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("kind", KINDS)
def test_a_suite_gated_against_itself_fails_in_at_most_one_of_a_hundred(kind, level):
    assert alarms(kind, level, suites=200, seed=2) <= 2


@pytest.mark.parametrize(
    ("change", "level", "most", "power"),
    [(0.05, 0.01, 8, 0.95), (0.10, 0.02, 8, 0.99), (0.03, 0.005, 12, 0.90)],
)
def test_a_real_slowdown_is_seen_and_confirmed(change, level, most, power):
    found = Simulated("normal", level, 3, change=change).verdicts(1000, most)
    assert found.count("slower") / len(found) >= power


def test_confirmation_is_what_keeps_a_disturbed_suite_quiet():
    """Rounds that lie by chance beyond the margin flag some cases; fresh rounds take nearly all of them back."""
    simulated = Simulated("heavy-tailed", 0.02, 4, change=LIMITS.margin)
    first, fresh = (simulated.log_ratios(4000, 8).tolist() for _ in range(2))
    trials = [played_to_the_end(a, b) for a, b in zip(first, fresh, strict=True)]
    flagged = [each for each in trials if each.flagged]
    assert len(flagged) >= 8
    assert sum(each.decision().verdict == "slower" for each in flagged) <= len(flagged) / 8


def played_to_the_end(first: list[float], fresh: list[float]) -> Trial:
    trial = Trial(LIMITS, (8,))
    _verdict(trial, first, fresh)
    return trial
