"""Who is blamed for a worker that dies: with workers that are not there, and say what a test wants them to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from suite.discovery import discover
from suite.errors import UsageError
from suite.measuring.case import Settings
from suite.plan import Group, Selection, make_plan
from suite.presets import load_preset
from suite.running import sweep as sweeping
from suite.running.budget import Budget
from suite.running.messages import Disconnected, Refused
from suite.running.progress import PlainProgress
from suite.running.sweep import Options, Sweep

Script = Callable[[dict[str, Any]], Iterator[Any]]
NAMES = ("naive", "torch_chunk")
DIES = "dies"


class Scripted:
    """A worker whose answers a script yields, request by request; DIES ends it, None is silence."""

    def __init__(self, script: Script) -> None:
        self.script, self.channel = script, self
        self.said: Iterator[Any] = iter(())
        self.killed = False
        self.killed_by_kernel = False

    def send(self, message: dict[str, Any]) -> None:
        if message["do"] != "go":
            self.said = self.script(message)

    def receive(self, timeout_s: float | None = None) -> Any:
        said = next(self.said, None)
        if said is DIES:
            raise Disconnected("end of stream")
        if isinstance(said, Exception):
            raise said
        return said

    def kill(self) -> None:
        self.killed = True

    def tail(self) -> str:
        return "Traceback (most recent call last):\nValueError: its last words\n"

    def how_it_ended(self) -> str:
        return "signal SIGSEGV"


def names_of(request: dict[str, Any]) -> list[str]:
    return [case["implementation"] for case in request["cases"]]


def well(request: dict[str, Any], *, until: str = "") -> Iterator[Any]:
    """What a worker says whose cases are all right, up to the one that is named, which has begun."""
    for i, name in enumerate(names_of(request)):
        yield {"event": "begin", "case": i, "phase": "check"}
        if name == until:
            return
        yield {"event": "record", "record": {"mode": "cpu", "status": "ok", "reason": "", "check": {"o": 0.0}}}
    yield {"event": "done"}


def swept(
    scripts: list[Script], lengths: tuple[int, ...] = (16,)
) -> tuple[dict[tuple[str, int], dict[str, Any]], Sweep]:
    """The last record of each implementation and length of a check by these workers, one after another."""
    flags = Selection(operators=("linear_attention",), implementations=NAMES, values={"T": lengths, "pass": ("fwd",)})
    registry = discover()
    groups = [
        Group(g.operator, g.problem, tuple(sorted(g.cases, key=lambda c: c.implementation)))
        for g in make_plan(registry, load_preset("smoke"), flags)
    ]
    left, workers, records = list(scripts), [], []

    def start() -> Any:
        workers.append(Scripted(left.pop(0)))
        return workers[-1]

    sweep = Sweep(
        registry,
        groups,
        Settings("cpu", "cpu", ()),
        Options("check", timeout_s=1.0),
        start,
        records.append,
        PlainProgress,
        Budget(),
    )
    sweep.run()
    assert not left, "every worker was asked for"
    assert all(worker.killed for worker in workers)
    return {(record["implementation"], record["T"]): record for record in records}, sweep


def dying(name: str) -> Script:
    """A worker in which a case dies, after those before it went well."""

    def script(request: dict[str, Any]) -> Iterator[Any]:
        yield from well(request, until=name)
        yield DIES

    return script


def late(request: dict[str, Any]) -> Iterator[Any]:
    """A worker that dies when it has nothing left to do."""
    yield from well(request)
    yield DIES


def statuses(found: dict[tuple[str, int], dict[str, Any]]) -> dict[tuple[str, int], str]:
    return {key: record["status"] for key, record in found.items()}


def test_the_first_case_of_a_worker_is_to_blame_at_once() -> None:
    found, _ = swept([dying("naive"), well])
    assert statuses(found) == {("naive", 16): "crashed", ("torch_chunk", 16): "ok"}
    assert found["naive", 16]["reason"] == "the worker ended by signal SIGSEGV during check: ValueError: its last words"


def test_who_dies_alone_too_is_to_blame() -> None:
    asked = []

    def alone(request: dict[str, Any]) -> Iterator[Any]:
        asked.append(names_of(request))
        return dying("torch_chunk")(request)

    found, _ = swept([dying("torch_chunk"), alone])
    assert asked == [["torch_chunk"]]
    assert statuses(found) == {("naive", 16): "ok", ("torch_chunk", 16): "crashed"}


def test_who_dies_when_all_is_done_is_to_blame_for_the_death_of_another() -> None:
    """Its record was there and said `ok`: the one that replaces it does not."""
    found, sweep = swept([dying("torch_chunk"), well, late])
    assert statuses(found) == {("naive", 16): "crashed", ("torch_chunk", 16): "ok"}
    assert "during the time after its last call" in found["naive", 16]["reason"]
    assert sweep.statuses == {"ok": 1, "crashed": 1}


def test_where_nobody_dies_alone_nobody_is_to_blame() -> None:
    found, sweep = swept([dying("torch_chunk"), well, well])
    assert statuses(found) == {("naive", 16): "ok", ("torch_chunk", 16): "ok"}
    assert sweep.statuses == {"ok": 2}


def test_cases_of_earlier_problems_are_suspected_too() -> None:
    seen = []

    def then_dies(request: dict[str, Any]) -> Iterator[Any]:
        seen.append(request["problem"]["T"])
        return well(request) if len(seen) == 1 else dying("naive")(request)

    # naive of the second problem, then those of the first, the last first; the same code in another case with it.
    found, _ = swept([then_dies, well, well, late, well], lengths=(16, 24))
    short, long = sorted(seen)
    assert len(found) == 4
    assert sorted(statuses(found).values()) == ["crashed", "ok", "ok", "ok"]
    assert found["naive", seen[0]]["status"] == "crashed"
    assert short != long


def test_a_case_of_long_ago_is_not_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "SUSPECT_S", -1.0)
    found, _ = swept([dying("torch_chunk"), well])
    assert statuses(found) == {("naive", 16): "ok", ("torch_chunk", 16): "ok"}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"event": "lunch"}, "its worker was ended during check: it says 'lunch'"),
        ({}, "it says 'None'"),
        ({"event": ["record"]}, "it says \"['record']\""),
        ({"event": "record"}, "its record is no object"),
        ({"event": "begin", "case": 7, "phase": "check"}, "it begins case 7 of 1"),
        ({"event": "ceilings", "ceilings": 7}, "it tells no ceilings"),
        ({"event": "ceilings", "ceilings": {"copy": [{"gbs": -1}]}}, "it tells ceilings.copy[0] without 'bytes'"),
        ({"event": "done"}, "it says that it is done, without a record of"),
        (Refused("process 7, which is not the worker, writes on its channel"), "process 7"),
    ],
)
def test_what_may_not_be_said_ends_its_worker(said: Any, words: str) -> None:
    def script(request: dict[str, Any]) -> Iterator[Any]:
        yield {"event": "begin", "case": 0, "phase": "check"}
        yield said

    # The second asks for both cases again without the first.
    found, _ = swept([lambda request: script({**request, "cases": request["cases"][:1]}), well])
    assert found["torch_chunk", 16]["status"] == "ok"
    assert (found["naive", 16]["status"], words.replace("of 1", "of 2") in found["naive", 16]["reason"]) == (
        "crashed",
        True,
    )


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ({"event": "raised", "status": "oom", "reason": "no memory"}, "oom", "no memory"),
        ({"event": "raised", "status": "ok", "reason": "fine"}, "error", "fine"),
        ({"event": "raised"}, "error", "None"),
        ({"event": "spoiled", "reason": "the device answers nothing"}, "error", "the device answers nothing"),
    ],
)
def test_a_case_that_ends_its_worker_in_words_has_a_record(said: Any, status: str, reason: str) -> None:
    def script(request: dict[str, Any]) -> Iterator[Any]:
        yield {"event": "begin", "case": 0, "phase": "check"}
        yield said

    found, _ = swept([script, well])
    assert (found["naive", 16]["status"], found["naive", 16]["reason"]) == (status, reason)
    assert found["torch_chunk", 16]["status"] == "ok"


def test_what_the_user_can_mend_ends_the_sweep() -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        swept([lambda request: iter([{"event": "failed", "error": "the cache cannot be written"}])])
