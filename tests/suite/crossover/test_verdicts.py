"""Crossover on lines with known answers: none, one, two, noise, ties."""

import random

import pytest

from suite.crossover import Shared, verdict
from suite.crossover.bisecting import CLOSE, STEP, next_lengths

LENGTHS = (128, 512, 2048, 8192)


def shared(one, other, noise=0.0, lengths=LENGTHS):
    """Both lines as functions of T, with intervals of +- noise."""
    return [
        Shared(T, x, x * (1 - noise), x * (1 + noise), y, y * (1 - noise), y * (1 + noise))
        for T, x, y in ((T, one(T), other(T)) for T in lengths)
    ]


def test_one_crossing_has_an_interval_that_grows_with_the_noise():
    exact, noisy = (verdict(shared(lambda T: T / 700, lambda T: (T / 700) ** 2, noise)) for noise in (0.0, 0.1))
    assert exact.last is not None
    assert noisy.last is not None
    assert exact.last.low == pytest.approx(exact.last.high) == pytest.approx(700)
    # r = -log(T / 700), so a noise of 10 % on both sides moves the meeting by their ratio.
    assert pytest.approx(700) == noisy.last.T
    assert noisy.last.low == pytest.approx(700 * 0.9 / 1.1)
    assert noisy.last.high == pytest.approx(700 * 1.1 / 0.9)
    assert noisy.says == "from T = 700, 95 % interval 573 to 856 (measured from T = 128 to 8,192)"


def test_never_and_always_are_said_with_their_range():
    assert verdict(shared(lambda T: T, lambda T: T / 2)).says == "not in range (measured from T = 128 to 8,192)"
    assert verdict(shared(lambda T: T / 2, lambda T: T)).says == "at every length (measured from T = 128 to 8,192)"
    assert verdict(shared(lambda T: 1, lambda T: 2, lengths=(64,))).says == "at every length (measured at T = 64)"


def test_several_crossings_are_counted_and_the_last_one_told():
    up_and_down = {128: 3.0, 512: 1.0, 2048: 3.0, 8192: 1.0}
    found = verdict(shared(up_and_down.get, lambda T: 2.0))
    assert [meeting.one_after for meeting in found.meetings] == [True, False, True]
    assert found.last is not None
    assert 2048 < found.last.T < 8192
    assert ", the last of 3 crossings" in found.says


def test_a_line_that_wins_only_between_says_so():
    between = {128: 3.0, 512: 1.0, 2048: 1.0, 8192: 3.0}
    found = verdict(shared(between.get, lambda T: 2.0))
    assert found.last is None
    assert found.says.startswith("only from T = 214 to 4,910")
    only_short = verdict(shared(lambda T: (T / 700) ** 2, lambda T: T / 700))
    assert only_short.says.startswith("only up to T = 700")


def test_noise_makes_no_crossings():
    draw = random.Random(0)
    lines = shared(lambda T: 1 + draw.uniform(-0.02, 0.02), lambda T: 1 + draw.uniform(-0.02, 0.02), noise=0.05)
    assert verdict(lines).says == "no difference can be told (measured from T = 128 to 8,192)"
    wobbling = {128: 2.0, 512: 1.01, 2048: 0.99, 4096: 1.01, 8192: 0.5}
    found = verdict(shared(wobbling.get, lambda T: 1.0, noise=0.05, lengths=tuple(wobbling)))
    assert len(found.meetings) == 1
    assert found.meetings[0].low < 512
    assert found.meetings[0].high > 2048


def test_ties_at_the_ends_are_told():
    tied_late = verdict(shared({128: 2.0, 512: 2.0, 2048: 0.5, 8192: 1.0}.get, lambda T: 1.0, noise=0.05))
    assert "; no difference can be told beyond T = 2,048" in tied_late.says
    tied_early = verdict(shared({128: 1.0, 512: 0.5, 2048: 0.4, 8192: 0.3}.get, lambda T: 1.0, noise=0.05))
    assert tied_early.says.startswith("from at most T = 512")


def test_bisecting_closes_in_on_the_meeting():
    lengths = list(LENGTHS)
    for _ in range(12):
        lines = shared(lambda T: T / 700, lambda T: (T / 700) ** 2, lengths=tuple(sorted(lengths)))
        wanted = next_lengths(lines)
        if not wanted:
            break
        assert all(T % STEP == 0 and T not in lengths for T in wanted)
        lengths += wanted
    else:
        pytest.fail("bisecting did not end")
    below, above = max(T for T in lengths if T <= 700), min(T for T in lengths if T > 700)
    assert above / below <= CLOSE
    assert len(lengths) < 12
    assert next_lengths(shared(lambda T: 1, lambda T: 2)) == []
