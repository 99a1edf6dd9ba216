"""Implementations that harm more than themselves: each costs its own records, whatever it does to its worker."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.store import read_records
from tests.suite.plugins import RUNNING_MEAN, write

HOSTILE = (
    RUNNING_MEAN
    + '''
import ctypes, json, os, signal, socket, stat, subprocess, sys, threading, time
from pathlib import Path
from suite import Requirement
LIBC = ctypes.CDLL(None)
MARK = Path("FOLDER")
# A worker's own process, where these do what they do; the runner loads this file too.
INSIDE = "SUBQUAD_WORKER_DEVICE" in os.environ

def hostile(name, **more):
    return running_mean.implementation(name, origin="ours", passes={"fwd"}, **more)

def sockets():
    """Numbers of all sockets that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(number)).st_mode):
                found.append(int(number))
        except OSError:
            pass
    return found

def shout(text):
    for number in sockets():
        os.write(number, text)

def channel():
    """As a determined cheat finds it."""
    frame = sys._getframe()
    while "channel" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["channel"]

def claim(**more):
    return {"event": "record", "record": {"mode": "cpu", "status": "ok", "reason": "", "check": {"o": 0.0}, **more}}

def answers(value):
    def backend():
        return value() if callable(value) else value
    return Requirement("torch", "torch", backend=backend)

# What a library says of itself.
hostile("backend_object", requires=answers(object()))(mean)
hostile("backend_raises", requires=answers(lambda: 1 / 0))(mean)
hostile("backend_leaves", requires=answers(lambda: os._exit(0)))(mean)

@hostile("garbage")
def garbage(q, k, v):
    shout(b"\\xff\\x00{not JSON}\\n" * 3)
    time.sleep(60)

@hostile("forges")
def forges(q, k, v):
    shout(json.dumps(claim(case_id="running_mean/torch/T16")).encode() + b"\\n")
    time.sleep(60)

@hostile("forges_for_another")
def forges_for_another(q, k, v):
    channel().send(claim(case_id="running_mean/torch/T16"))
    time.sleep(60)

@hostile("is_done")
def is_done(q, k, v):
    channel().send({"event": "done"})
    time.sleep(60)

@hostile("fork_writes")
def fork_writes(q, k, v):
    numbers = sockets()
    # Python's own forks give the channel back; this one has it.
    if LIBC.fork() == 0:
        shout(b"{}\\n")
        LIBC._exit(0)
    time.sleep(60)

@hostile("fork_holds")
def fork_holds(q, k, v):
    pid = LIBC.fork()
    if pid == 0:
        while True:
            time.sleep(60)
    (MARK / "held").write_text(str(pid))
    LIBC._exit(3)

@hostile("orphans")
def orphans(q, k, v):
    for i in range(2):
        code = "import os, time; os.fork() and os._exit(0); os.setsid(); print(os.getpid(), flush=1); time.sleep(9999)"
        child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        (MARK / f"orphan{i}").write_bytes(child.stdout.readline())
    ctypes.string_at(0)

@hostile("closes")
def closes(q, k, v):
    for number in sockets():
        os.close(number)
    time.sleep(60)

@hostile("chatters")
def chatters(q, k, v):
    print("the real reason", flush=True)
    print("[W1130 12:00:00.100000000 Context.cpp:80] Warning: please use the new API (function operator())", flush=True)
    print("/some/where.py:12: UserWarning: not this", flush=True)
    print("  warnings.warn('not this')", flush=True)
    LIBC._exit(4)

@hostile("stops_its_group")
def stops_its_group(q, k, v):
    os.killpg(0, signal.SIGABRT)
    time.sleep(60)
'''
)

# What each of them is called, and what its reason says.
DIES = {
    "garbage": "its worker was ended during check: '\\ufffd\\x00{not JSON}' is no message of the worker",
    "forges": "is no message of the worker",
    "forges_for_another": "a record of running_mean/torch/T16 came during running_mean/forges_for_another/",
    "is_done": "it says that it is done, without a record of running_mean/is_done/",
    "fork_writes": "which is not the worker, writes on its channel",
    "fork_holds": "the worker ended by exit code 3 during check",
    "orphans": "the worker ended by signal SIGSEGV during check: Segmentation fault (",
    "closes": "the worker ended by closing its channel while it was still running during check",
    "chatters": "the worker ended by exit code 4 during check: the real reason",
    "stops_its_group": "the worker ended by signal SIGABRT during check",
}
ERRS = {
    "backend_object": "requires.backend of running_mean/backend_object returned <object",
    "backend_raises": "requires.backend of running_mean/backend_raises raises ZeroDivisionError",
    "backend_leaves": "requires.backend of running_mean/backend_leaves raises SystemExit: 0",
}


def alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return path.read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


# Each way to die costs two workers: these are the quick test's.
FEW = ("garbage", "orphans", "is_done", *ERRS)


@pytest.mark.parametrize("names", [FEW, pytest.param((*DIES, *ERRS), marks=pytest.mark.long)], ids=["few", "all"])
def test_each_costs_its_own_record_and_leaves_nothing_behind(names: tuple[str, ...], tmp_path: Path) -> None:
    plugin, run = write(tmp_path, HOSTILE.replace("FOLDER", str(tmp_path)), "hostile.py"), tmp_path / "run"
    words = ["check", "--load", str(plugin), "--op", "running_mean", "--impl", ",".join(names), "--pass", "fwd"]
    # No timeout ends what waits: a death is seen by itself, though children hold the channel and the output open.
    assert (
        main(
            [*words, "--preset", "smoke", "--seq-len", "16", "--device", "cpu", "--timeout", "10000", "--out", str(run)]
        )
        == 1
    )
    found = {record["implementation"]: record for record in read_records(run)}
    assert set(found) == set(names)
    for name, record in found.items():
        status, words_of = ("crashed", DIES[name]) if name in DIES else ("error", ERRS[name])
        assert (record["status"], words_of in record["reason"]) == (status, True), record["reason"]
    assert str(plugin) in found["orphans"]["reason"], "where it crashed"
    left = [int((tmp_path / f"orphan{i}").read_text()) for i in range(2)]
    left += [int((tmp_path / "held").read_text())] if "fork_holds" in names else []
    assert not [pid for pid in left if alive(pid)]


LATE = (
    RUNNING_MEAN
    + """
import ctypes, os, threading, time
STARTED, LONGEST = [], 16

def late_by(seconds):
    def work():
        time.sleep(seconds)
        ctypes.string_at(0)
    def run(q, k, v):
        if not STARTED:
            STARTED.append(threading.Thread(target=work, daemon=True))
            STARTED[0].start()
        return mean(q, k, v)
    return run

running_mean.implementation("late", origin="ours", passes={"fwd"})(late_by(0.3))

@running_mean.implementation("waits", origin="ours", passes={"fwd"})
def waits(q, k, v):
    # In a process in which the other has run, it is the one at hand when the crash comes.
    if STARTED and v.shape[1] == LONGEST:
        STARTED[0].join()
    return mean(q, k, v)
"""
)


@pytest.mark.long
def test_a_late_crash_is_blamed_on_who_caused_it(tmp_path: Path) -> None:
    """It comes while another case is at hand, of another problem even: that one, measured alone, is well."""
    plugin, run = write(tmp_path, LATE, "late.py"), tmp_path / "run"
    words = ["check", "--load", str(plugin), "--op", "running_mean", "--pass", "fwd", "--preset", "smoke"]
    assert main([*words, "--device", "cpu", "--seq-len", "16,24", "--out", str(run)]) == 1
    found: dict[tuple[str, int], dict[str, Any]] = {(r["implementation"], r["T"]): r for r in read_records(run)}
    assert {name for name, _ in found} == {"torch", "late", "waits"}
    for (name, T), record in found.items():
        assert record["status"] == ("crashed" if name == "late" else "ok"), (name, T, record["reason"])
    assert "the worker ended by signal SIGSEGV" in found["late", 16]["reason"]
    assert str(plugin) in found["late", 16]["reason"], "where it crashed"


CLOCKS = (
    RUNNING_MEAN
    + """
import time
from types import SimpleNamespace
from suite.measuring import sampling, timers
REAL = time.perf_counter_ns

def ticking(factor):
    return SimpleNamespace(**{**vars(timers.time), "perf_counter_ns": lambda: int(REAL() * factor)})

def changing(factor):
    other = ticking(factor)
    def run(q, k, v):
        timers.time = other
        time.sleep(0.001)
        return mean(q, k, v)
    return run

running_mean.implementation("slows", origin="ours", passes={"fwd"})(changing(1 / 50))
running_mean.implementation("hastens", origin="ours", passes={"fwd"})(changing(50))

@running_mean.implementation("patches", origin="ours", passes={"fwd"})
def patches(q, k, v):
    time.perf_counter_ns = lambda: 0
    return mean(q, k, v)
"""
)


@pytest.mark.long
def test_a_changed_clock_shows_against_the_runners(tmp_path: Path) -> None:
    plugin, run = write(tmp_path, CLOCKS, "clocks.py"), tmp_path / "run"
    words = ["bench", "--load", str(plugin), "--op", "running_mean", "--pass", "fwd", "--preset", "smoke"]
    words += ["--seq-len", "16", "--warmup", "1", "--rep", "50", "--no-report", "--no-static"]
    assert main([*words, "--out", str(run)]) == 1
    found = {record["implementation"]: record for record in read_records(run)}
    for name in ("slows", "hastens"):
        record = found[name]
        assert (record["status"], record.get("time_ms")) == ("implausible", None), name
        assert record["reason"].endswith("the clock of its process was changed"), record["reason"]
        assert record["left_behind"] == ["suite.measuring.timers.time: changed"]
        assert record["samples"], "what it told is kept"
    # Timers do not use what this one changes, and who comes later has the clock as it was.
    assert (found["patches"]["status"], found["torch"]["status"]) == ("ok", "ok")
    assert found["patches"]["left_behind"] == ["time.perf_counter_ns: changed"]
    assert found["torch"].get("left_behind") is None
