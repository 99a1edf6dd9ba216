"""What is left out of a way costs what the trips that are left say: exactly, where trips cost the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.static.timing.shortening import UNSTEADY, Nest, Short, shorten

ONES: dict[int, int] = dict.fromkeys(range(100), 1)


def costs(blocks: list[int], each: dict[int, int]) -> dict[int, float]:
    """When each place of a way is reached, and its end."""
    times, now = {}, 0.0
    for place, block in enumerate(blocks):
        times[place] = now
        now += each[block]
    return times | {len(blocks): now}


def whole(short: Short, each: dict[int, int]) -> float:
    times = costs(short.blocks, each)
    return times[len(short.blocks)] + short.extra(times)


def loop(trips: int, header: int = 1, body: tuple[int, ...] = (2,)) -> list[int]:
    return [header, *body] * trips


LOOP = Nest(1, frozenset({1, 2}))


@pytest.mark.parametrize("trips", range(1, 6))
def test_a_loop_of_few_trips_is_left_as_it_is(trips: int) -> None:
    way = [0, *loop(trips), 3]
    short = shorten(way, [LOOP], ONES, keep=6)
    assert short.blocks == way
    assert short.entries == []
    assert short.marks == set()
    assert short.extra({}) == 0


@pytest.mark.parametrize("trips", [6, 7, 8, 50])
def test_of_a_long_loop_the_first_trips_and_the_last_are_left(trips: int) -> None:
    short = shorten([0, *loop(trips), 3], [LOOP], ONES, keep=6)
    assert short.blocks == [0, *loop(6), 3]
    (entry,) = short.entries
    # The first trips set no pace, and the last ends elsewhere.
    assert entry.marks == (1 + 2 * UNSTEADY, 1 + 2 * 5)
    assert entry.trips == 3
    assert entry.left == trips - 6
    assert short.marks == set(entry.marks)
    assert whole(short, {0: 5, 1: 3, 2: 7, 3: 1}) == 6 + 10 * trips


def test_ways_of_the_same_blocks_have_the_same_marks() -> None:
    """A walk of one then tells the times of the other."""
    shorts = [shorten([0, *loop(trips), 3], [LOOP], ONES, keep=6) for trips in (6, 7, 900)]
    assert len({tuple(short.blocks) for short in shorts}) == 1
    assert len({frozenset(short.marks) for short in shorts}) == 1


def test_the_pace_is_that_of_the_steady_trips() -> None:
    short = shorten([0, *loop(106), 3], [LOOP], ONES, keep=6)
    # Trips begin at 0, 100, 200, 210, 220, 230.
    times = {1: 0.0, 3: 100.0, 5: 200.0, 7: 210.0, 9: 220.0, 11: 230.0}
    assert short.extra(times) == 100 * 10


def test_too_few_trips_are_refused() -> None:
    with pytest.raises(ValueError, match="keep is 3; it must be at least 4"):
        shorten([0], [], ONES, keep=3)
    assert len(shorten(loop(100), [LOOP], ONES, keep=4).blocks) == 8


def test_two_loops_one_after_the_other() -> None:
    other = Nest(5, frozenset({5, 6}))
    way = [0, *loop(20), 3, *loop(30, 5, (6,)), 7]
    short = shorten(way, [LOOP, other], ONES, keep=5)
    assert len(short.entries) == 2
    assert whole(short, ONES) == len(way)


def test_a_loop_that_is_entered_twice() -> None:
    way = [0, *loop(20), 3, *loop(40), 4]
    short = shorten(way, [LOOP], ONES, keep=5)
    assert [entry.left for entry in short.entries] == [15, 35]
    assert whole(short, ONES) == len(way)


INNER = Nest(2, frozenset({2, 3}))
OUTER = Nest(1, frozenset({1, 2, 3, 4}), (INNER,))


def nested(trips: list[int]) -> list[int]:
    return [0, *(block for count in trips for block in (1, *loop(count, 2, (3,)), 4)), 9]


@pytest.mark.parametrize("trips", [[30] * 20, [30] * 3, [2] * 30, [5] * 6, [8] * 7])
def test_loops_inside_of_a_loop(trips: list[int]) -> None:
    way = nested(trips)
    short = shorten(way, [OUTER], ONES, keep=5)
    assert whole(short, ONES) == pytest.approx(len(way))
    assert len(short.blocks) <= 2 + 5 * (2 + 2 * 5)


def test_a_triangle() -> None:
    """Trip n of the outer loop has n inner ones; what is left out is scaled by its instructions."""
    way = nested(list(range(1, 65)))
    short = shorten(way, [OUTER], ONES, keep=6)
    assert len(short.blocks) < len(way) / 10
    assert whole(short, ONES) == pytest.approx(len(way))


def test_a_loop_whose_trips_go_two_ways_in_turn() -> None:
    nest = Nest(1, frozenset({1, 2, 3}))
    way = [0, *[1, 2, 1, 3] * 50, 9]
    short = shorten(way, [nest], {**ONES, 2: 10, 3: 2}, keep=6)
    # Blocks cost as much as they have instructions: scaling by these is exact.
    assert whole(short, {0: 1, 1: 1, 2: 10, 3: 2, 9: 1}) == pytest.approx(2 + 50 * 14)


def test_weights_of_nothing_charge_nothing() -> None:
    short = shorten([0, *loop(20), 3], [LOOP], dict.fromkeys(range(9), 0), keep=5)
    assert short.extra(costs(short.blocks, ONES)) == 0


def some_nest(dice: random.Random, number: list[int], depth: int) -> tuple[list[int], Nest, int]:
    """One trip of a loop by its own blocks and its inner loops, which stand as lists; and its trips."""
    header = number[0]
    number[0] += 1
    trip: list = [header]
    inner = []
    for _ in range(dice.randrange(1, 4)):
        if depth and dice.random() < 0.5:
            blocks, nest, count = some_nest(dice, number, depth - 1)
            inner.append(nest)
            trip.append((blocks, count))
        else:
            trip.append(number[0])
            number[0] += 1
    body = {header, *(part for part in trip[1:] if isinstance(part, int))}.union(*(nest.body for nest in inner))
    return trip, Nest(header, frozenset(body), tuple(inner)), dice.choice((1, 2, 4, 5, 6, 7, 12))


def unrolled(trip: list, count: int) -> list[int]:
    made = []
    for _ in range(count):
        for part in trip:
            made += [part] if isinstance(part, int) else unrolled(*part)
    return made


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([4, 5, 6, 9]))
def test_any_nest_of_loops_is_restored_exactly(seed: int, keep: int) -> None:
    """Trips of one loop cost the same here, whatever their blocks cost."""
    dice = random.Random(seed)
    number, way, nests = [1], [0], []
    for _ in range(2):
        trip, nest, count = some_nest(dice, number, 2)
        way += [*unrolled(trip, count), number[0]]
        number[0] += 1
        nests.append(nest)
    each = {block: dice.randrange(1, 9) for block in range(number[0] + 1)}
    sizes = {block: dice.randrange(1, 9) for block in each}
    short = shorten(way, nests, sizes, keep)
    assert whole(short, each) == pytest.approx(sum(each[block] for block in way))
    assert len(short.blocks) <= len(way)
