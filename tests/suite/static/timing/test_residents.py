"""What the L2 cache still holds of a call's storages."""

from __future__ import annotations

from suite.static.timing.residents import SHARE, Residents

ROOM = 1000


def residents() -> Residents:
    return Residents(round(ROOM / SHARE))


def test_nothing_is_held_at_first() -> None:
    assert residents().missing({1: 400, 2: 100}) == 500
    assert residents().missing({}) == 0


def test_what_was_touched_is_held() -> None:
    cache = residents()
    cache.touch({1: 400, 2: 100})
    assert cache.missing({1: 400, 2: 100}) == 0
    assert cache.missing({1: 400, 3: 50}) == 50
    # Of a larger part than was touched before, the rest is missing; of a smaller one nothing.
    assert cache.missing({1: 450}) == 50
    assert cache.missing({1: 10}) == 0


def test_asking_changes_nothing() -> None:
    cache = residents()
    cache.missing({1: 400})
    assert cache.missing({1: 400}) == 400


def test_what_was_touched_longest_ago_is_dropped_first() -> None:
    cache = residents()
    cache.touch({1: 400})
    cache.touch({2: 400})
    cache.touch({3: 400})
    assert [cache.missing({n: 400}) for n in (1, 2, 3)] == [400, 0, 0]
    # Touching it again keeps it.
    cache.touch({2: 100})
    cache.touch({4: 400})
    assert [cache.missing({n: 400}) for n in (2, 3, 4)] == [0, 400, 0]


def test_a_launch_larger_than_the_cache_finds_nothing_in_it() -> None:
    cache = residents()
    cache.touch({1: 400})
    assert cache.missing({1: 400, 2: 700}) == 1100


def test_a_storage_larger_than_the_cache_drops_the_others() -> None:
    cache = residents()
    cache.touch({1: 400})
    cache.touch({2: 5000})
    assert cache.missing({1: 400}) == 400
    cache.touch({1: 400})
    assert cache.missing({1: 400}) == 0


def test_a_cache_of_nothing_holds_nothing() -> None:
    cache = Residents(0)
    cache.touch({1: 10})
    assert cache.missing({1: 10}) == 10
