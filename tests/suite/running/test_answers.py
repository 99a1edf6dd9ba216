"""What a worker may say, and what becomes of it: without a worker, message by message."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from suite.discovery import discover
from suite.measuring.case import Settings
from suite.measuring.records import base_record
from suite.problem import Case, Problem
from suite.running import messages
from suite.running.answers import Answers
from suite.running.judging import judged
from suite.running.lastwords import last_words, without_lists
from suite.running.messages import Channel, Disconnected, Refused, runners_end
from suite.store.schema import fault
from tests.suite.plugins import RUNNING_MEAN, write

SETTINGS = Settings("cpu", "cpu", ("warm-cpu",))
NEEDED = ("asking", "check", "warmup", "time", "recheck", "judging")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    text = RUNNING_MEAN + "running_mean.implementation('other', origin='ours')(mean)\n"
    path = write(tmp_path_factory.mktemp("answers"), text, "answering.py")
    return discover(load=[path]).operator("running_mean")


@pytest.fixture
def cases(operator: Any) -> list[Case]:
    problem = operator.complete(Problem(T=8, H=1, K=4, V=4, dtype="float32"))
    return [Case(operator.name, name, problem, (), operator.axes) for name in operator.implementations]


class Ends:
    """Both ends of a channel in this process; `raw` writes past the worker's own."""

    def __init__(self) -> None:
        mine, self.theirs = socket.socketpair()
        self.runner = runners_end(mine)
        self.secret = self.theirs.recv(messages.SECRET_BYTES)
        self.worker = Channel(self.theirs, self.secret)

    def raw(self, data: bytes) -> None:
        self.theirs.sendall(data)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"garbage\n", "'garbage' is no message of the worker"),
        (b'{"event": "done"}\n', "is no message of the worker"),
        (b"\n", "'' is no message of the worker"),
        (b"0" * 32 + b' {"event": "done"}\n', "is no message of the worker"),
        (b"SECRET {\n", "'{' is not JSON"),
        (b"SECRET \xff\xfe\n", "is not JSON"),
        (b"SECRET " + b"[" * 100_000 + b"\n", "is not JSON"),
        (b"SECRET " + b"1" * 10_000 + b"\n", "is not JSON"),
        (b"SECRET [1]\n", "'[1]' is not an object"),
        (b"SECRET null\n", "'null' is not an object"),
    ],
)
def test_what_is_no_message_is_refused(line: bytes, words: str) -> None:
    ends = Ends()
    ends.raw(line.replace(b"SECRET", ends.secret))
    with pytest.raises(Refused, match=re.escape(words)):
        ends.runner.receive(5)


def test_a_line_without_an_end_is_refused_before_it_fills_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "LONGEST_LINE", 1000)
    ends = Ends()
    ends.raw(b"x" * 2000)
    with pytest.raises(Refused, match="longer than 1000 bytes"):
        ends.runner.receive(5)


def test_messages_come_whole_however_they_are_cut() -> None:
    ends = Ends()
    sent = [{"event": "begin", "case": i, "text": "x" * 1000 * i} for i in range(20)]
    for each in sent:
        ends.worker.send(each)
    assert [ends.runner.receive(5) for _ in sent] == sent
    assert ends.runner.receive(0) is None
    ends.worker.close()
    with pytest.raises(Disconnected, match="end of stream"):
        ends.runner.receive(5)


def test_another_process_may_not_write() -> None:
    ends = Ends()
    ends.worker.send({"event": "hello"})
    assert ends.runner.receive(5) == {"event": "hello"}
    ends.runner.know_peer()
    ends.worker.send({"event": "ready"})
    assert ends.runner.receive(5) == {"event": "ready"}
    if (pid := os.fork()) == 0:
        # It has all that the worker has: the channel and its secret.
        ends.worker.send({"event": "done"})
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(Refused, match=f"process {pid}, which is not the worker, writes"):
        ends.runner.receive(5)


def begun(cases: list[Case], *phases: str, at: int = 0, kind: str = "timed") -> Answers:
    answers = Answers(cases, [["warm-cpu"]] * len(cases), kind)
    for phase in phases:
        answers.begin({"case": at, "phase": phase})
    return answers


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"case": 0},
        {"case": 2, "phase": "check"},
        {"case": -1, "phase": "check"},
        {"case": True, "phase": "check"},
        {"case": "0", "phase": "check"},
        {"case": 0.0, "phase": "check"},
        {"case": 0, "phase": "lunch"},
        {"case": 0, "phase": ["check"]},
        {"case": [], "phase": None},
    ],
)
def test_only_a_case_and_a_phase_that_are_there_begin(cases: list[Case], message: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="it begins"):
        begun(cases).begin(message)


def test_a_record_belongs_to_the_case_in_flight(cases: list[Case]) -> None:
    record = {"mode": "warm-cpu", "status": "error", "reason": "x"}
    answers = begun(cases, "asking")
    for wrong in (
        {"record": 7},
        {},
        {"record": {}},
        {"record": record | {"mode": "cold-wall"}},
        {"record": record | {"mode": None}},
        {"record": record | {"mode": ["warm-cpu"]}},
        {"record": record | {"case_id": cases[1].case_id}},
        {"record": record | {"status": "ok"}},
    ):
        with pytest.raises(Refused):
            answers.record(wrong)
    assert answers.record({"record": record}) == record
    with pytest.raises(Refused, match="which is not wanted"):
        answers.record({"record": record})
    with pytest.raises(Refused, match="before its case began"):
        begun(cases).record({"record": record})
    ok = record | {"status": "ok"}
    with pytest.raises(Refused, match="before its recheck"):
        begun(cases, "asking", "check", "warmup", "time", "judging").record({"record": ok})
    assert begun(cases, *NEEDED).record({"record": ok}) == ok
    assert begun(cases, "check", kind="check").record({"record": ok}) == ok


def test_who_is_done_has_told_of_every_case(cases: list[Case]) -> None:
    answers = begun(cases, "check")
    with pytest.raises(Refused, match="without a record of running_mean/torch/"):
        answers.done()
    answers.record({"record": {"mode": "warm-cpu", "status": "error"}})
    with pytest.raises(Refused, match="without a record of running_mean/other/"):
        answers.done()
    assert answers.case == cases[1], "who lacks a record is asked about first"


def test_a_turn_lasts_from_the_word_to_the_next_message(cases: list[Case]) -> None:
    now = [0.0]
    answers = Answers(cases, [["warm-cpu"]] * 2, "timed", clock=lambda: now[0])
    for index, seconds in ((0, 0.5), (1, 0.25), (0, 0.125)):
        answers.heard()
        answers.begin({"case": index, "phase": "time"})
        answers.start_turn()
        now[0] += seconds
    answers.heard()
    answers.begin({"case": 0, "phase": "recheck"})
    now[0] += 9.0
    answers.heard()
    assert answers.turns == [[0.5, 0.125], [0.25]]


def record_of(
    operator: Any, case: Case, turns: list[float] | None = None, told: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The record of a case whose ten samples of 1 ms were taken in turns of 6 ms."""
    base = base_record(
        operator, operator.implementations[case.implementation], case, kind="timed", mode="warm-cpu", device="cpu"
    )
    worker = {
        **base,
        "status": "ok",
        "timer": "cpu",
        "l2": "warm",
        "check": {"o": 1e-7},
        "samples": [1.0, 1.1] * 5,
        "blocks": [5, 5],
        "calls": 1,
        "stop": "interval",
        **(told or {}),
    }
    base["created"] = "2026-01-01T00:00:00+00:00"
    found = judged(worker, base, operator, case.problem, SETTINGS, [0.006, 0.006] if turns is None else turns)
    assert fault(found) is None
    return found


def test_a_records_figures_are_computed_from_its_samples(operator: Any, cases: list[Case]) -> None:
    told = {
        "time_ms": 1e-3,
        "p20_ms": 1e-3,
        "ci_low_ms": 1e-3,
        "ci_high_ms": 1e3,
        "tflops": 1e9,
        "gbs": 7.0,
        "roof_pct": 3.0,
    }
    found = record_of(operator, cases[0], told=told)
    assert (found["status"], found["time_ms"], found["p20_ms"]) == ("ok", 1.05, 1.0)
    assert found["tflops"] == pytest.approx(found["flops_alg"] / 1.05 / 1e9)
    assert found == record_of(operator, cases[0]) | {"roof_pct": 3.0}


def test_what_is_known_of_a_case_is_not_the_workers_to_say(operator: Any, cases: list[Case]) -> None:
    lies = {
        "operator": "another",
        "implementation": "naive",
        "T": 9999,
        "launch": 3,
        "device": "H100",
        "commit": "0" * 40,
        "seed": 5,
        "flops_alg": 1e18,
        "bytes_compulsory": 1.0,
        "tags": ["fast"],
        "axis.more": 1,
        "stderr ": "",
        "anything": "x" * 1000,
    }
    assert record_of(operator, cases[0], told=lies) == record_of(operator, cases[0])


@pytest.mark.parametrize(
    ("told", "turns", "status", "words"),
    [
        # More than there was time for, and next to nothing of it; the second is no lie where turns are short.
        (
            {"samples": [1.0] * 10},
            [0.004, 0.004],
            "implausible",
            "its samples add up to 10 ms, but were taken within 8 ms",
        ),
        ({"samples": [0.01] * 10}, [0.1, 0.1], "implausible", "its samples add up to 0.1 ms of the 200 ms"),
        ({"samples": [0.01] * 10}, [0.004, 0.004], "ok", ""),
        ({"samples": [0.01] * 10, "timer": "events"}, [0.1, 0.1], "ok", ""),
        ({"samples": [1.0] * 10, "calls": 3}, None, "implausible", "add up to 30 ms"),
        ({"telemetry.retaken_ms": [10.0]}, None, "implausible", "its samples add up to 20.5 ms"),
        ({"samples": [1.0] * 10}, [], "implausible", "were taken within 0 ms"),
        ({"samples": []}, None, "error", "its blocks do not hold its samples"),
        ({"samples": "fast"}, None, "error", "its samples are not times"),
        ({"samples": [0.0] * 10}, None, "error", "its samples are not times"),
        ({"samples": [1.0] * 9 + [-1.0]}, None, "error", "its samples are not times"),
        ({"samples": [1.0] * 9 + [None]}, None, "error", "its samples are not times"),
        ({"blocks": [5, 4]}, None, "error", "its blocks do not hold its samples"),
        ({"blocks": [11, -1]}, None, "error", "its blocks do not hold its samples"),
        ({"blocks": None}, None, "error", "its blocks do not hold its samples"),
        ({"calls": 0}, None, "error", "its samples are not times"),
        ({"check": {}}, None, "error", "it is ok with an error of None in its output"),
        ({"check": {"o": 0.5}}, None, "error", "it is ok with an error of 0.5 in its output, limit 1.0e-04"),
        ({"check": {"o": float("inf")}}, None, "error", "it is ok with an error of None"),
        ({"check": 7}, None, "error", "it is ok with an error of None"),
        ({"status": "fine"}, None, "error", "its status is 'fine'"),
        ({"status": 7}, None, "error", "its status is '7'"),
        ({"memory_mib": "much"}, None, "error", "it has memory_mib = 'much'"),
        ({"stop": ["x"]}, None, "error", "it has stop = ['x']"),
        ({"status": "oom", "reason": "no memory", "time_ms": 1e-3}, None, "oom", "no memory"),
    ],
)
def test_a_record_is_held_against_what_the_runner_knows(
    operator: Any, cases: list[Case], told: dict[str, Any], turns: list[float] | None, status: str, words: str
) -> None:
    found = record_of(operator, cases[0], turns, told)
    assert (found["status"], words in found["reason"]) == (status, True), found["reason"]
    assert ("time_ms" in found) == (status == "ok")


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("", ""),
        ("one\ntwo\n\n", "two"),
        (
            'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    x\nValueError: no luck\nbye',
            "ValueError: no luck",
        ),
        ("no reason\n[W1130 12:00:00.100 Context.cpp:80] Warning: use the new API (function operator())", "no reason"),
        ("[rank0]:[E1130 12:00:00.100 Context.cpp:80] Warning", ""),
        ("a.py:12: UserWarning: slow\n  warnings.warn('slow')", ""),
        ("USDT:2026-11-30 13:01:07 17513:17513 SyncActivityProfilerHandler.cpp:52] profiler_start", ""),
        ("terminate called after throwing an instance of 'c10::Error'\n  what():  out of luck", "what():  out of luck"),
        (" 40%|####      | 4/10", ""),
        (
            "Fatal Python error: Segmentation fault\n\nThread 0x01 (most recent call first):\n"
            '  File "/other.py", line 1 in wait\n\nCurrent thread 0x02 (most recent call first):\n'
            f'  File "{os.__file__}", line 9 in string_at\n  File "/mine.py", line 7 in run\n\n'
            "Extension modules: numpy._core (total: 1)",
            "Segmentation fault (/mine.py:7)",
        ),
        ("Fatal Python error: Aborted\n", "Aborted"),
    ],
)
def test_the_last_words_are_no_chatter(tail: str, words: str) -> None:
    assert last_words(tail) == words
    assert "Extension modules" not in without_lists(tail)


def test_a_workers_end_has_a_number_that_programs_do_not_inherit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "keep", lambda: None)
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    numbers = set()
    for _ in range(3):
        mine, theirs = socket.socketpair()
        runner, given = runners_end(mine), theirs.detach()
        os.set_inheritable(given, True)
        worker = messages.open_channel(str(given))
        numbers.add(worker.fileno())
        assert worker.fileno() >= messages.LOW_DESCRIPTORS
        assert not os.get_inheritable(worker.fileno())
        assert not Path(f"/proc/self/fd/{given}").exists() or given in numbers
        assert runner.receive(5) == {"event": "hello"}
        worker.close()
        runner.close()
    assert len(numbers) > 1, "drawn anew each time"
